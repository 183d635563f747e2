"""Summaries in a style: written, read back and scored; documents with notes, reference and key phrases."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.rng import Rng
from gnomon.methods.crispo.house.aspects import (
    AMOUNTS,
    ASPECTS,
    CLOSING,
    INVENTIONS,
    LAYOUT,
    LENGTH,
    LEVELS,
    OPENING,
    ORDER,
    PEOPLE,
    SHORTEST,
    TENSE,
    Style,
)
from gnomon.methods.crispo.house.facts import VERBS, Fact, draw_facts, notes, phrases

OPENINGS = ("", "In short:", "For the minutes:", "Dear all,")
CLOSINGS = ("", "More will follow.", "No action is needed.", "Questions are welcome.")


@dataclass(frozen=True)
class Reading:
    """Levels and facts read from a summary."""

    levels: tuple[int | None, ...]
    """Aspect -> level; None where the text shows none of the four. The order is None always: it needs another text."""
    things: tuple[str, ...]
    """Purposes of the stated facts, in their order."""


def choose(facts: Sequence[Fact], style: Style, hinted: Sequence[bool] = ()) -> list[Fact]:
    """The facts that a summary tells, in the order of the notes: hinted ones first, then the earliest."""
    count = SHORTEST + style[LENGTH]
    hints = list(hinted) or [False] * len(facts)
    ranked = sorted(range(len(facts)), key=lambda i: (not hints[i], i))[:count]
    return [facts[i] for i in sorted(ranked)]


def ordered(facts: Sequence[Fact], level: int) -> list[Fact]:
    """Facts that stand in the order of the notes, in the order of `level`."""
    if level == 1:
        return list(facts)[::-1]
    if level == 2:
        return sorted(facts, key=lambda fact: -fact.amount)
    return sorted(facts, key=lambda fact: fact.last) if level == 3 else list(facts)


def summary(
    facts: Sequence[Fact], style: Style, *, hinted: Sequence[bool] = (), invented: Sequence[str] = ()
) -> str:
    """A summary of `facts` in a style.

    Args:
        facts: all facts of the notes, in their order.
        style: a level per aspect.
        hinted: per fact whether it is preferred to others; empty: none is.
        invented: kinds of inventions, added to the last sentence.
    """
    chosen = ordered(choose(facts, style, hinted), style[ORDER])
    sentences = [_sentence(fact, style) for fact in chosen]
    sentences[-1] += "".join(f" {INVENTIONS[kind][0]}" for kind in invented)
    capital = [text[0].upper() + text[1:] for text in sentences]
    body = {
        0: " ".join(f"{text}." for text in capital),
        1: "\n".join(f"- {text}." for text in capital),
        2: "\n".join(f"{i}. {text}." for i, text in enumerate(capital, 1)),
        3: "; ".join([capital[0], *sentences[1:]]) + ".",
    }[style[LAYOUT]]
    return "\n".join(filter(None, (OPENINGS[style[OPENING]], body, CLOSINGS[style[CLOSING]])))


def _sentence(fact: Fact, style: Style) -> str:
    who = (
        f"{fact.first} {fact.last}",
        fact.last,
        f"{fact.first[0]}. {fact.last[0]}.",
        f"the {fact.role}",
    )[style[PEOPLE]]
    much = (
        f"{fact.amount:,} euros",
        f"about {round(fact.amount, -3):,} euros",
        f"{fact.amount / 1000:g}k euros",
        "money",
    )[style[AMOUNTS]]
    return f"{who} {VERBS[fact.verb][style[TENSE]]} {much} for the {fact.thing}"


_PERSON = (r"[A-Z][a-z]+ [A-Z][a-z]+", r"[A-Z][a-z]+", r"[A-Z]\. ?[A-Z]\.", r"[Tt]he [a-z]+")
_AMOUNT = (r"(?<!about )[\d,]+ euros", r"about [\d,]+ euros", r"[\d.]+k euros", "money")
_FORMS = [[forms[tense] for forms in VERBS] for tense in range(LEVELS)]
_CLAUSE = re.compile(
    r"(?P<who>{})\s(?P<verb>{})\s(?P<much>{})\sfor\sthe\s(?P<thing>[a-z]+)".format(
        "|".join(_PERSON),
        "|".join(form for tense in _FORMS for form in sorted(tense, key=len, reverse=True)),
        "|".join(_AMOUNT),
    )
)


def read_summary(text: str) -> Reading:
    """Read levels and facts from a summary. Where its sentences disagree, the majority decides."""
    clauses = list(_CLAUSE.finditer(text))
    levels: list[int | None] = [None] * len(ASPECTS)
    if clauses:
        count = len(clauses) - SHORTEST
        levels[LENGTH] = count if 0 <= count < LEVELS else None
        levels[LAYOUT] = _layout(text, len(clauses))
        levels[PEOPLE] = _most([_fitting(_PERSON, match["who"]) for match in clauses])
        levels[AMOUNTS] = _most([_fitting(_AMOUNT, match["much"]) for match in clauses])
        levels[TENSE] = _most(
            [next(i for i, forms in enumerate(_FORMS) if match["verb"] in forms) for match in clauses]
        )
    stripped = text.strip()
    levels[OPENING] = next((i for i in (1, 2, 3) if stripped.startswith(OPENINGS[i])), 0)
    levels[CLOSING] = next((i for i in (1, 2, 3) if stripped.endswith(CLOSINGS[i])), 0)
    return Reading(tuple(levels), tuple(match["thing"] for match in clauses))


def levels_of_order(things: Sequence[str], facts: Sequence[Fact]) -> set[int]:
    """The levels of the order that agree with how a summary tells the facts of its notes; none when it tells fewer than two."""
    by_thing = {fact.thing: fact for fact in facts}
    shown = [by_thing[thing] for thing in things if thing in by_thing]
    if len(shown) < 2:
        return set()
    in_notes = sorted(shown, key=lambda fact: fact.date)
    return {level for level in range(LEVELS) if ordered(in_notes, level) == shown}


def agreement(prediction: str, reference: str) -> tuple[bool, ...]:
    """Aspect -> whether the two summaries agree in it.

    Orders agree when the facts that both tell, at least two, come in the same order.
    """
    predicted, wanted = read_summary(prediction), read_summary(reference)
    agree = [a is not None and a == b for a, b in zip(predicted.levels, wanted.levels, strict=True)]
    agree[ORDER] = same_order(predicted.things, wanted.things)
    return tuple(agree)


def same_order(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the things that both name, at least two, come in the same order."""
    shared = [thing for thing in first if thing in second]
    return len(shared) >= 2 and shared == [thing for thing in second if thing in first]


def style_score(prediction: str, reference: str, source: str = "") -> float:
    """The share of aspects in which a prediction agrees with its reference, 0..1; the notes are not needed."""
    agree = agreement(prediction, reference)
    return sum(agree) / len(agree)


def _layout(text: str, clauses: int) -> int | None:
    lines = text.strip().split("\n")
    bullets = sum(line.startswith("- ") for line in lines)
    numbers = sum(re.match(r"\d+\. ", line) is not None for line in lines)
    if bullets or numbers:
        return 1 if bullets == clauses else 2 if numbers == clauses else None
    return 3 if text.count("; ") == clauses - 1 and clauses > 1 else 0 if "; " not in text else None


def _fitting(patterns: Sequence[str], text: str) -> int:
    return next(i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, text))


def _most(levels: Sequence[int]) -> int:
    return Counter(levels).most_common(1)[0][0]


# Documents


@dataclass(frozen=True)
class Document:
    """Notes to summarise, with their reference."""

    id: str
    facts: tuple[Fact, ...]
    """In the order of the notes."""
    salient: tuple[bool, ...]
    """Per fact, whether the reference states it; all False: it states the earliest."""
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
        records = [
            {"text": text, "start": at, "end": at + len(text), "score": 1 - i / n, "rank": i, "kept": True}
            for i, (text, at) in enumerate(zip(self.ranked, where, strict=True))
        ]
        return {"id": self.id, "input": self.notes, "output": self.reference, "phrases": records}


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
        salient: whether the reference states facts that only the key phrases show; else the earliest.
    """
    draw = rng.child("documents", name).python()
    documents = []
    for number in range(count):
        facts = draw_facts(draw.randint(fewest, most), draw)
        wanted = min(SHORTEST + style[LENGTH], len(facts))
        chosen = draw.sample(range(len(facts)), wanted)
        marks = tuple(salient and i in chosen for i in range(len(facts)))
        ranked = _ranked(facts, chosen, draw)
        reference = summary(facts, style, hinted=marks)
        documents.append(Document(f"{name}{number}", tuple(facts), marks, reference, ranked))
    return documents


def _ranked(facts: list[Fact], chosen: list[int], draw: random.Random) -> tuple[str, ...]:
    """Phrases of the chosen facts in any order, then those of the others."""
    first = [text for i in chosen for text in phrases(facts[i])]
    rest = [text for i in range(len(facts)) if i not in chosen for text in phrases(facts[i])]
    draw.shuffle(first)
    draw.shuffle(rest)
    return (*first, *rest)
