"""The stream as a fit reads it: on and on, pass after pass, without what has a label already, from where the last round stopped."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gnomon.errors import BadInput
from gnomon.methods.sieve.snippets import Snippet


class Passes(Protocol):
    """Something that can be read again and again."""

    def pass_(self, number: int, *, skip: int = 0) -> Iterator[Snippet]:
        """The snippets of pass `number` in its own order, without the first `skip`."""
        ...


@dataclass(frozen=True)
class Cursor:
    """Where reading goes on."""

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
