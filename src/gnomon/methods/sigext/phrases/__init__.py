"""Candidate phrases, their labels, rows of documents, and the choice among scored phrases."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Columns": "data",
        "label_figures": "data",
        "to_row": "data",
        "clean_scientific": "phrases",
        "cut": "phrases",
        "tokens": "phrases",
        "as_granularity": "selection",
        "kept_phrases": "selection",
        "ranking": "selection",
        "scored_row": "selection",
        "threshold": "selection",
    },
)
