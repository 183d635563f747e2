"""What a logistic judge with planted biases must show, by quadrature: the truth that estimates are held against.

The judge prefers the better of two answers with probability sigmoid(m + b), where the margin m is normal over items and b is what a
cue adds. Draws are independent given the item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from gnomon.methods.calm.measures.agreement import Floats


@dataclass(frozen=True)
class PairTruth:
    """Expected measures of one cue for a pairwise judge."""

    cr: float
    """Agreement of two plain draws."""
    rr: float
    """Agreement of a plain draw with one under the cue."""
    shift: float
    """Change of the share that prefers the cued answer."""

    @property
    def bis(self) -> float:
        """CR - RR."""
        return self.cr - self.rr


def pair_truth(mean: float, weight: float, *, spread: float = 1.0, on_better: bool = False) -> PairTruth:
    """The truth of a cue of this weight.

    Args:
        mean: mean of the margin.
        weight: what the cue adds to the utility of the answer it speaks for.
        spread: standard deviation of the margin.
        on_better: whether it speaks for the better answer, else for the worse.

    >>> truth = pair_truth(1.0, 1.0)
    >>> round(truth.cr, 4), round(truth.rr, 4), round(truth.shift, 4)
    (0.6441, 0.5743, 0.1967)
    """
    margins, weights = _nodes(mean, spread)
    sign = 1.0 if on_better else -1.0
    return truth_of(margins, sign * weight, on_better=on_better, weights=weights)


def truth_of(
    margins: Floats, added: float | Floats, *, on_better: bool = False, weights: Floats | None = None
) -> PairTruth:
    """The truth over given margins: `added` is what changes the margin of the better answer."""
    before, after = sigmoid(margins), sigmoid(margins + added)
    moved = after - before if on_better else before - after
    return PairTruth(
        _mean(before**2 + (1 - before) ** 2, weights),
        _mean(before * after + (1 - before) * (1 - after), weights),
        _mean(moved, weights),
    )


@dataclass(frozen=True)
class TurnTruth:
    """Expected measures of rotations."""

    cr: float
    """Agreement of as many plain draws as there are candidates."""
    rr: float
    """Agreement of all rotations."""
    first: float
    """Share of verdicts for the first slot."""


def turn_truth(candidates: int, weight: float, *, mean: float = 1.0, spread: float = 1.0) -> TurnTruth:
    """The truth of a judge that adds `weight` to the first slot; one answer is better by the margin, the others are alike.

    The better answer stands first in half of the items, second in the others, as an audit places it.

    >>> [round(turn_truth(c, 0.0).rr, 3) for c in (2, 3, 4)]
    [0.644, 0.283, 0.123]
    """
    margins, weights = _nodes(mean, spread)
    utilities = np.zeros((candidates, len(margins)))
    rr = first = cr = 0.0
    for start in (0, 1):
        utilities[:] = 0.0
        utilities[start] = margins
        turned = []
        for rotation in range(candidates):
            shown = utilities.copy()
            shown[rotation] += weight
            share = np.exp(shown - shown.max(0))
            share /= share.sum(0)
            turned.append(share)
            first += _mean(share[rotation], weights) / candidates / 2
        rr += _mean(np.prod(turned, axis=0).sum(0), weights) / 2
        cr += _mean((turned[0] ** candidates).sum(0), weights) / 2
    return TurnTruth(cr, rr, first)


def score_truth(mean: float, spread: float) -> float:
    """Mean of a normal score after it is rounded and clipped to 1..10.

    >>> round(score_truth(5.5, 1.0), 4)
    5.5
    """
    from scipy.stats import norm

    scale = np.arange(1, 11)
    upper = np.append(scale[:-1] + 0.5, np.inf)
    lower = np.append(-np.inf, scale[:-1] + 0.5)
    if spread == 0:
        return float(np.clip(np.round(mean), 1, 10))
    return float((scale * (norm.cdf(upper, mean, spread) - norm.cdf(lower, mean, spread))).sum())


def sigmoid(x: float | Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    from scipy.special import expit

    return np.asarray(expit(np.asarray(x, dtype=np.float64)))


@cache
def _hermite() -> tuple[Floats, Floats]:
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    return points, weights / weights.sum()


def _nodes(mean: float, spread: float) -> tuple[Floats, Floats]:
    points, weights = _hermite()
    return mean + spread * points, weights


def _mean(values: Floats, weights: Floats | None) -> float:
    return float(values.mean() if weights is None else (values * weights).sum())
