"""A model with gated blocks beside its feed-forward networks: built, saved and loaded."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ExtendedMLP": "blocks",
        "Switch": "blocks",
        "METHODS": "design",
        "backbone": "design",
        "block_width": "design",
        "count": "design",
        "wrapped": "files",
    },
)
