"""Where the parts of a study put their numbers: arm, metric, unit and value for claims, rows for tables, the rest for pages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.files import write_json
from gnomon.core.plain import python_scalar

if TYPE_CHECKING:
    from gnomon.core.run import PartOfRun, Run

Scores = dict[str, dict[str, dict[Hashable, Any]]]
"""Arm -> metric -> unit (a seed, or a simulated world) -> a number, or one number per task."""


@dataclass
class Results:
    """What all parts of a study brought, for its page and its summary."""

    seeds: Sequence[int]
    """Seeds of the run."""
    folder: Path
    """Folder of the run."""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Table -> its rows, each with its seed."""
    kept: dict[str, list[Any]] = field(default_factory=dict)
    """Name -> values, in the order in which they came."""
    shown: dict[str, Any] = field(default_factory=dict)
    """Name -> what the page draws, of the first seed."""
    by_part: dict[str, Scores] = field(default_factory=dict)
    """Part -> its scores."""
    undefined: dict[tuple[str, str, Hashable], str] = field(default_factory=dict)
    """Arm, metric and unit -> why there is no number."""

    def measured(self, *parts: str) -> Scores:
        """Scores of the named parts together; of all parts when none is named. Numbers per task are joined.

        Raises:
            ValueError: two of the parts scored one arm with one metric under one unit.
        """
        together: Scores = {}
        for name in parts or self.by_part:
            for arm, metric, unit, value in _entries(self.by_part.get(name, {})):
                enter(together, arm, metric, unit, value)
        return together

    def scores(self, *parts: str) -> dict[str, dict[str, list[Any]]]:
        """Arm -> metric -> a value per unit, without the units' names; else as `measured`."""
        return {
            arm: {metric: list(values.values()) for metric, values in metrics.items()}
            for arm, metrics in self.measured(*parts).items()
        }

    def mean(self, arm: str, metric: str, *parts: str) -> float:
        """Mean over units of one number per unit; NaN where there is none."""
        values = list(self.measured(*parts).get(arm, {}).get(metric, {}).values())
        return sum(values) / len(values) if values else math.nan


def means(rows: Iterable[Mapping[str, Any]], *by: str) -> list[dict[str, Any]]:
    """Means over seeds: one row for every combination of the columns `by`, in the order in which they appear.

    Args:
        rows: as `Out.add` collected them.
        by: columns that tell groups apart; none: one row for all.

    Returns:
        Per group the columns `by` and the mean of every column that holds numbers; missing and undefined ones are not counted.

    >>> means([{"seed": 0, "arm": "a", "m": 1.0}, {"seed": 1, "arm": "a", "m": 2.0}], "arm")
    [{'arm': 'a', 'm': 1.5}]
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in by), []).append(row)
    table = []
    for key, group in groups.items():
        names = dict.fromkeys(name for row in group for name in row if name not in by and name != "seed")
        mean = {}
        for name in names:
            values = [value for row in group if _is_number(value := python_scalar(row.get(name)))]
            if values:
                mean[name] = sum(values) / len(values)
        table.append({**dict(zip(by, key, strict=True)), **mean})
    return table


class Out:
    """Where a part puts its numbers.

    Args:
        results: where they are kept.
        run: the run.
        part: the seed's part of it.
        name: the study's part.
        seed: the seed; None in a part that runs once.
    """

    def __init__(self, results: Results, run: Run, part: PartOfRun, name: str, seed: int | None) -> None:
        self._results, self._run, self._part = results, run, part
        self._scores = results.by_part.setdefault(name, {})
        self._seed = seed
        self.is_first = seed is None or seed == run.seed
        """Whether this is the first seed, whose models and drawings are kept."""

    def score(self, arm: str, metric: str, value: Any, unit: Hashable = None) -> None:
        """Enter what claims compare.

        Args:
            arm: the arm, as claims name it.
            metric: the metric, as claims name it.
            value: one number; or one number per task, as a list (paired by position) or a mapping (paired by key).
            unit: what the number is of; None: of the seed.
        """
        unit = self._seed if unit is None else unit
        if unit in self._scores.get(arm, {}).get(metric, {}):
            raise ValueError(f'"{arm}" has "{metric}" under {unit} already: one part scores it once.')
        enter(self._scores, arm, metric, unit, floats(value))

    def undefine(self, arm: str, metric: str, why: str, unit: Hashable = None) -> None:
        """Say why there is no number. A claim about it passes at the scale smoke, and is an error that says why at others."""
        self._results.undefined[arm, metric, self._seed if unit is None else unit] = why

    def add(self, table: str, *rows: Mapping[str, Any]) -> None:
        """Append rows to a table, each with its seed in front."""
        seed = {} if self._seed is None else {"seed": self._seed}
        self._results.rows.setdefault(table, []).extend({**seed, **row} for row in rows)

    def keep(self, name: str, value: Any) -> None:
        """Keep a value of every seed that is no row."""
        self._results.kept.setdefault(name, []).append(value)

    def show(self, name: str, value: Any) -> None:
        """Keep what the page draws, if this is the first seed."""
        if self.is_first:
            self._results.shown[name] = value

    def log(self, **numbers: Any) -> None:
        """Append a row to `metrics.jsonl`, with its seed in front."""
        self._run.log(**({} if self._seed is None else {"seed": self._seed}), **numbers)

    def artifact(self, name: str, path: Path) -> Path:
        """Name a file or folder in the report, if this is the first seed. Returns `path`."""
        return self._run.artifact(name, path) if self.is_first else path

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The value of `compute`, computed once: a run that was killed and is repeated reads it back.

        Args:
            name: of the file, below the folder of the part of the run and without `.json`; other names, other values.
            compute: called if there is no such file; what it returns is written as JSON.

        Returns:
            What the file holds, also the first time, so that a repeated run sees the same.
        """
        path = self._part.folder / f"{name}.json"
        if not path.exists():
            value = compute()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, value)
        return json.loads(path.read_text("utf-8"))


def _entries(scores: Scores) -> Iterator[tuple[str, str, Hashable, Any]]:
    for arm, metrics in scores.items():
        for metric, values in metrics.items():
            for unit, value in values.items():
                yield arm, metric, unit, value


def enter(scores: Scores, arm: str, metric: str, unit: Hashable, value: Any) -> None:
    """Enter one value; numbers per task join those that are there."""
    values = scores.setdefault(arm, {}).setdefault(metric, {})
    if unit not in values:
        values[unit] = value
    elif isinstance(value, list) and isinstance(values[unit], list):
        values[unit] = [*values[unit], *value]
    elif (
        isinstance(value, dict) and isinstance(values[unit], dict) and not value.keys() & values[unit].keys()
    ):
        values[unit] = {**values[unit], **value}
    else:
        raise ValueError(f'Two parts scored "{metric}" of "{arm}" under {unit}: name the part that is meant.')


def floats(value: Any) -> Any:
    """A number, or numbers per task, as Python's own; None is NaN."""
    if isinstance(value, Mapping):
        return {task: floats(number) for task, number in value.items()}
    value = python_scalar(value)
    if hasattr(value, "__iter__"):
        return [floats(number) for number in value]
    return math.nan if value is None else float(value)


def numbers_in(value: Any) -> Iterator[float]:
    """The numbers of one unit, be they one or one per task."""
    if isinstance(value, dict):
        value = list(value.values())
    yield from value if isinstance(value, list) else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
