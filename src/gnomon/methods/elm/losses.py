"""The three losses of ELM, each a sum over tokens: erase towards q, retain the frozen model, stay fluent.

A fluent text is learned with the ordinary next-token loss, `gnomon.core.train.losses.token_cross_entropy`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gnomon.methods.elm.design import Hardness
from gnomon.methods.elm.target import Target

ROWS = 1024
"""Tokens over whose vocabulary a divergence is worked at once."""


def erase_loss(
    logits: Float[Tensor, "B T V"], target: Target, hardness: Hardness = "soft"
) -> Float[Tensor, ""]:
    """Cross-entropy of the adapted model's logits against q, summed over the texts' tokens.

    -sum_k q_k (z_k - logsumexp z): only the k kept tokens are needed. `hard` takes the likeliest of q alone.
    """
    kept, index = logits[target.mask].float(), target.index[target.mask]
    value = target.value[target.mask].to(kept)
    if hardness == "hard":
        index, value = index[:, :1], torch.ones_like(value[:, :1])
    wanted = kept.gather(-1, index)
    return ((kept.logsumexp(-1, keepdim=True) - wanted) * value).sum()


def retain_loss(
    logits: Float[Tensor, "B T V"],
    frozen: Float[Tensor, "B T V"],
    mask: Bool[Tensor, "B T"],
    hardness: Hardness = "soft",
) -> Float[Tensor, ""]:
    """KL(frozen || adapted), summed over tokens: 0 at the start. `hard`: cross-entropy against the frozen model's likeliest."""
    total = logits.new_zeros((), dtype=torch.float32)
    mine_all, theirs_all = logits[mask], frozen[mask]
    for first in range(0, len(mine_all), ROWS):
        new, old = mine_all[first : first + ROWS], theirs_all[first : first + ROWS]
        if hardness == "hard":
            total = total + torch.nn.functional.cross_entropy(new.float(), old.argmax(-1), reduction="sum")
            continue
        mine, theirs = new.float().log_softmax(-1), old.float().log_softmax(-1)
        total = total + torch.nn.functional.kl_div(mine, theirs, log_target=True, reduction="sum")
    return total
