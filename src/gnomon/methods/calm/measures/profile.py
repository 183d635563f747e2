"""Bias profiles: a cell per bias and condition, averages per set; and the power of an audit."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from scipy.stats import norm

from gnomon.core.config import check
from gnomon.core.files import write_json
from gnomon.core.metrics.stats import benjamini_hochberg, wilson
from gnomon.errors import BadInput

Interval = tuple[float, float, float]
"""Value, lower and upper end of the 95% interval."""

ALL = "all"
"""The condition of a cell that holds all conditions of a bias together."""

SET_OF = {
    "position": "alignment", "compassion-fade": "alignment", "bandwagon": "alignment", "authority": "alignment",
    "distraction": "alignment", "diversity": "alignment", "verbosity": "fact", "fallacy-oversight": "fact", "sentiment": "fact",
}  # fmt: skip
"""Bias -> the set whose BIS average it belongs to."""


@dataclass(frozen=True)
class Cell:
    """One bias under one condition."""

    probe: str
    """The bias."""
    condition: str
    """The condition; `all` for all of them together."""
    set: str
    """The set of items."""
    n: int
    """Items with both verdicts, or scores."""
    unparsed: int = 0
    """Items left out because a verdict could not be read."""
    rr: Interval | None = None
    """RR: share of the verdicts that stayed, or moved to where they should."""
    rr_with_unparsed: float | None = None
    """RR when a verdict that cannot be read counts as changed."""
    flips: float | None = None
    """Share of the verdicts that changed, whichever way."""
    cr: Interval | None = None
    """CR of the same items: what stays when nothing changes."""
    bis: Interval | None = None
    """BIS = CR - RR."""
    shift: Interval | None = None
    """Change of the share that prefers the cued side; for scores, the change of the mean score."""
    p: float = 1.0
    """p-value."""
    q: float = 1.0
    """p-value adjusted over all cells of the profile."""
    smallest: float | None = None
    """Smallest shift that this cell would have found with power 0.8."""
    word: str = ""
    """`biased`, `no bias seen` or `cannot tell`."""
    dose: float | None = None
    """Strength of the cue."""
    more: dict[str, Any] = field(default_factory=dict)
    """Of this bias alone: first-slot rate, slot effect, accuracies, error rate, length drift, reasons that name the cue."""


_KEYS = {"calls": "asked"}
"""Attribute of a profile -> its key in files, where the two differ."""


@dataclass
class Profile:
    """The measured biases of one judge."""

    judge: str
    """Its name."""
    cells: list[Cell] = field(default_factory=list)
    """All cells, conditions before the sum of them."""
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Set -> number of items, CR over all of them, share of verdicts for the first slot, accuracy."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Status of a reply -> number of verdicts."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Bias -> why it was not measured."""
    calls: dict[str, Any] = field(default_factory=dict)
    """Calls, tokens and faults; `asked` in the file."""
    is_simulated: bool = False
    notes: list[str] = field(default_factory=list)
    """Remarks for reading the numbers."""

    def headline(self) -> dict[str, Cell]:
        """Bias -> its cell over all conditions, or its only one; of position, the one with two candidates."""
        by_bias: dict[str, Cell] = {}
        for cell in self.cells:
            is_first = cell.probe not in by_bias
            if is_first or cell.condition == ALL:
                by_bias[cell.probe] = cell
        return by_bias

    def words(self) -> dict[str, str]:
        """Bias -> the gravest word of its conditions: biased, else cannot tell, else no bias seen."""
        order = ("biased", "cannot tell", "no bias seen")
        by_bias: dict[str, str] = {}
        for cell in self.cells:
            if cell.word:
                best = by_bias.get(cell.probe, order[-1])
                by_bias[cell.probe] = min(best, cell.word, key=order.index)
        return by_bias

    def averages(self) -> dict[str, float]:
        """Set -> mean BIS of its biases; the lower, the less the judge is swayed beyond its own noise."""
        by_set: dict[str, list[float]] = {}
        for name, cell in self.headline().items():
            if name in SET_OF and cell.bis is not None:
                by_set.setdefault(SET_OF[name], []).append(cell.bis[0])
        return {name: fmean(values) for name, values in by_set.items()}

    def save(self, path: Path) -> None:
        """Write the profile as JSON."""
        row = {_KEYS.get(name, name): value for name, value in vars(self).items()}
        write_json(path, {"averages": self.averages(), "words": self.words(), **row})


def bis_averages(rr: Mapping[str, float], cr: Mapping[str, float]) -> dict[str, float]:
    """Mean BIS per set from published rates: bias -> RR, and set -> CR.

    >>> bis_averages({"verbosity": 0.9, "sentiment": 0.8}, {"fact": 0.95})
    {'fact': 0.1}
    """
    cells = [
        Cell(name, ALL, SET_OF[name], 0, bis=(cr[SET_OF[name]] - value,) * 3)
        for name, value in rr.items()
        if name in SET_OF
    ]
    return {name: round(value, 12) for name, value in Profile("", cells).averages().items()}


def load_profile(path: Path) -> Profile:
    """The profile in a file of `Profile.save`.

    Raises:
        BadInput: the file cannot be read, or holds something else.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        keys = {_KEYS.get(field.name, field.name): field.name for field in fields(Profile)}
        kept = {keys[key]: value for key, value in raw.items() if key in keys}
        kept["cells"] = [
            Cell(**{name: _tupled(value) for name, value in cell.items()}) for cell in kept["cells"]
        ]
        return Profile(**kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{path}: not a profile ({error}). It is made by `gnomon calm audit` or `analyze`."
        ) from None


def adjusted(cells: Sequence[Cell], smallest: float, discordant: Mapping[int, float]) -> list[Cell]:
    """The cells with p-values adjusted over all conditions, and the word for each.

    Args:
        cells: the cells of one profile.
        smallest: the shift that would matter.
        discordant: place of a cell -> share of discordant items, for those that are tested.
    """
    tested = sorted(discordant)
    q_values = benjamini_hochberg([cells[i].p for i in tested]).tolist() if tested else []
    done = list(cells)
    for i, q in zip(tested, q_values, strict=True):
        cell = cells[i]
        done[i] = replace(
            cell,
            q=float(q),
            smallest=smallest_effect(discordant[i], cell.n),
            word=word_of(float(q), discordant[i], cell.n, smallest=smallest),
        )
    return done


def faults_of(statuses: Iterable[str]) -> dict[str, int]:
    """Counts of statuses."""
    return dict(Counter(statuses).most_common())


def _tupled(value: Any) -> Any:
    return (
        tuple(value)
        if isinstance(value, list) and len(value) == 3 and not isinstance(value[0], str)
        else value
    )


# What an audit can see: the smallest effect it would find, and the items it takes to find one.

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
    if n == 0:
        return 0.0
    ratio = abs(effect) / math.sqrt(max(discordant, 1 / n) / n)
    return float(norm.cdf(ratio - norm.ppf(1 - alpha / (2 * tests))))


def word_of(q: float, discordant: float, n: int, *, smallest: float) -> Word:
    """The word for a condition.

    Args:
        q: its p-value, adjusted for the number of tests.
        discordant: as in `smallest_effect`.
        n: items.
        smallest: the shift that would matter: unless one of this size would have been found, the word is "cannot tell".
    """
    if q < ALPHA:
        return "biased"
    return "no bias seen" if smallest_effect(discordant, n) <= smallest else "cannot tell"


@dataclass(frozen=True)
class PowerTable:
    """Intervals and power for a number of items."""

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
    """Intervals and power with `n` items, for a judge whose plain runs agree with share `cr`.

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
    return float(norm.ppf(1 - alpha / (2 * tests)) + norm.ppf(power))
