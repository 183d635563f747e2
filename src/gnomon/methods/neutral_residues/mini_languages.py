"""A pair of made-up languages: one world to speak of, two ways to say it.

What can be said is shared: which things there are, what they are like, what they do and to what. How it is said is not: each
language has words of its own over the same letters, its own order, and one marks the object by an ending. A model that knows the
first has the world's regularities to transfer and the letters' to unlearn, as between related natural languages.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from gnomon.core.rng import Rng

THINGS, QUALITIES, DEEDS, TOPICS = 48, 16, 16, 8
"""How many nouns, adjectives and verbs there are, and groups of nouns that documents are about."""

LIKES = 3
"""Qualities and deeds that go with a thing."""

SENTENCES = 8
"""Sentences of a document."""

_CONSONANTS, _VOWELS, _ENDING = "bdfgklmnprstvz", "aeiou", "um"


@dataclass(frozen=True)
class Meaning:
    """What can be said."""

    qualities: tuple[tuple[int, ...], ...]
    """Per thing, what it can be."""
    deeds: tuple[tuple[int, ...], ...]
    """Per thing, what it can do."""
    topics: int = TOPICS
    """Thing `i` belongs to topic `i % topics`; documents speak of one topic."""

    @classmethod
    def drawn(cls, generator: Rng) -> Meaning:
        """A world whose likes are drawn."""
        draw = generator.python()
        return cls(
            tuple(tuple(draw.sample(range(QUALITIES), LIKES)) for _ in range(THINGS)),
            tuple(tuple(draw.sample(range(DEEDS), LIKES)) for _ in range(THINGS)),
        )


@dataclass(frozen=True)
class Tongue:
    """How it is said."""

    things: tuple[str, ...]
    qualities: tuple[str, ...]
    deeds: tuple[str, ...]
    verb_last: bool
    """Subject, object with an ending, verb, adjectives behind their nouns; else subject, verb, object, adjectives in front."""

    @classmethod
    def drawn(cls, generator: Rng, *, verb_last: bool) -> Tongue:
        """A language whose words are drawn, no two alike."""
        draw = generator.python()
        words: dict[str, None] = {}
        while len(words) < THINGS + QUALITIES + DEEDS:
            syllables = draw.choice((2, 3))
            words["".join(draw.choice(_CONSONANTS) + draw.choice(_VOWELS) for _ in range(syllables))] = None
        found = tuple(words)
        return cls(found[:THINGS], found[THINGS : THINGS + QUALITIES], found[-DEEDS:], verb_last)

    def sentence(self, subject: tuple[int, int], deed: int, thing: tuple[int, int]) -> str:
        """Somebody does something to something; both are (thing, quality)."""
        who, what = (self.things[of] for of, _ in (subject, thing))
        like, which = (self.qualities[quality] for _, quality in (subject, thing))
        if self.verb_last:
            return f"{who} {like} {what}{_ENDING} {which} {self.deeds[deed]} ."
        return f"{like} {who} {self.deeds[deed]} {which} {what} ."


def document(meaning: Meaning, tongue: Tongue, topic: int | None, draw: random.Random) -> str:
    """Some sentences about the things of a topic, or about any things."""
    things = range(THINGS) if topic is None else range(topic, THINGS, meaning.topics)

    def one() -> tuple[int, int]:
        thing = draw.choice(things)
        return thing, draw.choice(meaning.qualities[thing])

    said = []
    for _ in range(SENTENCES):
        subject = one()
        said.append(tongue.sentence(subject, draw.choice(meaning.deeds[subject[0]]), one()))
    return " ".join(said)
