"""Looking inside vision-language models (arXiv 2410.02762): what image tokens say, what they do not support, and its removal."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Finding": "detection",
        "LensResult": "result",
        "Mention": "objects",
        "Rewritten": "mitigation",
        "Setting": "mitigation",
        "Spelling": "words",
        "Vocabulary": "objects",
        "chair": "hallucination",
        "detect": "detection",
        "mitigate": "mitigation",
        "project_away": "erase",
        "read_objects": "coco",
        "rewrite": "mitigation",
        "word_vector": "words",
    },
)
