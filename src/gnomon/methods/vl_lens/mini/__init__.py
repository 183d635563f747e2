"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Seen": "measures",
        "measure": "measures",
        "BOARD": "models",
        "CaptionedScenes": "models",
        "CellText": "models",
        "PROMPT": "models",
        "SCALES": "models",
        "new_model": "models",
        "pixels": "models",
        "train": "models",
        "GREY": "world",
        "Scene": "world",
        "SceneWorld": "world",
        "pairs": "world",
    },
)
