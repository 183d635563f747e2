"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "KS": "measures",
        "SETTINGS": "measures",
        "SIMULATOR": "measures",
        "build_world": "measures",
        "measure_writer": "measures",
        "write_summaries": "measures",
        "SCALES": "world",
        "as_rows": "world",
        "make_rows": "world",
        "save_encoder": "world",
        "tokenizer": "world",
    },
)
