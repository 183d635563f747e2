"""Intervals that hold the true risk minimiser of a student, from labelled scores.

The risk of a threshold s is R(s) = P(f < s, y = 1) + P(f >= s, y = 0). Moving it from a to b > a changes the risk by
E[(2y - 1) 1{a <= f < b}], so that along the labels in order of their scores the risk is, up to a constant, the running mean
W_j = (1/n) sum_{i<j} z_i with z = 2y - 1, where threshold j leaves the j lowest labels below. The interval of s* holds the
thresholds that the labels do not rule out.

Everything here looks at the order of the scores only. Equal scores form one block: a threshold cannot part them.

Source: SIEVE (arXiv 2410.02755), the TRM sampling rule; the interval is the empirical Bernstein bound with a union over thresholds.

A `Design` records the chance of each snippet to be labelled; its inverse weights chosen labels back to the whole stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
"""Lowest and highest score inside; both ends belong to it."""

EVERYTHING: Interval = (-math.inf, math.inf)
"""The interval with which every round begins."""

Shrink = Callable[[ArrayLike, ArrayLike, Interval], Interval]
"""Scores and labels inside an interval, and the interval -> the narrower interval."""

KEPT_BY_HALVING = 0.5
"""Share of the labels at which halving stops dropping ends (the rule allows 40% to 60%)."""


@dataclass(frozen=True)
class RiskSteps:
    """The risk at every threshold that the labels can tell apart."""

    scores: NDArray[np.float64]
    """The distinct scores, ascending, [M]."""
    counts: NDArray[np.int64]
    """Labels below each threshold, [M + 1]: threshold m has the first m distinct scores below it."""
    risk: NDArray[np.float64]
    """W at each threshold, [M + 1]; its first entry is 0."""

    @property
    def best(self) -> int:
        """The threshold of least risk; of several equal ones the middle one."""
        at = np.flatnonzero(self.risk <= self.risk.min() + 1e-12)
        return int(at[len(at) // 2])

    def between(self, first: int, last: int, inside: Interval) -> Interval:
        """The scores that thresholds `first` to `last` can take, within `inside`."""
        low = inside[0] if first == 0 else float(self.scores[first - 1])
        high = inside[1] if last == len(self.scores) else float(self.scores[last])
        return low, high


def risk_steps(scores: ArrayLike, labels: ArrayLike) -> RiskSteps:
    """The risk profile of labelled scores: W_j, the running mean of 2y - 1 along the ordered scores.

    Source: SIEVE (arXiv 2410.02755), the true risk minimiser.

    >>> risk_steps([0.2, 0.4, 0.4, 0.9], [0, 1, 0, 1]).risk.tolist()
    [0.0, -0.25, -0.25, 0.0]
    """
    distinct, block = np.unique(np.asarray(scores, float), return_inverse=True)
    signs = 2.0 * np.asarray(labels, float) - 1.0
    sums = np.bincount(block, weights=signs, minlength=len(distinct))
    counts = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=len(distinct)))]).astype(np.int64)
    risk = np.concatenate([[0.0], np.cumsum(sums)]) / max(len(signs), 1)
    return RiskSteps(distinct, counts, risk)


def bernstein(
    scores: ArrayLike, labels: ArrayLike, inside: Interval, *, delta: float = 0.1, scale: float = 0.3
) -> Interval:
    """The hull of the thresholds whose risk is within an empirical Bernstein bound of the least.

    Threshold j stays if W_j - W_best <= scale (sqrt(2 V_j L / n) + 3 L / n), with k_j the share of labels between j and the best,
    V_j = k_j - (W_j - W_best)^2 and L = log(3 (n + 1) / delta).

    Source: SIEVE (arXiv 2410.02755), the TRM sampling rule, with an empirical Bernstein bound and a union over thresholds. Differs:
    `scale` 0.3 by default, since rounds of a few hundred labels are too small for the guarantee.

    Args:
        scores: scores of all labels that lie in `inside`, [n].
        labels: their labels, 0 or 1.
        inside: the interval so far.
        delta: chance that the bound fails, when `scale` is 1.
        scale: 1 is the guarantee; 0.3 is what helps with fewer than about 1,000 labels a round.
    """
    steps = risk_steps(scores, labels)
    n = int(steps.counts[-1])
    if n == 0:
        return inside
    gap = steps.risk - steps.risk[steps.best]
    between = np.abs(steps.counts - steps.counts[steps.best]) / n
    variance = np.maximum(between - gap**2, 0.0)
    log_term = math.log(3 * (n + 1) / delta)
    kept = np.flatnonzero(gap <= scale * (np.sqrt(2 * variance * log_term / n) + 3 * log_term / n))
    return steps.between(int(kept[0]), int(kept[-1]), inside)


def halving(scores: ArrayLike, labels: ArrayLike, inside: Interval) -> Interval:
    """The part of the interval around the least risk that holds about half of its labels.

    The end with the larger risk is dropped, block by block, until at most half of the labels remain. Of two equal ends the one
    farther from the least risk goes.
    """
    steps = risk_steps(scores, labels)
    first, last, best = 0, len(steps.scores), steps.best
    n = int(steps.counts[-1])
    while last - first > 1 and steps.counts[last] - steps.counts[first] > KEPT_BY_HALVING * n:
        low, high = steps.risk[first], steps.risk[last]
        drop_low = low > high if not math.isclose(low, high, abs_tol=1e-12) else best - first > last - best
        if drop_low:
            first += 1
        else:
            last -= 1
    return steps.between(first, last, inside)


def estimate(
    scores: ArrayLike, labels: ArrayLike, inside: Interval, rank_of: Callable[[float], float]
) -> float:
    """The rank of least risk: midway between the ranks of the labels on its two sides, or an end of `inside` that is finite.

    Midway in rank, not in score: a monotone change of the scores moves no rank, but it does move the middle of two scores.

    Args:
        scores: of labels that lie in `inside`.
        labels: 0 or 1.
        inside: the interval.
        rank_of: the rank of a score in the stream, 0..1.
    """
    steps = risk_steps(scores, labels)
    low, high = steps.between(steps.best, steps.best, inside)
    if math.isinf(low):
        return rank_of(high) if not math.isinf(high) else 0.5
    return rank_of(low) if math.isinf(high) else (rank_of(low) + rank_of(high)) / 2


# Chances to be labelled.


@dataclass
class Design:
    """Which scores were labelled in one round, and out of how many snippets.

    While the stream passes, every snippet whose score lies in the interval of the moment is labelled; afterwards, every snippet of
    the round in the `bands` is. The chance that a snippet with a given score was labelled follows from that alone.
    """

    spans: list[tuple[Interval, int]] = field(default_factory=list)
    """Interval and the number of snippets that passed while it stood, in order."""
    bands: list[Interval] = field(default_factory=list)
    """Score intervals of which every snippet read in the round was chosen at its end."""
    idle: int = 0
    """Snippets that were read while none was picked from the stream; only the bands reach them."""
    band_share: float = 1.0
    """Share of those that have a label: below 1 in a round that a budget cut short."""

    @property
    def n_read(self) -> int:
        """Snippets that the round read."""
        return sum(count for _, count in self.spans) + self.idle

    def passed(self, interval: Interval, count: int) -> None:
        """`count` more snippets went by while `interval` stood."""
        if self.spans and self.spans[-1][0] == interval:
            self.spans[-1] = (interval, self.spans[-1][1] + count)
        else:
            self.spans.append((interval, count))

    def chances(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probability of having been labelled, for snippets of the round with these scores, [N]."""
        wanted = np.asarray(scores, float)
        share = np.zeros(wanted.shape)
        for (low, high), count in self.spans:
            share += count * ((wanted >= low) & (wanted <= high))
        share /= max(self.n_read, 1)
        for low, high in self.bands:
            inside = (wanted >= low) & (wanted <= high)
            share[inside] = share[inside] + (1 - share[inside]) * self.band_share
        return share

    def weights(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Inverse-inclusion weights of labels with these scores, scaled so that they sum to their effective number.

        The effective number is (sum w)^2 / sum w^2 (Kish). Rounds pooled with these weights count for as much as they know: a round
        that rests on a few heavy labels counts little.
        """
        chances = self.chances(scores)
        raw = np.divide(1.0, chances, out=np.zeros_like(chances), where=chances > 0)
        square = float((raw**2).sum())
        return raw * (raw.sum() / square) if square else raw

    def to_plain(self) -> dict[str, Any]:
        """The design as JSON holds it; infinite ends become None."""
        return {
            "idle": self.idle,
            "band_share": self.band_share,
            "spans": [[*map(_finite, interval), count] for interval, count in self.spans],
            "bands": [[*interval] for interval in self.bands],
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Design:
        """The design back from `to_plain`."""
        spans = [(_interval(low, high), int(count)) for low, high, count in raw["spans"]]
        bands = [_interval(low, high) for low, high in raw["bands"]]
        return cls(spans, bands, raw["idle"], raw.get("band_share", 1.0))


def _finite(end: float) -> float | None:
    return end if np.isfinite(end) else None


def _interval(low: float | None, high: float | None) -> Interval:
    return (EVERYTHING[0] if low is None else low, EVERYTHING[1] if high is None else high)
