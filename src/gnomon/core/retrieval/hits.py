"""Hits: what a search returns, in an order that never depends on chance."""

from __future__ import annotations

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
    among: Sequence[Any] | None = None
    """One of these values."""
    bounds: Mapping[str, Any] = field(default_factory=dict)
    """`gt`, `gte`, `lt` or `lte` -> a value."""


def conditions(where: Where | None, columns: Iterable[str]) -> list[Condition]:
    """A filter as conditions, which every store puts into its own words.

    Args:
        where: the filter; None: none.
        columns: that there are.

    Raises:
        BadInput: a column is not there.
        BadConfig: a bound is of no kind that there is, or a list is empty.
    """
    present = list(columns)
    wants = []
    for column, wanted in (where or {}).items():
        if column not in present:
            raise BadInput(
                f'There is no column "{column}" to filter by; there are: {", ".join(present) or "none"}.'
            )
        if isinstance(wanted, Mapping):
            wrong = [name for name in wanted if name not in BOUNDS]
            if wrong or not wanted:
                raise BadConfig(
                    f'The filter of "{column}" has {", ".join(wrong) or "no bound"}; bounds are {", ".join(BOUNDS)}.'
                )
            wants.append(Condition(column, bounds=dict(wanted)))
        else:
            among = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
            if not among:
                raise BadConfig(f'The filter of "{column}" names no value.')
            wants.append(Condition(column, among))
    return wants
