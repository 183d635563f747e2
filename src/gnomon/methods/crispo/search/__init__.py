"""The search: critiques, proposals, the loop and its files."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Critic": "critique",
        "write": "critique",
        "Optimizer": "proposals",
        "nearest_text": "proposals",
        "BEST": "store",
        "Store": "store",
        "SavedSearch": "store",
        "dspy": "store",
        "promptfoo": "store",
        "read_prompt": "store",
        "whole": "store",
    },
)
