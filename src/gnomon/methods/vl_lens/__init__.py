"""Looking inside vision-language models (arXiv 2410.02762): what image tokens say, what they do not support, and its removal."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Mention": "objects",
        "chair": "hallucination",
        "Vocabulary": "objects",
    },
)
