"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "SCALES": "world",
    },
)
