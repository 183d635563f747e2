"""Heat maps as HTML tables: the cells take the page's colours and their numbers can be selected.

Token text coloured by a value per token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.report.markup import printable
from gnomon.core.report.values import decimals_for, human
from gnomon.errors import BadInput

MAX_CELLS = 10_000
"""Cells beyond which a table is no longer something to look at."""
_MAX_NUMBERED = 16


@dataclass(frozen=True)
class HeatCell:
    """One cell: its text (empty where cells are too many to be read) and the strength of its colour."""

    text: str
    title: str
    percent: int | None


def heat_cells(
    matrix: Sequence[Sequence[float | None]],
    x: Sequence[str] | None,
    y: Sequence[str] | None,
    low: float | None,
    high: float | None,
) -> dict[str, Any]:
    """What the template needs; arguments as in `Page.heatmap`.

    Raises:
        BadInput: rows differ in length, names do not match, nothing is there, or the cells are too many.
    """
    rows = [[math.nan if value is None else float(value) for value in row] for row in matrix]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        raise BadInput("A heat map needs at least one row and rows of one length.")
    width = widths.pop()
    for names, size, axis in ((x, width, "x"), (y, len(rows), "y")):
        if names is not None and len(names) != size:
            raise BadInput(
                f"A heat map of {len(rows)} x {width} cells needs {size} names on {axis}; got {len(names)}."
            )
    if width * len(rows) > MAX_CELLS:
        raise BadInput(
            f"A heat map holds at most {MAX_CELLS:,} cells; got {width * len(rows):,}. Average some away."
        )
    finite = [value for row in rows for value in row if math.isfinite(value)]
    bottom = min(finite, default=0.0) if low is None else low
    top = max(finite, default=1.0) if high is None else high
    span = (top - bottom) or 1.0
    decimals = decimals_for(finite) if finite else 0
    numbered = width <= _MAX_NUMBERED

    def cell(value: float) -> HeatCell:
        if not math.isfinite(value):
            return HeatCell("", human(None), None)
        text = human(value, decimals)
        share = min(max((value - bottom) / span, 0.0), 1.0)
        return HeatCell(text if numbered else "", text, round(100 * share))

    return {
        "cells": [[cell(value) for value in row] for row in rows],
        "x": [printable(name) for name in x] if x is not None else None,
        "y": [printable(name) for name in y] if y is not None else None,
        "low": human(bottom, decimals),
        "high": human(top, decimals),
        "numbered": numbered,
    }


# Token text coloured by a value per token.


@dataclass(frozen=True)
class Token:
    """One token, ready to print."""

    text: str
    title: str
    """What hovering shows: the value."""
    tint: str
    """`warm` (above zero), `cool` (below) or nothing."""
    percent: int
    """Strength of the tint, 0..100."""
    breaks: bool
    """Whether a line ends after it."""


def tokens(pairs: Sequence[tuple[str, float | None]], peak: float | None) -> tuple[list[Token], float]:
    """The tokens and the value at which the tint is full.

    Args:
        pairs: text and value of each token; `None` or NaN is left without colour.
        peak: the value of full tint; `None` takes the largest magnitude that occurs.
    """
    magnitudes = [abs(v) for _, v in pairs if v is not None and math.isfinite(v)]
    top = peak if peak else max(magnitudes, default=0.0)
    result = []
    for text, value in pairs:
        shown = (
            printable(text)
            .replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
            .replace("\t", "\u2192   ")
        )
        if value is None or not math.isfinite(value) or not top:
            tint, percent = "", 0
        else:
            tint, percent = ("cool" if value < 0 else "warm"), round(min(abs(value) / top, 1.0) * 100)
        result.append(Token(shown, human(value), tint, percent, "\n" in text))
    return result, top
