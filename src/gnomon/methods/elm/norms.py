"""How long the gradient of each loss term is, over a whole batch and all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Norms:
    """Gradients of loss terms, added up over the micro-batches of a step.

    Args:
        parameters: what is trained.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.parameters = list(parameters)
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Add a micro-batch's terms, whose graph stays; returns the length of each gradient of this micro-batch alone."""
        lengths = {}
        for name, value in terms.items():
            found = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
            parts = [
                torch.zeros_like(p) if g is None else g for g, p in zip(found, self.parameters, strict=True)
            ]
            flat = over_processes(torch.cat([part.flatten().float() for part in parts]))
            lengths[name] = float(flat.norm())
            self._sums[name] = self._sums[name] + flat if name in self._sums else flat
        return lengths

    def take(self) -> dict[str, float]:
        """Length of each term's gradient over the step; empty where it was not measured. What was added is forgotten."""
        found = {name: float(flat.norm()) for name, flat in self._sums.items()}
        self._sums = {}
        return found


def over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
    return value


def total(sums: Mapping[str, float], model: Any) -> dict[str, float]:
    """Sums over all processes; every process must have the same names."""
    device = next(model.parameters()).device
    flat = over_processes(torch.tensor(list(sums.values()), device=device))
    return dict(zip(sums, flat.tolist(), strict=True))
