"""Losses as sums over targets, so that any split of a batch adds up to the same value.

A mean over a micro-batch is not: micro-batches hold different numbers of target tokens. The loop sums, and
divides once by the number of targets of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100


def token_cross_entropy(
    logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"], reduction: str = "sum"
) -> Float[Tensor, ""]:
    """Next-token cross entropy (nats): the logits at a token are held against the label of the next one.

    Args:
        logits: the model's logits.
        labels: token ids, `IGNORED` where a token is no target.
        reduction: `"sum"` over the targets, or `"token_mean"`; the mean of no targets is 0.
    """
    # Shifting the labels leaves the logits, much the larger tensor, uncopied.
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum"
    )
    return total if reduction == "sum" else total / (targets != IGNORED).sum().clamp(min=1)


def causal_loss(model: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Summed cross entropy of a causal model on a micro-batch with `labels` beside the model's inputs."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    return token_cross_entropy(model(**inputs, use_cache=False).logits, batch["labels"])
