"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "OTHERS": "measures",
        "SCALES": "world",
        "World": "world",
        "measure": "measures",
        "train_world": "world",
    },
)
