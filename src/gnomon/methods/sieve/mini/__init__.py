"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "COMPARISONS": "comparisons",
        "SCALES": "comparisons",
        "labels_to_reach": "report",
        "prepare": "comparisons",
    },
)
