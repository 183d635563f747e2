"""The cells of scores: self-enhancement over all judges of a log, and refinement-aware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gnomon.core.rng import Rng
from gnomon.methods.calm.profile import Cell
from gnomon.methods.calm.ratings import PaperVersion, Ratio, error_rate, self_effect, z_scores
from gnomon.methods.calm.table import Table, scores_of
from gnomon.methods.calm.trials import Verdict

SELF = "self-enhancement"


def self_cell(
    judge: str, by_judge: Mapping[str, Sequence[Verdict]], version: PaperVersion, rng: Rng
) -> tuple[Cell | None, float | str]:
    """The cell of a judge's own answers, or None with the reason: with one judge it cannot be measured."""
    rows = {name: [row for row in given if row.probe == SELF] for name, given in by_judge.items()}
    rows = {name: given for name, given in rows.items() if given}
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
    given = np.stack(
        [scores_of([row for row in rows[name] if row.condition == judge], items) for name in others]
    )
    with np.errstate(invalid="ignore"):
        known = np.isfinite(given).any(0)
        mean = np.divide(
            np.nansum(given, 0), np.isfinite(given).sum(0), out=np.full(len(items), np.nan), where=known
        )
    found = error_rate(own, mean, version=version, rng=rng)
    scores = table_of(rows, items)
    more = _ratio(found) | {
        "own score": float(found.left),
        "others' score": float(found.right),
        "effect of being one's own, over all judges": self_effect(scores, rng=rng).one(),
        "Z-scores": {"judges": list(rows), "map": z_scores(scores).tolist()},
    }
    cell = Cell(
        SELF,
        "own answers",
        "alignment",
        n=found.n,
        unparsed=len(items) - found.n,
        shift=_difference(own, mean, rng),
        p=float(found.p),
        more=more,
    )
    return cell, relative_variance(own, mean)


def table_of(rows: Mapping[str, Sequence[Verdict]], items: Sequence[str]) -> np.ndarray:
    """Scores `[N, J, J]`: item, who judges, who wrote."""
    judges = list(rows)
    found = np.full((len(items), len(judges), len(judges)), np.nan)
    for j, name in enumerate(judges):
        for a, author in enumerate(judges):
            found[:, j, a] = scores_of([row for row in rows[name] if row.condition == author], items)
    return found


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
        found = error_rate(shown, alone, version=version, rng=rng)
        cell = Cell(
            "refinement-aware",
            condition,
            by_condition[condition][0],
            n=found.n,
            unparsed=len(items) - found.n,
            shift=_difference(shown, alone, rng),
            p=float(found.p) if is_tested else 1.0,
            more=_ratio(found)
            | {"score": float(found.left), "score of the refined answer alone": float(found.right)},
        )
        yield cell, relative_variance(shown, alone) if is_tested else None


def relative_variance(left: np.ndarray, right: np.ndarray) -> float:
    """Variance of the differences over the squared mean score: to an error rate what the discordant share is to a shift."""
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < 2:
        return 1.0
    return float(np.var(left[both] - right[both], ddof=1) / np.mean(right[both]) ** 2)


def _ratio(found: Ratio) -> dict[str, object]:
    return {"error rate": found.rate.one()}


def _difference(left: np.ndarray, right: np.ndarray, rng: Rng) -> tuple[float, float, float] | None:
    from gnomon.core.metrics.stats import ratio_intervals
    from gnomon.methods.calm.agreement import Estimates

    both = np.isfinite(left) & np.isfinite(right)
    return Estimates(
        *ratio_intervals(np.where(both, left - right, 0.0), both.astype(np.float64), rng=rng)
    ).one()
