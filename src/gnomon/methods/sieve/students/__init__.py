"""Students: light classifiers that learn the judge's verdicts."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Fitted": "base",
        "HashedLinear": "linear",
        "Span": "base",
        "Student": "base",
        "StudentConfig": "config",
        "T5EncoderClassifier": "networks",
        "TransformerStudent": "transformer",
        "new_t5": "networks",
        "open_student": "store",
        "word_tokenizer": "networks",
    },
)
