"""Neutral residues and their rivals, trained on the same batches."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "loss_of": "arms",
        "Corpus": "data",
        "pack": "data",
        "NEW": "mixing",
        "OLD": "mixing",
    },
)
