"""How an extension is built and trained. Imports nothing heavy: the command line reads it.

How large an extension is: the same number of trained weights for every method that adds some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from gnomon.core.config import check
from gnomon.errors import BadConfig

Method = Literal["neutral", "adapter", "lora", "full"]
Gate = Literal["relu", "elu", "sigmoid", "none"]
Shape = Literal["scalar", "vector"]
Init = Literal["low_variance", "he"]
Local = Literal["l1", "ce", "none"]
BudgetOf = Literal["non_embedding", "total"]

METHODS: tuple[Method, ...] = ("neutral", "adapter", "lora", "full")


@dataclass(frozen=True, kw_only=True)
class Design:
    """An extension: its size, its blocks, its loss."""

    extra: float = 0.2
    """New weights as a share of the backbone's; LoRA gets the rank of as many."""
    budget_of: BudgetOf = "non_embedding"
    """What the share is taken of."""
    gate: Gate = "relu"
    """What opens a block."""
    gate_shape: Shape = "scalar"
    """One gate per token, or one per token and channel."""
    init: Init = "low_variance"
    """Variance of the first weights: 1 / (d L), or He's 2 / d."""
    act: str = "match"
    """Activation of the blocks, such as silu; match takes the model's own."""
    mlp_name: str = "mlp"
    """The feed-forward network's name within a layer; mlp also finds one of another name where there is only one."""
    alpha: float = 0.01
    """Weight of the local loss."""
    local: Local = "l1"
    """Local loss: l1 keeps what blocks add to text of the old domain small; ce teaches sigmoid gates which domain a text is of."""

    def __post_init__(self) -> None:
        check(self.extra > 0, "extra", "> 0", self.extra)
        check(self.alpha >= 0, "alpha", ">= 0", self.alpha)
        check(
            self.local != "ce" or self.gate == "sigmoid",
            "gate",
            "sigmoid where the local loss is ce",
            self.gate,
        )


# How large an extension is: the same number of trained weights for every method that adds some.

STEP = 8
"""Block widths are multiples of this."""


def count(model: nn.Module, *, trainable: bool = False) -> int:
    """Weights of a model, tied ones once; only those that are trained on request."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def backbone(model: Any, of: BudgetOf = "non_embedding") -> int:
    """Weights that the budget is a share of: all, or all but the embeddings into the model and out of it."""
    if of == "total":
        return count(model)
    tables = {
        id(e.weight): e.weight.numel()
        for e in (model.get_input_embeddings(), model.get_output_embeddings())
        if e
    }
    embeddings: int = sum(tables.values())
    return count(model) - embeddings


def block_width(budget: float, d: int, n_layers: int) -> int:
    """Width r of L blocks of 3 d r weights that together come closest to a budget, as a multiple of 8.

    Raises:
        BadConfig: not even the narrowest block fits.

    >>> block_width(157_000, 128, 4)
    104
    """
    width = round(budget / (3 * d * n_layers) / STEP) * STEP
    if width < STEP:
        raise BadConfig(
            f"{budget:,.0f} weights make blocks of width {budget / (3 * d * n_layers):.1f} in {n_layers} layers of width {d}, "
            f"and the narrowest is {STEP}. Raise --extra."
        )
    return width


def lora_rank(model: nn.Module, budget: float) -> int:
    """The rank at which adapters on every linear map but the output embedding have about as many weights, at least 1."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    from transformers.pytorch_utils import Conv1D

    linear = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    return max(1, round(budget / sum(sum(m.weight.shape) for m in linear)))
