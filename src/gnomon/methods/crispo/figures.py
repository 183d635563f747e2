"""Numbers about a search: how fast it found what it found, how far it looked around, and how far train and dev disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from gnomon.core.rng import Rng

PAIRS = 200
"""Pairs of prompts whose distance is taken, at most."""


def search_figures(told: Any, metric: str) -> dict[str, Any]:
    """The figures of a search.

    Args:
        told: a `store.Told`.
        metric: which metric's curve.

    Returns:
        Best on train and dev; `train - dev gap` of the returned prompt; `area under the curve` of the best on dev, the mean over
        steps; `task calls to 90%` of the final gain on train; prompts, distinct ones, their mean pairwise distance (share of
        characters to be edited), and refused proposals.
    """
    steps: Sequence[Mapping[str, Any]] = told.search["steps"]
    curve = [step["values"]["dev"][metric] for step in steps]
    best = told.best["scores"]
    refused = total_rejected(steps)
    texts = list(dict.fromkeys(prompt["prompt"] for prompt in told.prompts))
    return {
        "best on dev": best["dev"][metric],
        "train - dev gap": best["train"][metric] - best["dev"][metric],
        "area under the curve": sum(curve) / len(curve),
        "task calls to 90%": calls_to(steps, metric, 0.9),
        "task calls": steps[-1]["task_calls"],
        "prompts": len(told.prompts),
        "distinct prompts": len(texts),
        "prompt distance": mean_distance(texts),
        "proposals refused": sum(refused.values()),
        "prompts that copy a reference": sum(bool(prompt["copies"]) for prompt in told.prompts),
        "prompts dropped by racing": sum(prompt["dropped"] for prompt in told.prompts),
    }


def calls_to(steps: Sequence[Mapping[str, Any]], metric: str, share: float) -> int | None:
    """Task calls until `share` of the gain on train was there, from the first step to the last; None without a gain."""
    values = [step["values"]["train"][metric] for step in steps]
    gain = values[-1] - values[0]
    if not gain:
        return None
    for step, value in zip(steps, values, strict=True):
        if (value - values[0]) / gain >= share - 1e-12:
            return int(step["task_calls"])
    return None


def total_rejected(steps: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Reason -> proposals refused for it."""
    total: Counter[str] = Counter()
    for step in steps:
        total.update(step["rejected"])
    return total


def mean_distance(texts: Sequence[str]) -> float | None:
    """The mean over pairs of the share of characters that must be edited to make one of the other; None below two texts.

    >>> mean_distance(["abcd", "abcx"])
    0.25
    """
    from rapidfuzz.distance import Levenshtein

    pairs = list(combinations(texts, 2))
    if not pairs:
        return None
    if len(pairs) > PAIRS:
        pairs = Rng(0).child("pairs").python().sample(pairs, PAIRS)
    return sum(Levenshtein.normalized_distance(a, b) for a, b in pairs) / len(pairs)
