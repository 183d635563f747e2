"""The miniature replication."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "SEARCHES": "arms",
        "run_arm": "arms",
        "CHAT_TEMPLATE": "world",
        "PROMPT": "world",
        "World": "world",
        "as_example": "world",
        "style_metric": "world",
    },
)
