"""ELM, erasure of language memory (arXiv 2410.02760): take a concept out of a language model and measure what is left."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Constants": "design",
        "ELM": "eraser",
        "ELMConfig": "config",
        "Erasure": "design",
        "Exam": "evaluation",
        "Fluent": "passages",
        "Personas": "personas",
        "Question": "questions",
        "Texts": "feed",
        "ask": "questions",
        "elm_target": "target",
        "erase_loss": "losses",
        "evaluate_erasure": "evaluation",
        "examine": "evaluation",
        "leakage": "probing",
        "read_personas": "personas",
        "read_questions": "questions",
        "relearn": "attacks",
        "retain_loss": "losses",
        "search_suffix": "attacks",
        "train_baseline": "arms",
        "train_eraser": "eraser",
        "write_fluent": "guided",
    },
)
