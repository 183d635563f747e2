"""Training in less memory: blocks that are computed again in the backward pass, and models split over the processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The model's blocks, as transformers marks them; in a model without marks, what its outermost lists of modules hold."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    marked: list[nn.Module] = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    return marked or list(_listed(model))


def _listed(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _listed(child)


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Inside the `with`, each block keeps its input alone and is computed again in the backward pass.

    Whether the model is in training mode plays no part, as it does in transformers' own switch: a frozen base in evaluation mode
    saves as much memory and its dropout stays off. Random numbers are the same both times.
    """
    from torch.utils.checkpoint import checkpoint

    blocks = blocks_of(model)
    own = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


@contextmanager
def sharded(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside the `with`, every process holds its share of the model's weights (FSDP2); afterwards each holds all of them again.

    The module stays the same object, so that what points into it (sites, losses, references) goes on working; its parameters are
    others inside, see `torch.distributed.tensor.DTensor`. Each block is gathered while it computes. All processes must enter
    together and call the model equally often.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole = _Whole(model)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    whole.rest()
    try:
        yield
    finally:
        whole.put_back()


class _Whole:
    """A model's modules and parameters as they were before they were sharded.

    Args:
        model: not yet sharded.
    """

    def __init__(self, model: nn.Module):
        self._modules = [
            (module, type(module), _inner(module), set(vars(module))) for module in model.modules()
        ]
        self._parameters = [
            (module, name, parameter)
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]
        self._added: list[tuple[nn.Module, set[str]]] = []

    def rest(self) -> None:
        """Give the memory of the whole parameters free, and note what sharding added to the modules."""
        self._added = [(module, set(vars(module)) - names) for module, _, _, names in self._modules]
        for _, _, parameter in self._parameters:
            parameter.data = parameter.data.new_empty(0)

    def put_back(self) -> None:
        """The modules as they were, their parameters with the values of now."""
        from torch.distributed import _composable_state

        values = {id(p): _full(module._parameters[name]) for module, name, p in self._parameters}
        for module, kind, inner, _ in self._modules:
            module.__class__ = kind
            vars(module).update(inner)
        for module, names in self._added:
            for name in names:
                vars(module).pop(name, None)
            # torch keeps a list of the modules that it has sharded, by which it would refuse to do so again.
            _composable_state._module_state_mapping.pop(module, None)
        for _, _, parameter in self._parameters:
            parameter.grad = None
            parameter.data = values[id(parameter)]


def _inner(module: nn.Module) -> dict[str, Any]:
    """What sharding changes within a module: its parameters and its hooks."""
    return {
        name: value.copy()
        for name, value in vars(module).items()
        if isinstance(value, dict) and (name == "_parameters" or "hooks" in name)
    }


def _full(parameter: Any) -> Tensor:
    return whole_of(parameter.detach())


def whole_of(tensor: Tensor) -> Tensor:
    """`tensor` itself, or all of it where the processes hold shares of it; every process must call this."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_distributed() -> bool:
    """Whether several processes, or one that was started as such, train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes hold shares of the model."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


@contextmanager
def own_gradients(wrapped: Any, *, is_kept: bool) -> Iterator[None]:
    """Inside the `with`, gradients stay with each process where `is_kept`: the last piece of a step puts them together.

    Args:
        wrapped: a model, sharded, wrapped for several processes, or as it is.
        is_kept: whether they stay.
    """
    if is_sharded(wrapped):
        wrapped.set_requires_gradient_sync(not is_kept)
        yield
    elif is_kept and hasattr(wrapped, "no_sync"):
        with wrapped.no_sync():
            yield
    else:
        yield


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside the `with`, a sharded model's weights outside its blocks are whole on every process."""
    if not is_sharded(model):
        yield
        return
    model.unshard()  # type: ignore[operator]
    try:
        yield
    finally:
        model.reshard()  # type: ignore[operator]


def renamed(
    groups: Sequence[dict[str, Any]], before: dict[int, str], model: nn.Module
) -> list[dict[str, Any]]:
    """Parameter groups with the parameters that `model` has now, by the names that those in the groups had.

    Args:
        groups: as torch's optimisers take them.
        before: `id` of each parameter -> its name, taken when the groups were made.
        model: sharded since.
    """
    now = dict(model.named_parameters())
    return [{**group, "params": [now[before[id(p)]] for p in group["params"]]} for group in groups]
