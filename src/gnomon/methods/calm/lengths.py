"""Length beside every bias: how much longer the changed answers are, and what is left of a shift when length is held equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnomon.core.metrics.stats import ratio_intervals
from gnomon.core.rng import Rng
from gnomon.methods.calm.agreement import Floats

MATCHED = 1.1
"""A pair is matched in length when the change made it no more than this many times longer or shorter."""

LEAST = 20
"""Items below which nothing is estimated."""


@dataclass(frozen=True)
class Drift:
    """What length has to do with a shift."""

    median: float
    """Median length ratio, in words."""
    low: float
    """Its lower quartile."""
    high: float
    """Its upper quartile."""
    matched: int
    """Items that are matched in length."""
    matched_shift: tuple[float, float, float] | None
    """The shift over those; None when they are too few."""
    at_equal_length: tuple[float, float, float] | None
    """The shift that a straight line over log2 of the length ratio gives at equal length; None when lengths hardly differ."""
    per_doubling: float | None
    """How much the shift grows when the answer is twice as long, by the same line."""


def drift_of(moved: Floats, ratios: Floats, rng: Rng | None = None) -> Drift | None:
    """What length has to do with a shift; None where no answer was changed.

    Args:
        moved: change of the preference for the cued side by item, `[N]`, in -1..1.
        ratios: length ratio by item, `[N]`; NaN where no answer was changed.
        rng: of the bootstrap over items.
    """
    known = np.isfinite(ratios)
    if not known.any():
        return None
    moved, ratios = moved[known], ratios[known]
    low, middle, high = (float(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75]))
    x = np.log2(ratios)
    near = np.abs(x) <= np.log2(MATCHED)
    matched = None
    if near.sum() >= LEAST:
        matched = _triple(*ratio_intervals(moved * near, near.astype(np.float64), rng=rng))
    line = _line(moved, x, rng or Rng(0)) if len(x) >= LEAST and x.std() > 0.02 else None
    return Drift(middle, low, high, int(near.sum()), matched, line and line[0], line and line[1])


def _line(
    y: Floats, x: Floats, rng: Rng, n_resamples: int = 1000
) -> tuple[tuple[float, float, float], float]:
    """Intercept with its bootstrap interval, and slope, of least squares."""
    n = len(x)
    counts = (
        rng.child("line", n)
        .numpy()
        .multinomial(n, np.full(n, 1 / n), size=n_resamples + 1)
        .astype(np.float64)
    )
    counts[0] = 1  # the sample itself
    total = counts.sum(1)
    mx, my = counts @ x / total, counts @ y / total
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (counts @ (x * y) / total - mx * my) / (counts @ (x * x) / total - mx * mx)
    intercept = my - slope * mx
    low, high = np.nanquantile(intercept[1:], [0.025, 0.975])
    return (float(intercept[0]), float(low), float(high)), float(slope[0])


def _triple(*parts: Floats) -> tuple[float, float, float]:
    value, low, high = (float(part) for part in parts)
    return value, low, high
