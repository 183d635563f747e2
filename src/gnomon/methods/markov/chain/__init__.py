"""The finite chain of a model: its states, matrix, equilibrium, rates and loops."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "truncate": "chain",
        "distance": "forget",
        "TEMPERATURES": "lm",
        "analyse": "lm",
        "bound": "rates",
        "seen_states": "rates",
        "violations": "rates",
        "prefix_ids": "scores",
        "score_model": "scores",
        "token_ids": "scores",
    },
)
