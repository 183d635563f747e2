"""Snippets: pieces of documents, small enough for the student to read whole.

Text is cut before the judge sees it, so that judge and student read the same words, and a saved model cuts by the
same rule as its training did.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

Span = tuple[int, int]
"""Start and end in a text, in characters."""

_BORDERS = (
    re.compile(r"\n[^\S\n]*\n\s*"),  # paragraphs
    # Sentences, of other scripts too. A run of marks is tried once, at its beginning: leaders of a thousand dots cost no more.
    re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s+|[。！？]+[”’」』）]*\s*"),  # noqa: RUF001
)
"""Where a text is best cut, the best first; a piece begins where a match ends. Next come spaces between words, then tokens."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a document. Judge and student see exactly this text."""

    snippet_id: str
    """`DOC_ID:START-END`."""
    doc_id: str
    """The document it is a piece of."""
    text: str
    """The piece."""
    start: int
    """Where it begins in the document, in characters."""
    end: int
    """Where it ends."""


class HasText(Protocol):
    """A document, as far as cutting needs it."""

    @property
    def doc_id(self) -> str:
        """Its name."""
        ...

    @property
    def text(self) -> str:
        """Its text."""
        ...


def cut(text: str, spans: Sequence[Span], limit: int) -> list[Span]:
    r"""Pieces of at most `limit` tokens that together hold everything but white space between them.

    Each piece ends at the last paragraph border that keeps it within the limit; where there is none at the last sentence border,
    then between words, then between tokens. Pieces neither begin nor end with white space, and none is empty.

    Args:
        text: a document.
        spans: where its tokens lie, in order; they may leave gaps, overlap, and include white space.
        limit: most tokens of a piece, >= 1. A single character of more tokens than that is a piece of its own.

    Returns:
        Start and end of each piece, in order; none for a text of white space.

    >>> words = [(0, 3), (4, 7), (9, 12)]
    >>> [slice(*piece) for piece in cut("One two\n\nsix", words, 2)]
    [slice(0, 7, None), slice(9, 12, None)]
    """
    begin, stop = _after_space(text, 0), len(text.rstrip())
    if len(spans) <= limit:
        return [(begin, stop)] if begin < stop else []
    starts = _starts(text, spans)
    pieces: list[Span] = []
    while begin < stop:
        border = _next_border(text, begin, starts, limit, stop)
        pieces.append((begin, begin + len(text[begin:border].rstrip())))
        begin = _after_space(text, border)
    return pieces


def pieces_of(text: str, spans_of: Callable[[str], Sequence[Span]], limit: int) -> list[Span]:
    """`cut` for a student's tokens; a text of fewer bytes than the limit cannot have more tokens, and they are not looked for."""
    is_short = len(text) < limit and len(text.encode("utf-8", "surrogatepass")) < limit
    return cut(text, () if is_short else spans_of(text), limit)


def _starts(text: str, spans: Sequence[Span]) -> list[int]:
    """Start of each token, without its leading white space; never falling."""
    starts: list[int] = []
    for start, end in spans:
        if text[start : start + 1].isspace() and (body := text[start:end].lstrip()):
            start = end - len(body)
        starts.append(start)
    return list(accumulate(starts, max))


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _next_border(text: str, begin: int, starts: Sequence[int], limit: int, stop: int) -> int:
    """End of the piece that begins at `begin`."""
    first = bisect_left(starts, begin)
    if first + limit >= len(starts):
        return stop
    furthest = starts[first + limit]  # a piece that ends here or before holds at most `limit` tokens
    for border in _BORDERS:
        if ends := [match.end() for match in border.finditer(text, begin, furthest)]:
            return ends[-1]
    words = text[begin:furthest].rsplit(None, 1)
    if len(words) > 1 and not text[furthest - 1].isspace():
        return furthest - len(words[-1])
    if furthest > begin:
        return furthest
    after = bisect_right(starts, begin)
    return starts[after] if after < len(starts) else stop


def snippets_of(document: HasText, spans_of: Callable[[str], Sequence[Span]], limit: int) -> list[Snippet]:
    """The snippets of a document, in order.

    Args:
        document: anything with a `doc_id` and a `text`.
        spans_of: the student's `token_spans`.
        limit: most tokens of a snippet.
    """
    text = document.text
    return [
        Snippet(f"{document.doc_id}:{start}-{end}", document.doc_id, text[start:end], start, end)
        for start, end in pieces_of(text, spans_of, limit)
    ]
