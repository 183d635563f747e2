"""Biases of scores: what judges give to their own answers, and to answers whose history they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from gnomon.core.metrics.stats import ratio_intervals
from gnomon.core.rng import Rng
from gnomon.methods.calm.measures.agreement import Estimates, Floats

PaperVersion = Literal["iclr", "preprint"]


@dataclass(frozen=True)
class Ratio:
    """Two means of scores held against each other."""

    rate: Estimates
    """Ratio of the means less 1; in the preprint's form without its sign."""
    left: Floats
    """Mean of the scores above the line."""
    right: Floats
    """Mean of those below it."""
    p: Floats
    """Two-sided p-value of the paired difference."""
    n: int
    """Items with both scores."""


def error_rate(
    left: Floats, right: Floats, *, version: PaperVersion = "iclr", rng: Rng | None = None
) -> Ratio:
    """Relative difference of the mean of `left` from the mean of `right`.

    Args:
        left: scores, `[..., N]`; NaN where there is none.
        right: scores of the same items.
        version: `iclr`: mean(left) / mean(right) - 1; `preprint`: |1 - mean(left) / mean(right)|, which hides the direction.
        rng: of the bootstrap over items.

    Source: ErrorRate of self-enhancement and refinement-aware bias.
    """
    both = np.isfinite(left) & np.isfinite(right)
    top, bottom = np.where(both, left, 0.0), np.where(both, right, 0.0)
    value, low, high = (part - 1 for part in ratio_intervals(top, bottom, rng=rng))
    if version == "preprint":
        # An interval that crosses 0 has absolute values from 0 up to the larger end.
        ends = np.abs(np.stack([low, high]))
        crosses = low * high < 0
        value, low, high = np.abs(value), np.where(crosses, 0.0, ends.min(0)), ends.max(0)
    count = both.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = top.sum(-1) / count, bottom.sum(-1) / count
    return Ratio(Estimates(value, low, high), *means, _paired_t(left, right, both), int(np.max(count)))


def _paired_t(left: Floats, right: Floats, both: NDArray[np.bool_]) -> Floats:
    """Two-sided p-values of paired t-tests; 1 where there are fewer than two pairs, or none of them differs."""
    n = both.sum(-1)
    moved = np.where(both, left - right, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = moved.sum(-1) / n
        spread = np.sqrt((np.where(both, moved - mean[..., None], 0.0) ** 2).sum(-1) / (n - 1) / n)
        p = 2 * t.sf(np.abs(mean) / spread, np.maximum(n - 1, 1))
    return np.asarray(np.where((n < 2) | (mean == 0) | np.isnan(p), 1.0, p))


def self_effect(scores: Floats, *, rng: Rng | None = None) -> Estimates:
    """Points that judges add to their own answers, corrected for leniency and for the quality of answers.

    Least squares of score = judge + answer + effect x [own answer]. With every judge scoring every answer, the effect of an item is
    (trace - sum / J) / (J - 1) of its table of scores, and the estimate is their mean.

    Args:
        scores: `[..., N, J, J]`: item, judge, author; items with a missing score (NaN) are left out.
        rng: of the bootstrap over items.
    """
    judges = scores.shape[-1]
    whole = np.asarray(np.isfinite(scores).all((-2, -1)))
    filled = np.where(whole[..., None, None], scores, 0.0)
    trace = np.trace(filled, axis1=-2, axis2=-1)
    effect = np.asarray((trace - filled.sum((-2, -1)) / judges) / (judges - 1))
    return Estimates(*ratio_intervals(effect, whole.astype(np.float64), rng=rng))


def z_scores(scores: Floats) -> Floats:
    """Scores of every judge less its mean and over its standard deviation: the map of judges and authors, `[J, J]`.

    Args:
        scores: `[N, J, J]`: item, judge, author.
    """
    middle = np.nanmean(scores, axis=(0, 2), keepdims=True)
    spread = np.nanstd(scores, axis=(0, 2), keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean((scores - middle) / np.where(spread > 0, spread, 1.0), axis=0))
