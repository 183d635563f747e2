"""Strategies of selection, as plans that one round driver follows, and ranks of scores among recent snippets.

Selection works on ranks because a monotone change of the scores does not change them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.errors import BadConfig, nearest
from gnomon.methods.sieve.choosing.intervals import Shrink, bernstein, halving

# Ranks of scores.

Scores = NDArray[np.float64]


class Reservoir:
    """The scores that a student gave to the last `size` snippets it read.

    Args:
        size: how many scores are remembered.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._recent: Scores = np.empty(0)
        self._sorted: Scores = np.empty(0)

    def __len__(self) -> int:
        return len(self._recent)

    @property
    def scores(self) -> Scores:
        """The remembered scores, ascending."""
        return self._sorted

    def add(self, scores: ArrayLike) -> None:
        """Remember further scores; the oldest make room."""
        self._recent = np.concatenate([self._recent, np.asarray(scores, float)])[-self.size :]
        self._sorted = np.sort(self._recent)

    def ranks(self, scores: ArrayLike) -> Scores:
        """Share of the remembered scores below each of `scores`, equal ones counted half; 0.5 while nothing is remembered.

        >>> reservoir = Reservoir(10)
        >>> reservoir.add([0.1, 0.2, 0.2, 0.9])
        >>> reservoir.ranks([0.2, 1.0]).tolist()
        [0.5, 1.0]
        """
        return np.asarray(self.spans(scores).mean(axis=-1))

    def spans(self, scores: ArrayLike) -> Scores:
        """Share of the remembered scores below each of `scores`, and share not above it, [..., 2].

        The two differ where scores are equal: such a block takes up all ranks between them.
        """
        wanted = np.asarray(scores, float)
        if not len(self._sorted):
            return np.full((*wanted.shape, 2), 0.5)
        ends = [np.searchsorted(self._sorted, wanted, side) for side in ("left", "right")]
        return np.stack(ends, axis=-1) / len(self._sorted)

    def mass(self, low: float, high: float) -> float:
        """Share of the remembered scores in the closed interval from `low` to `high`; 1 while nothing is remembered."""
        if not len(self._sorted):
            return 1.0
        inside = np.searchsorted(self._sorted, high, "right") - np.searchsorted(self._sorted, low, "left")
        return max(int(inside), 0) / len(self._sorted)

    def cut_at(self, rank: float) -> float:
        """The threshold that a share `rank` of the remembered scores misses: midway between the scores on its two sides."""
        n = len(self._sorted)
        at = min(max(round(rank * n), 0), n)
        if at in (0, n):
            return float(self._sorted[0]) if at == 0 else float(np.nextafter(self._sorted[-1], np.inf))
        return float(self._sorted[at - 1] + self._sorted[at]) / 2

    def score_at(self, rank: float) -> float:
        """The score below which a share `rank` of the remembered ones lies."""
        return float(np.quantile(self._sorted, min(max(rank, 0.0), 1.0)))


# Strategies.


@dataclass(frozen=True)
class Plan:
    """How a round spends its labels: first on snippets in an interval as the stream passes, then on the nearest to a target."""

    stream_share: float
    """Share of the labels that goes to snippets in the interval; never less than the uniform fraction."""
    shrink: Shrink | None
    """How the interval narrows. None: it stays everything, so the share is a uniform sample."""
    target: str
    """What the rest of the labels is near to: `best` (rank of least estimated risk), `half` (score 0.5), `quantile`
    (the rank above which a share of the stream as large as the base rate lies)."""


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
        return Plan(1.0, None, "best")
    if strategy == "uncertainty":
        return Plan(0.0, None, "half")
    if strategy == "margin-quantile":
        return Plan(0.0, None, "quantile")
    if shrink == "bound":
        return Plan(1.0, partial(bernstein, delta=delta, scale=scale), "best")
    return Plan(0.5, halving, "best")
