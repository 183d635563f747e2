"""Settings of a training run. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnomon.errors import BadConfig


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    lr: float = 5e-5
    """Peak learning rate of AdamW."""
    batch_size: int = 32
    """Examples per optimiser step, over all processes."""
    micro_batch_size: int | None = None
    """Examples a process computes at once; its share of a batch is accumulated. None: the whole share."""
    epochs: int = 1
    """Passes over the examples."""
    max_steps: int | None = None
    """Optimiser steps at most; None: as many as the epochs have."""
    max_length: int = 1024
    """Longer examples are cut on the right to this many tokens."""
    reduction: Literal["sum", "token_mean"] = "token_mean"
    """Loss of a batch: the sum over its target tokens or their mean; every token weighs the same."""
    weight_decay: float = 0.01
    """Decoupled weight decay; norms and biases are spared."""
    warmup_ratio: float = 0.0
    """Share of the steps over which the learning rate rises from 0 to its peak."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up; linear and cosine end near 0."""
    grad_clip: float | None = 1.0
    """Longest gradient norm; longer gradients are scaled down. None: no clipping."""
    precision: Literal["no", "bf16"] = "no"
    """"no" computes in float32, "bf16" in mixed precision; frozen 16-bit weights need that and get it."""
    checkpoint_every: int = 500
    """Steps between checkpoints to resume from; 0: only at the end."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank and leave the model's weights alone; None: train all weights."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, "lr", "> 0", self.lr)
        for name in ("batch_size", "epochs"):
            _require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for name in ("micro_batch_size", "max_steps", "lora_rank"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, ">= 1 or None", value)
        _require(self.max_length >= 2, "max_length", ">= 2", self.max_length)
        _require(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
        _require(0 <= self.warmup_ratio <= 1, "warmup_ratio", "in 0..1", self.warmup_ratio)
        _require(self.grad_clip is None or self.grad_clip > 0, "grad_clip", "> 0 or None", self.grad_clip)
        _require(self.checkpoint_every >= 0, "checkpoint_every", ">= 0", self.checkpoint_every)
        for name, allowed in (
            ("reduction", ("sum", "token_mean")),
            ("schedule", ("linear", "cosine", "constant")),
            ("precision", ("no", "bf16")),
        ):
            words = " or ".join(f'"{word}"' for word in allowed)
            _require(getattr(self, name) in allowed, name, words, f'"{getattr(self, name)}"')


def _require(is_right: bool, name: str, allowed: str, value: object) -> None:
    if not is_right:
        raise BadConfig(f"train.{name} must be {allowed}; got {value}.")
