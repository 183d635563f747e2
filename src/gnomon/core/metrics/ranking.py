"""The area under the ROC curve, with bootstrap intervals that draw whole groups of items."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Auc:
    """An area under the ROC curve and how sure it is. All numbers are `None` where only one class was there."""

    value: float | None
    """Chance that a positive scores above a negative; ties count half."""
    low: float | None
    """Lower end of the 95% bootstrap interval."""
    high: float | None
    """Upper end."""
    std: float | None
    """Standard deviation over the resamples."""
    n: int
    """Items."""
    base_rate: float | None
    """Share of positives."""

    @property
    def cell(self) -> tuple[float, float, float] | None:
        """Value, lower end, upper end, as tables and charts take them."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return self.value, self.low, self.high


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Chance that a positive scores above a negative, ties counting half; `None` where only one class is there.

    Args:
        labels: 0 or 1, [N].
        scores: higher means more likely positive, [N].

    Raises:
        BadInput: lengths differ, a label is neither 0 nor 1, or a score is not finite.

    >>> auc([1, 1, 0, 0], [0.9, 0.4, 0.4, 0.1])
    0.875
    >>> auc([1, 1], [0.5, 0.7]) is None
    True
    """
    from sklearn.metrics import roc_auc_score

    y, s = _checked(labels, scores)
    if len(np.unique(y)) < 2:
        return None
    return float(roc_auc_score(y, s))


def auc_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = 1000,
    rng: Rng | None = None,
) -> Auc:
    """The AUC with its percentile bootstrap interval.

    Args:
        labels: 0 or 1, [N].
        scores: higher means more likely positive, [N].
        groups: items of one group are drawn together (samples of one question); `None` draws items.
        resamples: how many; those with one class only are left out.
        rng: where they come from; the same default every time, so that a report repeats.

    Raises:
        BadInput: as in `auc`, or not one group per item.
    """
    y, s = _checked(labels, scores)
    _, places = np.unique([str(g) for g in groups] if groups is not None else np.arange(len(y)), return_inverse=True)  # fmt: skip
    if len(places) != len(y):
        raise BadInput(f"Every item needs its group; got {len(y)} items and {len(places)} groups.")
    value = auc(y, s)
    rate = float(y.mean()) if len(y) else None
    if value is None:
        return Auc(None, None, None, None, len(y), rate)
    draw = (rng or Rng(0)).child("auc").numpy()
    many = int(places.max()) + 1
    draws: list[Floats] = []
    for start in range(0, resamples, _TOGETHER):
        size = min(_TOGETHER, resamples - start)
        drawn = draw.multinomial(many, np.full(many, 1 / many), size=size)  # [R, groups]
        draws.append(_weighted(y, s, drawn[:, places].astype(np.float64)))
    values = np.concatenate(draws)
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Auc(value, float(low), float(high), float(values.std()), len(y), rate)


_TOGETHER = 100
"""Resamples computed at once."""


def _weighted(labels: Floats, scores: Floats, weights: Floats) -> Floats:
    """AUC under each row of weights [R, N]; NaN where a class has no weight.

    Not scikit-learn's, which takes one row of weights a call: for 1,000 resamples that is a hundred times slower.
    """
    if not len(labels):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)  # equal scores are one block
    up = np.add.reduceat((weights * labels)[:, order], starts, axis=1)
    down = np.add.reduceat((weights * (1 - labels))[:, order], starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    pairs = up.sum(1) * down.sum(1)
    return np.divide((up * below).sum(1), pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    y, s = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise BadInput(f"AUC needs one score per label; got labels {y.shape} and scores {s.shape}.")
    if not np.isin(y, (0, 1)).all():
        raise BadInput(f"Labels must be 0 or 1; got {y[~np.isin(y, (0, 1))][0]:g}.")
    if not np.isfinite(s).all():
        raise BadInput(f"Scores must be finite; got {s[~np.isfinite(s)][0]}.")
    return y, s
