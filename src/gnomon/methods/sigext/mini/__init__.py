"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "KS": "measures",
        "SETTINGS": "measures",
        "SIMULATOR": "measures",
        "build_world": "measures",
        "write_summaries": "measures",
        "SCALES": "models",
        "as_rows": "models",
        "make_rows": "models",
        "tokenizer": "models",
    },
)
