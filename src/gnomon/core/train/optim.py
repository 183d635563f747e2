"""AdamW with decay groups, and learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from gnomon.core.train.config import TrainConfig
from gnomon.errors import BadConfig, BadInput, MissingExtra


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
    _check_quantised(model)
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _check_quantised(model: nn.Module) -> None:
    """Refuse to train a model itself whose weights are in 8 or 4 bits; adapters and blocks beside it may be trained.

    Such weights take no gradient, or round every update away, and norms and embeddings would be trained alone, without a word.
    """
    from transformers import PreTrainedModel

    for part in model.modules():
        if not isinstance(part, PreTrainedModel) or not getattr(part, "is_quantized", False):
            continue
        if next(part.get_input_embeddings().parameters()).requires_grad:
            raise BadConfig(
                f"{type(part).__name__} is loaded in 8 or 4 bits, and its own weights cannot be trained so. Train adapters on it "
                "(LoRA), or load it without --quantize."
            )


def make_adamw(
    groups: Iterable[dict[str, Any]], lr: float, *, kind: Literal["adamw", "adamw8bit"] = "adamw"
) -> torch.optim.Optimizer:
    """AdamW over parameter groups; a group may bring its own `lr`, `betas`, `weight_decay` and, see `clip_gradients`, `grad_clip`.

    Betas are 0.9 and 0.999, epsilon 1e-8. Each group remembers its peak rate as `lr_peak` for the schedule.

    Args:
        groups: as torch's optimisers take them.
        lr: peak rate of groups without one of their own.
        kind: `"adamw8bit"` keeps the moments of larger matrices in blocks of 8 bit, by torchao.

    Raises:
        MissingExtra: torchao is not installed.
    """
    groups = [{"lr": lr, **group} for group in groups]
    for group in groups:
        group["lr_peak"] = group["lr"]
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0, fused=True)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise MissingExtra.of("torchao", "quant") from error
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=lr, weight_decay=0.0)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to `factor` times its peak; returns the first group's."""
    for group in optimizer.param_groups:
        rate = group["lr_peak"] * factor
        if isinstance(group["lr"], torch.Tensor):  # what is compiled reads it from there
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    return float(optimizer.param_groups[0]["lr"])


def lr_factor(step: int, total: int, warmup: int, schedule: str, floor: float = 0.0) -> float:
    """Learning rate as a share of its peak.

    Args:
        step: optimiser steps taken so far, from 0.
        total: optimiser steps in all.
        warmup: steps over which the rate rises in equal steps to its peak.
        schedule: `"linear"` or `"cosine"` fall and would reach the floor after the last step; `"constant"` stays.
        floor: where they end, as a share of the peak.

    >>> [lr_factor(step, 6, 2, "linear") for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [round(lr_factor(step, 3, 0, "linear", 0.1), 2) for step in range(3)]
    [1.0, 0.7, 0.4]
    """
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    falls = {"linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}
    return floor + (1 - floor) * falls[schedule] if schedule in falls else 1.0


def warmup_of(cfg: TrainConfig, total: int) -> int:
    """Steps of the warm-up: as many as `cfg` names, or its share of all, rounded up."""
    return math.ceil(cfg.warmup_ratio * total) if cfg.warmup_steps is None else cfg.warmup_steps


def clip_gradients(groups: Iterable[dict[str, Any]], longest: float | None) -> torch.Tensor:
    """Scale long gradients down; returns the length of the whole gradient before.

    A group with `grad_clip` of its own (None: no clipping) is clipped by its own length, and by nothing else: a critic's large
    loss then does not shrink the policy's step. Such groups of one `clip_name` are clipped by their common length. All other
    groups are clipped together.

    Args:
        groups: parameter groups of an optimiser.
        longest: norm of the gradient of all groups without one of their own; None: they are not clipped.
    """
    groups = list(groups)
    together = [p for group in groups if "grad_clip" not in group for p in group["params"]]
    apart: dict[Any, tuple[list[Any], float | None]] = {}
    for i, group in enumerate(groups):
        if "grad_clip" in group:
            apart.setdefault(group.get("clip_name", i), ([], group["grad_clip"]))[0].extend(group["params"])
    lengths = []
    for parameters, limit in [(together, longest), *apart.values()]:
        if parameters:
            lengths.append(torch.nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit))
    return lengths[0] if len(lengths) == 1 else torch.linalg.vector_norm(torch.stack(lengths))
