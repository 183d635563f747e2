"""How an extension is built and trained. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnomon.core.config import check

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
    """The feed-forward network's name within a layer."""
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
