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
        return _first_above(cumulative, uniform * cumulative[:, -1])
    # Many rows of a trained model are sure: their likeliest token alone holds top_p. Only others are sorted.
    likeliest, tokens = probs.max(-1)
    unsure = (likeliest < top_p).nonzero().squeeze(-1)
    if len(unsure):
        descending, order = probs[unsure].sort(dim=-1, descending=True, stable=True)
        cumulative = descending.cumsum(-1)
        last = (cumulative < top_p).sum(-1, keepdim=True).clamp(max=probs.shape[-1] - 1)
        mass = cumulative.gather(-1, last).squeeze(-1)
        place = _first_above(cumulative, uniform[unsure] * mass)
        tokens[unsure] = order.gather(-1, place[:, None]).squeeze(-1)
    return tokens


def _first_above(cumulative: Float[Tensor, "B V"], target: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    place = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(-1)
    return place.clamp(max=cumulative.shape[-1] - 1)
