"""A writer of summaries that covers facts at known rates: those that the prompt asks to consider more often than the others."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, fields

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.methods.sigext.council import KINDS, Fact, draw_thing, read_document


@dataclass(frozen=True)
class Summariser:
    """Reads a council's facts out of the last user message and tells some of them, a line each, in the order of the document."""

    uptake: float = 0.8
    """Share of the facts that it tells when what they are about is named outside the document."""
    base: float = 0.33
    """Share of the other facts that it tells. With `uptake` at the same value hints have no effect."""
    invention: float = 0.0
    """Share of the summaries with one more fact, about a thing that the document does not name."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            check(0 <= value <= 1, field.name, "between 0 and 1", value)

    def answer(self, request: Request, noise: random.Random) -> str:
        """The summary."""
        text = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        facts, rest = read_document(text)
        if not facts:
            return "There is nothing here to summarise."
        told = [fact for fact in facts if noise.random() < (self.uptake if hinted(fact, rest) else self.base)]
        if noise.random() < self.invention:
            known = {fact.thing for fact in facts}
            new = next(thing for thing in iter(lambda: draw_thing(noise), "") if thing not in known)
            told.append(Fact(noise.choice(tuple(KINDS)), new))
        return "\n".join(fact.told for fact in told) or "Nothing of note."


def hinted(fact: Fact, rest: str) -> bool:
    """Whether the text outside the document names what the fact is about, with or without its number.

    >>> hinted(Fact("vote", "amber ferry 40"), "Consider: Amber ferry; open hand count.")
    True
    """
    name = fact.thing.rsplit(" ", 1)[0]
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", rest, re.IGNORECASE) is not None
