"""Facts (person, office, verb, amount, purpose, date) and notes that state them in prose."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

FIRST = (
    "Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Irene", "Jonas", "Karin", "Louis",
)  # fmt: skip
LAST = (
    "Adler", "Berger", "Conti", "Dumas", "Ekman", "Fabre", "Gruber", "Hansen", "Ivanov", "Jansen", "Keller", "Lang",
    "Moreau", "Novak", "Olsen", "Peters",
)  # fmt: skip
ROLES = (
    "mayor", "treasurer", "teacher", "baker", "doctor", "gardener", "librarian", "mason", "pilot", "tailor", "sexton",
    "printer",
)  # fmt: skip
THINGS = (
    "roof", "bridge", "library", "school", "park", "fountain", "museum", "stage", "clinic", "harbour", "mill", "road",
    "tower", "garden", "market", "theatre", "well", "square", "chapel", "kitchen",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
VERBS = (
    ("paid", "pays", "has paid", "will pay"),
    ("raised", "raises", "has raised", "will raise"),
    ("offered", "offers", "has offered", "will offer"),
    ("saved", "saves", "has saved", "will save"),
)
"""Verb -> its past, present, perfect and future."""
AMOUNTS = tuple(range(1200, 9700, 250))
"""Euros; no two of them round to the same text in every form."""


@dataclass(frozen=True)
class Fact:
    """An event of the notes."""

    first: str
    """First name."""
    last: str
    """Surname."""
    role: str
    """Office."""
    verb: int
    """Place in `VERBS`."""
    amount: int
    """Euros."""
    thing: str
    """Purpose of the amount."""
    day: int
    """Day of the month."""
    month: int
    """Place in `MONTHS`."""

    @property
    def date(self) -> tuple[int, int]:
        """Month and day, to sort by."""
        return self.month, self.day


def draw_facts(count: int, draw: random.Random) -> list[Fact]:
    """So many facts in the order of their dates; names, offices, amounts, things and dates all differ."""
    dates = sorted(draw.sample([(month, day) for month in range(12) for day in range(1, 29)], count))
    parts = [draw.sample(pool, count) for pool in (FIRST, LAST, ROLES, THINGS)]
    amounts = draw.sample(AMOUNTS, count)
    return [
        Fact(first, last, role, draw.randrange(len(VERBS)), amount, thing, day, month)
        for first, last, role, thing, amount, (month, day) in zip(*parts, amounts, dates, strict=True)
    ]


def notes(facts: Sequence[Fact]) -> str:
    """The facts as one paragraph.

    >>> notes([Fact("Anna", "Berger", "treasurer", 0, 4200, "roof", 3, 2)])
    'On 3 March Anna Berger, the treasurer, paid 4,200 euros for the roof.'
    """
    return " ".join(
        f"On {fact.day} {MONTHS[fact.month]} {fact.first} {fact.last}, the {fact.role}, "
        f"{VERBS[fact.verb][0]} {fact.amount:,} euros for the {fact.thing}."
        for fact in facts
    )


_PAST = [forms[0] for forms in VERBS]
_NOTE = re.compile(
    rf"On (\d+) ({'|'.join(MONTHS)}) ([A-Z][a-z]+) ([A-Z][a-z]+), the ([a-z]+), ({'|'.join(_PAST)}) "
    r"([\d,]+) euros for the ([a-z]+)\."
)


def read_notes(text: str) -> list[Fact]:
    """All facts that notes in `text` tell, in their order."""
    return [_fact(match) for match in _NOTE.finditer(text)]


def last_notes(text: str) -> tuple[list[Fact], int]:
    """The facts of the last notes in `text`, and where those begin; none and the text's end when there are no notes.

    Notes end where anything but a space stands between two facts.
    """
    facts: list[Fact] = []
    start = end = len(text)
    for match in _NOTE.finditer(text):
        if not facts or text[end : match.start()].strip(" "):
            facts, start = [], match.start()
        facts.append(_fact(match))
        end = match.end()
    return facts, start


def phrases(fact: Fact) -> tuple[str, str, str]:
    """The three phrases that name a fact: who, how much, for what."""
    return f"{fact.first} {fact.last}", f"{fact.amount:,} euros", fact.thing


def _fact(match: re.Match[str]) -> Fact:
    day, month, first, last, role, verb, amount, thing = match.groups()
    euros = int(amount.replace(",", ""))
    return Fact(first, last, role, _PAST.index(verb), euros, thing, int(day), MONTHS.index(month))
