"""The miniature's texts, which every machine has, and the small model that has read English only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gnomon.core.data.corpora import Documentation, stdlib_code, stdlib_documentation
from gnomon.core.data.packing import pack
from gnomon.core.models import new_llama, train_bpe
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig, causal_loss, fit
from gnomon.methods.neutral_residues.corpora import Corpus, share_of
from gnomon.methods.neutral_residues.mixing import Mixture

HELD, TUNING = 0.06, 0.06
"""Shares of the files: the first is what verdicts are measured on; settings were chosen on the second."""


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    hidden: int
    layers: int
    heads: int
    length: int
    """Tokens a row."""
    vocab: int
    """Tokens of the vocabulary; 259 are bytes alone."""
    base_steps: int
    base_lr: float
    steps: int
    """Steps of each extension."""
    batch_size: int
    held_bytes: int
    """Bytes of each domain to measure on."""
    alpha: float
    lr: dict[str, tuple[float, ...]]
    """Peak learning rates by arm."""
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["no", "bf16"] = "no"


_RATES = {
    "neutral": (1e-3, 2e-3, 4e-3),
    "no gate + l1": (1e-3, 2e-3, 4e-3),
    "adapter": (2e-4, 4e-4, 8e-4, 2e-3),
    "lora": (4e-4, 8e-4, 2e-3),
    "full": (5e-5, 2e-4, 1e-3),
}

SCALES = {
    "smoke": Scale(
        32, 2, 2, 32, 259, 6, 3e-3, 4, 4, 3_000, 1.0, dict.fromkeys(_RATES, (1e-3, 4e-3)) | {"full": (1e-3,)}
    ),
    "mini": Scale(128, 4, 4, 128, 259, 300, 3e-3, 100, 16, 73_000, 1.0, _RATES),
    "gpu": Scale(
        768, 12, 12, 512, 16_000, 900, 6e-4, 300, 64, 500_000, 1.0,
        {name: tuple(lr / 4 for lr in rates) for name, rates in _RATES.items()}, device="cuda", precision="bf16",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A model that has read English, and texts of both domains."""

    model: Any
    tokenizer: Any
    english: Corpus
    """What the model was trained on."""
    topics: Corpus
    """English from another source, which stands for the original training; measured on `english`'s held-out files."""
    code: Corpus
    """The new domain."""


def world(scale: Scale, part: PartOfRun, *, tuning: bool = False) -> World:
    """Texts and base model of one seed; the model is trained, or read back from an interrupted run.

    Args:
        scale: sizes.
        part: the seed's part of the run.
        tuning: measure on the files that are there for choosing settings.
    """
    english = [
        (d.group, _without_examples(d.text)) for d in _documentation() if not d.group.startswith("topic:")
    ]
    topics = [d.text for d in _documentation() if d.group.startswith("topic:")]
    code = [(d.group, d.text) for d in _code()]
    tokenizer = train_bpe([text for _, text in english[::7]], scale.vocab)

    def split(texts: list[tuple[str, str]]) -> Corpus:
        held = [text for group, text in texts if _place(group) == ("tuning" if tuning else "held")]
        train = [text for group, text in texts if _place(group) == "train"]
        return Corpus(pack(train, tokenizer), pack(_until(held, scale.held_bytes), tokenizer))

    words, source = split(english), split(code)
    cfg = TrainConfig(
        lr=scale.base_lr,
        batch_size=scale.batch_size,
        max_steps=scale.base_steps,
        epochs=1_000,
        max_length=scale.length,
        schedule="cosine",
        warmup_ratio=0.1,
        precision=scale.precision,
        checkpoint_every=0,
    )
    model = new_llama(
        tokenizer,
        hidden=scale.hidden,
        layers=scale.layers,
        heads=scale.heads,
        max_length=scale.length,
        generator=part.rng.child("model"),
    ).to(scale.device)
    rows = words.train.rows(scale.length)
    batches = Mixture(rows, None, 0.0, scale.batch_size, generator=part.rng.child("base"))
    fit(model, batches, lambda m, batch: causal_loss(m, _plain(batch)), cfg, run=part)
    return World(model.eval(), tokenizer, words, Corpus(pack(topics, tokenizer), words.held), source)


def _plain(batch: Any) -> dict[str, Any]:
    return {name: batch[name] for name in ("input_ids", "labels")}


def _place(group: str) -> str:
    """Which part a file belongs to."""
    at = share_of(group)
    return "held" if at < HELD else "tuning" if at < HELD + TUNING else "train"


def _until(texts: list[str], n_bytes: int) -> Iterator[str]:
    """Texts from the first on, until they have so many bytes."""
    left = n_bytes
    for text in texts:
        if left <= 0:
            return
        yield text
        left -= len(text.encode("utf-8", "surrogatepass"))


def _without_examples(text: str) -> str:
    """Documentation without the lines of its interactive examples, which are code."""
    return re.sub(r"(?m)^\s*(>>>|\.\.\.).*\n?", "", text)


@cache
def _documentation() -> list[Documentation]:
    return list(stdlib_documentation())


@cache
def _code() -> list[Documentation]:
    return list(stdlib_code())
