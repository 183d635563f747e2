"""Settings of a training run. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from gnomon.errors import BadConfig

TRACKERS = ("tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    LOOSE: ClassVar = (
        "micro_batch_size",
        "packing",
        "gradient_checkpointing",
        "sharded",
        "checkpoint_every",
        "keep_checkpoints",
        "track",
    )
    """How a batch is computed and what is kept beside it, but not what it is: a training may be continued with others."""
    GROWS: ClassVar = ("epochs", "max_steps")
    """How long: with more a training goes on, a finished one too."""

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
    warmup_steps: int | None = None
    """The same as a number of steps. None: by the share."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up; linear and cosine fall to the floor."""
    min_lr_ratio: float = 0.0
    """The floor, as a share of the peak: where linear and cosine end."""
    grad_clip: float | None = 1.0
    """Longest gradient norm; longer gradients are scaled down. None: no clipping."""
    precision: Literal["no", "bf16"] = "no"
    """"no" computes in float32, "bf16" in mixed precision; frozen 16-bit weights need that and get it."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """"adamw8bit" keeps both moments in 8 bit, a quarter of the memory; it needs torchao."""
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping its inner states: less memory, about a third more time."""
    packing: bool = False
    """Put several examples into a row of at most `max_length` tokens; none sees another. The result is that of padded rows."""
    sharded: bool = False
    """Split weights, gradients and optimiser states over the processes (FSDP2), where each would hold all of them (DDP)."""
    eval_share: float = 0.0
    """Share of the examples that are set aside, to evaluate on during training."""
    eval_every: int | None = None
    """Steps between evaluations; None: after each epoch. The last step is always followed by one."""
    keep_best: bool = False
    """End with the weights of the best evaluation; else with the last."""
    checkpoint_every: int = 500
    """Steps between checkpoints to resume from; 0: only at the end."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay; 0: none once training has ended, which can then not be continued."""
    track: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Trackers that are shown the numbers of every step, beside metrics.jsonl."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank and leave the model's weights alone; None: train all weights."""

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that decide the result: all but the loose ones, as plain values."""
        return {name: value for name, value in asdict(self).items() if name not in self.LOOSE}

    def __post_init__(self) -> None:
        _require(self.lr > 0, "lr", "> 0", self.lr)
        for name in ("batch_size", "epochs"):
            _require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for name in ("micro_batch_size", "max_steps", "eval_every", "lora_rank"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, ">= 1 or None", value)
        _require(self.max_length >= 2, "max_length", ">= 2", self.max_length)
        _require(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
        _require(0 <= self.warmup_ratio <= 1, "warmup_ratio", "in 0..1", self.warmup_ratio)
        _require(self.grad_clip is None or self.grad_clip > 0, "grad_clip", "> 0 or None", self.grad_clip)
        _require(0 <= self.min_lr_ratio <= 1, "min_lr_ratio", "in 0..1", self.min_lr_ratio)
        _require(0 <= self.eval_share < 1, "eval_share", ">= 0 and < 1", self.eval_share)
        for name in ("checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))
        _require(
            self.warmup_steps is None or self.warmup_steps >= 0,
            "warmup_steps",
            ">= 0 or None",
            self.warmup_steps,
        )
        for name, allowed in (
            ("reduction", ("sum", "token_mean")),
            ("schedule", ("linear", "cosine", "constant")),
            ("precision", ("no", "bf16")),
            ("optimizer", ("adamw", "adamw8bit")),
        ):
            words = " or ".join(f'"{word}"' for word in allowed)
            _require(getattr(self, name) in allowed, name, words, f'"{getattr(self, name)}"')
        for name in self.track:
            _require(name in TRACKERS, "track", " or ".join(f'"{word}"' for word in TRACKERS), f'"{name}"')


def _require(is_right: bool, name: str, allowed: str, value: object) -> None:
    if not is_right:
        raise BadConfig(f"train.{name} must be {allowed}; got {value}.")
