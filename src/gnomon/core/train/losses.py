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


CHUNK = 1 << 24
"""Numbers over the vocabulary that exist in float32 beside logits of 16 bits at the same time: 64 MiB."""


def token_cross_entropy(
    logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"], reduction: str = "sum"
) -> Float[Tensor, ""]:
    """Next-token cross entropy (nats): the logits at a token are held against the label of the next one.

    Large logits of 16 bits are worked a few rows at a time, forward and backward at once: beside them stands their gradient, of
    their size and type, and never a float32 copy of all. Logits in float32 are taken as they are, which is faster.

    Args:
        logits: the model's logits.
        labels: token ids, `IGNORED` where a token is no target.
        reduction: `"sum"` over the targets, or `"token_mean"`; the mean of no targets is 0.
    """
    # Shifting the labels leaves the logits, much the larger tensor, uncopied.
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    flat = logits.flatten(0, 1)
    is_copied = flat.dtype != torch.float32 and flat.numel() > CHUNK
    total = _chunked(flat, targets) if is_copied else _summed(flat, targets)
    return total if reduction == "sum" else total / (targets != IGNORED).sum().clamp(min=1)


def _summed(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    return torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross entropy whose gradient is worked out together with it, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        rows = max(1, CHUNK // logits.shape[-1])
        total = torch.zeros((), device=logits.device)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for first in range(0, len(logits), rows):
            wanted = targets[first : first + rows]
            is_target = wanted != IGNORED
            chunk = logits[first : first + rows].float()
            norm, places = chunk.logsumexp(-1, keepdim=True), wanted.clamp(min=0)[:, None]
            total += ((norm - chunk.gather(-1, places)) * is_target[:, None]).sum()
            if gradient is not None:  # softmax, less 1 at the target
                share = chunk.sub_(norm).exp_()
                share.scatter_add_(-1, places, -torch.ones_like(norm))
                gradient[first : first + rows] = share.mul_(is_target[:, None])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None


def _chunked(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    total: Tensor = _ChunkedCrossEntropy.apply(logits, targets)
    return total


def causal_loss(model: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Summed cross entropy of a causal model on a micro-batch with `labels` beside the model's inputs.

    With `weights` [B, T] each target counts so many times; `soft` [B, S, 3] adds targets that are distributions: place, token id
    and probability, see `Batches`.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "weights", "soft")}
    logits, labels = model(**inputs, use_cache=False).logits, batch["labels"]
    weights = batch.get("weights")
    total = (
        token_cross_entropy(logits, labels)
        if weights is None
        else _weighted_cross_entropy(logits, labels, weights)
    )
    return total + soft_cross_entropy(logits, batch["soft"], weights) if "soft" in batch else total


def _weighted_cross_entropy(
    logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"], weights: Float[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """As `token_cross_entropy`, each target times its weight; only targets are worked out in float32."""
    is_target = labels[:, 1:] != IGNORED
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1][is_target].float(), labels[:, 1:][is_target], reduction="none"
    )
    return (losses * weights[:, 1:][is_target]).sum()


def soft_cross_entropy(
    logits: Float[Tensor, "B T V"],
    soft: Float[Tensor, "B S 3"],
    weights: Float[Tensor, "B T"] | None = None,
) -> Float[Tensor, ""]:
    """Summed cross entropy (nats) against distributions over the next token.

    Args:
        logits: the model's logits; those before a place predict it.
        soft: place, token id and probability; the place -1 is none.
        weights: of each token, as in `causal_loss`.
    """
    rows, entries = (soft[..., 0] > 0).nonzero(as_tuple=True)
    places, tokens, shares = soft[rows, entries].unbind(-1)
    places = places.long()
    logprobs = logits[rows, places - 1].float().log_softmax(-1).gather(-1, tokens.long()[:, None])
    losses = -shares.float() * logprobs.squeeze(-1)
    return (losses if weights is None else losses * weights[rows, places]).sum()
