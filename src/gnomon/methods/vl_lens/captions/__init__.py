"""Captions, the objects they name, and how many of those are not there."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "describe": "captions",
        "probability_of": "captions",
        "token_probabilities": "captions",
    },
)
