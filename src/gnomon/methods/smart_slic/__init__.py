"""smart-slic: a domain corpus into topics, a graph and answers that can be checked."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "HNMFk": "factors.joint",
        "NMFk": "factors.nmfk",
        "NMFkResult": "factors.nmfk",
        "Options": "factors.multiplicative",
        "RESCALk": "factors.joint",
        "SPLIT": "factors.joint",
        "cooccurrence": "factors.matrices",
        "sppmi": "factors.matrices",
        "tfidf": "factors.matrices",
    },
)
