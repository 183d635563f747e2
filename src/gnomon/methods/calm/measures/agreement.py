"""Agreement of verdicts in arrays: rates, noise floors, shifts and tests, of one condition in one audit or in many at once.

Verdicts are integers: a response (0 is the better answer), `TIE`, or `UNPARSED`. Arrays are `[..., N]`: items are last and audits
in front. `Table` aligns the verdicts of one judge on the items of each set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.stats import mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.methods.calm.judging.trials import PLAIN, TIE, Verdict
from gnomon.methods.calm.measures.profile import ALPHA

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
    is_tested: NDArray[np.bool_]
    """Whether there are discordant pairs enough for p to fall below 5% at all, whichever way they point."""
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
    p_shift, discordant = _mcnemar(moved), np.asarray((moved != 0).sum(-1))
    rr, n = proportion(same, both), np.asarray(both.sum(-1).astype(np.int64))
    if not again:
        p, is_tested = smaller_p((p_shift, discordant))
        return Measured(rr, None, None, shift, p, is_tested, _mean(np.abs(moved), both), n)
    noise, seen = _mean_agreement(plain, again, half_ties)
    matched = both * seen
    bis = Estimates(*ratio_intervals((noise - same) * matched, matched, rng=rng))
    first, both_plain = agreement(plain, again[0], half_ties=half_ties)
    lost = (first - same) * both_plain * both
    # One-sided: only a loss of consistency is a bias.
    loss = np.where(bis.value > 0, _mcnemar(lost), 1.0), np.asarray((lost != 0).sum(-1))
    # A shift is what should happen where a flip is right: it is no test then.
    p, is_tested = smaller_p(loss) if flips_to is not None else smaller_p((p_shift, discordant), loss)
    unlike = np.abs(preference(again[0], cued, half_ties=half_ties) - before) * both_plain
    return Measured(
        rr,
        proportion(noise * matched, matched),
        bis,
        shift,
        p,
        is_tested,
        _mean(unlike, both_plain),
        n,
    )


def smaller_p(*tests: tuple[Floats, NDArray[np.int64]]) -> tuple[Floats, NDArray[np.bool_]]:
    """The smaller p-value of one or two exact sign tests, corrected for their number, and whether it could fall below 5%.

    A test of d discordant pairs cannot give less than 2^(1 - d). One that cannot reach 5% whatever its pairs say is no test, and
    does not count among the two.

    Args:
        tests: p-values and numbers of discordant pairs, `[...]` each.

    Source: Tarone, "A modified Bonferroni method for discrete data" (1990).

    >>> few, many = (np.array(0.5), np.array(2)), (np.array(0.0078), np.array(8))
    >>> float(smaller_p(few, many)[0]), float(smaller_p(many, many)[0]), bool(smaller_p(few)[1])
    (0.0078, 0.0156, False)
    """
    least = [np.power(2.0, 1 - discordant) for _, discordant in tests]
    count = np.where(np.sum([smallest < ALPHA for smallest in least], axis=0) > 1, 2, 1)
    used = [smallest * count < ALPHA for smallest in least]
    is_tested = np.any(used, axis=0)
    p = np.min([np.where(use, p, 1.0) for use, (p, _) in zip(used, tests, strict=True)], axis=0)
    # Where nothing can be tested the p-value is that of all tests, for the record.
    rest = len(tests) * np.min([p for p, _ in tests], axis=0)
    return np.asarray(np.minimum(1.0, np.where(is_tested, count * p, rest))), np.asarray(is_tested)


@dataclass(frozen=True)
class Flips:
    """Verdicts that turned to another answer, among pairs of verdicts without a tie."""

    pairs: int
    """Pairs of verdicts that both prefer an answer."""
    share: tuple[float, float, float] | None
    """Share of them that prefer different answers; None where there are no pairs."""
    ties: tuple[float, float]
    """Share of ties among the verdicts that could be read: the first ones, and the others."""


def flips_of(first: Codes, others: Sequence[Codes], rng: Rng | None = None) -> Flips:
    """Flips among decisive pairs, ties apart.

    Args:
        first: a verdict on every item, `[N]`.
        others: verdicts to hold against it, `[N]` each; an item's pairs stay together in the interval.
        rng: of the bootstrap over items, where there are several.
    """
    shown = np.stack(list(others))  # [K, N]
    both = (first >= 0) & (shown >= 0)
    decisive = np.asarray(both.sum(0), dtype=np.float64)
    turned = np.asarray((both & (shown != first)).sum(0), dtype=np.float64)
    share = (
        proportion(turned, decisive)
        if len(others) == 1
        else Estimates(*ratio_intervals(turned, decisive, rng=rng))
    )
    return Flips(int(decisive.sum()), share.one(), (_ties(first), _ties(shown)))


def _ties(codes: Codes) -> float:
    read = (codes > UNPARSED).sum()
    return float((codes == TIE).sum() / read) if read else 0.0


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
