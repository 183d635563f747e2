"""Estimators that only count: what a learner without a prior knows after n states."""

from __future__ import annotations

import numpy as np

from gnomon.methods.markov.chain import Floats
from gnomon.methods.markov.states import Ints

BASELINES = ("counting", "add-1", "add-1/d", "back-off", "uniform")
"""Relative frequencies (uniform where a state was never left); with 1 or 1/d added to every count; relative frequencies of pairs,
of single states where a state was never left; and no learning at all."""


def count(x: Ints, states: int) -> dict[str, Floats]:
    """Each baseline's distribution of the next state after x_1..x_n, for every n, `[N, d]`.

    `add-1` is the Bayes posterior mean for chains whose rows are Dirichlet(1): on average over those nothing beats it.

    Args:
        x: states 0..d-1, `[N]`.
        states: d.
    """
    rows = np.zeros((len(x), states))  # counts of what followed x_n before time n
    singles = np.zeros((len(x), states))
    pairs, single = np.zeros((states, states)), np.zeros(states)
    for n, state in enumerate(x.tolist()):
        if n:
            pairs[x[n - 1], state] += 1
        single[state] += 1
        rows[n], singles[n] = pairs[state], single
    seen = rows.sum(1, keepdims=True)
    is_new = seen == 0
    frequencies = rows / np.where(is_new, 1, seen)
    return {
        "counting": np.where(is_new, 1 / states, frequencies),
        "add-1": (rows + 1) / (seen + states),
        "add-1/d": (rows + 1 / states) / (seen + 1),
        "back-off": np.where(is_new, singles / singles.sum(1, keepdims=True), frequencies),
        "uniform": np.full_like(rows, 1 / states),
    }
