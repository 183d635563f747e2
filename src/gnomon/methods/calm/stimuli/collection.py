"""Items collected from rows: those with the same question and answers are one, and what becomes no item is counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace

from gnomon.methods.calm.stimuli.items import Item


@dataclass(frozen=True)
class Skipped:
    """A row or a file that could not be used."""

    where: str
    """File and line."""
    id: str
    """The row's name; empty where it has none."""
    reason: str


@dataclass(frozen=True)
class Dropped:
    """Rows that became no item of their own, and why."""

    duplicates: int = 0
    """Rows whose question another row of the set asks, and that bring nothing new."""
    explicit: int = 0
    """Rows whose source names explicit content."""
    merged: int = 0
    """Rows of an item that an earlier row had begun: their rewrites were added to it."""
    skipped: tuple[Skipped, ...] = ()
    """Rows and files that could not be used."""

    @property
    def counts(self) -> dict[str, int]:
        """The four as numbers."""
        return {
            **{name: vars(self)[name] for name in ("duplicates", "explicit", "merged")},
            "skipped": len(self.skipped),
        }


@dataclass
class Collected:
    """Items so far, found by set, question and answers."""

    keep_duplicates: bool
    by_text: dict[tuple[str, str, tuple[str, ...]], Item] = field(default_factory=dict)
    more: list[Item] = field(default_factory=list)
    """Rows that say the same once more, where they are kept."""
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    duplicates: int = 0
    explicit: int = 0
    merged: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Take up an item, or the rewrites that it adds to one that is there."""
        key = item.set, _plain(item.question), tuple(text.strip() for text in item.answers)
        before = self.by_text.get(key)
        if before is None:
            self.by_text[key] = self._named(item)
            return
        has = {(rewrite.probe, rewrite.condition) for rewrite in before.rewrites}
        new = [rewrite for rewrite in item.rewrites if (rewrite.probe, rewrite.condition) not in has]
        if new:
            self.by_text[key] = replace(before.adding(new), meta={**item.meta, **before.meta})
            self.merged += 1
        elif self.keep_duplicates:
            self.more.append(self._named(item))
        else:
            self.duplicates += 1

    def items(self) -> list[Item]:
        """The items in their order, without those that ask a question again; of these, ones with rewrites are preferred."""
        items = list(self.by_text.values())
        if self.keep_duplicates:
            return items + self.more
        rewritten = {(item.set, _plain(item.question)) for item in items if item.rewrites}
        kept, questions = [], set()
        for item in items:
            question = item.set, _plain(item.question)
            is_again = question in rewritten if not item.rewrites else False
            if is_again or (not item.rewrites and question in questions):
                self.duplicates += 1
            else:
                questions.add(question)
                kept.append(item)
        return kept

    def _named(self, item: Item) -> Item:
        """The item under a name of its own: files may number their rows each from 1."""
        self.names[item.set, item.id] += 1
        if self.names[item.set, item.id] == 1:
            return item
        name = f"{item.id}-{digest(item.question, *item.answers)}"
        self.names[item.set, name] += 1
        again = self.names[item.set, name]
        return replace(item, id=name if again == 1 else f"{name}-{again}")


def digest(*texts: str) -> str:
    """Ten digits that texts are known by."""
    joined = "\0".join(text.strip() for text in texts)
    return hashlib.blake2b(joined.encode("utf-8", "replace"), digest_size=5).hexdigest()


def _plain(question: str) -> str:
    return " ".join(question.casefold().split())
