"""Claims that a miniature tests, and the rule that decides them.

A claim compares one metric of two arms, or one arm with a number, in one readable line:

    pass@10: edits > random        more than the other arm; with margin=0.02, by more than 0.02
    pass@1: edits >= whole         with margin=-0.02: no worse by more than 0.02
    resolve rate: edits >= 0.9     against a number
    clean share: edits == 1.0      every single value

The rule, decided before any run:

- `>`, `>=`, `<`, `<=`: the difference left - right is taken per unit (seed, or seed and task) and gets a
  95% bootstrap interval (`gnomon.core.metrics.stats`). The claim *holds* if the whole interval lies on the
  claimed side of the margin, *does not hold* if the whole interval lies on the other side, and is
  *undecided* otherwise.
- Fewer than three seeds leave it undecided whatever the interval says: tasks cannot stand in for seeds,
  because one lucky initialisation moves all of them together.
- `==` is a statement about every unit and not about a mean: it holds if each unit agrees within the margin
  and does not hold as soon as one does not. One seed is enough for it. The two ends are then the smallest
  and the largest value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, nearest

Outcome = Literal["holds", "does not hold", "undecided"]
Measured = Sequence[Any] | Mapping[Hashable, Any]
"""Per seed a number, or per seed a number per task: as lists (paired by position) or mappings (by key)."""

MIN_SEEDS = 3
"""Seeds below which an inequality stays undecided."""

_COMPARE = re.compile(
    r"\s*(?P<metric>[^:]+?)\s*:\s*(?P<left>[^<>=:\s][^:]*?)\s*(?P<op>>=|<=|==|>|<)\s*(?P<right>[^<>=:\s][^:]*?)\s*"
)


@dataclass(frozen=True)
class Comparison:
    """A claim's comparison, taken apart."""

    metric: str
    """The metric compared."""
    left: str
    """The arm on the left."""
    op: str
    """One of `>`, `>=`, `<`, `<=`, `==`."""
    right: str | float
    """The arm on the right, or a number."""

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """The comparison written as `METRIC: ARM OP ARM` or `METRIC: ARM OP NUMBER`.

        Raises:
            BadConfig: `text` is written in another way.

        >>> Comparison.parse("pass@10: edits >= 0.5")
        Comparison(metric='pass@10', left='edits', op='>=', right=0.5)
        """
        match = _COMPARE.fullmatch(text)
        if match is None:
            raise BadConfig(
                f'Claim comparison "{text}" cannot be read. '
                'Write "METRIC: ARM > ARM" or "METRIC: ARM >= NUMBER" with one of > >= < <= == and one colon.'
            )
        right: str | float = match["right"]
        try:
            right = float(right)
        except ValueError:
            return cls(match["metric"], match["left"], match["op"], right)
        if not math.isfinite(right):
            raise BadConfig(f'Claim comparison "{text}": the number on the right must be finite.')
        return cls(match["metric"], match["left"], match["op"], right)


@dataclass(frozen=True)
class Claim:
    """A statement of a paper as a comparison of arms that a run decides.

    Raises:
        BadConfig: `compare` cannot be read, or `margin` does not fit it.
    """

    text: str
    """The claim in words."""
    source: str
    """Where it is made: paper, table or section."""
    compare: str
    """`METRIC: ARM OP ARM` or `METRIC: ARM OP NUMBER`, with OP one of > >= < <= ==."""
    margin: float = 0.0
    """By how much, in the metric's unit; negative: how much worse is tolerated; for ==: the tolerance."""
    required: bool = True
    """Whether the replication fails when the claim does not hold."""
    part: str = ""
    """Part of the study that measures it: a name, `A and B` (both are needed) or `A or B` (one is enough); empty: the only one."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.margin):
            raise BadConfig(f"Claim.margin must be finite; got {self.margin}.")
        if self.comparison.op == "==" and self.margin < 0:
            raise BadConfig(f"Claim.margin is the tolerance of == and must be >= 0; got {self.margin}.")

    @property
    def comparison(self) -> Comparison:
        """`compare`, taken apart."""
        return Comparison.parse(self.compare)

    @property
    def parts(self) -> list[str]:
        """Names of the parts in `part`."""
        return re.split(" and | or ", self.part)

    def is_about(self, ran: Collection[str]) -> bool:
        """Whether the parts that ran are those it needs.

        >>> Claim("text", "source", "m: a > b", part="world and control").is_about(["world"])
        False
        """
        if not self.part:
            return bool(ran)
        names = self.parts
        return any(name in ran for name in names) if " or " in self.part else set(names) <= set(ran)


@dataclass(frozen=True)
class Verdict:
    """Outcome of a claim in a run, with its estimate and interval."""

    claim: Claim
    """The claim decided."""
    outcome: Outcome
    """`holds`, `does not hold` or `undecided`."""
    estimate: float
    """Mean of left - right (two arms) or of left (against a number)."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    n_seeds: int
    """Seeds behind it."""
    sentence: str
    """The verdict in one sentence, with its numbers and its reason."""

    def as_row(self) -> dict[str, Any]:
        """The verdict as `report.json` stores it."""
        return {
            "claim": self.claim.text,
            "source": self.claim.source,
            "compare": self.claim.compare,
            "margin": self.claim.margin,
            "outcome": self.outcome,
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "n_seeds": self.n_seeds,
            "required": self.claim.required,
            "sentence": self.sentence,
        }


def decide(
    arms: Mapping[str, Mapping[str, Measured]], claim: Claim, *, level: float = 0.95, rng: Rng | None = None
) -> Verdict:
    """The verdict on `claim` from what the arms measured; the rule stands at the top of this module.

    Args:
        arms: arm -> metric -> scores. Scores are one number per seed, or per seed one number per task; as
            lists (`[0.1, 0.3, 0.2]`, `[[1, 0], [1, 1]]`), paired by position, or as mappings from seed (and
            from task), paired by key.
        claim: what to decide.
        level: share of the resampled means that the interval holds.
        rng: where resamples come from; a fixed default, so that a verdict repeats.

    Raises:
        BadInput: an arm or metric is missing, seeds or tasks do not pair, or a score is not finite.
    """
    from gnomon.core.metrics.stats import mean_interval

    comparison = claim.comparison
    left = _find(arms, comparison.left, comparison)
    if isinstance(comparison.right, str):
        rows = _subtract(left, _find(arms, comparison.right, comparison), comparison)
        target, subject = 0.0, f"{comparison.left} - {comparison.right}"
    else:
        rows, target, subject = _rows(left, comparison.left, comparison), comparison.right, comparison.left
    interval = mean_interval(rows, level=level, rng=rng)
    n_seeds, units = interval.n_seeds, [value for row in rows for value in row]
    if comparison.op == "==":
        low, high = min(units), max(units)
        off = sum(abs(value - target) > claim.margin for value in units)
        outcome: Outcome = "does not hold" if off else "holds"
        why = f"{off} of {len(units)} values are off" if off else f"all {len(units)} values agree"
    else:
        low, high = interval.low, interval.high
        outcome, why = _decide_inequality(comparison.op, target, claim.margin, low, high, n_seeds)
    sign = "+" if isinstance(comparison.right, str) else ""
    numbers = f"{interval.estimate:{sign}.3g} [{low:{sign}.3g}, {high:{sign}.3g}]"
    over = f"{n_seeds} seed{'s' if n_seeds != 1 else ''}"
    sentence = f"{comparison.metric}: {subject} = {numbers} over {over}; {outcome}: {why}."
    return Verdict(claim, outcome, interval.estimate, low, high, n_seeds, sentence)


def _decide_inequality(
    op: str, target: float, margin: float, low: float, high: float, n_seeds: int
) -> tuple[Outcome, str]:
    """Outcome of an inequality and the reason for it."""
    bound = target + margin if op[0] == ">" else target - margin
    side, other = ("above", "below") if op[0] == ">" else ("below", "above")
    near, far = (low, high) if op[0] == ">" else (-high, -low)
    edge = bound if op[0] == ">" else -bound
    strict = len(op) == 1
    if n_seeds < MIN_SEEDS:
        return "undecided", f"{MIN_SEEDS} seeds are needed for a verdict"
    if near > edge or (not strict and near == edge):
        return "holds", f"the whole interval is {side if strict else 'not ' + other} {bound:.4g}"
    if far < edge or (strict and far == edge):
        return "does not hold", f"the whole interval is {other if not strict else 'not ' + side} {bound:.4g}"
    return "undecided", f"the interval straddles {bound:.4g}"


def _find(arms: Mapping[str, Mapping[str, Measured]], arm: str, comparison: Comparison) -> Measured:
    if arm not in arms:
        raise BadInput(f'Claim on "{comparison.metric}": arm "{arm}" was not run. {nearest(arm, arms)}')
    if comparison.metric not in arms[arm]:
        raise BadInput(
            f'Arm "{arm}" has no metric "{comparison.metric}". {nearest(comparison.metric, arms[arm])}'
        )
    return arms[arm][comparison.metric]


def _keyed(scores: Measured) -> dict[Hashable, Any]:
    """Seed -> number or row, whichever way it came."""
    return dict(scores) if isinstance(scores, Mapping) else dict(enumerate(scores))


def _row(value: Any) -> dict[Hashable, float]:
    """Task -> number of one seed; a bare number is the single task `None`."""
    if isinstance(value, Mapping):
        return {task: float(number) for task, number in value.items()}
    if hasattr(value, "__iter__"):
        return {task: float(number) for task, number in enumerate(value)}
    return {None: float(value)}


def _rows(scores: Measured, arm: str, comparison: Comparison) -> list[list[float]]:
    """One row of numbers per seed; tasks in the same order under every seed where the seeds share them."""
    rows = [_row(value) for value in _keyed(scores).values()]
    if not rows or not all(rows):
        raise BadInput(
            f'Arm "{arm}", metric "{comparison.metric}": no scores. Every seed needs at least one number.'
        )
    shared = all(row.keys() == rows[0].keys() for row in rows)
    return [[row[task] for task in (rows[0] if shared else row)] for row in rows]


def _subtract(left: Measured, right: Measured, comparison: Comparison) -> list[list[float]]:
    """The difference per seed and task."""
    a, b = _keyed(left), _keyed(right)
    if a.keys() != b.keys():
        raise BadInput(
            f'Claim on "{comparison.metric}": {comparison.left} and {comparison.right} '
            f"need the same seeds on both sides; got {list(a)} and {list(b)}."
        )
    differences: dict[Hashable, dict[Hashable, float]] = {}
    for seed in a:
        x, y = _row(a[seed]), _row(b[seed])
        if x.keys() != y.keys():
            raise BadInput(
                f'Claim on "{comparison.metric}", seed {seed}: {comparison.left} and {comparison.right} '
                f"were not measured on the same tasks ({len(x)} and {len(y)})."
            )
        differences[seed] = {task: x[task] - y[task] for task in x}
    return _rows(differences, f"{comparison.left} - {comparison.right}", comparison)
