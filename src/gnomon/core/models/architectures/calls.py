"""Calls of a model's modules with what went in and came out, and what it means that two tensors are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Call:
    """One call of one module."""

    path: str
    module: nn.Module
    enter: int
    """When it began, counted in calls and returns."""
    exit: int = 0
    """When it returned."""
    x: Tensor | None = None
    """Its first tensor of numbers, copied before the call: some modules change it."""
    y: Tensor | None = None
    """The first tensor that it returned, copied before anyone could change it."""
    reads_ids: bool = False
    """Whether it was called with token ids or their vectors."""
    reads_states: bool = False
    """Whether it was called with the states of an encoder, or of another tower."""
    is_plain: bool = False
    """Whether it returned a tensor or a tuple that begins with one: a hook can put another in its place."""


def recorded(model: nn.Module, run: Callable[[], Any]) -> tuple[list[Call], Any]:
    """Every call of every module, in the order in which they began, and what the model returned."""
    calls: list[Call] = []
    open_calls: list[Call] = []
    clock = itertools.count()
    hooks = []

    def begin(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(path, module, next(clock))
        call.x = _copied(_first((*args, kwargs.get("hidden_states"), *kwargs.values())))
        ids = args[0] if args else kwargs.get("input_ids")
        call.reads_ids = (
            isinstance(ids, Tensor) and not ids.is_floating_point() and ids.dim() == 2
        ) or kwargs.get("inputs_embeds") is not None
        call.reads_states = any(
            isinstance(value, Tensor) and name.endswith("_states") and name != "hidden_states"
            for name, value in kwargs.items()
        )
        calls.append(call)
        open_calls.append(call)

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = open_calls.pop()
        call.exit = next(clock)
        call.y = _copied(_first(_values(output)))
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        call.is_plain = isinstance(first, Tensor)

    try:
        for path, module in model.named_modules():
            hooks.append(
                module.register_forward_pre_hook(
                    lambda m, a, k, path=path: begin(path, m, a, k), with_kwargs=True
                )
            )
            hooks.append(module.register_forward_hook(end))
        output = run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls, output


def _values(output: Any) -> Sequence[Any]:
    """What a module returned, one after another."""
    if isinstance(output, (tuple, list)):
        return output
    return tuple(output.values()) if isinstance(output, dict) else (output,)


def _first(values: Sequence[Any]) -> Tensor | None:
    return next((v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.dim() >= 2), None)


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().cpu().clone()


def is_norm(module: nn.Module) -> bool:
    """Whether a module has no weights but one or two per feature: it normalises."""
    return all(parameter.dim() <= 1 for parameter in module.parameters())


def ratio(a: Tensor, b: Tensor) -> float | None:
    """The number that `a` is multiplied by to give `b`; None where there is none."""
    if a.numel() != b.numel():
        return None
    a, b = a.flatten(), b.flatten()
    square = float(a.double() @ a.double())
    if not square:
        return None
    factor = float(a.double() @ b.double()) / square
    if not same(a * factor, b):
        return None
    return 1.0 if abs(factor - 1) < 1e-4 else factor


def like(tensor: Tensor | None, other: Tensor) -> Tensor:
    """`tensor` in the shape of `other`."""
    assert tensor is not None
    return tensor.reshape(other.shape)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors agree up to rounding, in reading order."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    a = a if a.shape == b.shape else a.reshape(b.shape)
    size = b.abs()
    share = rounding.get()
    return bool(size.mean() > 0) and bool(((a - b).abs() <= share * (size.mean() + size)).all())


rounding: ContextVar[float] = ContextVar("rounding", default=1e-3)
"""Largest difference of numbers that are taken for the same, as a share of their size and of the mean size."""

ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}
"""By type of the weights; 16-bit sums agree to about two digits."""
