"""What a model knows of a domain, and what its blocks add there: bits per byte, drift from the backbone, residuals and gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnomon.core.metrics.lm import Score, score_stream
from gnomon.methods.neutral_residues.extension import Extended
from gnomon.methods.neutral_residues.packing import Stream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Activity:
    """What the newest blocks of a model do on a text, layer by layer."""

    residual: Floats
    """Mean over tokens of ||rho||_1 / d, `[L]`."""
    is_open: Floats | None
    """Share of tokens (and channels) whose gate is above zero, `[L]`; None without gates."""
    gate: Floats | None
    """Mean value of the gate, `[L]`."""


def plain(model: Any) -> Any:
    """The transformers model inside an extended one; another model as it is."""
    return model.model if isinstance(model, Extended) else model


def backbone_of(model: Any) -> AbstractContextManager[Any]:
    """A context in which an extended or LoRA model is its backbone again."""
    if isinstance(model, Extended):
        return model.extension_disabled()
    return model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()


def score(model: Any, stream: Stream, length: int, *, batch_size: int = 32) -> Score:
    """How well the model predicts a packed text, read in windows of `length` tokens."""
    return score_stream(plain(model), stream.ids, stream.n_bytes, length, batch_size=batch_size)


@torch.no_grad()
def activity(model: Extended, rows: NDArray[np.unsignedinteger], *, batch_size: int = 32) -> Activity:
    """What the newest blocks add to rows of a text, `[N, T]`."""
    sums: dict[int, list[float]] = {}

    def note(layer: int, rho: Tensor, g: Tensor | None) -> None:
        row = sums.setdefault(layer, [0.0, 0.0, 0.0])
        tokens = rho[..., 0].numel()
        row[0] += float(rho.float().abs().mean()) * tokens
        if g is not None:
            row[1] += float((g > 0).float().mean()) * tokens
            row[2] += float(g.float().mean()) * tokens

    with watching(model, note):
        for ids in _batches(rows, batch_size):
            model.model(input_ids=ids.to(model.model.device), use_cache=False)
    table = np.array([sums[layer] for layer in sorted(sums)]) / rows.size
    has_gate = model.blocks[0].gate is not None
    return Activity(table[:, 0], table[:, 1] if has_gate else None, table[:, 2] if has_gate else None)


def by_layer(active: Mapping[str, Activity]) -> list[dict[str, Any]]:
    """One row per layer: what its block adds to each text, and how often its gate is open there."""
    layers = range(len(next(iter(active.values())).residual))
    rows = []
    for layer in layers:
        row: dict[str, Any] = {"layer": layer}
        for name, one in active.items():
            row[f"residual, {name}"] = float(one.residual[layer])
            if one.is_open is not None and one.gate is not None:
                row |= {f"open, {name}": float(one.is_open[layer]), f"gate, {name}": float(one.gate[layer])}
        rows.append(row)
    return rows


@torch.no_grad()
def gates_along(model: Extended, ids: Sequence[int]) -> Floats:
    """Mean gate of each token and layer of one text, `[T, L]`; without gates, ||rho||_1 / d."""
    seen: dict[int, Floats] = {}

    def note(layer: int, rho: Tensor, g: Tensor | None) -> None:
        value = rho.float().abs().mean(-1) if g is None else g.float().mean(-1)
        seen[layer] = value[0].double().cpu().numpy()

    with watching(model, note):
        model.model(input_ids=torch.tensor([list(ids)], device=model.model.device), use_cache=False)
    return np.stack([seen[layer] for layer in sorted(seen)], 1)


@torch.no_grad()
def drift(
    model: Any, rows: NDArray[np.unsignedinteger], reference: Any = None, *, batch_size: int = 16
) -> float:
    """KL(backbone || model) per token, in nats, on rows of a text.

    Args:
        model: the trained model.
        rows: token ids, `[N, T]`.
        reference: the backbone, where all its weights were trained; None: the model with its additions off.
        batch_size: rows at once.
    """
    total = 0.0
    for ids in _batches(rows, batch_size):
        ids = ids.to(plain(model).device)
        after = torch.log_softmax(plain(model)(input_ids=ids, use_cache=False).logits.float(), -1)
        with nullcontext() if reference is not None else backbone_of(model):
            asked = plain(model) if reference is None else reference
            before = torch.log_softmax(asked(input_ids=ids, use_cache=False).logits.float(), -1)
        total += float((before.exp() * (before - after)).sum())
    return total / rows.size


@contextmanager
def watching(model: Extended, note: Callable[[int, Tensor, Tensor | None], None]) -> Iterator[None]:
    """Inside the `with`, `note` hears of every layer's newest residual and gate; the model is in evaluation mode."""
    was_training = model.training
    model.eval()
    model.switch.watch = note
    try:
        yield
    finally:
        model.switch.watch = None
        model.train(was_training)


def _batches(rows: NDArray[np.unsignedinteger], size: int) -> Iterator[Tensor]:
    for start in range(0, len(rows), size):
        yield torch.from_numpy(rows[start : start + size].astype(np.int64))
