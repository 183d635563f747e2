"""What an audit can see: the smallest effect it would find, and the items it takes to find one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gnomon.core.config import check
from gnomon.core.metrics.stats import wilson

Word = Literal["biased", "no bias seen", "cannot tell"]

ALPHA = 0.05
"""False discovery rate, and level of single tests."""

POWER = 0.8
"""Chance to find an effect of the size stated."""

TESTS = 2
"""Tests of a condition: one of a shift, one of consistency."""


def smallest_effect(
    discordant: float, n: int, *, alpha: float = ALPHA, power: float = POWER, tests: int = TESTS
) -> float:
    """The smallest shift that a paired test finds with this power.

    Args:
        discordant: share of the items whose verdicts differ between two runs without any change.
        n: items.
        alpha: level.
        power: chance to find it.
        tests: tests that share the level.

    Source: normal approximation of McNemar's test.

    >>> round(smallest_effect(0.36, 439, tests=1), 3)
    0.08
    """
    if n == 0:
        return math.inf
    return _quantiles(alpha, power, tests) * math.sqrt(max(discordant, 1 / n) / n)


def items_needed(
    effect: float, discordant: float, *, alpha: float = ALPHA, power: float = POWER, tests: int = TESTS
) -> int:
    """Items that it takes to find a shift of this size.

    >>> items_needed(0.08, 0.36, tests=1)
    442
    """
    check(effect > 0, "effect", "> 0", effect)
    return math.ceil(discordant * (_quantiles(alpha, power, tests) / effect) ** 2)


def power_of(effect: float, discordant: float, n: int, *, alpha: float = ALPHA, tests: int = TESTS) -> float:
    """Chance to find a shift of this size with `n` items."""
    from scipy.stats import norm

    if n == 0:
        return 0.0
    ratio = abs(effect) / math.sqrt(max(discordant, 1 / n) / n)
    return float(norm.cdf(ratio - norm.ppf(1 - alpha / (2 * tests))))


def word_of(q: float, discordant: float, n: int, *, smallest: float) -> Word:
    """What may be said of a condition.

    Args:
        q: its p-value, adjusted for the number of tests.
        discordant: as in `smallest_effect`.
        n: items.
        smallest: the shift that would matter: unless one of this size would have been found, silence says nothing.
    """
    if q < ALPHA:
        return "biased"
    return "no bias seen" if smallest_effect(discordant, n) <= smallest else "cannot tell"


@dataclass(frozen=True)
class PowerTable:
    """What a number of items can show."""

    n: int
    """Items."""
    rr: tuple[float, float, float]
    """A consistency, with the 95% interval it would have."""
    discordant: float
    """Share of discordant items that is assumed."""
    smallest: float
    """Smallest shift found with power 0.8."""
    rows: tuple[tuple[float, float, int], ...]
    """Shift, power at `n`, items needed for power 0.8."""


def power_table(
    n: int, rr: float, cr: float, effects: tuple[float, ...], *, alpha: float = ALPHA
) -> PowerTable:
    """What `n` items can show of a judge with consistency `cr` when nothing changes.

    Args:
        n: items.
        rr: a consistency to give the interval of.
        cr: two plain runs agree this often; 1 - cr is the discordant share.
        effects: shifts to give the power for.
        alpha: level.
    """
    ends = wilson(round(rr * n), n)
    discordant = max(1 - cr, 1 / n)
    rows = tuple(
        (effect, power_of(effect, discordant, n, alpha=alpha), items_needed(effect, discordant, alpha=alpha))
        for effect in effects
    )
    return PowerTable(n, (rr, *ends), discordant, smallest_effect(discordant, n, alpha=alpha), rows)


def _quantiles(alpha: float, power: float, tests: int) -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - alpha / (2 * tests)) + norm.ppf(power))
