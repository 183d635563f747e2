"""Texts made vectors: by an encoder in a folder, by one that sentence-transformers wrote, or by a server."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "TextEncoder": "text",
        "TooLong": "text",
        "encode_corpus": "corpus",
        "read_vectors": "corpus",
        "Readout": "pooling",
        "POOLINGS": "pooling",
    },
)
