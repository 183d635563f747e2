"""UncertaintyRAG (arXiv 2410.02719): a retriever trained without labels, by a language model's own certainty."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Asking": "answering.answers",
        "Choice": "options",
        "Contrast": "options",
        "Cut": "options",
        "Layout": "options",
        "LocalReader": "scoring.reading",
        "LongContextRAG": "answering.answers",
        "Pool": "options",
        "SCORES": "scoring.scores",
        "Span": "options",
        "SpanUncertainty": "scoring.trace",
        "answer_coverage": "answering.evaluation",
        "build_training_set": "training.training_set",
        "calibrated": "scoring.windows",
        "calibration": "answering.evaluation",
        "chunk": "training.chunks",
        "deduplicate": "training.chunks",
        "hubness": "training.training_set",
        "pack": "answering.context",
        "propose": "training.candidates",
        "read_pairs": "scoring.scores",
        "score_answers": "answering.evaluation",
        "score_information": "scoring.scores",
        "self_check": "scoring.check",
        "similarity": "scoring.scores",
        "train_retriever": "training.retriever",
        "uncertainty": "scoring.windows",
    },
)
