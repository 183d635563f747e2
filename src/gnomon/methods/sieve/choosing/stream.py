"""The stream of snippets that labels are chosen from: pass after pass in a seeded order, without duplicates.

A `Feed` reads it for a fit: pass after pass, without snippets that have a label, from where the last round stopped.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from gnomon.core.config import check
from gnomon.core.data.documents import Document
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sieve.choosing.snippets import Snippet, Span, snippets_of

BUFFER = 50_000
"""Snippets that wait to be drawn: a source of fewer is shuffled as a whole, a larger one within a moving window."""


@dataclass
class Counts:
    """Counts of one pass so far."""

    documents: int = 0
    """Documents read."""
    snippets: int = 0
    """Different snippets."""
    duplicates: int = 0
    """Snippets dropped because the same words came before."""
    empty: int = 0
    """Documents dropped because they hold no text."""


class SnippetStream:
    """Passes over the snippets of a corpus, each in an order of its own.

    Memory holds the buffer and eight bytes of hash (about seventy with their container) for each different snippet of the pass.

    Args:
        documents: gives the documents anew at each call, in the same order.
        spans_of: the student's `token_spans`.
        limit: most tokens of a snippet.
        rng: where the orders come from.
        buffer: snippets that wait to be drawn.
    """

    def __init__(
        self,
        documents: Callable[[], Iterable[Document]],
        *,
        spans_of: Callable[[str], Sequence[Span]],
        limit: int,
        rng: Rng,
        buffer: int = BUFFER,
    ) -> None:
        check(limit >= 1, "snippet_tokens", ">= 1", limit)
        check(buffer >= 1, "buffer", ">= 1", buffer)
        self.documents = documents
        self.spans_of = spans_of
        self.limit = limit
        self.rng = rng
        self.buffer = buffer
        self.counts = Counts()
        """Of the pass begun last."""

    def pass_(self, number: int = 0, *, skip: int = 0) -> Iterator[Snippet]:
        """All different snippets once, in the order of pass `number`, without the first `skip`: where an interrupted run goes on.

        Raises:
            BadInput: the documents hold no text.
        """
        self.counts = Counts()
        draws = self.rng.child("pass", number).python()
        return islice(_shuffled(self._distinct(self.counts), self.buffer, draws), skip, None)

    def _distinct(self, counts: Counts) -> Iterator[Snippet]:
        seen: set[int] = set()
        for document in self.documents():
            counts.documents += 1
            snippets = snippets_of(document, self.spans_of, self.limit)
            counts.empty += not snippets
            for snippet in snippets:
                key = same_words(snippet.text)
                if key in seen:
                    counts.duplicates += 1
                else:
                    seen.add(key)
                    counts.snippets += 1
                    yield snippet
        if not counts.snippets:
            raise BadInput(
                f"The source holds no text: {counts.documents} documents were read and none had a word in it."
            )


def same_words(text: str) -> int:
    """A 64-bit number that two texts share when they differ in white space only.

    >>> same_words("a  b") == same_words(" a b\\n") != same_words("ab")
    True
    """
    words = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "big")


def _shuffled(snippets: Iterator[Snippet], buffer: int, draws: random.Random) -> Iterator[Snippet]:
    waiting = list(islice(snippets, buffer))
    for snippet in snippets:
        index = draws.randrange(buffer)
        yield waiting[index]
        waiting[index] = snippet
    draws.shuffle(waiting)
    yield from waiting


class Piece(Protocol):
    """Something cut from a document: a snippet, a label."""

    @property
    def doc_id(self) -> str:
        """The document it is from."""
        ...

    @property
    def text(self) -> str:
        """Its text."""
        ...


P = TypeVar("P", bound=Piece)


def split_by_document(pieces: Sequence[P], share: float, rng: Rng) -> tuple[list[P], list[P]]:
    """The pieces in two parts, `(rest, test)`, of which no document and no text is in both; order is kept.

    Documents that share a snippet go together, and as many whole groups are drawn for the test as fit into its share.

    Args:
        pieces: snippets or labels.
        share: share of the test, within (0, 1).
        rng: where the draw comes from.

    Raises:
        BadInput: no group of documents is small enough for the test, or none would remain.
    """
    check(0 < share < 1, "share", "within (0, 1)", share)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, root in enumerate(_groups(pieces)):
        groups[root].append(index)
    names = sorted(groups)
    rng.child("split").python().shuffle(names)
    room, test = round(share * len(pieces)), set[int]()
    for name in names:
        if len(test) + len(groups[name]) <= room:
            test.update(groups[name])
    if not test or len(test) == len(pieces):
        raise BadInput(
            f"{len(pieces)} snippets of {len(groups)} unrelated documents cannot be split for a test of {share:.0%}. "
            "Give more documents, or another share."
        )
    return [p for i, p in enumerate(pieces) if i not in test], [p for i, p in enumerate(pieces) if i in test]


def _groups(pieces: Sequence[Piece]) -> list[str]:
    """For each piece a document that stands for all documents connected with its own by a common text."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while above.setdefault(name, name) != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    owner: dict[int, str] = {}
    for piece in pieces:
        first = owner.setdefault(same_words(piece.text), piece.doc_id)
        above[root(piece.doc_id)] = root(first)
    return [root(piece.doc_id) for piece in pieces]


# The feed of a fit.


class Passes(Protocol):
    """Something that can be read again and again."""

    def pass_(self, number: int, *, skip: int = 0) -> Iterator[Snippet]:
        """The snippets of pass `number` in its own order, without the first `skip`."""
        ...


@dataclass(frozen=True)
class Cursor:
    """Position at which reading goes on."""

    pass_number: int = 0
    """The pass."""
    position: int = 0
    """Snippets of the pass that were read."""


class Feed:
    """Unlabelled snippets for one round after the other.

    Args:
        passes: the stream.
        labelled: identifiers of snippets that have a label; may grow while reading.
        cursor: where to begin.
    """

    def __init__(self, passes: Passes, labelled: Container[str], cursor: Cursor | None = None) -> None:
        self._passes, self._labelled = passes, labelled
        self._at = cursor or Cursor()
        self._reader: Iterator[Snippet] | None = None
        self._returned: list[Snippet] = []
        self._seen: set[str] = set()
        self._where: dict[str, Cursor] = {}
        self._ends = 0

    @property
    def cursor(self) -> Cursor:
        """Where a later process has to begin to read what this one would read next."""
        return self._where[self._returned[0].snippet_id] if self._returned else self._at

    def begin_round(self) -> None:
        """From here on each snippet comes at most once, until the next round begins."""
        self._seen.clear()
        waiting = {s.snippet_id for s in self._returned}
        self._where = {key: at for key, at in self._where.items() if key in waiting}
        self._ends = 0

    def take(self, count: int) -> list[Snippet]:
        """The next `count` snippets; fewer when the round has seen all there are.

        Raises:
            BadInput: the stream holds no snippet at all.
        """
        taken: list[Snippet] = []
        while len(taken) < count and (snippet := self._next()) is not None:
            if snippet.snippet_id not in self._labelled and snippet.snippet_id not in self._seen:
                self._seen.add(snippet.snippet_id)
                taken.append(snippet)
        return taken

    def give_back(self, snippets: Sequence[Snippet]) -> None:
        """The last of the snippets taken were not looked at: they come again in the next round."""
        if not snippets:
            return
        self._returned = [*snippets, *self._returned]
        self._seen.difference_update(s.snippet_id for s in snippets)
        if self._ends:  # behind them lie snippets that were left out as seen: read that place again
            self._at, self._reader, self._returned = self.cursor, None, []

    def _next(self) -> Snippet | None:
        if self._returned:
            return self._returned.pop(0)
        if (
            self._ends >= 2
        ):  # one pass may have begun in its middle; two ends make sure that everything was seen
            return None
        if self._reader is None:
            self._reader = self._passes.pass_(self._at.pass_number, skip=self._at.position)
        snippet = next(self._reader, None)
        if snippet is not None:
            self._where[snippet.snippet_id] = self._at
            self._at = Cursor(self._at.pass_number, self._at.position + 1)
            return snippet
        if not self._at.position:
            raise BadInput("The stream holds no snippets: there is nothing to read.")
        self._at, self._reader = Cursor(self._at.pass_number + 1), None
        self._ends += 1
        return self._next()
