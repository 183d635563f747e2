"""Length held equal: what is left of a shift when changed pairs are compared with plain pairs of the same lengths.

A rewrite is longer than what it was made from, and a judge that looks at length alone turns to it. What length does is read from
the plain verdicts: pairs differ in length by themselves, in both directions. Of each item

    shift at equal length = (verdict after - F(lengths after)) - (verdict before - F(lengths before))

where F is the share of plain verdicts for the cued side at such lengths of both answers. F is logistic in the log ratio, in the
difference and in the sign of the difference, in words and in characters: the first two are judges that weigh length, the third
one that always takes the longer answer, which no smooth curve follows. Items whose changed answers differ more in length than
plain pairs do are left out: nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.methods.calm.judging.trials import Verdict
from gnomon.methods.calm.measures.agreement import Floats
from gnomon.methods.calm.measures.profile import ALPHA, POWER, Interval, quantiles

LEAST = 20
"""Items below which nothing is estimated."""

EDGE = 0.02
"""Share of the plain pairs at either end of the range of lengths that does not count as data."""

RIDGE = 0.02
"""Penalty of F: just enough that it exists for a judge whose verdicts follow length without exception."""

RESAMPLES = 400

NEWTON_STEPS = 25
"""Most steps of the fit; 8 are usual, all are taken where verdicts follow length without exception."""


@dataclass(frozen=True)
class Pairs:
    """Verdicts on pairs of answers and the lengths of both."""

    liked: Floats
    """Verdicts for the cued answer, `[N]`; a sum over draws."""
    read: Floats
    """Verdicts that could be read, `[N]`."""
    lengths: Floats
    """`[N, 2, 2]`: the cued answer and the other one, in words and in characters; NaN where unknown."""


@dataclass(frozen=True)
class Drift:
    """Change of length beside a shift, and the shift at equal length."""

    median: float
    """Median length ratio of the changed answer, in words."""
    low: float
    """Its lower quartile."""
    high: float
    """Its upper quartile."""
    items: int = 0
    """Items that are compared at equal length."""
    beyond: int = 0
    """Items left out: no plain pairs differ as much in length as they do after the change."""
    shift: float | None = None
    """The shift of the compared items as it is."""
    by_length: float | None = None
    """What plain verdicts at these lengths make of it."""
    at_equal_length: Interval | None = None
    """What is left; None where length cannot be held equal."""
    smallest: float | None = None
    """The smallest shift at equal length that would have been found with power 0.8."""
    reason: str = ""
    """Why length cannot be held equal."""


class LengthModel:
    """F, the share of plain verdicts for the cued side by the lengths of both answers, with its resamples over items.

    Args:
        plain: plain verdicts on all items of a set.
        rng: of the bootstrap over items.
    """

    def __init__(self, plain: Pairs, rng: Rng) -> None:
        self.plain = plain
        self.usable = (plain.read > 0) & np.isfinite(plain.lengths).all((1, 2))
        n = int(self.usable.sum())
        self.is_fitted = n >= LEAST
        if not self.is_fitted:
            return
        self._unit = np.median(plain.lengths[self.usable], axis=(0, 1))  # [2]
        raw = self._raw(plain.lengths)
        self._scale = np.maximum(raw[self.usable].std(0), 1e-9)
        self._ends = np.quantile(raw[self.usable][:, :4], [EDGE, 1 - EDGE], axis=0)
        draws = rng.child("lengths", n).numpy().multinomial(n, np.full(n, 1 / n), size=RESAMPLES + 1)
        self._counts = np.zeros((RESAMPLES + 1, len(plain.read)))
        self._counts[:, self.usable] = draws
        self._counts[0] = self.usable  # the sample itself
        self._weights = _logistic(
            self._design(plain.lengths)[self.usable],
            plain.liked[self.usable],
            plain.read[self.usable],
            self._counts[:, self.usable],
        )

    def hold_equal(self, changed: Pairs, ratios: Floats) -> Drift | None:
        """The drift of one condition; None where no answer was changed.

        Args:
            changed: verdicts after the change, on the same items as the plain ones.
            ratios: length ratio of the changed answer by item, in words; NaN where none was changed.
        """
        is_changed = np.isfinite(ratios)
        if not is_changed.any():
            return None
        low, middle, high = (float(value) for value in np.quantile(ratios[is_changed], [0.25, 0.5, 0.75]))
        has_lengths = np.isfinite(changed.lengths).all((1, 2))
        judged = is_changed & (changed.read > 0) & has_lengths
        if not (is_changed & has_lengths).any():
            return Drift(middle, low, high, reason="the log does not say how long the answers are")
        if not self.is_fitted:
            return Drift(middle, low, high, reason=f"fewer than {LEAST} plain pairs")
        judged &= self.usable
        inside = judged & self.covers(changed.lengths)
        n, beyond = int(inside.sum()), int((judged & ~inside).sum())
        if n < LEAST:
            reason = (
                f"{beyond} of {n + beyond} changed pairs differ more in length than plain pairs do"
                if beyond
                else f"fewer than {LEAST} items"
            )
            return Drift(middle, low, high, n, beyond, reason=reason)
        before = self.plain.liked[inside] / self.plain.read[inside]
        after = changed.liked[inside] / changed.read[inside]
        counts = self._counts[:, inside]
        by_length = self._share(changed.lengths[inside]) - self._share(self.plain.lengths[inside])  # [R, n]
        with np.errstate(invalid="ignore", divide="ignore"):
            left = (counts * (after - before - by_length)).sum(1) / counts.sum(1)
        value, resampled = float(left[0]), left[1:][np.isfinite(left[1:])]
        ends = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2])
        # A judge that always takes the longer answer leaves no spread. No interval is narrower than one verdict either way.
        step = 1 / n
        interval = (value, min(float(ends[0]), value - step), max(float(ends[1]), value + step))
        spread = max(float(resampled.std()), step / quantiles(ALPHA, POWER, 1))
        return Drift(
            middle, low, high, n, beyond, float((after - before).mean()), float(by_length[0].mean()), interval,
            quantiles(ALPHA, POWER, 1) * spread,
        )  # fmt: skip

    def covers(self, lengths: Floats) -> NDArray[np.bool_]:
        """Whether plain pairs differ as much in length, `[N]`."""
        raw = self._raw(lengths)[:, :4]
        return np.asarray(((raw >= self._ends[0]) & (raw <= self._ends[1])).all(1))

    def _raw(self, lengths: Floats) -> Floats:
        """Log2 ratio, difference and its sign, each in words and characters, `[N, 6]`; all change their sign with the roles."""
        cued, other = np.nan_to_num(lengths[:, 0], nan=1.0), np.nan_to_num(lengths[:, 1], nan=1.0)
        ratio = np.log2(np.maximum(cued, 1) / np.maximum(other, 1))
        return np.concatenate([ratio, (cued - other) / self._unit, np.sign(cued - other)], 1)

    def _design(self, lengths: Floats) -> Floats:
        raw = self._raw(lengths) / self._scale
        return np.concatenate([np.ones((len(raw), 1)), raw], 1)

    def _share(self, lengths: Floats) -> Floats:
        """F of the sample and of every resample, `[R, N]`."""
        return _sigmoid(self._weights @ self._design(lengths).T)


def pair_lengths(rows: Sequence[Verdict], items: Sequence[str], cued: NDArray[np.int64]) -> Floats:
    """Lengths of the cued answer and of the other one of two, `[N, 2, 2]` as in `Pairs`; NaN where a log does not say."""
    index = {item: i for i, item in enumerate(items)}
    lengths = np.full((len(items), 2, 2), np.nan)
    for row in rows:
        i = index.get(row.item)
        if i is None or len(row.words) != 2 or sorted(row.slots) != [0, 1]:
            continue
        at = row.slots.index(1 if cued[i] == 1 else 0)
        for side, slot in enumerate((at, 1 - at)):
            lengths[i, side] = row.words[slot], row.characters[slot]
    return lengths


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))


def _logistic(x: Floats, liked: Floats, read: Floats, counts: Floats) -> Floats:
    """Weights of a logistic regression in every resample, `[R, P]`, by Newton's method for all at once.

    Args:
        x: `[N, P]`.
        liked: successes, `[N]`.
        read: trials, `[N]`.
        counts: how often a resample has each item, `[R, N]`.
    """
    weights = np.zeros((len(counts), x.shape[1]))
    penalty = np.full(x.shape[1], RIDGE)
    penalty[0] = RIDGE / 20  # the intercept is how good the cued side is, not how long
    for _ in range(NEWTON_STEPS):
        share = _sigmoid(weights @ x.T)
        gradient = (counts * (liked - read * share)) @ x - penalty * weights
        curvature = np.einsum("rn,np,nq->rpq", counts * read * share * (1 - share), x, x, optimize=True)
        move = np.linalg.solve(curvature + np.diag(penalty), gradient[..., None])[..., 0]
        move = np.clip(move, -3, 3)  # where all verdicts follow length the likelihood is flat far out
        weights += move
        if np.abs(move).max() < 1e-4:
            break
    return weights
