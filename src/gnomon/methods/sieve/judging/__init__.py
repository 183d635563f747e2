"""Who says which snippets pass: filters in words, judges of every kind, their labels, and people as referees."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "JudgingStopped": "judges",
        "judge_all": "judges",
        "as_label": "labels",
        "read_label": "labels",
        "KEY": "rating",
        "SHEET": "rating",
        "export_disagreements": "rating",
        "read_ratings": "rating",
        "wilson": "rating",
    },
)
