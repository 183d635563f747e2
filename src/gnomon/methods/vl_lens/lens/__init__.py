"""The logit lens on image tokens: words, maps, masks, and detection of hallucinations."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "confidences": "detection",
        "score": "detection",
        "truth_of": "detection",
        "level": "masks",
        "otsu": "masks",
        "segment": "masks",
        "spell": "words",
        "word_vectors": "words",
    },
)
