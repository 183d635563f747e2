"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "SCALES": "world",
        "Scale": "world",
        "World": "world",
        "mini": "study",
        "new_document": "world",
        "new_handle": "world",
        "new_world": "world",
        "query_of": "world",
        "trained": "measures",
    },
)
