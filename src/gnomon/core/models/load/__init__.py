"""Models and tokenizers by what names them: a folder, a hub id, a GGUF file, an adapter, a run, or a package with real weights."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "LoadConfig": "config",
        "load_model": "checkpoint",
        "load_weights": "checkpoint",
        "load_tokenizer": "checkpoint",
        "load_config": "checkpoint",
        "with_padding": "checkpoint",
        "kind_of": "checkpoint",
        "weights_key": "references",
        "without_deprecations": "checkpoint",
        "load_scorer": "checkpoint",
        "new_scorer": "scorers",
        "save_scorer": "scorers",
        "model_at": "references",
        "EMBEDDED": "embedded",
        "EfficientNetLite": "efficientnet",
    },
)
