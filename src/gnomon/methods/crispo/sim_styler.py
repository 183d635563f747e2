"""A writer of summaries who follows the style requests that stand in the prompt, mostly, and has a style of their own."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.methods.crispo.house.aspects import (
    ASPECTS,
    INVENTIONS,
    parse_style,
    read_forbidden,
    read_requests,
)
from gnomon.methods.crispo.house.facts import Fact, last_notes, phrases
from gnomon.methods.crispo.house.summaries import summary

TAG = "summary"
_HINTS = re.compile(r"^key ?phrases:(.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Styler:
    """Summarises the last notes in the conversation, inside <summary> tags where the conversation speaks of them.

    The truth: an aspect has the requested level with chance `follow` and the default one otherwise, each by itself. A fact that the
    line "Key phrases:" hints at is told before others with chance `uptake`. Each kind of invention is added with chance
    `invention`; a sentence that forbids it is followed with chance `follow`.
    """

    follow: float = 0.9
    """Chance that a request is followed."""
    default: str = "00000000"
    """Its own style: a level 0..3 for each of the eight aspects."""
    uptake: float = 0.9
    """Chance that a hinted fact is preferred."""
    invention: float = 0.0
    """Chance of each kind of invention."""

    def __post_init__(self) -> None:
        for name in ("follow", "uptake", "invention"):
            check(0 <= getattr(self, name) <= 1, name, "between 0 and 1", getattr(self, name))
        parse_style(self.default, "default")

    def answer(self, request: Request, noise: random.Random) -> str:
        """The summary."""
        text = "\n\n".join(message.content for message in request.messages)
        facts, _ = last_notes(text)
        if not facts:
            return "There are no notes to summarise."
        style = list(parse_style(self.default))
        requests = read_requests(text)
        for aspect in range(len(ASPECTS)):  # one draw each, so that no request shifts the others
            follows = noise.random() < self.follow
            if follows and aspect in requests:
                style[aspect] = requests[aspect]
        hinted = [noise.random() < self.uptake and hint for hint in _hinted(text, facts)]
        written = summary(facts, tuple(style), hinted=hinted, invented=self._invented(text, noise))
        return f"<{TAG}>\n{written}\n</{TAG}>" if f"<{TAG}>" in text else written

    def _invented(self, text: str, noise: random.Random) -> list[str]:
        forbidden, found = read_forbidden(text), []
        for kind in INVENTIONS:
            invents, heeds = noise.random() < self.invention, noise.random() < self.follow
            if invents and not (heeds and kind in forbidden):
                found.append(kind)
        return found


def _hinted(text: str, facts: list[Fact]) -> list[bool]:
    """Per fact, whether one of its phrases stands in a line of key phrases."""
    hints = {hint.strip() for line in _HINTS.findall(text) for hint in line.split(";")}
    return [not hints.isdisjoint(phrases(fact)) for fact in facts]
