"""Hits: what a search returns, in an order that never depends on chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gnomon.errors import BadConfig, BadInput

Parts = Mapping[str, tuple[int, float]]
"""Source -> rank from 1 and raw score there."""


@dataclass(frozen=True)
class Hit:
    """A passage that was returned."""

    id: str
    """The caller's name of it."""
    score: float
    """Higher is better; what it means depends on who gave it. A fused score is a rank and no probability."""
    rank: int
    """From 1."""
    parts: Parts = field(default_factory=dict)
    """Where it comes from: rank and raw score of every source."""


def ranked(
    scores: Iterable[tuple[str, float]], k: int | None = None, *, source: str | None = None
) -> list[Hit]:
    """Hits by falling score; of equal scores the smaller id comes first.

    Args:
        scores: ids and scores.
        k: as many at most; None: all.
        source: noted in the parts of each; None: no parts.

    >>> [hit.id for hit in ranked([("b", 1.0), ("a", 1.0), ("c", 2.0)], 2)]
    ['c', 'a']
    """
    order = sorted(scores, key=lambda pair: (-pair[1], pair[0]))[:k]
    return [
        Hit(name, score, rank, {} if source is None else {source: (rank, score)})
        for rank, (name, score) in enumerate(order, 1)
    ]


Where = Mapping[str, Any]
"""Column -> a value, a list of values, or bounds such as `{"gte": 2020, "lt": 2024}`; a row must meet all of them."""

BOUNDS = ("gt", "gte", "lt", "lte")


@dataclass(frozen=True)
class Condition:
    """What one column must be."""

    column: str
    kind: str
    """Of the column's values: bool, int, float, str, or null where no row has one."""
    among: Sequence[Any] | None = None
    """One of these values, which are of the column's kind."""
    or_null: bool = False
    """A row without a value is meant too; only beside `among`."""
    bounds: Mapping[str, Any] = field(default_factory=dict)
    """`gt`, `gte`, `lt` or `lte` -> a value of the column's kind; a row without a value meets none."""


def conditions(where: Where | None, kinds: Mapping[str, str]) -> list[Condition]:
    """A filter as conditions, which every store puts into its own words.

    Args:
        where: the filter; None: none. The value None means rows that have none.
        kinds: column -> kind of its values, of the columns that there are.

    Raises:
        BadInput: a column is not there, or holds what cannot be compared with a value.
        BadConfig: a bound is of no kind that there is, or a list is empty.

    >>> conditions({"year": {"gte": 2019.5}}, {"year": "int"})[0].bounds
    {'gte': 2020}
    """
    wants = []
    for column, wanted in (where or {}).items():
        if column not in kinds:
            raise BadInput(
                f'There is no column "{column}" to filter by; there are: {", ".join(sorted(kinds)) or "none"}.'
            )
        kind = kinds[column]
        if isinstance(wanted, Mapping):
            wrong = [name for name in wanted if name not in BOUNDS]
            if wrong or not wanted:
                raise BadConfig(
                    f'The filter of "{column}" has {", ".join(wrong) or "no bound"}; bounds are {", ".join(BOUNDS)}.'
                )
            bounds = {name: _bound(column, kind, name, value) for name, value in wanted.items()}
            wants.append(Condition(column, kind, bounds=bounds))
        else:
            values = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
            if not values:
                raise BadConfig(f'The filter of "{column}" names no value.')
            fitting = [_fitting(column, kind, value) for value in values if value is not None]
            if kind == "int":  # a whole number is never 2.5
                fitting = [int(value) for value in fitting if value == int(value)]
            wants.append(Condition(column, kind, fitting, or_null=None in values))
    return wants


def _fitting(column: str, kind: str, value: Any) -> Any:
    """A value as the column's kind holds it."""
    value = value.item() if hasattr(value, "item") else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "bool": isinstance(value, bool),
        "str": isinstance(value, str) and "\0" not in value,
        "int": is_number and abs(value) < 2**63,
        "float": is_number and abs(value) < float("inf"),
        "null": isinstance(value, str | int | float),
    }
    if not fits[kind]:
        raise BadInput(
            f'Column "{column}" holds values of kind {kind} and cannot be compared with {value!r}.'
        )
    return float(value) if kind == "float" else value


def _bound(column: str, kind: str, name: str, value: Any) -> Any:
    """A bound; of whole numbers a whole one that means the same."""
    value = _fitting(column, kind, value)
    if kind == "int" and isinstance(value, float):
        return math.ceil(value) if name in ("gte", "lt") else math.floor(value)
    return value
