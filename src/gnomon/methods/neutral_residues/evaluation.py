"""Measures of an extended model on texts, and the trade-off of a sweep.

Bits per byte, drift from the backbone, residuals and gates; learning against forgetting, the Pareto front, forgetting at equal
learning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnomon.core.metrics.lm import Score, score_stream
from gnomon.methods.neutral_residues.extension.extension import Extended
from gnomon.methods.neutral_residues.training.data import Stream

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
        for name, activity in active.items():
            row[f"residual, {name}"] = float(activity.residual[layer])
            if activity.is_open is not None and activity.gate is not None:
                row |= {
                    f"open, {name}": float(activity.is_open[layer]),
                    f"gate, {name}": float(activity.gate[layer]),
                }
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

    Source: Neutral Residues (arXiv 2410.02744): drift of the predictions from the backbone's.
    """
    total = 0.0
    for ids in _batches(rows, batch_size):
        ids = ids.to(plain(model).device)
        after = torch.log_softmax(plain(model)(input_ids=ids, use_cache=False).logits.float(), -1)
        with nullcontext() if reference is not None else backbone_of(model):
            model_before = plain(model) if reference is None else reference
            before = torch.log_softmax(model_before(input_ids=ids, use_cache=False).logits.float(), -1)
        total += float((before.exp() * (before - after)).sum())
    return total / rows.size


@contextmanager
def watching(model: Extended, note: Callable[[int, Tensor, Tensor | None], None]) -> Iterator[None]:
    """A context in which `note` is called with every layer's newest residual and gate; the model is in evaluation mode."""
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


# Learning against forgetting: points of a sweep, their Pareto front, and forgetting at equal learning.


@dataclass(frozen=True)
class Point:
    """One training of a sweep."""

    arm: str
    """The method, with what else was varied."""
    lr: float
    """Its peak learning rate."""
    learning: float
    """G: bits per byte of the new domain, before minus after."""
    forgetting: float
    """F: bits per byte of the old domain, after minus before."""


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in learning without forgetting more, by learning.

    >>> a, b, c = Point("a", 1, 0.3, 0.1), Point("b", 1, 0.2, 0.2), Point("c", 1, 0.1, 0.0)
    >>> [p.arm for p in front([a, b, c])]
    ['c', 'a']
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.learning, p.forgetting)):
        if not best or point.forgetting < best[-1].forgetting:
            best.append(point)
    return best[::-1]


def forgetting_at(points: Sequence[Point], learning: float) -> float | None:
    """F of one arm where it learns as much as `learning`: on the line between its neighbouring points; None beyond its points.

    >>> forgetting_at([Point("a", 1, 0.2, 0.1), Point("a", 2, 0.4, 0.3)], 0.3)
    0.2
    """
    ordered = sorted(points, key=lambda p: p.learning)
    for point in ordered:
        if point.learning == learning:
            return point.forgetting
    for low, high in pairwise(ordered):
        if low.learning < learning < high.learning:
            share = (learning - low.learning) / (high.learning - low.learning)
            return round(low.forgetting + share * (high.forgetting - low.forgetting), 12)
    return None


def hypervolume(points: Sequence[Point], worst: tuple[float, float]) -> float:
    """Area of (G, F) that the points beat, up to a reference point that learns `worst[0]` and forgets `worst[1]`.

    >>> hypervolume([Point("a", 1, 2.0, 1.0), Point("b", 1, 1.0, 0.5)], (0.0, 2.0))
    2.5
    """
    area, least = 0.0, worst[0]
    for point in front(points):
        if point.learning > least and point.forgetting < worst[1]:
            area += (point.learning - least) * (worst[1] - point.forgetting)
            least = point.learning
    return area
