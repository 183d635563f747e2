"""The simulated task: a town council's records, summaries under a policy, and a writer with known rates.

A document has a sentence for each fact, of six kinds, each about a named thing with a number ("amber ferry 40"). The name is
independent of the kind; the rest of the sentence determines it. A summary words a fact differently, so that the name is all that
the two share. The simulated writer covers facts that the prompt asks to consider more often than the others.
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
"""Kind -> two clues of a document, and the verb of a summary."""

FRAMES = (
    "And then there was {clue} about the {thing}.",
    "After that they were at the {thing} with {clue}.",
    "Also the {thing} had {clue} then.",
    "Once more with {clue} at the {thing} there.",
)
"""Sentences of a document: a clue stands nearer to its thing than the next sentence's clue. Words outside the slots are function
words."""

TARGET = ("budget", "vote")
"""Kinds in the references of the miniature."""

_CLUES = {clue: kind for kind, (*clues, _) in KINDS.items() for clue in clues}
_THING = rf"(?P<thing>(?:{'|'.join(MODIFIERS)}) (?:{'|'.join(NOUNS)}) \d+)"
_CLUE = rf"(?P<clue>{'|'.join(_CLUES)})"
_SENTENCES = [
    re.compile(re.escape(frame).replace(r"\{thing\}", _THING).replace(r"\{clue\}", _CLUE), re.IGNORECASE)
    for frame in FRAMES
]


@dataclass(frozen=True)
class Fact:
    """An event of a document."""

    kind: str
    """One of `KINDS`."""
    thing: str
    """Name with a number, e.g. "amber ferry 40"."""

    @property
    def summarised(self) -> str:
        """The sentence of a summary.

        >>> Fact("vote", "amber ferry 40").summarised
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
    drawn: list[str] = []
    while len(drawn) < n:
        drawn += noise.sample(words, min(len(words), n - len(drawn)))
    return drawn


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
    return "\n".join(fact.summarised for fact in facts if fact.kind in policy)


def read_document(text: str) -> tuple[list[Fact], str]:
    """The facts that a text tells in a document's sentences, in order, and the text without those sentences.

    >>> facts, rest = read_document("Also the amber ferry 40 had open hand count then. Summarise it.")
    >>> facts, rest.strip()
    ([Fact(kind='vote', thing='amber ferry 40')], 'Summarise it.')
    """
    matches = sorted(
        (match for pattern in _SENTENCES for match in pattern.finditer(text)), key=lambda m: m.start()
    )
    facts = [Fact(_CLUES[match["clue"].lower()], match["thing"].lower()) for match in matches]
    rest, at = [], 0
    for match in matches:
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


# The writer


@dataclass(frozen=True)
class Summariser:
    """A task model that covers some facts of the last user message, a line each, in the order of the document."""

    uptake: float = 0.8
    """Share of the facts covered when their thing is named outside the document."""
    base: float = 0.33
    """Share of the other facts covered. With `uptake` at the same value hints have no effect."""
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
        covered = [
            fact for fact in facts if noise.random() < (self.uptake if hinted(fact, rest) else self.base)
        ]
        if noise.random() < self.invention:
            things = {fact.thing for fact in facts}
            new = next(thing for thing in iter(lambda: draw_thing(noise), "") if thing not in things)
            covered.append(Fact(noise.choice(tuple(KINDS)), new))
        return "\n".join(fact.summarised for fact in covered) or "Nothing of note."


def hinted(fact: Fact, rest: str) -> bool:
    """Whether the text outside the document names what the fact is about, with or without its number.

    >>> hinted(Fact("vote", "amber ferry 40"), "Consider: Amber ferry; open hand count.")
    True
    """
    name = fact.thing.rsplit(" ", 1)[0]
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", rest, re.IGNORECASE) is not None
