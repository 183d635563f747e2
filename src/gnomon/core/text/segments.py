"""Sentences by a rule of our own: no model, no data to download, exact places in the text."""

from __future__ import annotations

import re
from typing import NamedTuple


class Span(NamedTuple):
    """A piece of a text: `text[start:end]`."""

    start: int
    """First character."""
    end: int
    """Behind the last character."""


_ABBREVIATIONS = """
mr mrs ms mx dr prof sr jr st rev hon gen col lt sgt capt cpl gov sen rep pres
e.g i.e cf al eq eqs fig figs sec ch vol no nos pp ed eds approx resp ref refs vs
inc ltd corp co dept est ave blvd jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k u.n a.m p.m
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""Lower-case words behind which a full stop ends no sentence."""

# A full stop, question or exclamation mark with the quotes and brackets that close behind it and white space after them (CJK marks
# need none), a blank line, or a line that begins with a bullet, a number or a speaker's name.
_BREAK = re.compile(
    r"""(?P<mark>[.!?…]+["'”\u2019»)\]]*)(?=\s)"""
    r"|(?P<wide>[。\uff01\uff1f]+[”\u2019」』\uff09]*)"
    r"|(?P<blank>\s*\n\s*\n)"
    r"|(?P<line>\n)(?=\s*(?:[-*•\u2013]\s|\d{1,3}[.)]\s|\#?[A-ZÀ-Þ][\w.'-]*(?:\ [A-ZÀ-Þ][\w.'-]*){0,2}\#?:\s))"
)
_LAST_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|\.(?=[^\W\d_]))*$")


def sentences(text: str) -> list[Span]:
    """The sentences of a text in order; between them lies only white space, and none is empty.

    A sentence ends at `.`, `!`, `?` or `…` (with quotes and brackets that close behind it) before white space, at a blank line, and
    before a line that begins with a bullet, a number or a speaker (`Ann:`, `#Person1#:`). A full stop does not end one behind a
    known abbreviation or a single capital letter. Before a lower-case letter only a bare `!` or `?` does.

    >>> text = "Dr. Smith paid 3.5 dollars. Why? Nobody knows"
    >>> [text[a:b] for a, b in sentences(text)]
    ['Dr. Smith paid 3.5 dollars.', 'Why?', 'Nobody knows']
    """
    spans: list[Span] = []
    start = 0
    for match in _BREAK.finditer(text):
        if match["mark"] and not _ends(text, match):
            continue
        end = match.end() if match["mark"] or match["wide"] else match.start()
        spans += _trimmed(text, start, end)
        start = match.end()
    return spans + _trimmed(text, start, len(text))


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether the marks in `match` end a sentence."""
    rest = text[match.end() : match.end() + 64].lstrip()
    if not rest:
        return True
    if rest[0].islower():
        return match["mark"][-1] in "!?"  # as people chat: "really? that is great"
    if match["mark"] != ".":
        return True
    word = _LAST_WORD.search(text, max(0, match.start() - 32), match.start())
    if word is None:
        return True
    is_initial = len(word[0]) == 1 and word[0].isupper() and word[0] != "I"
    return not (is_initial or word[0].lower() in ABBREVIATIONS)


def _trimmed(text: str, start: int, end: int) -> list[Span]:
    piece = text[start:end]
    body = piece.strip()
    if not body:
        return []
    start += len(piece) - len(piece.lstrip())
    return [Span(start, start + len(body))]
