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
from gnomon.methods.calm.stimuli.probes import probes

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
    is_tested: bool = False
    """Whether its discordant pairs could have shown a bias at all; only such cells are in a family of tests."""
    q: float = 1.0
    """p-value adjusted over the tested conditions of the bias."""
    smallest: float | None = None
    """Smallest shift that this cell would have found with power 0.8."""
    word: str = ""
    """`biased`, `no bias seen` or `undecided`; empty where no word is given."""
    dose: float | None = None
    """Strength of the cue."""
    more: dict[str, Any] = field(default_factory=dict)
    """Of this bias alone: first-slot rate, slot effect, accuracies, error rate, length drift, flips among decisive pairs, reasons
    that name the cue."""

    @property
    def is_off_zero(self) -> bool:
        """Whether the interval of the shift or of BIS leaves out 0; where a flip is right, of a BIS above 0 alone."""
        probe = probes().get(self.probe)
        if probe is not None and probe.expected == "flips":
            return self.bis is not None and self.bis[1] > 0
        return any(part is not None and not part[1] <= 0 <= part[2] for part in (self.shift, self.bis))


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
        """Bias -> the gravest word of its conditions: biased, else undecided, else no bias seen.

        All conditions together see more than each: where their interval leaves out 0, the bias is undecided at least.
        """
        by_bias: dict[str, str] = {}
        for cell in self.cells:
            if cell.word:
                best = by_bias.get(cell.probe, WORDS[-1])
                by_bias[cell.probe] = min(best, cell.word, key=WORDS.index)
        for name, cell in self.headline().items():
            if by_bias.get(name) == "no bias seen" and cell.is_off_zero:
                by_bias[name] = "undecided"
        return by_bias

    def biased_over_all(self) -> list[str]:
        """The biases that are still called so when all biases of the profile are one family of tests.

        A bias enters by its smallest adjusted p-value (Simes' test of "none of its conditions").
        """
        smallest: dict[str, float] = {}
        for cell in self.cells:
            if cell.is_tested and cell.word:
                smallest[cell.probe] = min(cell.q, smallest.get(cell.probe, 1.0))
        q_values = benjamini_hochberg(list(smallest.values())).tolist() if smallest else []
        return [name for name, q in zip(smallest, q_values, strict=True) if q < ALPHA]

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
        summary = {
            "averages": self.averages(),
            "words": self.words(),
            "biased over all": self.biased_over_all(),
        }
        write_json(path, {**summary, **row})


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
            Cell(**{name: _tupled(value) for name, value in _renamed(cell).items()}) for cell in kept["cells"]
        ]
        return Profile(**kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{path}: not a profile ({error}). It is made by `gnomon calm audit` or `analyze`."
        ) from None


def adjusted(cells: Sequence[Cell], smallest: float, discordant: Mapping[int, float]) -> list[Cell]:
    """The cells with p-values adjusted, and the word for each.

    A family of tests is a bias: its conditions that can be tested. What else was measured in the same audit, and conditions
    without enough discordant pairs to show anything, change no q and no word.

    Args:
        cells: the cells of one profile.
        smallest: the shift that would matter.
        discordant: place of a cell -> share of discordant items, for those that get a word.
    """
    done = list(cells)
    families: dict[str, list[int]] = {}
    for i in sorted(discordant):
        done[i] = replace(done[i], smallest=smallest_effect(discordant[i], done[i].n))
        if done[i].is_tested:
            families.setdefault(done[i].probe, []).append(i)
    for family in families.values():
        q_values = benjamini_hochberg([cells[i].p for i in family])
        for i, q in zip(family, q_values.tolist(), strict=True):
            done[i] = replace(done[i], q=float(q))
    for i in discordant:
        done[i] = replace(
            done[i],
            word=word_of(
                done[i].q, discordant[i], done[i].n, smallest=smallest, is_off_zero=done[i].is_off_zero
            ),
        )
    return done


def faults_of(statuses: Iterable[str]) -> dict[str, int]:
    """Counts of statuses."""
    return dict(Counter(statuses).most_common())


def _renamed(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell as profiles of older versions have it: `undecided` was called `cannot tell`."""
    return dict(cell) | ({"word": "undecided"} if cell.get("word") == "cannot tell" else {})


def _tupled(value: Any) -> Any:
    return (
        tuple(value)
        if isinstance(value, list) and len(value) == 3 and not isinstance(value[0], str)
        else value
    )


# What an audit can see: the smallest effect it would find, and the items it takes to find one.

Word = Literal["biased", "undecided", "no bias seen"]

WORDS: tuple[Word, ...] = ("biased", "undecided", "no bias seen")
"""The words, the gravest first."""

ALPHA = 0.05
"""False discovery rate of a family, and level of single tests."""

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
    return quantiles(alpha, power, tests) * math.sqrt(max(discordant, 1 / n) / n)


def items_needed(
    effect: float, discordant: float, *, alpha: float = ALPHA, power: float = POWER, tests: int = TESTS
) -> int:
    """Items that it takes to find a shift of this size.

    >>> items_needed(0.08, 0.36, tests=1)
    442
    """
    check(effect > 0, "effect", "> 0", effect)
    return math.ceil(discordant * (quantiles(alpha, power, tests) / effect) ** 2)


def power_of(effect: float, discordant: float, n: int, *, alpha: float = ALPHA, tests: int = TESTS) -> float:
    """Chance to find a shift of this size with `n` items."""
    if n == 0:
        return 0.0
    ratio = abs(effect) / math.sqrt(max(discordant, 1 / n) / n)
    return float(norm.cdf(ratio - norm.ppf(1 - alpha / (2 * tests))))


def word_of(q: float, discordant: float, n: int, *, smallest: float, is_off_zero: bool = False) -> Word:
    """The word for a condition.

    Args:
        q: its p-value, adjusted over its family; 1 where nothing could be tested.
        discordant: as in `smallest_effect`.
        n: items.
        smallest: the shift that would matter: unless one of this size would have been found, the word is "undecided".
        is_off_zero: whether an interval leaves out 0: something is there, then, whatever the correction says.
    """
    if q < ALPHA:
        return "biased"
    is_strong = smallest_effect(discordant, n) <= smallest
    return "no bias seen" if is_strong and not is_off_zero else "undecided"


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


def quantiles(alpha: float, power: float, tests: int) -> float:
    """Standard errors between no effect and one that is found with this power by one of `tests` two-sided tests."""
    return float(norm.ppf(1 - alpha / (2 * tests)) + norm.ppf(power))
