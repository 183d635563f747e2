"""Cells that are not a change of one answer: position, chain of thought, self-enhancement and refinement-aware.

The cells of scores: self-enhancement over all judges of a log, and refinement-aware.

Position: the same answers in every rotation, beside as many draws without any, and what the slots themselves attract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gnomon.core.metrics.stats import mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.calm.judging.trials import PLAIN, Verdict
from gnomon.methods.calm.measures.agreement import (
    UNPARSED,
    Codes,
    Estimates,
    Floats,
    Table,
    agreement,
    by_slot,
    code_of,
    flips_of,
    proportion,
    scores_of,
    smaller_p,
)
from gnomon.methods.calm.measures.profile import Cell
from gnomon.methods.calm.measures.ratings import PaperVersion, Ratio, error_rate, self_effect, z_scores

# Position: the same answers in every rotation, beside as many draws without any, and what the slots themselves attract.


@dataclass(frozen=True)
class Turned:
    """Measures of rotations of the candidates."""

    rr: Estimates
    """Share of the items with the same verdict in all rotations."""
    cr: Estimates | None
    """Its floor: share with the same verdict in as many plain draws. It falls with the number of candidates by itself."""
    bis: Estimates | None
    """CR - RR."""
    pairwise: Estimates
    """Agreement of two rotations, over all pairs of them."""
    first: Estimates
    """Share of the decisive verdicts for the first slot; 1 / candidates without a slot effect."""
    effect: Floats
    """The first slot's advantage in log-odds."""
    p: Floats
    """p-value of either a liking for a slot or a loss of consistency; exact with two candidates."""
    is_tested: NDArray[np.bool_]
    """Whether there are discordant pairs enough for p to fall below 5%."""
    discordant: Floats
    """Variance of an item's share of choices for the first slot when slots do not matter: what a test of position lives on."""
    n: NDArray[np.int64]
    """Items with a verdict in every rotation."""


def measure_rotations(
    turned: Codes, plain: Codes | None, candidates: int, *, rng: Rng | None = None
) -> Turned:
    """Measure verdicts over all rotations of the candidates.

    Args:
        turned: verdicts in every rotation, `[C, ..., N]`, where an answer is numbered by its slot in rotation 0; rotation r has the
            answer of slot r first.
        plain: independent verdicts without turning, `[C, ..., N]`; None: no noise floor.
        candidates: C.
        rng: of the bootstrap over items.

    Source: position bias, section on metrics; the conditional logistic regression of two rotations has the closed form used here.
    """
    same, read = _unanimous(turned)
    counts, decisive = np.zeros(turned.shape[1:]), np.zeros(turned.shape[1:])
    for rotation, row in enumerate(turned):
        counts += row == rotation
        decisive += row >= 0
    complete = (decisive == candidates).astype(np.float64)
    excess, spread = (counts - 1) * complete, _shuffled_variance(turned) * complete
    slot = _slot_test(excess, spread, candidates)
    pairwise = Estimates(*ratio_intervals(*_pairs(turned), rng=rng))
    first = Estimates(*ratio_intervals(counts, decisive, rng=rng))
    discordant = spread.sum(-1) / np.maximum(complete.sum(-1), 1) / candidates**2
    shared = {
        "pairwise": pairwise,
        "first": first,
        "effect": slot_effect(counts, complete, candidates),
        "discordant": discordant,
        "n": read.sum(-1).astype(np.int64),
    }
    rr = proportion(same, read)
    if plain is None:
        p, is_tested = smaller_p(slot)
        return Turned(rr=rr, cr=None, bis=None, p=p, is_tested=is_tested, **shared)
    still, seen = _unanimous(plain)
    both = read * seen
    bis = Estimates(*ratio_intervals((still - same) * both, both, rng=rng))
    lost = (still - same) * both
    p_bis = np.where(bis.value > 0, mcnemar((lost < 0).sum(-1), (lost > 0).sum(-1)), 1.0)
    p, is_tested = smaller_p(slot, (p_bis, np.asarray((lost != 0).sum(-1))))
    return Turned(rr=rr, cr=proportion(still * both, both), bis=bis, p=p, is_tested=is_tested, **shared)


def slot_effect(counts: Floats, complete: Floats, candidates: int) -> Floats:
    """The first slot's advantage in log-odds, from how often each item chose it over its rotations.

    With two candidates: half of the log ratio of items that chose the first slot twice to those that never did, which is the
    conditional logistic regression with a term for every item. With more: the log-odds of the first slot over all rotations less
    those of chance, which an effect of the same size moves less. One half is added to both counts, so that it is finite.
    """
    if candidates == 2:
        often = ((counts == 2) * complete).sum(-1) + 0.5
        never = ((counts == 0) * complete).sum(-1) + 0.5
        return np.asarray(0.5 * np.log(often / never))
    chosen = (counts * complete).sum(-1) + 0.5
    other = ((candidates - counts) * complete).sum(-1) + 0.5
    return np.asarray(np.log(chosen / other) + np.log(candidates - 1))


def _shuffled_variance(turned: Codes) -> Floats:
    """Variance of an item's number of choices of the first slot, were its verdicts dealt to the rotations at random; the mean is 1.

    With k of C verdicts for each answer it is (C^2 - sum of k^2) / (C (C - 1)).
    """
    candidates = len(turned)
    squares = sum((turned == slot).sum(0).astype(np.float64) ** 2 for slot in range(candidates))
    return np.asarray((candidates**2 - squares) / (candidates * (candidates - 1)))


def _slot_test(excess: Floats, spread: Floats, candidates: int) -> tuple[Floats, NDArray[np.int64]]:
    """p-value of choices of the first slot beyond one an item, if slots do not matter; and items that could show it.

    With two candidates McNemar's exact test. With more an item's number of such choices is skewed, so that signs tell nothing;
    verdicts may then be dealt to the rotations at random, and the sum over items is about normal.
    """
    if candidates == 2:
        p = np.asarray(mcnemar((excess < 0).sum(-1), (excess > 0).sum(-1)))
        return p, np.asarray((excess != 0).sum(-1))
    width = np.sqrt(spread.sum(-1))
    z = np.divide(excess.sum(-1), width, out=np.zeros_like(width), where=width > 0)
    return np.asarray(2 * norm.sf(np.abs(z))), np.asarray((spread > 0).sum(-1))


def _unanimous(verdicts: Codes) -> tuple[Floats, Floats]:
    read = np.asarray((verdicts > UNPARSED).all(0))
    same = np.asarray((verdicts == verdicts[0]).all(0))
    return (same & read).astype(np.float64), read.astype(np.float64)


def _pairs(turned: Codes) -> tuple[Floats, Floats]:
    top: Floats = np.zeros(turned.shape[1:])
    bottom: Floats = np.zeros(turned.shape[1:])
    for i in range(len(turned)):
        for j in range(i):
            both = (turned[i] > UNPARSED) & (turned[j] > UNPARSED)
            top = top + ((turned[i] == turned[j]) & both)
            bottom = bottom + both
    return np.asarray(top), np.asarray(bottom)


# The cells that are not a change of one answer: position, and chain of thought.


def position_cell(table: Table, key: tuple[str, str, str], rng: Rng) -> tuple[Cell, float]:
    """The cell of one number of candidates.

    Raises:
        BadInput: the log has no verdict on the unturned candidates.
    """
    set_name, _, condition = key
    candidates = len(table.rows[key][0].slots)
    if candidates < 2:
        raise BadInput(f'Position in the set "{set_name}": {candidates} candidates; at least 2 are needed.')
    plain_rows = table.rows.get((set_name, PLAIN, "" if candidates == 2 else condition), [])
    unturned = {row.item: row for row in plain_rows if row.draw == 0}
    items = [item for item in table.items(key) if item in unturned]
    if not items:
        raise BadInput(f'Position in the set "{set_name}": no verdict on the unturned order of {condition}.')
    base = {item: unturned[item].slots for item in items}
    rows = [unturned[item] for item in items] + [row for row in table.rows[key] if row.item in base]
    turned = by_slot(rows, items, base, candidates)
    draws = table.plain(set_name, items, "" if candidates == 2 else condition)
    plain = np.stack(draws[:candidates]) if len(draws) >= candidates else None
    measured = measure_rotations(turned, plain, candidates, rng=rng)
    chosen = np.array([code_of(unturned[item]) for item in items])
    n = int(measured.n)
    first = measured.first.one()
    cell = Cell(
        "position",
        condition,
        set_name,
        n=n,
        unparsed=len(items) - n,
        rr=measured.rr.one(),
        rr_with_unparsed=float(np.nan_to_num(measured.rr.value)) * n / len(items),
        flips=None if n == 0 else 1 - float(measured.rr.value),
        cr=None if measured.cr is None else measured.cr.one(),
        bis=None if measured.bis is None else measured.bis.one(),
        shift=None
        if first is None
        else (first[0] - 1 / candidates, first[1] - 1 / candidates, first[2] - 1 / candidates),
        p=float(measured.p),
        is_tested=bool(measured.is_tested),
        more={
            "candidates": candidates,
            "decisive": _decisive(turned, plain, rng),
            "first slot": first,
            "slot effect (log-odds)": float(measured.effect),
            "two rotations agree": measured.pairwise.one(),
            "better answer preferred": proportion(
                (chosen == 0).astype(np.float64), (chosen > UNPARSED).astype(np.float64)
            ).one(),
        },
    )
    return cell, float(measured.discordant)


def _decisive(turned: Codes, plain: Codes | None, rng: Rng) -> dict[str, object]:
    """Flips between the plain order and the turned ones, among decisive verdicts; and between plain draws."""
    flips = flips_of(turned[0], list(turned[1:]), rng)
    still = None if plain is None else flips_of(plain[0], list(plain[1:]), rng)
    return {
        "pairs": flips.pairs,
        "flips": flips.share,
        "flips without a change": still and still.share,
        "ties before": flips.ties[0],
        "ties after": flips.ties[1],
    }


def accuracy_cell(
    table: Table, key: tuple[str, str, str], version: PaperVersion, rng: Rng
) -> tuple[Cell, float]:
    """The cell of chain of thought: accuracy without and with it, and AIR, the relative gain (not in the preprint)."""
    set_name, name, condition = key
    items = table.items(key)
    draws = table.plain(set_name, items)
    if not draws:
        raise BadInput(f'Chain of thought in the set "{set_name}" has no plain verdicts to be held against.')
    index = {item: i for i, item in enumerate(items)}
    changed = np.full(len(items), UNPARSED, dtype=np.int64)
    for row in table.rows[key]:
        changed[index[row.item]] = code_of(row)
    same, both = agreement(draws[0], changed)
    before, after = ((codes == 0) * both for codes in (draws[0], changed))
    moves = after - before
    air = [part - 1 for part in ratio_intervals(after, before, rng=rng)] if before.sum() else None
    noise = None if len(draws) == 1 else agreement(draws[0], draws[1])
    unlike = np.abs(moves) if noise is None else np.abs((draws[1] == 0) * 1.0 - (draws[0] == 0)) * noise[1]
    seen = both if noise is None else noise[1]
    n = int(both.sum())
    p, is_tested = smaller_p(
        (mcnemar(int((moves < 0).sum()), int((moves > 0).sum())), np.asarray((moves != 0).sum()))
    )
    more = {"accuracy": proportion(before, both).one(), "accuracy with CoT": proportion(after, both).one()}
    if version == "iclr" and air is not None:
        more["AIR"] = tuple(float(part) for part in air)  # type: ignore[assignment]
    cell = Cell(
        name,
        condition,
        set_name,
        n=n,
        unparsed=len(items) - n,
        rr=proportion(same, both).one(),
        cr=None if noise is None else proportion(noise[0] * both, noise[1] * both).one(),
        shift=Estimates(*ratio_intervals(moves, both, rng=rng)).one(),
        p=float(p),
        is_tested=bool(is_tested),
        more=more,
    )
    return cell, float(unlike.sum() / max(seen.sum(), 1))


# The cells of scores: self-enhancement over all judges of a log, and refinement-aware.

SELF = "self-enhancement"


def self_cell(
    judge: str, by_judge: Mapping[str, Sequence[Verdict]], version: PaperVersion, rng: Rng
) -> tuple[Cell | None, float | str]:
    """The cell of a judge's own answers, or None with the reason: with one judge it cannot be measured."""
    rows = {name: [row for row in verdicts if row.probe == SELF] for name, verdicts in by_judge.items()}
    rows = {name: verdicts for name, verdicts in rows.items() if verdicts}
    others = [name for name in rows if name != judge]
    if not others:
        return (
            None,
            "self-enhancement needs at least two judges that score each other's answers; the log has one",
        )
    items = list(dict.fromkeys(row.item for row in rows[judge] if row.condition == judge))
    if not items:
        return None, f"{judge} has no answers of its own in the log"
    own = scores_of([row for row in rows[judge] if row.condition == judge], items)
    by_others = np.stack(
        [scores_of([row for row in rows[name] if row.condition == judge], items) for name in others]
    )
    with np.errstate(invalid="ignore"):
        is_scored = np.isfinite(by_others).any(0)
        mean = np.divide(
            np.nansum(by_others, 0),
            np.isfinite(by_others).sum(0),
            out=np.full(len(items), np.nan),
            where=is_scored,
        )
    rate = error_rate(own, mean, version=version, rng=rng)
    scores = table_of(rows, items)
    more = _ratio(rate) | {
        "own score": float(rate.left),
        "others' score": float(rate.right),
        "effect of being one's own, over all judges": self_effect(scores, rng=rng).one(),
        "Z-scores": {"judges": list(rows), "map": z_scores(scores).tolist()},
    }
    cell = Cell(
        SELF,
        "own answers",
        "alignment",
        n=rate.n,
        unparsed=len(items) - rate.n,
        shift=_difference(own, mean, rng),
        p=float(rate.p),
        is_tested=_differ(own, mean),
        more=more,
    )
    return cell, relative_variance(own, mean)


def table_of(rows: Mapping[str, Sequence[Verdict]], items: Sequence[str]) -> np.ndarray:
    """Scores `[N, J, J]`: item, who judges, who wrote."""
    judges = list(rows)
    table = np.full((len(items), len(judges), len(judges)), np.nan)
    for j, name in enumerate(judges):
        for a, author in enumerate(judges):
            table[:, j, a] = scores_of([row for row in rows[name] if row.condition == author], items)
    return table


def refinement_cells(
    table: Table, keys: Sequence[tuple[str, str, str]], version: PaperVersion, rng: Rng
) -> Iterator[tuple[Cell, float | None]]:
    """The refined answer with its history against the same alone; and the original against the refined one, for comparison."""
    by_condition = {key[2]: key for key in keys}
    if "refined" not in by_condition:
        return
    items = table.items(by_condition["refined"])
    alone = scores_of(table.rows[by_condition["refined"]], items)
    for condition, is_tested in (("refined, history shown", True), ("original", False)):
        if condition not in by_condition:
            continue
        shown = scores_of(table.rows[by_condition[condition]], items)
        rate = error_rate(shown, alone, version=version, rng=rng)
        cell = Cell(
            "refinement-aware",
            condition,
            by_condition[condition][0],
            n=rate.n,
            unparsed=len(items) - rate.n,
            shift=_difference(shown, alone, rng),
            p=float(rate.p) if is_tested else 1.0,
            is_tested=is_tested and _differ(shown, alone),
            more=_ratio(rate)
            | {"score": float(rate.left), "score of the refined answer alone": float(rate.right)},
        )
        yield cell, relative_variance(shown, alone) if is_tested else None


def relative_variance(left: np.ndarray, right: np.ndarray) -> float:
    """Variance of the differences over the squared mean score: to an error rate what the discordant share is to a shift."""
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < 2:
        return 1.0
    return float(np.var(left[both] - right[both], ddof=1) / np.mean(right[both]) ** 2)


def _differ(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether there are two pairs of scores or more, and any of them differs."""
    both = np.isfinite(left) & np.isfinite(right)
    return bool(both.sum() > 1 and (left != right)[both].any())


def _ratio(ratio: Ratio) -> dict[str, object]:
    return {"error rate": ratio.rate.one()}


def _difference(left: np.ndarray, right: np.ndarray, rng: Rng) -> tuple[float, float, float] | None:
    both = np.isfinite(left) & np.isfinite(right)
    return Estimates(
        *ratio_intervals(np.where(both, left - right, 0.0), both.astype(np.float64), rng=rng)
    ).one()
