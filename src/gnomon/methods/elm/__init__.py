"""ELM, erasure of language memory (arXiv 2410.02760): take a concept out of a language model and measure what is left."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Constants": "erasure.design",
        "ELM": "erasure.eraser",
        "ELMConfig": "config",
        "Erasure": "erasure.design",
        "Exam": "evaluation.measures",
        "Fluent": "texts.passages",
        "Personas": "texts.personas",
        "Question": "texts.questions",
        "Texts": "texts.batches",
        "ask": "texts.questions",
        "elm_target": "erasure.target",
        "erase_loss": "erasure.target",
        "evaluate_erasure": "evaluation.measures",
        "examine": "evaluation.measures",
        "leakage": "evaluation.probes",
        "read_personas": "texts.personas",
        "read_questions": "texts.questions",
        "relearn": "evaluation.attacks",
        "retain_loss": "erasure.target",
        "search_suffix": "evaluation.attacks",
        "train_baseline": "rivals.arms",
        "train_eraser": "erasure.eraser",
        "write_fluent": "erasure.fluency",
    },
)
