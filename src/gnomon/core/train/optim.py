"""AdamW with decay groups, and learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gnomon.errors import BadInput


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups for AdamW: matrices decay, vectors (norms, biases) do not.

    Raises:
        BadInput: nothing in the model is trainable.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise BadInput(
            f"{type(model).__name__} has no trainable parameter. Set requires_grad or add adapters."
        )
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_adamw(groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.AdamW:
    """AdamW over parameter groups; a group may bring its own `lr` and `weight_decay`.

    Betas are 0.9 and 0.999, epsilon 1e-8. Each group remembers its peak rate as `lr_peak` for the schedule.
    """
    groups = [{"lr": lr, **group} for group in groups]
    for group in groups:
        group["lr_peak"] = group["lr"]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to `factor` times its peak; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr_peak"] * factor
    return float(optimizer.param_groups[0]["lr"])


def lr_factor(step: int, total: int, warmup_ratio: float, schedule: str) -> float:
    """Learning rate as a share of its peak.

    Args:
        step: optimiser steps taken so far, from 0.
        total: optimiser steps in all.
        warmup_ratio: share of `total`, rounded up, over which the rate rises in equal steps to its peak.
        schedule: `"linear"` or `"cosine"` fall and would reach 0 after the last step; `"constant"` stays.

    >>> [lr_factor(step, 6, 0.33, "linear") for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    if schedule == "linear":
        return 1 - share
    return 0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1.0
