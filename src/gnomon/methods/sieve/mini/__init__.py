"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "PARTS": "parts",
        "SCALES": "parts",
        "labels_to_reach": "report",
    },
)
