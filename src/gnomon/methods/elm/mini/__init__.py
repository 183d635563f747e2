"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "OURS": "arms",
        "fluent_texts": "arms",
        "learned_personas": "arms",
        "measure": "arms",
        "run_arm": "arms",
        "SCALES": "models",
        "stage": "models",
        "Writer": "world",
        "build": "world",
        "personas": "world",
        "word_tokenizer": "world",
    },
)
