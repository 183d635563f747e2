"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ORBITS": "world",
        "PERIODIC": "world",
        "SCALES": "world",
        "llama": "world",
        "parity_text": "world",
        "predictions": "world",
        "train_learner": "world",
        "train_toy": "world",
    },
)
