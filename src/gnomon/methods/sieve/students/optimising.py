"""The optimiser's steps, without a global seed: what a step draws is a function of its generator alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from gnomon.core.rng import Rng, seeded
from gnomon.core.train.optim import decay_groups, lr_factor, make_adamw, set_lr
from gnomon.errors import UserError
from gnomon.methods.sieve.students.scoring import arithmetic

WARMUP = 0.1  # share of the steps
GRAD_CLIP = 1.0  # longest gradient norm

Batch = TypeVar("Batch")


def optimise(
    model: nn.Module,
    batches: Iterator[Batch],
    loss_of: Callable[[Batch], Tensor],
    *,
    steps: int,
    lr: float,
    weight_decay: float,
    precision: str,
    rng: Rng,
) -> Iterator[tuple[int, float]]:
    """Take steps of AdamW with warm-up and linear decay; after each, its number from 1 and its loss.

    Args:
        model: in training mode during a step; the caller may evaluate it between steps.
        batches: at least `steps` of them.
        loss_of: the loss of a batch, a scalar.
        steps: steps in all.
        lr: peak learning rate.
        weight_decay: decoupled weight decay of matrices.
        precision: `"float32"`, `"bf16"` or `"auto"`.
        rng: what dropout draws from, step by step.

    Raises:
        UserError: the loss is not finite.
    """
    device = next(model.parameters()).device
    optimizer = make_adamw(decay_groups(model, weight_decay), lr)
    for step in range(steps):
        model.train()
        set_lr(optimizer, lr_factor(step, steps, WARMUP, "linear"))
        with seeded(rng.child("step", step), device):
            with arithmetic(device, precision):
                loss = loss_of(next(batches))
            loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(
                f"Training stopped at step {step + 1}: the loss is {value}. Lower the learning rate."
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad()
        yield step + 1, value
