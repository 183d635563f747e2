"""The second stage: query and section read together, and the section that answers put first."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Groups": "training",
        "Negatives": "training",
        "SectionReranker": "reranker",
        "train_reranker": "training",
    },
)
