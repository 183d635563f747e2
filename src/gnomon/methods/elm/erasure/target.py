"""The distribution q that an erased model is trained towards: the frozen model, reweighted by its expert and novice predictions.

log q = log p(x) + eta (log p(x | novice) - log p(x | expert)) - log Z, at every token of a text, kept to the k likeliest tokens.

The three losses of ELM, each a sum over tokens: erase towards q, retain the frozen model, stay fluent.

A fluent text is learned with the ordinary next-token loss, `gnomon.core.train.losses.token_cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.errors import BadConfig
from gnomon.methods.elm.erasure.design import Hardness, Reweighting, Schedule
from gnomon.methods.elm.texts.batches import Ids, join, text_logits, text_mask

ROWS = 128
"""Tokens for which numbers over the whole vocabulary exist in float64 at the same time."""


@dataclass(frozen=True)
class Target:
    """A distribution per token, as the k tokens that carry it."""

    index: Int[Tensor, "B T k"]
    """Which tokens."""
    value: Float[Tensor, "B T k"]
    """Their probabilities, which sum to 1."""
    mask: Bool[Tensor, "B T"]
    """True at tokens of the texts; elsewhere the numbers mean nothing."""

    @property
    def entropy(self) -> Float[Tensor, "B T"]:
        """Of each distribution, in nats."""
        entropy: Tensor = torch.special.entr(self.value).sum(-1)
        return entropy

    @property
    def support(self) -> Float[Tensor, "B T"]:
        """exp(entropy): how many tokens carry the mass. 1 is one-hot."""
        return self.entropy.exp()

    @property
    def mean_support(self) -> float:
        """Mean support over the texts' tokens."""
        return float(self.support[self.mask].mean())


def reweight(
    bare: Float[Tensor, "N V"],
    expert: Float[Tensor, "N V"],
    novice: Float[Tensor, "N V"],
    eta: Float[Tensor, " N"],
    *,
    top_k: int = 50,
    temperature: float = 1.2,
) -> tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]:
    """The k likeliest tokens of q per row and their probabilities, worked in float64 a few rows at a time.

    A log-softmax of each input would change every row by a constant, which the last softmax takes out again: none is made.

    Args:
        bare: logits without a prefix.
        expert: logits behind the expert's.
        novice: logits behind the novice's.
        eta: strength per row; negative strengthens the concept.
        top_k: tokens kept, exactly so many; at most V.
        temperature: divides all logits.

    Raises:
        BadConfig: `top_k` is not in 1..V, or the temperature not above 0.

    Source: ELM (arXiv 2410.02760), equation for P'(X) and its token-wise form.
    """
    if not 1 <= top_k <= bare.shape[-1]:
        raise BadConfig(
            f"top_k must be in 1..{bare.shape[-1]}, the size of the model's vocabulary; got {top_k}."
        )
    if not temperature > 0:
        raise BadConfig(f"temperature must be > 0; got {temperature}.")
    indices, values = [], []
    for first in range(0, max(1, len(bare)), ROWS):  # a process may have no token of its own
        rows = slice(first, first + ROWS)
        edit = novice[rows].double() - expert[rows].double()
        scores = (bare[rows].double() + eta[rows, None].to(edit) * edit) / temperature
        best = scores.topk(top_k, dim=-1)
        indices.append(best.indices)
        values.append(best.values.softmax(-1))
    return torch.cat(indices), torch.cat(values)


def eta_along(
    mask: Bool[Tensor, "B T"], eta: float, schedule: Schedule = "ramp", start: float = 1.0
) -> Float[Tensor, "B T"]:
    """Strength eta at each token: constant, or rising in equal steps from `start` at a text's first token to `eta` at its last.

    >>> eta_along(torch.tensor([[True, True, True]]), 5.0).tolist()
    [[1.0, 3.0, 5.0]]
    """
    if schedule == "constant":
        return torch.full(mask.shape, float(eta), dtype=torch.float64, device=mask.device)
    steps = (mask.sum(-1, keepdim=True) - 1).clamp(min=1)
    share = torch.arange(mask.shape[1], device=mask.device).double()[None] / steps
    return start + (eta - start) * share.clamp(max=1)


@torch.no_grad()
def frozen_logits(
    model: Any, texts: Sequence[Ids], prefixes: Sequence[Sequence[Ids]]
) -> list[Float[Tensor, "B T V"]]:
    """Logits of the same texts behind several sets of prefixes, in one call of the model.

    Args:
        model: in evaluation mode.
        texts: B texts.
        prefixes: per pass B prefixes.
    """
    together = [prefix for group in prefixes for prefix in group]
    batch, width = join(together, [*texts] * len(prefixes))
    logits = text_logits(model, batch.to(model.device), width)
    return list(logits.chunk(len(prefixes)))


def elm_target(
    model: Any,
    texts: Sequence[Ids],
    experts: Sequence[Ids],
    novices: Sequence[Ids],
    reweighting: Reweighting,
    *,
    start: Ids = (),
    noise: torch.Generator | None = None,
) -> Target:
    """The target q for every token of the texts, from three passes of a frozen model in one call. Nothing is drawn but `noise`.

    Args:
        model: a causal transformers model in evaluation mode, its adapters off.
        texts: token ids without special tokens.
        experts: per text the prefix c- with the begin-of-text token.
        novices: per text the prefix c+.
        reweighting: strength, schedule, truncation and temperature. Eta above 0 erases; the released code calls the expert's
            prompt "positive", ours does not turn signs around.
        start: what stands before the bare text: the begin-of-text token or nothing.
        noise: where the action `random` draws from.

    Raises:
        BadConfig: `top_k` is above the vocabulary, or a setting is out of range.
        BadInput: a text is empty.
    """
    mask = text_mask(texts).to(model.device)
    passes = frozen_logits(model, texts, [[start] * len(texts), experts, novices])
    return target_of(passes, mask, reweighting, noise=noise)


def target_of(
    passes: Sequence[Float[Tensor, "B T V"]],
    mask: Bool[Tensor, "B T"],
    reweighting: Reweighting,
    *,
    noise: torch.Generator | None = None,
) -> Target:
    """The target q from the logits of the three passes: bare, expert, novice. Arguments as in `elm_target`."""
    bare, expert, novice = (logits[mask] for logits in passes)
    top_k = reweighting.top_k
    strength = eta_along(mask, reweighting.eta, reweighting.eta_schedule, reweighting.eta_start)[mask]
    if reweighting.action == "enhance":
        strength = -strength
    if reweighting.action == "random":
        drawn = torch.randn(bare.shape, generator=noise, dtype=torch.float32).to(bare.device)
        bare, strength = drawn, torch.zeros_like(strength)
    index, value = reweight(bare, expert, novice, strength, top_k=top_k, temperature=reweighting.temperature)
    wide_index = torch.zeros(*mask.shape, top_k, dtype=torch.long, device=mask.device)
    wide_value = torch.zeros(*mask.shape, top_k, dtype=torch.float64, device=mask.device)
    wide_index[mask], wide_value[mask] = index, value
    return Target(wide_index, wide_value, mask)


# The three losses of ELM, each a sum over tokens: erase towards q, retain the frozen model, stay fluent.

LOSS_ROWS = 1024
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
    for first in range(0, len(mine_all), LOSS_ROWS):
        new, old = mine_all[first : first + LOSS_ROWS], theirs_all[first : first + LOSS_ROWS]
        if hardness == "hard":
            total = total + torch.nn.functional.cross_entropy(new.float(), old.argmax(-1), reduction="sum")
            continue
        mine, theirs = new.float().log_softmax(-1), old.float().log_softmax(-1)
        total = total + torch.nn.functional.kl_div(mine, theirs, log_target=True, reduction="sum")
    return total
