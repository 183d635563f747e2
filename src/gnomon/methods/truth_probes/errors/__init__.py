"""Kinds of errors, and the choice among sampled answers."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "by_type": "choice",
        "Counts": "clusters",
        "classify": "clusters",
        "coverage": "clusters",
        "Equality": "clusters",
        "read_aliases": "clusters",
    },
)
