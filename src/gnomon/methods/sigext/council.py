"""A town council's records: documents of facts, a sentence each, and summaries of those facts that somebody cares about.

Everything is written in the text and can be read back out of it: six kinds of facts, each about a named thing with a number
("amber ferry 40"). The name tells nothing of the kind; the rest of the sentence does. A summary says a fact in other words than the
document, so that the name is all that the two share.

A writer of summaries that covers facts at known rates: those that the prompt asks to consider more often than the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from random import Random

from gnomon.core.config import check
from gnomon.core.llm.base import Request

_MODIFIERS = (
    "amber broad copper distant eastern frozen golden hollow iron jade little marble noble old painted quiet"
)
MODIFIERS = tuple(_MODIFIERS.split())
_NOUNS = """
abbey alley anchor arcade archway attic avenue balcony barn basin beacon bell bench boiler bridge brook bunker cabin
canal cannon canopy canyon castle cellar chapel chimney church cinema circus cistern clinic clock college column
corridor cottage courtyard crane creek crossing crypt dairy dam depot dock dome dyke elevator engine estate factory farm
fence ferry fountain furnace gallery garage garden gate glacier granary grove gutter gymnasium hall hangar harbour hedge
hospital hotel kennel kiosk laboratory ladder lagoon lake lantern library lighthouse lodge mansion market meadow
mill moat monument museum nursery oasis observatory orchard organ outpost oven palace park pavilion pier pipeline plaza
pond port prison quarry quay railway ranch reactor reservoir river roof shed shrine silo stable station statue tannery tavern
"""
NOUNS = tuple(_NOUNS.split())
NUMBERS = tuple(range(11, 51))
"""What a thing is numbered with."""

KINDS: dict[str, tuple[str, str, str]] = {
    "budget": ("public money share", "town spending deal", "funded"),
    "vote": ("full chamber ballot", "open hand count", "approved"),
    "appointment": ("senior post handover", "office chair change", "staffed"),
    "start": ("opening day plan", "first week notice", "started"),
    "complaint": ("angry letter pile", "night noise protest", "blamed"),
    "visit": ("school group tour", "foreign guest walk", "toured"),
}
"""Kind -> two ways in which a document tells it, and the word that a summary uses."""

FRAMES = (
    "And then there was {clue} about the {thing}.",
    "After that they were at the {thing} with {clue}.",
    "Also the {thing} had {clue} then.",
    "Once more with {clue} at the {thing} there.",
)
"""Sentences of a document: what is told stands nearer to its thing than what the next sentence tells. Every word but those of the
slots carries grammar alone."""

TARGET = ("budget", "vote")
"""The kinds that the house of the miniature cares about."""

_CLUES = {clue: kind for kind, (*clues, _) in KINDS.items() for clue in clues}
_THING = rf"(?P<thing>(?:{'|'.join(MODIFIERS)}) (?:{'|'.join(NOUNS)}) \d+)"
_CLUE = rf"(?P<clue>{'|'.join(_CLUES)})"
_SENTENCES = [
    re.compile(re.escape(frame).replace(r"\{thing\}", _THING).replace(r"\{clue\}", _CLUE), re.IGNORECASE)
    for frame in FRAMES
]


@dataclass(frozen=True)
class Fact:
    """Something that happened."""

    kind: str
    """One of `KINDS`."""
    thing: str
    """What it was about, e.g. "amber ferry 40"."""

    @property
    def told(self) -> str:
        """How a summary says it.

        >>> Fact("vote", "amber ferry 40").told
        'They approved the amber ferry 40.'
        """
        return f"They {KINDS[self.kind][2]} the {self.thing}."


def draw_facts(n: int, noise: Random) -> list[Fact]:
    """`n` facts of random kinds about different things: no modifier, noun or number comes twice before each has come once."""
    names: list[tuple[str, str]] = []
    while len(set(names)) < n:
        names = list(zip(_draw(MODIFIERS, n, noise), _draw(NOUNS, n, noise), strict=True))
    numbers = _draw(tuple(map(str, NUMBERS)), n, noise)
    return [
        Fact(noise.choice(tuple(KINDS)), f"{modifier} {noun} {number}")
        for (modifier, noun), number in zip(names, numbers, strict=True)
    ]


def _draw(words: Sequence[str], n: int, noise: Random) -> list[str]:
    """`n` words, each once before any comes twice."""
    found: list[str] = []
    while len(found) < n:
        found += noise.sample(words, min(len(words), n - len(found)))
    return found


def draw_thing(noise: Random) -> str:
    """A named thing with its number."""
    return f"{noise.choice(MODIFIERS)} {noise.choice(NOUNS)} {noise.choice(NUMBERS)}"


def write_document(facts: Sequence[Fact], noise: Random) -> str:
    """The facts in order, a sentence each."""
    sentences = [
        noise.choice(FRAMES).format(thing=fact.thing, clue=noise.choice(KINDS[fact.kind][:2]))
        for fact in facts
    ]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def write_summary(facts: Sequence[Fact], policy: Collection[str] = tuple(KINDS)) -> str:
    """The facts of the kinds in `policy`, in order, in other words than the document's; a line each."""
    return "\n".join(fact.told for fact in facts if fact.kind in policy)


def read_document(text: str) -> tuple[list[Fact], str]:
    """The facts that a text tells in a document's sentences, in order, and the text without those sentences.

    >>> facts, rest = read_document("Also the amber ferry 40 had open hand count then. Summarise it.")
    >>> facts, rest.strip()
    ([Fact(kind='vote', thing='amber ferry 40')], 'Summarise it.')
    """
    found = sorted(
        (match for pattern in _SENTENCES for match in pattern.finditer(text)), key=lambda m: m.start()
    )
    facts = [Fact(_CLUES[match["clue"].lower()], match["thing"].lower()) for match in found]
    rest, at = [], 0
    for match in found:
        rest.append(text[at : match.start()])
        at = max(at, match.end())
    return facts, "".join(rest) + text[at:]


def read_summary(text: str) -> list[Fact]:
    """The facts that a summary tells, in order.

    >>> read_summary("they approved the amber ferry 40 . what?")
    [Fact(kind='vote', thing='amber ferry 40')]
    """
    words = {word: kind for kind, (*_, word) in KINDS.items()}
    pattern = rf"they (?P<word>{'|'.join(words)}) the {_THING}"
    return [
        Fact(words[m["word"].lower()], m["thing"].lower()) for m in re.finditer(pattern, text, re.IGNORECASE)
    ]


def vocabulary() -> list[str]:
    """Every word of documents and summaries, in lower case, without marks."""
    text = " ".join((*FRAMES, *_CLUES, *(row[-1] for row in KINDS.values()), "they the"))
    words = [
        *MODIFIERS,
        *NOUNS,
        *map(str, NUMBERS),
        *re.findall(r"[a-z]+", text.replace("{thing}", "").replace("{clue}", "").lower()),
    ]
    return list(dict.fromkeys(words))


# A writer of summaries that covers facts at known rates: those that the prompt asks to consider more often than the others.


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
