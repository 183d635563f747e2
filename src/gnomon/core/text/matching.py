"""Answers found and compared in text: words as a whole, numbers by their value however they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
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
    return [hit.span() for hit in _pattern(needle, match).finditer(text)]


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
    number = NUMBER.fullmatch(text.strip().lstrip("$").rstrip("%."))
    return float(number.group().replace(",", "")) if number else None


def number_spans(value: float, text: str) -> list[Span]:
    """Every place where `text` writes the number `value`, as an integer, with decimals or with separators.

    >>> number_spans(18, "9 * 2 = 18, that is 18.00 and not 180")
    [(8, 10), (20, 25)]
    """
    return [m.span() for m in NUMBER.finditer(text) if float(m.group().replace(",", "")) == value]


def earliest(spans: Iterable[Span]) -> Span | None:
    """The span that begins first, and of those the longest."""
    return min(spans, key=lambda span: (span[0], -span[1]), default=None)


# The number that an answer gives.

_VALUE = re.compile(
    r"(?<![\w.,])(?P<whole>[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))(?:\s*/\s*(?P<under>\d+(?:\.\d+)?))?(?![\w])"
)
"""A number, or one over another, with or without separators of thousands; what follows is no letter and no digit."""
_MARK = re.compile(r"####\s*(?P<value>[^\n]+)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{(?P<value>(?:[^{}]|\{[^{}]*\})*)\}")
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r"\1/\2"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;! ]"), ""),
    (re.compile(r"\\(?:text|mathrm)\s*\{[^{}]*\}"), " "),
    (re.compile(r"[$\u20ac\u00a3\\]"), ""),
    (re.compile("\u2212"), "-"),
)
"""How LaTeX and currencies write what plain text does."""


def value_of(text: str) -> Fraction | None:
    """The value of a text that is one number, exactly; None for any other.

    >>> value_of("0.5") == value_of(".50") == value_of("1/2"), value_of("$8,000.00"), value_of("72 clips")
    (True, Fraction(8000, 1), None)
    """
    text = _plain(text).strip().rstrip(".%").strip()
    match = _VALUE.fullmatch(text)
    return None if match is None else _fraction(match)


def answered_number(text: str) -> Fraction | None:
    r"""The number that an answer gives: behind `####`, else in the last box, else the last one that it names; None: there is none.

    >>> answered_number("The total is 72 clips, altogether."), answered_number("so \\boxed{$9{,}500}, not 8")
    (Fraction(72, 1), Fraction(9500, 1))
    """
    for pattern in (_MARK, _BOX):
        marked = pattern.findall(text)
        if marked:
            return _last(marked[-1])
    return _last(text)


def _last(text: str) -> Fraction | None:
    values = [_fraction(match) for match in _VALUE.finditer(_plain(text))]
    return next((value for value in reversed(values) if value is not None), None)


def _plain(text: str) -> str:
    for pattern, instead in _LATEX:
        text = pattern.sub(instead, text)
    return text


def _fraction(match: re.Match[str]) -> Fraction | None:
    whole = Fraction(match["whole"].replace(",", ""))
    if match["under"] is None:
        return whole
    under = Fraction(match["under"])
    return whole / under if under else None
