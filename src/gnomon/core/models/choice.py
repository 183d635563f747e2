"""One token per row from a batch of logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def choose(
    logits: Float[Tensor, "B V"], temperature: float, top_p: float, uniform: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """The token of each row at which the cumulative distribution passes the row's uniform number.

    Args:
        logits: the model's logits.
        temperature: divides them; 0 takes the largest, the first of equals.
        top_p: the likeliest tokens are kept until they hold this much probability, in (0, 1].
        uniform: numbers in [0, 1); unused at temperature 0.
    """
    if temperature == 0:
        return logits.argmax(-1)
    probs = torch.softmax(logits.float() / temperature, -1)
    if top_p == 1:
        cumulative = probs.cumsum(-1)
        return _invert(cumulative, uniform, cumulative[:, -1])
    # Many rows of a trained model are sure: their likeliest token alone holds top_p. Only others are sorted.
    likeliest, tokens = probs.max(-1)
    unsure = (likeliest < top_p).nonzero().squeeze(-1)
    if len(unsure):
        descending, order = probs[unsure].sort(dim=-1, descending=True, stable=True)
        cumulative = descending.cumsum(-1)
        last = (cumulative < top_p).sum(-1, keepdim=True).clamp(max=probs.shape[-1] - 1)
        mass = cumulative.gather(-1, last).squeeze(-1)
        place = _invert(cumulative, uniform[unsure], mass)
        tokens[unsure] = order.gather(-1, place[:, None]).squeeze(-1)
    return tokens


def _invert(
    cumulative: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], mass: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """First place of each row whose cumulative sum is above its share of `mass`, the sum that counts as 1."""
    # Rounding may lift the product to the mass itself, which only a token of probability 0 could pass.
    target = torch.minimum(uniform * mass, torch.nextafter(mass, torch.zeros_like(mass)))
    return torch.searchsorted(cumulative, target[:, None], right=True).squeeze(-1)
