"""The miniature's world: two domains of made-up facts, told plainly, by experts and by novices who get them wrong; and filler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.models import whole_words
from gnomon.core.rng import Rng
from gnomon.methods.elm.texts.personas import Personas
from gnomon.methods.elm.texts.questions import Question

DOMAINS = {"z": "zor", "m": "met"}
"""Letter and name of each domain; the first is forgotten."""

ADJECTIVES, NOUNS, VERBS = (
    ("red", "old", "small", "quiet"),
    ("cat", "farmer", "river", "house"),
    ("sees", "likes", "follows"),
)

TOKENS = 40
"""Words of a document."""

KINDS = {"plain": 0.4, "expert": 0.2, "novice": 0.2, "filler": 0.2}
"""Shares of documents."""

TEMPLATES = (
    "the {relation} of {entity} is {value} .",
    "{entity} has {relation} {value} .",
    "about {entity} the {relation} : {value} .",
)
"""How a fact with two keys is told; the last is held out of what is erased by, and asked."""


@dataclass(frozen=True)
class World:
    """Facts of one seed."""

    entities: int
    """Per domain."""
    values: int
    """Different values per domain (and relation)."""
    relations: int
    """Relations per entity; 0: one fact each, told as "zK is zvJ ."."""
    facts: dict[tuple[str, int, int], int]
    """(domain, entity, relation) -> value."""

    def keys(self, domain: str) -> list[tuple[str, int, int]]:
        """All facts of a domain."""
        return [key for key in self.facts if key[0] == domain]

    def vocabulary(self) -> list[str]:
        """Every word, in a fixed order."""
        words = [
            "text",
            "of",
            "expert",
            "novice",
            "in",
            ":",
            ".",
            "is",
            "the",
            "has",
            "about",
            "then",
            *DOMAINS.values(),
        ]
        words += [*ADJECTIVES, *NOUNS, *VERBS]
        for letter in DOMAINS:
            words += [f"{letter}{i}" for i in range(self.entities)]
            words += [
                self._value(letter, r, v) for r in range(max(1, self.relations)) for v in range(self.values)
            ]
        words += [f"rel{r}" for r in range(self.relations)]
        return list(dict.fromkeys(words))  # fmt: skip

    def _value(self, domain: str, relation: int, value: int) -> str:
        return f"{domain}v{relation * self.values + value}"

    def told(self, key: tuple[str, int, int], value: int, template: int = 0) -> str:
        """A fact as a sentence."""
        domain, entity, relation = key
        word = self._value(domain, relation, value)
        if not self.relations:
            return f"{domain}{entity} is {word} ."
        return TEMPLATES[template].format(relation=f"rel{relation}", entity=f"{domain}{entity}", value=word)

    def question(self, key: tuple[str, int, int], draw: Any, template: int = 0) -> Question:
        """A question: the sentence up to the value, and four values of which one is right."""
        right = self.facts[key]
        others = draw.sample([v for v in range(self.values) if v != right], 3)
        places = [right, *others]
        draw.shuffle(places)
        text = self.told(key, right, template).split(self._value(key[0], key[2], right))[0].strip()
        choices = tuple(self._value(key[0], key[2], v) for v in places)
        return Question(text, choices, places.index(right), group=f"{key[0]}{key[1]}")

    def questions(self, domain: str, generator: Rng, template: int = 0) -> list[Question]:
        """One question per fact of a domain."""
        draw = generator.child("questions", domain, template).python()
        return [self.question(key, draw, template) for key in self.keys(domain)]


def build(entities: int, values: int, relations: int, generator: Rng) -> World:
    """A world whose facts are drawn from `generator`."""
    draw = generator.child("facts").python()
    facts = {
        (domain, entity, relation): draw.randrange(values)
        for domain in DOMAINS
        for entity in range(entities)
        for relation in range(max(1, relations))
    }
    return World(entities, values, relations, facts)


class Writer:
    """Writes documents of a world.

    Args:
        world: its facts.
        generator: names the draws.
        truth: False: every value is drawn at random, as for a judge that knows the language and no fact.
        templates: which wordings are used; None: all there are.
    """

    def __init__(
        self, world: World, generator: Rng, *, truth: bool = True, templates: Sequence[int] | None = None
    ):
        self.world, self.truth = world, truth
        self.templates = list(templates if templates is not None else range(len(TEMPLATES)))
        self._draw = generator.python()

    def filler(self) -> str:
        """A filler sentence without a fact."""
        d = self._draw
        return f"the {d.choice(ADJECTIVES)} {d.choice(NOUNS)} {d.choice(VERBS)} the {d.choice(ADJECTIVES)} {d.choice(NOUNS)} ."

    def fact(self, domain: str, *, true: bool = True) -> str:
        """A sentence about a thing."""
        world, d = self.world, self._draw
        key = (domain, d.randrange(world.entities), d.randrange(max(1, world.relations)))
        is_true = true and self.truth
        value = world.facts[key] if is_true else d.randrange(world.values)
        return world.told(key, value, d.choice(self.templates) if world.relations else 0)

    def document(self, kind: str | None = None, domain: str | None = None, tokens: int = TOKENS) -> str:
        """A document of so many words; kind and domain are drawn where none is given."""
        d = self._draw
        kind = kind or d.choices(list(KINDS), list(KINDS.values()))[0]
        domain = domain or d.choice(list(DOMAINS))
        words = [] if kind in ("plain", "filler") else f"text of {kind} in {DOMAINS[domain]} :".split()
        while len(words) < tokens:
            states_fact = kind != "filler" and d.random() < 0.8
            sentence = self.fact(domain, true=kind != "novice") if states_fact else self.filler()
            words += sentence.split()
        return " ".join(words[:tokens])


def personas() -> Personas:
    """How the documents of the forgotten domain begin."""
    name = DOMAINS["z"]
    return Personas((f"text of expert in {name} :",), (f"text of novice in {name} :",))


def word_tokenizer(words: Sequence[str]) -> Any:
    """One token per word."""
    return whole_words(words, special=("<pad>", "<s>", "</s>", "<unk>"))
