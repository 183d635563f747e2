"""The miniature's texts: real ones that every machine has, two made-up languages, and what a checkpoint writes by itself.

A pair of made-up languages: one world to speak of, two ways to say it.

What can be said is shared: which things there are, what they are like, what they do and to what. How it is said is not: each
language has words of its own over the same letters, its own order, and one marks the object by an ending. A model that knows the
first has the world's regularities to transfer and the letters' to unlearn, as between related natural languages.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.data.corpora import Documentation, stdlib_code, stdlib_documentation
from gnomon.core.models import GenConfig, generate
from gnomon.core.rng import Rng
from gnomon.methods.neutral_residues.training.data import share_of

# A pair of made-up languages: one world to speak of, two ways to say it.

THINGS, QUALITIES, DEEDS, TOPICS = 48, 16, 16, 8
"""How many nouns, adjectives and verbs there are, and groups of nouns that documents are about."""

LIKES = 3
"""Qualities and deeds that go with a thing."""

SENTENCES = 8
"""Sentences of a document."""

_CONSONANTS, _VOWELS, _ENDING = "bdfgklmnprstvz", "aeiou", "um"


@dataclass(frozen=True)
class Meaning:
    """The made-up world that texts are about."""

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
    """A made-up language: words and word order."""

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
        drawn = tuple(words)
        return cls(drawn[:THINGS], drawn[THINGS : THINGS + QUALITIES], drawn[-DEEDS:], verb_last)

    def sentence(self, subject: tuple[int, int], deed: int, thing: tuple[int, int]) -> str:
        """A sentence of subject, verb and object; subject and object are (thing, quality)."""
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

    sentences = []
    for _ in range(SENTENCES):
        subject = one()
        sentences.append(tongue.sentence(subject, draw.choice(meaning.deeds[subject[0]]), one()))
    return " ".join(sentences)


# The miniature's texts: real ones that every machine has, two made-up languages, and what a checkpoint writes by itself.

HELD, TUNING = 0.06, 0.06
"""Shares of the files: the first is what verdicts are measured on; settings were chosen on the second."""

SAMPLE_TOKENS = 200
"""Tokens of a sample of a checkpoint at most."""


@dataclass(frozen=True)
class Texts:
    """Texts of two domains."""

    about: str
    """What they are, in a sentence or two."""
    read: list[str]
    """What the backbone is trained on; empty where it comes trained."""
    mixed: list[str]
    """What stands for that in the extension's training."""
    held: list[str]
    """Text of the old domain that no training has seen."""
    new: list[str]
    """The new domain."""
    new_held: list[str]
    """Text of it that no training has seen."""


def source(held_bytes: int, *, files: int | None = None, tuning: bool = False) -> Texts:
    """Documentation and code of the standard library, split by file; the topics of `help` stand for the documentation.

    Args:
        held_bytes: bytes of each domain to measure on.
        files: only so many of the first files are read; None for all.
        tuning: measure on the files that are there for choosing settings.
    """
    documentation, topics = [], []
    for text in _of_first(files, stdlib_documentation()):
        if text.group.startswith("topic:"):
            topics.append(text.text)
        else:
            documentation.append((text.group, _without_examples(text.text)))
    code = [(text.group, text.text) for text in _of_first(files, stdlib_code())]
    return Texts(
        "A byte-level model has read the documentation strings of the standard library and learns its source code, with one "
        "training sequence in ten from the topics of `help`. What it forgets is measured on documentation of files that no "
        "training has seen.",
        _part(documentation, "train"),
        topics,
        _until(_part(documentation, "tuning" if tuning else "held"), held_bytes),
        _part(code, "train"),
        _until(_part(code, "tuning" if tuning else "held"), held_bytes),
    )


def languages(documents: int, held_bytes: int, generator: Rng, *, tuning: bool = False) -> Texts:
    """Two made-up languages that speak of one world; what is mixed in jumps between topics, what is measured keeps to one.

    Args:
        documents: of each language.
        held_bytes: bytes of each to measure on.
        generator: names the draws.
        tuning: draw other documents to measure on.
    """
    meaning = Meaning.drawn(generator.child("meaning"))
    old, new = (Tongue.drawn(generator.child("tongue", i), verb_last=bool(i)) for i in range(2))
    every: Sequence[int | None] = range(meaning.topics)

    def write(tongue: Tongue, topics: Sequence[int | None], name: str) -> list[str]:
        draw = generator.child("documents", name).python()
        return [document(meaning, tongue, draw.choice(topics), draw) for _ in range(documents)]

    held = "tuning" if tuning else "held"
    return Texts(
        "A model has read a made-up language and learns another one that speaks of the same world with other words, in "
        "another order and with an ending for the object. One training sequence in ten is of the first language and jumps between "
        "topics; what the model forgets is measured on documents that keep to one, as those it has read do.",
        write(old, every, "read"),
        write(old, [None], "mixed"),
        _until(write(old, every, f"{held}, old"), held_bytes),
        write(new, every, "new"),
        _until(write(new, every, f"{held}, new"), held_bytes),
    )


def samples(
    model: Any,
    tokenizer: Any,
    count: int,
    length: int,
    held_bytes: int,
    generator: Rng,
    *,
    tuning: bool = False,
) -> Texts:
    """What a pretrained model writes by itself stands for what it has read; the code of the standard library is new to it.

    Args:
        model: a causal transformers model.
        tokenizer: its tokenizer.
        count: samples.
        length: tokens of a training row; samples are no shorter unless they end by themselves.
        held_bytes: bytes of each domain to measure on.
        generator: names the draws.
        tuning: measure on other samples and files.
    """
    begin = [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id]
    gen = GenConfig(max_new_tokens=max(length, SAMPLE_TOKENS), n=count)
    (written,) = generate(model, tokenizer, [begin], gen, generator=generator.child("samples"))
    named = [
        (f"sample {i}", text) for i, completion in enumerate(written) if (text := completion.text.strip())
    ]
    code = [(text.group, text.text) for text in stdlib_code()]
    share = "tuning" if tuning else "held"
    return Texts(
        "A pretrained model learns the source code of the standard library. Samples of its own stand for what it has read, one "
        "training sequence in ten; what it forgets is measured on other samples.",
        [],
        _part(named, "train"),
        _until(_part(named, share), held_bytes),
        _part(code, "train"),
        _until(_part(code, share), held_bytes),
    )


def _of_first(files: int | None, texts: Iterator[Documentation]) -> Iterator[Documentation]:
    """The topics, and the texts of the first files."""
    read: set[str] = set()
    for text in texts:
        if not text.group.startswith("topic:"):
            read.add(text.group)
        if files is not None and len(read) > files:
            return
        yield text


def _part(texts: Sequence[tuple[str, str]], name: str) -> list[str]:
    """The texts of one part; which part a text is in depends on its group's name alone."""

    def place(group: str) -> str:
        at = share_of(group)
        return "held" if at < HELD else "tuning" if at < HELD + TUNING else "train"

    return [text for group, text in texts if place(group) == name]


def _until(texts: Sequence[str], n_bytes: int) -> list[str]:
    """Texts from the first on, until they have so many bytes."""
    parts = []
    for text in texts:
        if n_bytes <= 0:
            break
        parts.append(text)
        n_bytes -= len(text.encode("utf-8", "surrogatepass"))
    return parts


def _without_examples(text: str) -> str:
    """Documentation without the lines of its interactive examples, which are code."""
    return re.sub(r"(?m)^\s*(>>>|\.\.\.).*\n?", "", text)
