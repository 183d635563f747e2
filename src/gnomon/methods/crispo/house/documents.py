"""Documents of the world: notes, the summary that the house wants, and key phrases as an extractor would rank them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from gnomon.core.rng import Rng
from gnomon.methods.crispo.house.aspects import LENGTH, SHORTEST, Style
from gnomon.methods.crispo.house.facts import Fact, draw_facts, notes, phrases
from gnomon.methods.crispo.house.summaries import summary


@dataclass(frozen=True)
class Document:
    """One text to summarise."""

    id: str
    """Name."""
    facts: tuple[Fact, ...]
    """What it tells."""
    salient: tuple[bool, ...]
    """Per fact, whether the house wants it told; all False: the earliest are told."""
    reference: str
    """The summary in the house's style."""
    ranked: tuple[str, ...]
    """Key phrases, the most salient first."""

    @property
    def notes(self) -> str:
        """The text."""
        return notes(self.facts)

    @property
    def row(self) -> dict[str, Any]:
        """A record with `id`, `input`, `output` and `phrases`, as a user's file has them."""
        n = len(self.ranked)
        where = [self.notes.find(text) for text in self.ranked]
        found = [
            {"text": text, "start": at, "end": at + len(text), "score": 1 - i / n, "rank": i, "kept": True}
            for i, (text, at) in enumerate(zip(self.ranked, where, strict=True))
        ]
        return {"id": self.id, "input": self.notes, "output": self.reference, "phrases": found}


def draw_documents(
    count: int,
    style: Style,
    rng: Rng,
    *,
    name: str = "d",
    fewest: int = 6,
    most: int = 10,
    salient: bool = False,
) -> list[Document]:
    """Documents with `fewest` to `most` facts, their summaries in `style`.

    Args:
        count: how many.
        style: the house's.
        rng: names the draw.
        name: begins their names.
        fewest: facts of the shortest.
        most: facts of the longest.
        salient: whether the house wants facts told that only the key phrases show; else the earliest are told.
    """
    draw = rng.child("documents", name).python()
    found = []
    for number in range(count):
        facts = draw_facts(draw.randint(fewest, most), draw)
        wanted = min(SHORTEST + style[LENGTH], len(facts))
        chosen = draw.sample(range(len(facts)), wanted)
        marks = tuple(salient and i in chosen for i in range(len(facts)))
        ranked = _ranked(facts, chosen, draw)
        reference = summary(facts, style, hinted=marks)
        found.append(Document(f"{name}{number}", tuple(facts), marks, reference, ranked))
    return found


def _ranked(facts: list[Fact], chosen: list[int], draw: random.Random) -> tuple[str, ...]:
    """Phrases of the chosen facts in any order, then those of the others."""
    first = [text for i in chosen for text in phrases(facts[i])]
    rest = [text for i in range(len(facts)) if i not in chosen for text in phrases(facts[i])]
    draw.shuffle(first)
    draw.shuffle(rest)
    return (*first, *rest)
