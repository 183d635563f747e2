"""The miniature's world: a made-up language of topics in two halves without a common word, and a small model that has read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from gnomon.core.models import ModelHandle, new_llama, train_tiny, whole_words
from gnomon.core.retrieval.passages import Passage
from gnomon.core.run import PartOfRun
from gnomon.core.train import Batches, Example, TrainConfig
from gnomon.errors import UserError
from gnomon.methods.uncertainty_rag.options import Layout
from gnomon.methods.uncertainty_rag.scoring.reading import LocalReader

TOPICS, HALF, FUNCTION = 24, 6, 40
"""Topics; words of one half of a topic; function words."""
LENGTH = 24
"""Words a chunk."""
TOPICAL, PREDICTABLE = 0.35, 0.45
"""Shares of topic words and of function words that follow from the one before; the rest are random function words."""
SHIFTED = 0.20
"""Share of topic words under shift."""
SEPARATOR = "|"
LEAST_USE = 0.1
"""Nats per token by which the model must predict a chunk better behind a related one than behind another."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the miniature."""

    lm_steps: int = 1500
    """Optimiser steps of the language model."""
    hidden: int = 64
    """Its width."""
    layers: int = 2
    """Its layers."""
    heads: int = 4
    """Its heads."""
    pairs: int = 600
    """Pairs on which scores are compared, half of them related."""
    within: int = 20
    """Anchors that are each tried with 60 candidates."""
    anchors: int = 160
    """Anchors of the training set."""
    pool: int = 10
    """Chunks of each half of a topic that candidates come from; half as many to search in."""
    steps: int = 250
    """Optimiser steps of a retriever."""
    width: int = 64
    """Its width."""
    device: str = "cpu"
    """Where it runs."""
    must_use: bool = True
    """Whether a model that makes no use of the first chunk ends the run."""


SCALES = {
    "smoke": Scale(
        lm_steps=6, hidden=16, layers=1, heads=2, pairs=24, within=2, anchors=12, pool=2, steps=3, width=16, must_use=False
    ),
    "mini": Scale(),
    "gpu": Scale(lm_steps=3000, hidden=128, layers=4, pairs=2000, within=60, anchors=640, pool=30, steps=1000, device="cuda"),
}  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """A chunk of the made-up language."""

    topic: int
    """Of its topic words."""
    half: int
    """0 or 1: which of the topic's two vocabularies."""
    text: str
    """What it says."""

    def is_related(self, other: Chunk) -> bool:
        """Whether the other is of the other half of the same topic."""
        return self.topic == other.topic and self.half != other.half


def draw_chunk(topic: int, half: int, draw: np.random.Generator, topical: float = TOPICAL) -> Chunk:
    """A chunk of one half of a topic."""
    words, last = [], 0
    for _ in range(LENGTH):
        kind = draw.random()
        if kind < topical:
            words.append(f"t{topic}h{half}w{draw.integers(HALF)}")
            continue
        last = (7 * last + 3) % FUNCTION if kind < topical + PREDICTABLE else int(draw.integers(FUNCTION))
        words.append(f"f{last}")
    return Chunk(topic, half, " ".join(words))


def draw_pool(each: int, draw: np.random.Generator, topical: float = TOPICAL) -> list[Chunk]:
    """So many chunks of every half of every topic, shuffled."""
    pool = [draw_chunk(t, h, draw, topical) for t in range(TOPICS) for h in (0, 1) for _ in range(each)]
    return [pool[i] for i in draw.permutation(len(pool)).tolist()]


def draw_pair(is_related: bool, draw: np.random.Generator) -> tuple[Chunk, Chunk]:
    """Two chunks: the two halves of one topic, or halves of two topics."""
    topic, half = int(draw.integers(TOPICS)), int(draw.integers(2))
    other = topic if is_related else int((topic + draw.integers(1, TOPICS)) % TOPICS)
    return draw_chunk(topic, half, draw), draw_chunk(other, 1 - half, draw)


def passages(pool: Sequence[Chunk]) -> list[Passage]:
    """Chunks as passages, each a document of its own."""
    return [Passage(f"c{i:04d}", f"c{i:04d}", 0, len(chunk.text), chunk.text) for i, chunk in enumerate(pool)]


def tokenizer() -> Any:
    """A token for each word."""
    words = [SEPARATOR, *(f"f{i}" for i in range(FUNCTION))]
    words += [f"t{t}h{h}w{w}" for t in range(TOPICS) for h in (0, 1) for w in range(HALF)]
    return whole_words(words)


def read_world(scale: Scale, part: PartOfRun) -> LocalReader:
    """A language model that has read pairs, 7 in 10 of them related.

    Raises:
        UserError: it makes no use of the first chunk.
    """
    words, draw = tokenizer(), part.rng.child("pairs").numpy()
    examples = []
    for _ in range(32 * scale.lm_steps):
        a, b = draw_pair(bool(draw.random() < 0.7), draw)
        ids = [words.bos_token_id, *words(f"{a.text} {SEPARATOR} {b.text}")["input_ids"]]
        examples.append(Example(ids, ids))
    model = new_llama(
        words,
        scale.hidden,
        scale.layers,
        scale.heads,
        2 * LENGTH + 8,
        part.rng.child("weights"),
        intermediate=4 * scale.hidden,
        is_tied=False,
    )
    cfg = TrainConfig(
        lr=3e-3, batch_size=32, warmup_ratio=0.05, schedule="cosine", checkpoint_every=0, max_length=2 * LENGTH + 8
    )  # fmt: skip
    part.folder.mkdir(parents=True, exist_ok=True)
    batches = Batches(examples, 32, pad_id=words.pad_token_id, generator=part.rng.child("order"))
    train_tiny(model, batches, cfg, part, device=scale.device)
    handle = ModelHandle(model, words)
    reader = LocalReader(handle, Layout(separator=SEPARATOR))
    use = first_chunk_use(reader, part.rng.child("held out").numpy())
    part.log(first_chunk_use=use)
    if scale.must_use and use < LEAST_USE:
        raise UserError(
            f"The language model is not trained enough: behind a related chunk it predicts {use:.3f} nats a token better than "
            f"behind another, and {LEAST_USE} are needed. Train it for more steps."
        )
    return reader


def first_chunk_use(reader: LocalReader, draw: np.random.Generator, n: int = 100) -> float:
    """By how many nats per token the second chunk is likelier behind a related first one, on fresh pairs."""
    means = []
    for is_related in (True, False):
        pairs = [draw_pair(is_related, draw) for _ in range(n)]
        informations = reader.read([(reader.encode(a.text), reader.encode(b.text)) for a, b in pairs])
        means.append(float(np.mean([i.second.mean() for i in informations])))
    return means[1] - means[0]


class AttentionPooled(torch.nn.Module):
    """Token embeddings pooled by a learned weight of each token, in the form of a transformers encoder whose states are averaged.

    Args:
        words: in the vocabulary.
        width: of an embedding.
    """

    def __init__(self, words: int, width: int):
        super().__init__()
        sizes: dict[str, Any] = {"hidden_size": width}
        self.config = PreTrainedConfig(**sizes)
        self.embedding = torch.nn.Embedding(words, width)
        self.attention = torch.nn.Linear(width, 1)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.embedding.weight.device

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """States [B, T, D] whose mean over the tokens is the pooled vector."""
        states = self.embedding(input_ids)
        weights = self.attention(states).squeeze(-1).masked_fill(attention_mask == 0, -torch.inf).softmax(-1)
        counts = attention_mask.sum(1, keepdim=True)
        return BaseModelOutput(last_hidden_state=states * (weights * counts).unsqueeze(-1))
