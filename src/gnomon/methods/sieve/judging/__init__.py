"""Filters in words, judges of every kind, the label store, and ratings by people."""

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
