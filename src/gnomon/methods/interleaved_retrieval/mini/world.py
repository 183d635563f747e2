"""The miniature's world: documents whose three facts are a word, a colour that only a picture shows, and a cell of a table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.tiny import LlavaSizes, tiny_llava, whole_words
from gnomon.core.rng import Rng
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, Section, table_block

COLOURS = {
    "red": (220, 30, 30), "green": (30, 190, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40),
    "purple": (150, 40, 190), "cyan": (40, 210, 220), "orange": (240, 140, 20), "white": (250, 250, 250),
}  # fmt: skip
TOPICS = tuple(f"topic{i}" for i in range(12))
CELLS = tuple(f"cell{i}" for i in range(12))
FILLERS = tuple(f"filler{i}" for i in range(30))
SIGNS = ("|", "|---|---|", "name", "value")
FACTS = ("topic", "colour", "cell")


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    device: str = "cpu"
    """Where it is trained."""
    train: int = 952
    """Combinations of facts that are trained on."""
    copies: int = 2
    """Documents of each of them."""
    test: int = 200
    """Held-out combinations: documents of the pool, and as many queries."""
    steps: int = 1000
    """Of the retrievers."""
    batch: int = 24
    """Pairs a step."""
    lr: float = 2e-3
    """Peak learning rate of the retrievers."""
    rerank_steps: int = 400
    """Of the rerankers."""
    rerank_batch: int = 12
    """Queries a step."""
    rerank_lr: float = 1e-3
    """Peak learning rate of the rerankers."""
    hidden: int = 64
    """Width of the language model."""
    pools: tuple[int, ...] = (25, 50, 100, 200)
    """Sizes of the pool for the dilution curve."""
    lengths: tuple[int, ...] = (1, 3, 6, 12)
    """Sections a document for the dilution curve."""
    ablation: int = 150
    """Steps of the trained ablations."""


SCALES = {
    "smoke": Scale(
        train=24, copies=1, test=8, steps=3, batch=6, rerank_steps=2, rerank_batch=3, hidden=16,
        pools=(4, 8), lengths=(1, 3), ablation=2,
    ),
    "mini": Scale(),
    "gpu": Scale(device="cuda", copies=4, steps=2000, batch=96, hidden=128, rerank_steps=1200, ablation=1000),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """Documents and queries of one seed."""

    train: list[Document]
    """To train on."""
    test: list[Document]
    """The pool: combinations that were never trained on."""
    facts: dict[str, tuple[str, str, str]]
    """Document -> its word, its colour and its cell."""
    places: dict[str, tuple[int, int, int]]
    """Document -> the sections that hold them."""


def combinations(rng: Rng) -> list[tuple[str, str, str]]:
    """All combinations of facts in an order of their own."""
    every = list(itertools.product(TOPICS, COLOURS, CELLS))
    rng.python().shuffle(every)
    return every


def new_world(scale: Scale, rng: Rng) -> World:
    """Documents of the seed."""
    every = combinations(rng.child("split"))
    held, rest = every[: scale.test], every[scale.test : scale.test + scale.train]
    facts: dict[str, tuple[str, str, str]] = {}
    places: dict[str, tuple[int, int, int]] = {}

    def made_of(name: str, combination: tuple[str, str, str], n: int = 3) -> Document:
        document, where = new_document(name, combination, rng.child("document", name), n=n)
        facts[name], places[name] = combination, where
        return document

    train = [
        made_of(f"train{i:04d}-{copy}", facts_of, 3)
        for i, facts_of in enumerate(rest)
        for copy in range(scale.copies)
    ]
    test = [made_of(f"test{i:04d}", facts_of, 3) for i, facts_of in enumerate(held)]
    return World(train, test, facts, places)


def new_document(
    name: str, combination: tuple[str, str, str], rng: Rng, *, n: int = 3
) -> tuple[Document, tuple[int, int, int]]:
    """A document and the sections of its three facts.

    Args:
        name: its id.
        combination: word, colour, cell.
        rng: order, fillers, pictures.
        n: sections; below three, facts share one; above, the rest holds fillers and a grey picture.
    """
    draw, noise = rng.python(), rng.numpy()
    numbers = [i % n for i in range(3)] if n < 3 else draw.sample(range(n), 3)
    sections = []
    for i in range(n):
        held = [fact for fact, where in zip(FACTS, numbers, strict=True) if where == i]
        words = draw.sample(FILLERS, 6)
        if "topic" in held:
            words.insert(draw.randrange(7), combination[0])
        colour = combination[1] if "colour" in held else None
        blocks = [Block("text", text=" ".join(words)), Block("image", image=picture(colour, noise))]
        if "cell" in held:
            blocks.append(table_block(["name", "value"], [[draw.choice(FILLERS), combination[2]]]))
        sections.append(Section("", tuple(blocks)))
    return Document(name, "", tuple(sections)), (numbers[0], numbers[1], numbers[2])


def picture(colour: str | None, noise: np.random.Generator) -> Any:
    """16 x 16 pixels of grey noise, with a square of 8 x 8 in the colour somewhere."""
    from PIL import Image

    pixels = noise.integers(96, 160, (16, 16, 1)).repeat(3, 2).astype(np.int64)
    if colour is not None:
        y, x = noise.integers(0, 9, 2)
        pixels[y : y + 8, x : x + 8] = np.array(COLOURS[colour]) + noise.integers(-12, 13, (8, 8, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def query_of(name: str, words: Sequence[str], rng: Rng) -> Query:
    """The words with fillers between them."""
    draw = rng.python()
    parts = [*words, *draw.sample(FILLERS, 3)]
    draw.shuffle(parts)
    return Query(name, " ".join(parts))


def greyed(document: Document, rng: Rng) -> Document:
    """A document with the colour of every picture gone."""
    noise = rng.numpy()
    return with_images(document, [picture(None, noise) for _ in document.sections])


def with_images(document: Document, images: Sequence[Any]) -> Document:
    """A document with other pictures, one a section."""
    from dataclasses import replace

    sections = [
        replace(
            section,
            blocks=tuple(replace(b, image=image) if b.type == "image" else b for b in section.blocks),
        )
        for section, image in zip(document.sections, images, strict=True)
    ]
    return replace(document, sections=tuple(sections))


def captioned(document: Document, colour: str, section: int) -> Document:
    """A document whose colour stands in the caption of its picture: the upper bound of a perfect caption."""
    from dataclasses import replace

    sections = [
        replace(
            part,
            blocks=tuple(
                replace(b, caption=colour) if b.type == "image" and i == section else b for b in part.blocks
            ),
        )
        for i, part in enumerate(document.sections)
    ]
    return replace(document, sections=tuple(sections))


def new_handle(scale: Scale, rng: Rng) -> ModelHandle:
    """An untrained LLaVA that knows the world's words."""
    tokenizer = whole_words([*SIGNS, *COLOURS, *TOPICS, *CELLS, *FILLERS])
    sizes = LlavaSizes(
        image_size=16, patch=8, vision_hidden=max(16, scale.hidden // 2), vision_layers=2, vision_heads=2,
        hidden=scale.hidden, layers=2, heads=4, intermediate=scale.hidden * 3, max_length=128,
    )  # fmt: skip
    return ModelHandle(*tiny_llava(tokenizer, sizes, generator=rng))
