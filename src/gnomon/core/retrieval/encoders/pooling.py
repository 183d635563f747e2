"""From hidden states to one vector a text: pooling over its tokens, then dense layers, as sentence-transformers names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gnomon.errors import BadConfig, nearest


def _share(hidden: Tensor, weights: Tensor) -> Tensor:
    return (hidden * weights[..., None]).sum(1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[torch.arange(len(mask), device=mask.device), mask.long().argmax(1)]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    columns = torch.arange(mask.shape[1], device=mask.device)
    return hidden[torch.arange(len(mask), device=mask.device), (columns * mask).argmax(1)]


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(~mask[..., None], -torch.inf).max(1).values


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return _share(hidden, mask.float()) / mask.sum(1, keepdim=True)


def _mean_sqrt(hidden: Tensor, mask: Tensor) -> Tensor:
    return _share(hidden, mask.float()) / mask.sum(1, keepdim=True).sqrt()


def _weighted(hidden: Tensor, mask: Tensor) -> Tensor:
    # The weight of a token is its place in the text from 1; a prefix that does not count keeps its places.
    weights = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    return _share(hidden, weights.float()) / weights.sum(1, keepdim=True)


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
    "lasttoken": _last,
}
"""Name, as sentence-transformers has it -> function of hidden states [B, T, D] and a mask [B, T], True at tokens that
count. Texts begin at column 0."""


@dataclass(frozen=True)
class Dense:
    """A dense layer behind the pooling."""

    linear: nn.Linear
    """Its weights."""
    activation: str
    """Class of `torch.nn`, such as Tanh or Identity."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """The layer applied to [B, D]."""
        result: Tensor = getattr(nn, self.activation)()(self.linear(vectors))
        return result


@dataclass(frozen=True)
class Readout:
    """How one vector is read from the hidden states of a text."""

    pooling: tuple[str, ...] = ("mean",)
    """Names of `POOLINGS`; the results of several are put behind each other."""
    counts_prefix: bool = True
    """Whether the tokens of the prefix, and special ones in front of it, are pooled too."""
    steps: tuple[Dense | None, ...] = ()
    """What follows: dense layers; None is a scaling to unit length. One at the end is always added."""

    def __post_init__(self) -> None:
        for name in self.pooling:
            if name not in POOLINGS:
                raise BadConfig(f'No pooling is called "{name}". {nearest(name, POOLINGS)}')
        if not self.pooling:
            raise BadConfig(f"A pooling must be named: {', '.join(POOLINGS)}.")

    def dim(self, hidden: int) -> int:
        """Length of a vector, from that of a hidden state."""
        layers = [step for step in self.steps if step is not None]
        return layers[-1].linear.out_features if layers else hidden * len(self.pooling)

    def __call__(
        self, hidden: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], prefix: int = 0
    ) -> Float[Tensor, "B E"]:
        """The vectors of texts, float32 and not yet of unit length.

        Args:
            hidden: the last hidden states, texts from column 0 on.
            mask: True at tokens.
            prefix: tokens at the beginning that `counts_prefix` is about.
        """
        hidden = hidden.float()
        if prefix and not self.counts_prefix:
            mask = mask.clone()
            mask[:, :prefix] = False
        vectors = torch.cat([POOLINGS[name](hidden, mask) for name in self.pooling], -1)
        for step in self.steps:
            vectors = nn.functional.normalize(vectors, dim=-1) if step is None else step(vectors)
        return vectors

    def settings(self) -> dict[str, Any]:
        """What a fingerprint needs beside the weights of the steps."""
        names: Sequence[str] = ["unit" if step is None else step.activation for step in self.steps]
        return {"pooling": self.pooling, "counts_prefix": self.counts_prefix, "steps": names}
