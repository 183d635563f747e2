"""Token text coloured by a value per token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gnomon.core.report.markup import printable
from gnomon.core.report.values import human


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
    known = [abs(v) for _, v in pairs if v is not None and math.isfinite(v)]
    top = peak if peak else max(known, default=0.0)
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
