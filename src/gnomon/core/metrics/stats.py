"""Means with bootstrap intervals, over seeds and over the tasks measured under each seed.

Scores come in one of two shapes: one number per seed, or one row of numbers per seed (a number per task).
Rows of equal length are read as a table `[S, N]` of the same N tasks under S seeds. The bootstrap then
draws seeds and tasks, both with replacement, and keeps each draw of tasks for all drawn seeds: a task that
is hard is hard under every seed, and drawing it anew per seed would pretend otherwise. Rows of unequal
length cannot share tasks, so each drawn seed draws its own.

The interval holds the central `level` of the resampled means (percentile interval). With a handful of
seeds, BCa has no jackknife worth the name and collapses when scores tie, while the percentile interval
stays within the values seen and is exact: up to five seeds without tasks, every one of the S^S resamples is
counted, so nothing is drawn at all.

Know its limit: three seeds resampled show at most two thirds of the variance between seeds, so that the
interval of three bare numbers is their range. It is evidence of direction. For a fine margin take more
seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

Scores = Sequence[float] | Sequence[Sequence[float]] | NDArray[np.float64]
"""One number per seed, or one row of numbers (one per task) per seed."""

IntLike = int | Sequence[int] | NDArray[np.int64]
"""A count, or counts."""

_ENUMERATE = 5**5


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval."""

    estimate: float
    """Mean over seeds of the mean over tasks."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    n_seeds: int
    """Seeds behind it."""
    n_units: int
    """Numbers behind it: seeds, or (seed, task) pairs."""
    level: float
    """Share of the resampled means within the ends."""


def mean_interval(
    values: Scores, *, level: float = 0.95, n_resamples: int = 10_000, rng: Rng | None = None
) -> Interval:
    """The mean of `values` and its percentile bootstrap interval.

    Args:
        values: one number per seed, `[S]`, or one row per seed, `[S, N]` or ragged.
        level: share of the resampled means that the interval holds, within (0, 1).
        n_resamples: resamples drawn when they are too many to be counted, >= 100.
        rng: where the resamples come from; the same default every time, so that a report repeats.

    Raises:
        BadInput: there are no values, or one is not finite.
        BadConfig: `level` or `n_resamples` is out of range.

    >>> interval = mean_interval([1.0, 2.0, 3.0])
    >>> interval.estimate, interval.low, interval.high
    (2.0, 1.0, 3.0)
    """
    if not 0 < level < 1:
        raise BadConfig(f"level must be within (0, 1); got {level}.")
    if n_resamples < 100:
        raise BadConfig(f"n_resamples must be >= 100; got {n_resamples}.")
    rows = _rows(values)
    draw = (rng or Rng(0)).child("bootstrap").numpy()
    means = _resampled_means(rows, n_resamples, draw)
    tail = 50 * (1 - level)
    # No interpolation: an end is a mean that a resample had. The upper end mirrors the lower one.
    low = float(np.percentile(means, tail, method="inverted_cdf"))
    high = -float(np.percentile(-means, tail, method="inverted_cdf"))
    estimate = float(np.mean([row.mean() for row in rows]))
    # Rounding in the resampled sums must not push an interval of equal values off its own mean.
    low = estimate if math.isclose(low, estimate) else low
    high = estimate if math.isclose(high, estimate) else high
    return Interval(estimate, low, high, len(rows), sum(row.size for row in rows), level)


def paired_difference(
    a: Scores, b: Scores, *, level: float = 0.95, n_resamples: int = 10_000, rng: Rng | None = None
) -> Interval:
    """The mean of `a - b`, paired by seed and task, with its bootstrap interval.

    Args:
        a: scores of one arm, in the shapes of `mean_interval`.
        b: scores of the other, in the same shape and order.
        level: as in `mean_interval`.
        n_resamples: as in `mean_interval`.
        rng: as in `mean_interval`.

    Raises:
        BadInput: the two do not have the same shape, or a value is not finite.

    >>> paired_difference([0.5, 0.75], [0.25, 0.25]).estimate
    0.375
    """
    left, right = _rows(a), _rows(b)
    if [row.size for row in left] != [row.size for row in right]:
        raise BadInput(
            f"Paired scores need the same seeds and tasks on both sides; "
            f"got {_shape(left)} and {_shape(right)}."
        )
    differences = [x - y for x, y in zip(left, right, strict=True)]
    return mean_interval(differences, level=level, n_resamples=n_resamples, rng=rng)  # type: ignore[arg-type]


def _rows(values: Scores) -> list[NDArray[np.float64]]:
    """One float array per seed, checked."""
    rows = [np.atleast_1d(np.asarray(row, dtype=np.float64)) for row in values]
    if not rows or any(row.ndim != 1 or row.size == 0 for row in rows):
        raise BadInput("Scores need at least one seed and one number per seed.")
    for seed, row in enumerate(rows):
        if not np.isfinite(row).all():
            raise BadInput(f"Scores must be finite; row {seed} holds {row[~np.isfinite(row)][0]}.")
    return rows


def _shape(rows: list[NDArray[np.float64]]) -> str:
    sizes = {row.size for row in rows}
    return f"{len(rows)} x {sizes.pop()}" if len(sizes) == 1 else f"rows of {[row.size for row in rows]}"


def _resampled_means(
    rows: list[NDArray[np.float64]], n_resamples: int, draw: np.random.Generator
) -> NDArray[np.float64]:
    """Means of the resamples: all of them where they can be counted, else `n_resamples` drawn ones."""
    n_seeds = len(rows)
    sizes = {row.size for row in rows}
    if sizes == {1} and n_seeds**n_seeds <= _ENUMERATE:
        every = np.indices((n_seeds,) * n_seeds).reshape(n_seeds, -1)  # [S, S^S]
        return np.concatenate(rows)[every].mean(axis=0)
    if len(sizes) == 1:
        table = np.stack(rows)  # [S, N]
        step = max(1, 2_000_000 // max(table.shape))
        chunks = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
        return np.concatenate([_table_means(table, size, draw) for size in chunks])
    means = np.empty(n_resamples)
    for i in range(n_resamples):
        chosen = (rows[j] for j in draw.integers(n_seeds, size=n_seeds))
        means[i] = np.mean([row[draw.integers(row.size, size=row.size)].mean() for row in chosen])
    return means


def _table_means(table: NDArray[np.float64], size: int, draw: np.random.Generator) -> NDArray[np.float64]:
    """Means of `size` resamples of the rows and columns of `table`, `[S, N]`."""
    # How often each seed and each task was drawn; a mean over the drawn pairs is bilinear in the two.
    n_seeds, n_tasks = table.shape
    seeds = draw.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size) / n_seeds  # [R, S]
    tasks = draw.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=size) / n_tasks  # [R, N]
    means: NDArray[np.float64] = ((seeds @ table) * tasks).sum(axis=1)
    return means


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson interval of a share; the whole range when nothing was counted.

    Args:
        successes: 0..n.
        n: trials.
        z: quantile of the normal distribution; the default holds 95%.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def mcnemar(only_first: IntLike, only_second: IntLike) -> NDArray[np.float64]:
    """Two-sided exact p-values of McNemar's test, one per pair of counts; 1 where nothing is discordant.

    Args:
        only_first: pairs in which only the first of two paired events happened, of any shape.
        only_second: pairs in which only the second happened, of the same shape.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages" (1947); exact
    binomial form.

    >>> mcnemar([1, 5], [8, 5]).round(4).tolist()
    [0.0391, 1.0]
    """
    from scipy.stats import binom

    b, c = np.asarray(only_first), np.asarray(only_second)
    p: NDArray[np.float64] = np.minimum(1.0, 2 * binom.cdf(np.minimum(b, c), b + c, 0.5))
    return p


def benjamini_hochberg(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values adjusted for the number of tests, so that those below q have a false discovery rate of at most q.

    Args:
        p_values: of the tests of one family, `[..., M]`; families in front are adjusted each by itself.

    Returns:
        Adjusted p-values in the order given, of the same shape.

    Source: Benjamini and Hochberg, "Controlling the false discovery rate" (1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    p = np.asarray(p_values, dtype=np.float64)
    m = p.shape[-1]
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, -1) * m / np.arange(1, m + 1)
    smallest = np.minimum.accumulate(steps[..., ::-1], axis=-1)[..., ::-1]
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(smallest, 1.0), -1)
    return adjusted


@lru_cache(maxsize=8)
def _unit_counts(rng: Rng, n_units: int, n_resamples: int) -> NDArray[np.float32]:
    """How often each unit was drawn in each resample, `[N, R]`."""
    counts = rng.numpy().multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples)
    return np.ascontiguousarray(counts.T, dtype=np.float32)


def ratio_intervals(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    rng: Rng | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums of numerators over sums of denominators, with percentile intervals of a bootstrap over units.

    A unit (an item that was measured in several ways) keeps all that belongs to it in every resample, and all rows share their
    resamples: rows may be subtracted beforehand. A mean over the measured units is the case of denominators 0 and 1.

    Args:
        numerators: `[..., N]`, 0 where a unit was not measured.
        denominators: of the same shape, 0 where a unit was not measured.
        level: share of the resampled ratios within the ends.
        n_resamples: resamples.
        rng: where they come from; the same default every time.

    Returns:
        Estimate, low and high, each `[...]`; NaN where nothing was measured.
    """
    n_units = numerators.shape[-1]
    counts = _unit_counts((rng or Rng(0)).child("units", n_units), n_units, n_resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = numerators.sum(-1) / denominators.sum(-1)
        tops, bottoms = (part.astype(np.float32) @ counts for part in (numerators, denominators))  # [..., R]
        resampled = np.where(bottoms > 0, tops / bottoms, np.nan)
    resampled = np.where(np.isnan(resampled), estimate[..., None], resampled)
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=-1, method="inverted_cdf").astype(np.float64)
    return estimate, low, high
