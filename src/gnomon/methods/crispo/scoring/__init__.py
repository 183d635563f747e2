"""Evaluation of prompts: metrics, requests to models, candidates and their scores."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Asker": "calls",
        "Decoding": "calls",
        "Measured": "candidates",
        "best_of": "candidates",
        "sort_keys": "candidates",
        "z_sums": "candidates",
        "side_by_side": "evaluation",
        "upper_bound": "evaluation",
        "STAND_IN": "metrics",
        "exact_match": "metrics",
    },
)
