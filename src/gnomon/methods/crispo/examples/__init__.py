"""Rows of data, slots of prompts, key phrases and near examples."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "answer_in": "data",
        "check_apart": "data",
        "check_slots": "data",
        "copied": "data",
        "key_phrases": "data",
        "next_k": "data",
        "phrases_of": "data",
        "repair": "data",
        "slots_in": "data",
        "stated_k": "data",
        "tag_request": "data",
    },
)
