"""Tags such as `<answer>` in a text: where they stand, and which belong together.

A tag counts in any case and with attributes. One in fenced code, in a line's code or in quotation marks is marked as such: a text
may be about tags.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

_MARK = re.compile(r"<\s*(/?)\s*([^\s<>/]+)(?:\s[^<>]*)?>")
_FENCE_LINE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)")
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201c", "\u00ab": "\u00bb"}


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag in a text."""

    start: int
    end: int
    name: str
    """In lower case."""
    closes: bool
    code: str
    """Where it stands: `` for text, `fence`, or `quoted` for a line's code and quotation marks."""


Pair = tuple[Tag, Tag]
"""An opening tag and the closing one that belongs to it."""


def find_tags(text: str) -> list[Tag]:
    """All tags of a text in their order.

    >>> [(tag.name, tag.closes, tag.code) for tag in find_tags("<A n=1>not `<b>`</a>")]
    [('a', False, ''), ('b', False, 'quoted'), ('a', True, '')]
    """
    fences = deque(_fences(text))
    spans = deque(match.span() for match in _CODE_SPAN.finditer(text))
    tags = []
    for match in _MARK.finditer(text):
        start, end = match.span()
        if _covers(fences, start, end):
            code = "fence"
        elif _covers(spans, start, end) or _is_quoted(text, start, end):
            code = "quoted"
        else:
            code = ""
        tags.append(Tag(start, end, match[2].lower(), bool(match[1]), code))
    return tags


def _covers(spans: deque[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of the spans holds what lies from `start` to `end`. Asked in reading order: what is passed is dropped."""
    while spans and spans[0][1] < end:
        spans.popleft()
    return bool(spans) and spans[0][0] <= start


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether quotation marks stand around, of which the first does not end another quotation."""
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    return bool(after) and _QUOTES.get(before) == after and not text[max(start - 2, 0) : start - 1].isalnum()


def _fences(text: str) -> Iterator[tuple[int, int]]:
    """Where fenced code stands, fences included. A fence that is not closed is none: a thought may break off in one."""
    opening: re.Match[str] | None = None
    for line in _FENCE_LINE.finditer(text):
        if opening is None:
            opening = None if line[1][0] == "`" and "`" in line[2] else line
        elif line[1].startswith(opening[1]) and not line[2].strip():
            yield opening.start(), line.end()
            opening = None


def pair_tags(tags: Iterable[Tag]) -> list[Pair]:
    """Opening tags with the closing ones that belong to them, by where they end.

    A closing tag belongs to the last opening one before it that has none yet; a tag that lacks the other is left out.
    """
    opened: dict[str, list[Tag]] = {}
    pairs = []
    for tag in tags:
        if not tag.closes:
            opened.setdefault(tag.name, []).append(tag)
        elif opened.get(tag.name):
            pairs.append((opened[tag.name].pop(), tag))
    return pairs


def outside(pairs: list[Pair], others: list[Pair]) -> list[Pair]:
    """The pairs that lie in none of the others, in the order of `pairs`."""
    spans = sorted((opening.start, closing.end) for opening, closing in others)
    reach: list[int] = list(accumulate((end for _, end in spans), max))
    starts = [start for start, _ in spans]

    def is_inside(opening: Tag, closing: Tag) -> bool:
        at = bisect_left(starts, opening.start)  # spans that begin before it
        return at > 0 and reach[at - 1] >= closing.end

    return [pair for pair in pairs if not is_inside(*pair)]
