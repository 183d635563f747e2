"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ARMS": "study",
        "SCALES": "study",
        "FUNCTION": "tasks",
        "OPERATORS": "tasks",
        "make_tasks": "tasks",
        "split_pairs": "tasks",
    },
)
