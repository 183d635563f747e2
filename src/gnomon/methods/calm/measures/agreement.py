"""Agreement of verdicts in arrays: rates, noise floors, shifts and tests, of one condition in one audit or in many at once.

Verdicts are integers: a response (0 is the better answer), `TIE`, or `UNPARSED`. Arrays are `[..., N]`: items are last and audits
in front. `Table` aligns the verdicts of one judge on the items of each set; `drift_of` separates a shift from a change of length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.stats import mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.methods.calm.judging.trials import PLAIN, TIE, Verdict

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
    """Measures of one condition."""

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
    """Measure one condition: RR, CR, BIS and shift with intervals and a p-value.

    Args:
        plain: first plain verdicts, `[..., N]`.
        again: further independent plain verdicts; CR is the mean agreement of the first with each. Empty: no noise floor.
        changed: verdicts after the change.
        cued: the response that a biased judge turns to, one for all or by item.
        flips_to: where the right verdict is this response: RR is then the share that moved there.
        half_ties: as in `agreement`.
        rng: of the bootstrap over items.

    Source: RR and CR, section on metrics; BIS = CR - RR is ours.
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
    first, both_plain = agreement(plain, again[0], half_ties=half_ties)
    p_bis = _mcnemar((first - same) * both_plain * both)
    p_bis = np.where(bis.value > 0, p_bis, 1.0)  # one-sided: only a loss of consistency is a bias
    # Two tests of one condition: the smaller p-value is doubled (Bonferroni) and kept at 1 at most.
    p = p_bis if flips_to is not None else np.minimum(1.0, 2 * np.minimum(p_shift, p_bis))
    unlike = np.abs(preference(again[0], cued, half_ties=half_ties) - before) * both_plain
    return Measured(
        rr,
        proportion(noise * matched, matched),
        bis,
        shift,
        p,
        _mean(unlike, both_plain),
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


# Verdicts of one judge as arrays, aligned on the items of each set.

ABSENT = -9
"""Code of an item that a condition was not asked about."""


def code_of(row: Verdict) -> int:
    """The verdict as a number: a response from 0, `TIE`, or `UNPARSED`.

    >>> code_of(Verdict("j", "alignment", "a", "plain", "", 0, [0, 1], choice="R2"))
    1
    """
    if row.choice is None:
        return UNPARSED
    return TIE if row.choice == "tie" else int(row.choice[1:]) - 1


@dataclass
class Table:
    """The rows of one judge, found by set, probe and condition."""

    rows: dict[tuple[str, str, str], list[Verdict]] = field(default_factory=dict)
    """(set, probe, condition) -> rows."""

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Table:
        """The table of these rows."""
        table = cls()
        for row in verdicts:
            table.rows.setdefault((row.set, row.probe, row.condition), []).append(row)
        return table

    def conditions(self) -> list[tuple[str, str, str]]:
        """Every (set, probe, condition) with a change, in the order of the rows."""
        return [key for key in self.rows if key[1] != PLAIN]

    def plain(self, set: str, items: Sequence[str], condition: str = "") -> list[Codes]:
        """Plain verdicts on these items, one array `[N]` per draw; `ABSENT` where an item has none."""
        rows = self.rows.get((set, PLAIN, condition), [])
        draws = sorted({row.draw for row in rows})
        index = {item: i for i, item in enumerate(items)}
        by_draw = {draw: np.full(len(items), ABSENT, dtype=np.int64) for draw in draws}
        for row in rows:
            if row.item in index:
                by_draw[row.draw][index[row.item]] = code_of(row)
        return [by_draw[draw] for draw in draws]

    def items(self, key: tuple[str, str, str]) -> list[str]:
        """The items of a condition, in the order of the rows."""
        return list(dict.fromkeys(row.item for row in self.rows[key]))


def by_slot(
    rows: Sequence[Verdict], items: Sequence[str], base: dict[str, list[int]], candidates: int
) -> Codes:
    """Verdicts in every rotation, `[C, N]`, with answers numbered by their slot in rotation 0; `UNPARSED` where one is missing.

    Args:
        rows: of one number of candidates, the plain rotation among them.
        items: the items.
        base: item -> slots of rotation 0.
        candidates: C.
    """
    index = {item: i for i, item in enumerate(items)}
    codes = np.full((candidates, len(items)), UNPARSED, dtype=np.int64)
    for row in rows:
        order = base[row.item]
        rotation = order.index(row.slots[0])
        code = code_of(row)
        codes[rotation, index[row.item]] = order.index(code) if code >= 0 else code
    return codes


def scores_of(rows: Sequence[Verdict], items: Sequence[str]) -> Floats:
    """Scores by item, `[N]`; NaN where there is none."""
    index = {item: i for i, item in enumerate(items)}
    scores = np.full(len(items), np.nan)
    for row in rows:
        if row.item in index and row.score is not None:
            scores[index[row.item]] = row.score
    return scores


# Length beside every bias: how much longer the changed answers are, and what is left of a shift when length is held equal.

MATCHED = 1.1
"""A pair is matched in length when the change made it no more than this many times longer or shorter."""

LEAST = 20
"""Items below which nothing is estimated."""


@dataclass(frozen=True)
class Drift:
    """Change of length beside a shift, and the shift at equal length."""

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
    """Growth of the shift per doubling of the length, by the same line."""


def drift_of(moved: Floats, ratios: Floats, rng: Rng | None = None) -> Drift | None:
    """Separate a shift from the change of length; None where no answer was changed.

    Args:
        moved: change of the preference for the cued side by item, `[N]`, in -1..1.
        ratios: length ratio by item, `[N]`; NaN where no answer was changed.
        rng: of the bootstrap over items.
    """
    has_ratio = np.isfinite(ratios)
    if not has_ratio.any():
        return None
    moved, ratios = moved[has_ratio], ratios[has_ratio]
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
