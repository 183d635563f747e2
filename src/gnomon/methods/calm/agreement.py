"""Rates, noise floors, direction and tests from verdicts in arrays: of one condition, or of the same one in many audits at once.

Verdicts are integers: a response (0 is the better answer), `TIE`, or `UNPARSED`. Arrays are `[..., N]`: items are last and audits
in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.stats import mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.methods.calm.trials import TIE

UNPARSED = -2
"""A verdict that could not be read."""

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """A rate with its interval, for each audit."""

    value: Floats
    """The rate, `[...]`."""
    low: Floats
    """Lower end of the 95% interval."""
    high: Floats
    """Upper end."""

    def one(self) -> tuple[float, float, float] | None:
        """The numbers of a single audit; None where nothing was measured."""
        value, low, high = (float(part) for part in (self.value, self.low, self.high))
        return None if np.isnan(value) else (value, low, high)


@dataclass(frozen=True)
class Measured:
    """What one condition shows."""

    rr: Estimates
    """RR: share of the items whose verdict stayed (or, where a flip is right, moved to the right response)."""
    cr: Estimates | None
    """CR of the same items: share whose verdict stayed when nothing changed."""
    bis: Estimates | None
    """CR - RR: what is lost beyond noise."""
    shift: Estimates
    """P(the cued side is preferred) after the change, less that before."""
    p: Floats
    """Exact p-value: of either a shift or a loss of consistency."""
    discordant: Floats
    """Share of the items whose preference for the cued side differs between two runs without a change (with, where there is no
    second plain run)."""
    n: NDArray[np.int64]
    """Items with both verdicts."""


def agreement(a: Codes, b: Codes, *, half_ties: bool = False) -> tuple[Floats, Floats]:
    """1 where two verdicts are the same, and 1 where both could be read.

    Args:
        a: verdicts.
        b: verdicts of the same items.
        half_ties: a tie beside a preference counts one half; else it is another verdict.
    """
    both = (a > UNPARSED) & (b > UNPARSED)
    same = ((a == b) & both).astype(np.float64)
    if half_ties:
        same += 0.5 * (both & ((a == TIE) != (b == TIE)))
    return same, both.astype(np.float64)


def preference(a: Codes, cued: Codes | int, *, half_ties: bool = False) -> Floats:
    """1 where the cued response is preferred; a tie counts 0, or one half."""
    liked: Floats = (a == cued).astype(np.float64)
    if half_ties:
        liked = liked + 0.5 * (a == TIE)
    return liked


def measure(
    plain: Codes,
    again: Sequence[Codes],
    changed: Codes,
    cued: Codes | int,
    *,
    flips_to: int | None = None,
    half_ties: bool = False,
    rng: Rng | None = None,
) -> Measured:
    """What a condition shows.

    Args:
        plain: first plain verdicts, `[..., N]`.
        again: further independent plain verdicts; CR is the mean agreement of the first with each. Empty: no noise floor.
        changed: verdicts after the change.
        cued: the response that a biased judge turns to, one for all or by item.
        flips_to: where the right verdict is this response: RR is then the share that moved there.
        half_ties: as in `agreement`.
        rng: of the bootstrap over items.
    """
    same, both = agreement(plain, changed, half_ties=half_ties)
    if flips_to is not None:
        same = ((changed == flips_to) & (both > 0)).astype(np.float64)
    before, after = (preference(codes, cued, half_ties=half_ties) for codes in (plain, changed))
    moved = (after - before) * both
    shift = Estimates(*ratio_intervals(moved, both, rng=rng))
    p_shift = _mcnemar(moved)
    rr = proportion(same, both)
    if not again:
        share = _mean(np.abs(moved), both)
        return Measured(rr, None, None, shift, np.minimum(1.0, p_shift), share, both.sum(-1).astype(np.int64))
    noise, seen = _mean_agreement(plain, again, half_ties)
    matched = both * seen
    bis = Estimates(*ratio_intervals((noise - same) * matched, matched, rng=rng))
    first, one = agreement(plain, again[0], half_ties=half_ties)
    p_bis = _mcnemar((first - same) * one * both)
    p_bis = np.where(bis.value > 0, p_bis, 1.0)
    p = p_bis if flips_to is not None else np.minimum(1.0, 2 * np.minimum(p_shift, p_bis))
    unlike = np.abs(preference(again[0], cued, half_ties=half_ties) - before) * one
    return Measured(
        rr,
        proportion(noise * matched, matched),
        bis,
        shift,
        p,
        _mean(unlike, one),
        both.sum(-1).astype(np.int64),
    )


def proportion(hits: Floats, seen: Floats) -> Estimates:
    """A share with its Wilson interval, for each audit; hits may be fractions."""
    z = 1.959964
    n, top = seen.sum(-1), (hits * (seen > 0)).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = top / n
        middle = share + z * z / (2 * n)
        half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return Estimates(
            share, np.maximum(0.0, (middle - half) / scale), np.minimum(1.0, (middle + half) / scale)
        )


def _mean_agreement(plain: Codes, again: Sequence[Codes], half_ties: bool) -> tuple[Floats, Floats]:
    """Mean agreement of the first plain verdict with the others, by item, and 1 where there is any."""
    pairs = [agreement(plain, other, half_ties=half_ties) for other in again]
    total = np.sum([same for same, _ in pairs], axis=0)
    count = np.sum([both for _, both in pairs], axis=0)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0), (count > 0).astype(np.float64)


def _mcnemar(moves: Floats) -> Floats:
    return np.asarray(mcnemar((moves < 0).sum(-1), (moves > 0).sum(-1)))


def _mean(values: Floats, seen: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((values * seen).sum(-1) / seen.sum(-1))
