"""What the miniature trains and measures, for one seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gnomon.core.models.handle import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, section_id
from gnomon.methods.interleaved_retrieval.documents.serialise import Form
from gnomon.methods.interleaved_retrieval.encoding.encoder import InterleavedEncoder
from gnomon.methods.interleaved_retrieval.encoding.settings import Retrieving
from gnomon.methods.interleaved_retrieval.encoding.training import Pair, Training, train_retriever
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged
from gnomon.methods.interleaved_retrieval.mini import world as worlds
from gnomon.methods.interleaved_retrieval.mini.world import FACTS, Scale, World, new_handle, query_of
from gnomon.methods.interleaved_retrieval.reranking.reranker import SectionReranker
from gnomon.methods.interleaved_retrieval.reranking.training import Negatives, train_reranker

PLAIN = Form(prefix="none")
"""How sections are written: their documents have no titles."""


@dataclass
class Seed:
    """World and retrievers of a seed, made when they are first needed."""

    scale: Scale
    rng: Rng
    part: PartOfRun
    world: World
    encoders: dict[str, InterleavedEncoder] = field(default_factory=dict)

    def encoder(self, arm: str) -> InterleavedEncoder:
        """The retriever of an arm."""
        if arm not in self.encoders:
            self.encoders[arm] = trained(self, ARMS[arm], arm)
        return self.encoders[arm]

    @cached_property
    def facts_to_learn(self) -> tuple[list[Pair], list[list[int]]]:
        """Queries of one word with their sections, and per query documents that are held against them."""
        pairs = fact_queries(self, self.world.train, "fact")
        return pairs, others_of(self, self.world.train, pairs)

    @property
    def judged(self) -> Judged:
        """The held-out documents with a query of three words each."""
        queries = [
            query_of(document.id, self.world.facts[document.id], self.rng.child("test query", document.id))
            for document in self.world.test
        ]
        qrels = {query.id: {query.id: 1} for query in queries}
        return Judged(self.world.test, queries, qrels, {})


def _to(handle: Any, device: str) -> None:
    handle.model.to(device)


@dataclass(frozen=True)
class Arm:
    """How a retriever is trained."""

    how: Retrieving = field(default_factory=lambda: Retrieving(form=PLAIN))
    """Form, merge, pick."""
    change: Callable[[World, Document, Rng], Document] | None = None
    """What becomes of each document, in training and when it is searched."""
    is_short: bool = False
    """An ablation, trained for fewer steps."""


def _grey(world: World, document: Document, rng: Rng) -> Document:
    return worlds.greyed(document, rng.child("grey", document.id))


def _caption(world: World, document: Document, rng: Rng) -> Document:
    return worlds.captioned(document, world.facts[document.id][1], world.places[document.id][1])


def _crowded(world: World, document: Document, rng: Rng) -> Document:
    """Three grey pictures more in every section, so that four of them can be made one."""
    noise = rng.child("crowd", document.id).numpy()
    sections = [
        replace(s, blocks=(*s.blocks, *(Block("image", image=worlds.picture(None, noise)) for _ in range(3))))
        for s in document.sections
    ]
    return replace(document, sections=tuple(sections))


def _form(**changes: Any) -> Retrieving:
    return Retrieving(form=replace(PLAIN, **changes))


ARMS: Mapping[str, Arm] = {
    "interleaved": Arm(),
    "images greyed": Arm(change=_grey),
    "text only": Arm(_form(images="none", tables=False)),
    "max-sim, trained for it": Arm(Retrieving(form=PLAIN, merge="max_sim")),
    "caption as text": Arm(_form(images="captions"), change=_caption),
    "reference": Arm(is_short=True),
    "no tables": Arm(_form(tables=False), is_short=True),
    "last ordinary token": Arm(Retrieving(form=PLAIN, pick="before"), is_short=True),
    "mean of tokens": Arm(Retrieving(form=PLAIN, pick="mean"), is_short=True),
    "grouped": Arm(_form(block_order="grouped"), is_short=True),
    "four pictures a section": Arm(change=_crowded, is_short=True),
    "four pictures a section, in a picture": Arm(_form(tile_images=4), change=_crowded, is_short=True),
    "norm_mean, trained for it": Arm(Retrieving(form=PLAIN, merge="norm_mean"), is_short=True),
}


def documents_of(seed: Seed, arm: Arm, documents: Sequence[Document]) -> list[Document]:
    """Documents as an arm sees them."""
    if arm.change is None:
        return list(documents)
    return [arm.change(seed.world, document, seed.rng) for document in documents]


def optimisation(steps: int, batch: int, lr: float) -> TrainConfig:
    """AdamW with 30 warm-up steps and a linear fall to a tenth."""
    return TrainConfig(
        lr=lr, batch_size=batch, max_steps=steps, epochs=1000, warmup_steps=min(30, steps), schedule="linear",
        min_lr_ratio=0.1, checkpoint_every=0, keep_checkpoints=1,
    )  # fmt: skip


def trained(seed: Seed, arm: Arm, name: str) -> InterleavedEncoder:
    """A retriever of an arm, from scratch."""
    scale = seed.scale
    handle = new_handle(scale, seed.rng.child("model"))
    _to(handle, scale.device)
    encoder = InterleavedEncoder.new(handle, arm.how)
    documents = documents_of(seed, arm, seed.world.train)
    pairs = [
        Pair(query_of(d.id, seed.world.facts[d.id], seed.rng.child("query", d.id)), i)
        for i, d in enumerate(documents)
    ]
    steps = scale.ablation if arm.is_short else scale.steps
    part = seed.part.within(name.replace(" ", "-"), rng=seed.rng.child("training", name))
    train_retriever(
        encoder, documents, pairs, optimisation(steps, scale.batch, scale.lr), run=part,
        options=Training(piece_tokens=1 << 20),
    )  # fmt: skip
    return encoder


NEGATIVES: Mapping[str, Negatives] = {
    "reranker": Negatives(),
    "in-document negatives alone": Negatives(kinds="in-document"),
    "labels of documents": Negatives(target="document"),
    "contrastive": Negatives(target="contrastive"),
}


def fact_queries(seed: Seed, documents: Sequence[Document], name: str) -> list[Pair]:
    """For each document and fact a query of that word alone, with the section that holds it."""
    pairs = []
    for i, document in enumerate(documents):
        facts, places = seed.world.facts[document.id], seed.world.places[document.id]
        for fact, word, section in zip(FACTS, facts, places, strict=True):
            rng = seed.rng.child(name, document.id, fact)
            pairs.append(Pair(query_of(f"{document.id}:{fact}", [word], rng), i, section))
    return pairs


def others_of(seed: Seed, documents: Sequence[Document], pairs: Sequence[Pair]) -> list[list[int]]:
    """Per pair documents that share a fact with its own and do not hold the word that is asked for: hard, and never right."""
    by_word: dict[str, list[int]] = {}
    for i, document in enumerate(documents):
        for word in seed.world.facts[document.id]:
            by_word.setdefault(word, []).append(i)
    others = []
    for pair in pairs:
        facts = seed.world.facts[documents[pair.document].id]
        word = facts[FACTS.index(pair.query.id.rpartition(":")[2])]
        near = dict.fromkeys(i for other in facts if other != word for i in by_word[other])
        fitting = [i for i in near if word not in seed.world.facts[documents[i].id]]
        draw = seed.rng.child("others", pair.query.id).python()
        others.append(draw.sample(fitting, min(25, len(fitting))))
    return others


def reranker(seed: Seed, name: str) -> SectionReranker:
    """A reranker with negatives of some kind."""
    scale, retriever = seed.scale, seed.encoder("interleaved").handle
    # Weights of its own, which begin as the retriever's: in the paper both begin as the same pretrained model.
    handle = ModelHandle(copy.deepcopy(retriever.model), retriever.processor)
    fresh = SectionReranker.new(handle, Retrieving(form=PLAIN), rng=seed.rng.child("head"))
    pairs, others = seed.facts_to_learn
    part = seed.part.within(f"reranker-{name.replace(' ', '-')}", rng=seed.rng.child("reranking", name))
    train_reranker(
        fresh, seed.world.train, pairs, others,
        optimisation(scale.rerank_steps, scale.rerank_batch, scale.rerank_lr), run=part, negatives=NEGATIVES[name],
    )  # fmt: skip
    return fresh


def section_judgements(seed: Seed, pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    """Query -> every section that holds the word that is asked for, in whichever document."""
    holders: dict[str, dict[str, int]] = {}
    for document in seed.world.test:
        for word, section in zip(seed.world.facts[document.id], seed.world.places[document.id], strict=True):
            holders.setdefault(word, {})[section_id(document.id, section)] = 1
    qrels = {}
    for pair in pairs:
        facts = seed.world.facts[seed.world.test[pair.document].id]
        qrels[pair.query.id] = holders[facts[FACTS.index(pair.query.id.rpartition(":")[2])]]
    return qrels


def long_documents(seed: Seed, n: int) -> tuple[list[Document], list[Query]]:
    """The held-out combinations as documents of n sections, with their queries."""
    documents = [
        worlds.new_document(d.id, seed.world.facts[d.id], seed.rng.child("long", n, d.id), n=n)[0]
        for d in seed.world.test
    ]
    return documents, seed.judged.queries
