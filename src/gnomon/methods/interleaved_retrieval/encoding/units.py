"""Sections as the model reads them: token ids and pixels, an end token, and parts where a section is too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.images import Markup, SeenText, see_pieces
from gnomon.core.too_long import longest_input
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query, section_id
from gnomon.methods.interleaved_retrieval.documents.serialise import (
    PREFIX,
    Numbered,
    Troubles,
    query_pieces,
    section_pieces,
)
from gnomon.methods.interleaved_retrieval.encoding.settings import Retrieving


@dataclass(frozen=True)
class Unit:
    """A section, or a part of one, as the model reads it."""

    document: str
    """Id of the document."""
    section: int
    """Number of the section."""
    part: int
    """Number of the part; 0 where the section is whole."""
    blocks: tuple[int, ...]
    """Numbers of the blocks in it."""
    seen: SeenText
    """Token ids and pixels, the end token among them."""

    @property
    def id(self) -> str:
        """The section's name."""
        return section_id(self.document, self.section)

    @property
    def image_tokens(self) -> int:
        """Tokens that show images."""
        return sum(layout.n_tokens for layout in self.seen.layouts)


class Units:
    """Documents to units, and queries to what the model reads.

    Args:
        handle: model and processor; the end tokens are in its vocabulary.
        how: how sections are written, and how long they may be.
        strict: an image that cannot be opened, or a block that does not fit, is an error.
    """

    def __init__(self, handle: ModelHandle, how: Retrieving, *, strict: bool = False):
        self.handle, self.how, self.strict = handle, how, strict
        limit = longest_input(handle.model, handle.tokenizer, how.max_length)
        self.room = limit
        """Tokens that the model reads; None: no limit."""
        self.ends = {role: token_of(handle.tokenizer, end) for role, end in how.ends.items()}
        self.reserved = tuple(end for end in how.ends.values() if end)
        self.troubles = Troubles()
        """Images that could not be opened, blocks that did not fit, sections without anything to show."""

    def of_section(self, document: Document, number: int) -> list[Unit]:
        """The units of a section: itself, or its parts where it is too long; none where there is nothing to show.

        Parts end between blocks. A table is cut between its rows and names its columns in every part; a paragraph that is too long
        by itself is cut between words; an image that is too large is left out and noted.

        Raises:
            BadInput: strict, and an image cannot be opened or does not fit.
        """
        pieces = section_pieces(document, number, self.how.form, strict=self.strict, troubles=self.troubles)
        name = section_id(document.id, number)
        if not pieces:
            self.troubles.empty[name] = "nothing in it can be shown"
            return []
        seen = self._see([piece for _, piece in pieces], "passage", name)
        if self._fits(seen):
            return [Unit(document.id, number, 0, _blocks(pieces), seen)]
        return [
            Unit(document.id, number, k, _blocks(part), self._see([p for _, p in part], "passage", name))
            for k, part in enumerate(self._parts(document, number, pieces, name))
        ]

    def of_document(self, document: Document) -> list[Unit]:
        """The units of all sections."""
        return [unit for i in range(len(document.sections)) for unit in self.of_section(document, i)]

    def of_query(self, query: Query) -> SeenText:
        """A query; where it is too long, its words are cut at the end, and its image stays.

        Raises:
            BadInput: it has nothing to show, or its image cannot be opened or is too large.
        """
        pieces = query_pieces(query)
        name = f'query "{query.id}"'
        if not pieces:
            raise BadInput(f'Query "{query.id}" has neither a text nor an image.')
        seen = self._see([piece for _, piece in pieces], "query", name)
        while not self._fits(seen):
            words = str(pieces[-1][1]).split()
            if pieces[-1][0] == 0 or len(words) < 2:
                raise BadInput(
                    f'Query "{query.id}" has {len(seen.ids)} tokens and the model reads {self.room}.'
                )
            over = len(seen.ids) / float(self.room or 1)
            kept = min(len(words) - 1, max(1, int(len(words) / over)))
            pieces[-1] = (1, " ".join(words[:kept]))
            self.troubles.dropped[name] = f"{len(seen.ids)} tokens; the model reads {self.room}"
            seen = self._see([piece for _, piece in pieces], "query", name)
        return seen

    def of_pair(self, query: Query, document: Document, number: int) -> SeenText | None:
        """A query and then a section, for a model that reads both; None where the section has nothing to show.

        Where they are too long, whole blocks of the section are left out from its end and noted, and of the last that is left its
        words.

        Raises:
            BadInput: the query alone is too long, or an image cannot be opened.
        """
        name = section_id(document.id, number)
        pieces = section_pieces(document, number, self.how.form, strict=self.strict, troubles=self.troubles)
        if not pieces:
            return None
        question = [piece for _, piece in query_pieces(query)]
        kept = list(pieces)

        def see() -> SeenText:
            return self._see([*question, "\n", *(piece for _, piece in kept)], "passage", name)

        seen = see()
        while not self._fits(seen):
            i, piece = kept.pop()
            if kept:
                self.troubles.dropped[f"{name}, block {i}"] = (
                    f"beside a query it is beyond {self.room} tokens"
                )
            else:
                words = piece.split() if isinstance(piece, str) else []
                if len(words) < 2:
                    raise BadInput(
                        f'Query "{query.id}" leaves no room for a section: the model reads {self.room} tokens.'
                    )
                kept.append((i, " ".join(words[: len(words) // 2])))
            seen = see()
        return seen

    def _see(self, pieces: Sequence[Any], role: str, name: str) -> SeenText:
        front, behind = self.how.template.get(role, ("", ""))
        end = self.ends.get(role)
        whole = [
            *([Markup(front)] if front else []),
            *pieces,
            *([Markup(behind)] if behind else []),
            *([end] if end is not None else []),
        ]
        shows = any(not isinstance(piece, str | int) for piece in whole)
        sees = self.handle.sites.sees if shows else None
        return see_pieces(
            self.handle.processor, self.handle.model.config, sees, whole, name, reserved=self.reserved
        )

    def _fits(self, seen: SeenText) -> bool:
        return self.room is None or len(seen.ids) <= self.room

    def _parts(
        self, document: Document, number: int, pieces: Sequence[Numbered], name: str
    ) -> Iterator[list[Numbered]]:
        """The pieces of a long section in parts that fit, each behind the prefix."""
        front = [(i, piece) for i, piece in pieces if i == PREFIX]
        if front and not self._fits(self._see([front[0][1]], "passage", name)):
            front = []
        part: list[Numbered] = []
        for piece in self._small(document, number, pieces, front, name):
            if part and not self._fits(self._see([p for _, p in (*front, *part, piece)], "passage", name)):
                yield [*front, *part]
                part = []
            part.append(piece)
        if part:
            yield [*front, *part]

    def _small(
        self,
        document: Document,
        number: int,
        pieces: Sequence[Numbered],
        front: Sequence[Numbered],
        name: str,
    ) -> Iterator[Numbered]:
        """The pieces, each small enough to be a part by itself."""
        section = document.sections[number]

        def fits(piece: Any) -> bool:
            return self._fits(self._see([*(p for _, p in front), piece], "passage", name))

        for i, piece in pieces:
            if i == PREFIX:
                continue
            if fits(piece):
                yield i, piece
            elif not isinstance(piece, str):
                reason = f"an image alone has more tokens than the {self.room} that the model reads"
                if self.strict:
                    raise BadInput(f'Block {i} in section {number} of document "{document.id}": {reason}.')
                self.troubles.dropped[f"{name}, block {i}"] = reason
            elif section.blocks[i].type == "table" and section.blocks[i].rows:
                yield from ((i, text) for text in self._rows(section.blocks[i], fits))
            else:
                yield from ((i, text) for text in _cut_words(piece, fits))

    def _rows(self, block: Any, fits: Any) -> Iterator[str]:
        """A table cut between rows, its caption and the names of its columns in every part."""
        from gnomon.methods.interleaved_retrieval.documents.tables import linear_table

        rows: list[Any] = []
        for row in block.rows:
            text = "\n" + linear_table(replace(block, rows=(*rows, row)), self.how.form.table_format)
            if rows and not fits(text):
                yield "\n" + linear_table(replace(block, rows=tuple(rows)), self.how.form.table_format)
                rows = []
            rows.append(row)
        text = "\n" + linear_table(replace(block, rows=tuple(rows)), self.how.form.table_format)
        yield from [text] if fits(text) else _cut_words(text, fits)


def token_of(tokenizer: Any, end: str) -> int | None:
    """Id of an end token; None for none.

    Raises:
        BadInput: the tokenizer has no such token.
    """
    if not end:
        return None
    if end not in tokenizer.get_vocab():
        raise BadInput(
            f'The tokenizer has no token "{end}". Train a retriever first: its folder has both ends.'
        )
    return int(tokenizer.convert_tokens_to_ids(end))


def _blocks(pieces: Sequence[Numbered]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(i for i, _ in pieces if i != PREFIX))


def _cut_words(text: str, fits: Any) -> Iterator[str]:
    """A text in pieces that fit, cut between words, or within one where it is too long by itself."""
    words = text.split(" ")
    while words:
        low, high = 1, len(words)  # the largest number of words that fits
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(" ".join(words[:middle])) else (low, middle - 1)
        head = " ".join(words[:low])
        if not fits(head):
            half = max(1, len(head) // 2)
            if half == len(head):
                return  # not even a letter fits behind the prefix
            words = [head[:half], head[half:], *words[low:]]
            continue
        yield head
        words = words[low:]
