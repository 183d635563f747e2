"""Which snippets of a round are worth a label: the strategies, as plans that one round driver follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadConfig, nearest
from gnomon.methods.sieve.intervals import Shrink, bernstein, halving
from gnomon.methods.sieve.ranks import Reservoir

Distance = Callable[[NDArray[np.float64], Reservoir, float], NDArray[np.float64]]
"""Scores, the reservoir and the target -> how far each score is from the target."""


@dataclass(frozen=True)
class Plan:
    """How a round spends its labels: first on snippets in an interval as the stream passes, then on the nearest to a target."""

    stream_share: float
    """Share of the labels that goes to snippets in the interval; never less than the uniform fraction."""
    shrink: Shrink | None
    """How the interval narrows. None: it stays everything, so the share is a uniform sample."""
    target: str
    """What the rest of the labels is near to: `best` (score of least estimated risk), `half` (score 0.5), `quantile`
    (the score above which a share of the stream as large as the base rate lies)."""
    distance: Distance
    """How nearness is measured."""


def _in_rank(scores: NDArray[np.float64], reservoir: Reservoir, target: float) -> NDArray[np.float64]:
    return np.abs(reservoir.ranks(scores) - reservoir.ranks(target))


def _in_score(scores: NDArray[np.float64], reservoir: Reservoir, target: float) -> NDArray[np.float64]:
    return np.abs(scores - target)


STRATEGIES = ("trm", "uncertainty", "random", "margin-quantile")
"""TRM sampling, and what it is compared with."""

SHRINKS = ("bound", "halving")
"""How TRM narrows its interval."""


def plan(strategy: str, *, shrink: str = "halving", delta: float = 0.1, scale: float = 0.3) -> Plan:
    """The plan of a strategy.

    Args:
        strategy: `trm`; `uncertainty` (nearest to score 0.5); `random`; `margin-quantile` (nearest in rank to the quantile of the
            base rate).
        shrink: for trm: `bound` spends all labels inside the interval of the empirical Bernstein bound; `halving` narrows with half
            of them and gives the rest to the snippets nearest in rank to the estimated minimiser.
        delta: chance that the bound fails.
        scale: factor of the bound.

    Raises:
        BadConfig: there is no such strategy or rule.
    """
    if strategy not in STRATEGIES:
        raise BadConfig(f'There is no strategy "{strategy}". {nearest(strategy, STRATEGIES)}')
    if shrink not in SHRINKS:
        raise BadConfig(f'There is no shrink rule "{shrink}". {nearest(shrink, SHRINKS)}')
    if strategy == "random":
        return Plan(1.0, None, "best", _in_rank)
    if strategy == "uncertainty":
        return Plan(0.0, None, "half", _in_score)
    if strategy == "margin-quantile":
        return Plan(0.0, None, "quantile", _in_rank)
    if shrink == "bound":
        return Plan(1.0, partial(bernstein, delta=delta, scale=scale), "best", _in_rank)
    return Plan(0.5, halving, "best", _in_rank)
