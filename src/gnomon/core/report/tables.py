"""Tables: numbers of one column at one precision, intervals in a softer tone, the best value marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.report.markup import printable
from gnomon.core.report.values import decimals_for, human, is_number
from gnomon.errors import BadInput, nearest

Row = Mapping[str, Any]
Best = Mapping[str, Literal["max", "min"]]


@dataclass(frozen=True)
class Cell:
    """One cell, ready to print."""

    text: str
    note: str = ""
    """The interval behind the number, if there is one."""
    best: bool = False
    numeric: bool = False


def cells(rows: Sequence[Row], columns: Sequence[str], best: Best) -> list[list[Cell]]:
    """The rows as cells. A cell `(value, low, high)` is a number with its interval.

    Raises:
        BadInput: `best` names a column that is not there, or asks for something else than max or min.
    """
    for column, way in best.items():
        if column not in columns:
            raise BadInput(f'Table: best names column "{column}". {nearest(column, columns)}')
        if way not in ("max", "min"):
            raise BadInput(f'Table: best["{column}"] must be "max" or "min"; got "{way}".')
    table = [[Cell("")] * len(columns) for _ in rows]
    for j, column in enumerate(columns):
        values = [row.get(column) for row in rows]
        points = [_point(value) for value in values]
        numbers = [point for point in points if is_number(point)]
        decimals = decimals_for(numbers) if numbers else None
        winner = {"max": max, "min": min}[best[column]](numbers) if column in best and numbers else None
        for i, (value, point) in enumerate(zip(values, points, strict=True)):
            numeric = is_number(point)
            table[i][j] = Cell(
                printable(human(point, decimals if isinstance(point, float) else None)),
                _interval(value, decimals),
                best=numeric and winner is not None and point == winner and len(rows) > 1,
                numeric=numeric,
            )
    return table


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns, in the order in which they first appear."""
    return list(dict.fromkeys(column for row in rows for column in row))


def numeric_columns(table: Sequence[Sequence[Cell]]) -> list[bool]:
    """Whether each column holds numbers (and nothing else but blanks), and is set flush right."""
    return [
        any(cell.numeric for cell in column) and all(cell.numeric or len(cell.text) <= 1 for cell in column)
        for column in zip(*table, strict=True)
    ]


def _is_interval(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(map(is_number, value))


def _point(value: Any) -> Any:
    return value[0] if _is_interval(value) else value


def _interval(value: Any, decimals: int | None) -> str:
    if not _is_interval(value):
        return ""
    return f"{human(float(value[1]), decimals)} \N{EN DASH} {human(float(value[2]), decimals)}"
