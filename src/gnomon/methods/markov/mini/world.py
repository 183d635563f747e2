"""The miniature's models: the parity toy, and small models trained on freshly sampled chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from gnomon.core.models import new_llama, train_tiny
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import Batches, Example, GlobalBatch, TrainConfig
from gnomon.methods.markov.chain.chain import Floats
from gnomon.methods.markov.icl.reading import Prediction
from gnomon.methods.markov.icl.series import Series, sample

ORBITS = {"4-cycle": (0, 0, 1), "2-cycle": (0, 1, 0), "000": (0, 0, 0), "111": (1, 1, 1)}
"""Name -> first three bits; the parity rule is a shift register, and a text sees one orbit of it only."""

PERIODIC = ("4-cycle", "2-cycle")


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    toy_steps: int
    """Full-batch steps of the parity model."""
    bound_steps: int
    """Tokens for which the bound is checked."""
    steps: int
    """Steps of each in-context model."""
    hidden: int
    layers: int
    heads: int
    length: int
    """States of a series."""
    batch_size: int
    states: int
    """States of the drifting walks."""
    tests: int
    """Series of the comparison."""
    windows: tuple[tuple[int, int], ...]
    """(T, K) of the exact chains of the d = 3 model."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"


SCALES = {
    "smoke": Scale(20, 50, 12, 16, 1, 2, 32, 4, 12, 6, ((2, 4),)),
    "mini": Scale(300, 2000, 400, 64, 3, 4, 128, 32, 60, 300, ((2, 8),)),
    "gpu": Scale(
        300, 2000, 4000, 256, 6, 8, 512, 64, 700, 300, ((2, 12), (3, 7)), precision="bf16", device="cuda"
    ),
}  # fmt: skip


def llama(vocab: int, hidden: int, layers: int, heads: int, positions: int, rng: Rng) -> Any:
    """An untrained Llama over bare token numbers, without a tokenizer."""
    return new_llama(vocab, hidden, layers, heads, positions, rng, intermediate=4 * hidden, is_tied=False)


def parity_text(start: tuple[int, ...], length: int = 40) -> list[int]:
    """Bits of the rule: 0 if the sum of the last three is even, else 1.

    >>> parity_text((0, 0, 1), 8)
    [0, 0, 1, 1, 0, 0, 1, 1]
    """
    bits = list(start)
    while len(bits) < length:
        bits.append(sum(bits[-3:]) % 2)
    return bits


def train_toy(text: list[int], scale: Scale, part: PartOfRun) -> Any:
    """The toy model: hidden 16, four layers, trained on the 37 pairs of three bits and the next."""
    model = llama(2, 16, 4, 4, 8, part.rng.child("model"))
    pairs = [Example(text[i : i + 4], [-100, -100, -100, text[i + 3]]) for i in range(len(text) - 3)]
    cfg = TrainConfig(
        lr=1e-3,
        batch_size=len(pairs),
        epochs=scale.toy_steps,
        max_length=4,
        schedule="constant",
        checkpoint_every=0,
    )
    batches = Batches(pairs, len(pairs), pad_id=0, generator=part.rng)
    return train_tiny(model, batches, cfg, part)


class FreshChains:
    """Batches of series from chains that are drawn anew for every step.

    Args:
        law: states and a generator -> transition probabilities of one chain.
        states: d; token d begins every series.
        length: N.
        batch_size: chains per step.
        steps: steps in all.
        rng: names the draws.
    """

    def __init__(
        self, law: Callable[[int, Generator], Floats], states: int, length: int, batch_size: int, steps: int, rng: Rng
    ) -> None:  # fmt: skip
        self.law, self.states, self.length, self.batch_size = law, states, length, batch_size
        self.steps, self.rng = steps, rng

    def __len__(self) -> int:
        return self.steps

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        draw = self.rng.child("step", step, process).numpy()
        rows = -(-self.batch_size // processes)
        x = sample(np.stack([self.law(self.states, draw) for _ in range(rows)]), self.length, draw)
        ids = with_start(x, self.states)
        return GlobalBatch([{"input_ids": ids, "labels": ids}], rows * processes * self.length)


def train_learner(law: Callable[[int, Generator], Floats], states: int, scale: Scale, part: PartOfRun) -> Any:
    """A model trained from nothing to continue series of chains that it has never seen."""
    model = llama(
        states + 1, scale.hidden, scale.layers, scale.heads, scale.length + 1, part.rng.child("model")
    )
    cfg = TrainConfig(
        lr=2e-3 if scale.hidden <= 64 else 5e-4,
        batch_size=scale.batch_size,
        warmup_ratio=min(1.0, 50 / scale.steps),
        precision=scale.precision,
        checkpoint_every=0,
    )
    batches = FreshChains(law, states, scale.length, scale.batch_size, scale.steps, part.rng.child("chains"))
    return train_tiny(model, batches, cfg, part, device=scale.device)


@torch.no_grad()
def predictions(model: Any, chains: list[Series]) -> list[Prediction]:
    """What such a model predicts after every state of each series."""
    predicted: list[Prediction] = []
    states = chains[0].states
    for start in range(0, len(chains), 32):
        ids = with_start(np.stack([chain.x for chain in chains[start : start + 32]]), states)
        logits = model(input_ids=ids.to(model.device), use_cache=False).logits[:, 1:, :states]
        predicted += [Prediction.from_logits(row) for row in logits.double().cpu().numpy()]
    return predicted


def with_start(x: np.ndarray, states: int) -> Tensor:
    """Series `[B, N]` as token ids `[B, N + 1]`, behind the token that begins a series."""
    return torch.nn.functional.pad(torch.from_numpy(x), (1, 0), value=states)
