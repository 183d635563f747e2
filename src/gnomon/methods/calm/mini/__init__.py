"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "study_claims": "measures",
        "study_trained": "measures",
        "SCALES": "world",
        "train_judges": "world",
    },
)
