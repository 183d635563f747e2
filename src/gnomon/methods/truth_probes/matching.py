"""Where one text stands in another: as whole words or numbers, not inside of others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

Match = Literal["boundary", "substring"]
"""boundary: whole words and numbers only; substring: anywhere, as the paper compares."""

Span = tuple[int, int]
"""First character and the one behind the last."""

NUMBER = re.compile(
    r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)(?!\.\d)|(?<![\w.])-?\d+(?:\.\d+)?(?!\w)(?!\.\d)"
)
"""A number as it is written in text, with or without separators of thousands."""


def spans_of(needle: str, text: str, match: Match = "boundary") -> list[Span]:
    """Every place of `needle` in `text`, whatever the case.

    >>> spans_of("us", "Because US forces", "boundary"), spans_of("us", "Because US forces", "substring")
    ([(8, 10)], [(4, 6), (8, 10)])
    >>> spans_of("1", "16 or 1.5 or 1.", "boundary")
    [(13, 14)]
    """
    needle = needle.strip()
    if not needle:
        return []
    return [found.span() for found in _pattern(needle, match).finditer(text)]


@lru_cache(maxsize=65536)
def _pattern(needle: str, match: Match) -> re.Pattern[str]:
    body = re.escape(needle)
    if match == "boundary":
        before = r"(?<!\w)" if needle[0].isalnum() or needle[0] == "_" else ""
        after = r"(?!\w)" if needle[-1].isalnum() or needle[-1] == "_" else ""
        if needle[0].isdigit():
            before += r"(?<!\d[.,])(?<!-)"
        elif needle[0] == "-" and needle[1:2].isdigit():
            before += r"(?<!\w)"
        if needle[-1].isdigit():
            after += r"(?![.,]\d)"
        body = before + body + after
    return re.compile(body, re.IGNORECASE)


def number_of(text: str) -> float | None:
    """The value of a text that is one number; None for any other.

    >>> number_of("1,000"), number_of("18.0"), number_of("18 ducks")
    (1000.0, 18.0, None)
    """
    found = NUMBER.fullmatch(text.strip().lstrip("$").rstrip("%."))
    return float(found.group().replace(",", "")) if found else None


def number_spans(value: float, text: str) -> list[Span]:
    """Every place where `text` writes the number `value`, as an integer, with decimals or with separators.

    >>> number_spans(18, "9 * 2 = 18, that is 18.00 and not 180")
    [(8, 10), (20, 25)]
    """
    return [m.span() for m in NUMBER.finditer(text) if float(m.group().replace(",", "")) == value]


def earliest(spans: Iterable[Span]) -> Span | None:
    """The span that begins first, and of those the longest."""
    return min(spans, key=lambda span: (span[0], -span[1]), default=None)
