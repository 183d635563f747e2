"""Sections and queries made vectors: by a vision-language model, or by an encoder of text for comparison."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Encoded": "vectors",
        "InterleavedEncoder": "encoder",
        "MERGES": "vectors",
        "Retrieving": "settings",
        "TextSections": "texts",
        "Training": "training",
        "Unit": "units",
        "Units": "units",
        "export_sentence_transformers": "export",
        "merged": "vectors",
        "open_encoder": "opened",
        "train_retriever": "training",
    },
)
