"""Passages: pieces of documents, cut by offsets, so that each one is found again where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core.text.segments import sentences
from gnomon.errors import BadConfig, BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gnomon.core.data.documents import Document

Unit = Literal["tokens", "words", "chars", "sentences"]
UNITS = ("tokens", "words", "chars", "sentences")


@dataclass(frozen=True)
class Passage:
    """A piece of a document: `document.text[start:end] == text`."""

    id: str
    """`DOC_ID#ORDER` unless the caller names it."""
    doc_id: str
    """The document it comes from."""
    start: int
    """First character."""
    end: int
    """Behind the last character."""
    text: str
    """What it says."""
    order: int = 0
    """Its place among the document's passages, from 0."""
    headings: tuple[str, ...] = ()
    """Headings that it stands under, from the outermost; Markdown's."""
    kind: str = "text"
    """What it is: text, table, image."""
    meta: dict[str, Any] = field(default_factory=dict)
    """The document's other columns."""


@dataclass(frozen=True)
class Cut:
    """How documents are cut."""

    unit: Unit = "words"
    """What `size` and `overlap` count."""
    size: int = 200
    """Units a passage, at most."""
    overlap: int = 0
    """Units that a passage shares with the one before."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise BadConfig(f'cut.unit must be {", ".join(UNITS)}; got "{self.unit}".')
        if self.size < 1:
            raise BadConfig(f"cut.size must be >= 1; got {self.size}.")
        if not 0 <= self.overlap < self.size:
            raise BadConfig(
                f"cut.overlap must be >= 0 and below cut.size; got {self.overlap} of {self.size}."
            )


def cut(
    document: Document, how: Cut | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> Iterator[Passage]:
    """The passages of a document in order.

    Starts rise strictly, every character that is not white space lies in a passage, and a passage neither begins nor ends with
    white space. White space alone gives none.

    Args:
        document: with its text.
        how: unit, size and overlap; None: 200 words.
        tokenizer: counts tokens; a fast one, as places are asked of it. Needed for `unit="tokens"` alone.

    Raises:
        BadConfig: tokens are to be counted and no tokenizer can.
    """
    how = how or Cut()
    headings = _headings(document.text)
    for order, (start, end) in enumerate(_places(document.text, how, tokenizer)):
        above = tuple(title for _, title in _stack(headings, start))
        name, text = f"{document.doc_id}#{order}", document.text[start:end]
        yield Passage(name, document.doc_id, start, end, text, order, above, meta=dict(document.meta))


def _places(text: str, how: Cut, tokenizer: PreTrainedTokenizerBase | None) -> Iterator[tuple[int, int]]:
    """Where passages begin and end, without white space at their ends."""
    units = _units(text, how.unit, tokenizer)
    pending: tuple[int, int] | None = None
    for first in range(0, len(units), how.size - how.overlap):
        part = units[first : first + how.size]
        start, end = _trimmed(text, part[0][0], part[-1][1])
        # Where only white space lies between two beginnings, the later passage holds all of the earlier one.
        if start < end:
            if pending is not None and pending[0] < start:
                yield pending
            pending = start, end
        if first + how.size >= len(units):
            break
    if pending is not None:
        yield pending


def _units(text: str, unit: Unit, tokenizer: PreTrainedTokenizerBase | None) -> Sequence[tuple[int, int]]:
    """Where units begin and end. They rise, none is empty, and they cover all that is not white space."""
    if unit == "chars":
        return [(i, i + 1) for i in range(len(text))]
    if unit == "words":
        return [match.span() for match in re.finditer(r"\S+", text)]
    if unit == "sentences":
        return [(start, end) for start, end in sentences(text)]
    if tokenizer is None or not tokenizer.is_fast:
        raise BadConfig("cut.unit tokens needs a fast tokenizer, which knows where its tokens stand.")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return _covering(text, [(start, end) for start, end in encoded["offset_mapping"] if start < end])


def _covering(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Tokens' places made to cover the text: what no token stands for (a character that was dropped) joins the one before.

    Tokens that share a character, as bytes of one do, are one unit.
    """
    units: list[tuple[int, int]] = []
    for start, end in spans:
        if units and start < units[-1][1]:
            units[-1] = (units[-1][0], max(end, units[-1][1]))
        else:
            units.append((start, end))
    if not units:
        return [match.span() for match in re.finditer(r"\S+", text)]
    ends = [start for start, _ in units[1:]] + [len(text)]
    covering = [(start, end) for (start, _), end in zip(units, ends, strict=True)]
    covering[0] = (0, covering[0][1])
    return covering


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


_HEADING = re.compile(r"^(#{1,6})\s+(\S.*?)\s*#*\s*$", re.MULTILINE)


def _headings(text: str) -> list[tuple[int, int, str]]:
    """Where Markdown headings begin, their level and their words."""
    return [(match.start(), len(match[1]), match[2]) for match in _HEADING.finditer(text)]


def _stack(headings: Sequence[tuple[int, int, str]], at: int) -> list[tuple[int, str]]:
    """The headings that a character stands under, with their levels."""
    stack: list[tuple[int, str]] = []
    for start, level, title in headings:
        if start > at:
            break
        stack = [(above, words) for above, words in stack if above < level]
        stack.append((level, title))
    return stack


def check_passages(text: str, passages: Sequence[Passage]) -> None:
    """Refuse passages that are not those of a text: each stands where it says, and together they hold all of it.

    Raises:
        BadInput: one does not.
    """
    covered = bytearray(len(text))
    for passage in passages:
        if text[passage.start : passage.end] != passage.text:
            raise BadInput(f'Passage "{passage.id}" is not what stands at {passage.start} to {passage.end}.')
        covered[passage.start : passage.end] = b"\1" * (passage.end - passage.start)
    lost = next((i for i, c in enumerate(text) if not c.isspace() and not covered[i]), None)
    if lost is not None:
        raise BadInput(f"Character {lost} ({text[lost]!r}) lies in no passage.")
