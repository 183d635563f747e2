"""Evaluation during training: on examples that were set aside, and the weights of the best one kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gnomon.core.files import write_json
from gnomon.core.train.checkpoint import put_into, saved_names, weights_of
from gnomon.core.train.memory import gathered
from gnomon.errors import BadConfig

if TYPE_CHECKING:
    from gnomon.core.rng import Rng
    from gnomon.core.train.batches import BatchSource
    from gnomon.core.train.config import TrainConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """What is measured during training."""

    measure: Callable[[Any], Mapping[str, float]]
    """The model in evaluation mode -> numbers; called on every process."""
    best: Sequence[str] = ()
    """The numbers that say which evaluation is best, the second where the first are equal. Empty: none is."""
    is_loss: bool = True
    """Lower is better."""


def held_out(batches: BatchSource, loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]) -> Evaluation:
    """The mean loss per target on batches that are not trained on, as `held-out loss`."""

    def measure(model: nn.Module) -> dict[str, float]:
        device, total, targets = next(model.parameters()).device, 0.0, 0
        for step in range(len(batches)):
            batch = batches.at(step, 0, 1)
            for micro in batch.micro:
                total += float(loss(model, {name: tensor.to(device) for name, tensor in micro.items()}))
            targets += batch.targets
        return {"held-out loss": total / max(1, targets)}

    return Evaluation(measure, ("held-out loss",))


def split(
    rows: Sequence[T], share: float, generator: Rng, groups: Sequence[int] | None = None
) -> tuple[list[T], list[T]]:
    """Rows to train on and rows that are set aside, in their order; at least one of each where `share` is above 0.

    Args:
        rows: all of them.
        share: of the groups that is set aside, rounded.
        generator: draws which.
        groups: what belongs together, a number per row; None: every row by itself.

    Raises:
        BadConfig: there are not two groups.
    """
    groups = range(len(rows)) if groups is None else groups
    names = sorted(set(groups))
    if share == 0:
        return list(rows), []
    if len(names) < 2:
        raise BadConfig("train.eval_share needs at least two examples that do not belong together.")
    count = min(len(names) - 1, max(1, round(share * len(names))))
    aside = {names[i] for i in generator.numpy().permutation(len(names))[:count]}
    pairs = list(zip(rows, groups, strict=True))
    return [row for row, group in pairs if group not in aside], [
        row for row, group in pairs if group in aside
    ]


class Best:
    """The best weights so far, on disk; a training that goes on finds those that the same steps would write again.

    Args:
        folder: where they lie.
        evaluation: which is best.
        is_main: whether this process writes.
    """

    def __init__(self, folder: Path, evaluation: Evaluation, is_main: bool):
        self.folder, self.evaluation, self.is_main = folder, evaluation, is_main
        self._note = folder / "reached.json"

    def offer(self, step: int, numbers: Mapping[str, float], model: nn.Module) -> None:
        """Keep the weights of now if no earlier ones were as good. Every process must call this."""
        sign = -1.0 if self.evaluation.is_loss else 1.0
        value = [sign * float(numbers[name]) for name in self.evaluation.best]
        before = self._reached()
        if before is not None and not (value > before["value"] and step > before["step"]):
            return
        weights = weights_of(model, saved_names(model))
        if not self.is_main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        weights_file = self.folder / f"step-{step:08d}.safetensors"
        save_file(weights, weights_file)
        # The note is replaced at once: killed before, the weights of before are still the best; killed after, those of now are.
        write_json(self._note, {"step": step, "value": value, "weights": weights_file.name})
        for old in self.folder.glob("step-*"):
            if old != weights_file:
                old.unlink()

    def restore(self, model: nn.Module) -> None:
        """Put the best weights into the model; every process must call this, once the main one has written them."""
        reached = self._reached()
        if reached is not None:
            put_into(model, load_file(self.folder / reached["weights"]))

    def _reached(self) -> dict[str, Any] | None:
        if not self._note.exists():
            return None
        reached: dict[str, Any] = json.loads(self._note.read_text("utf-8"))
        return reached


def check_evaluation(cfg: TrainConfig, evaluation: Evaluation | None) -> None:
    """Refuse settings about evaluations where there is none.

    Raises:
        BadConfig: this training has no evaluation, or none of it says what is best.
    """
    for name in ("eval_share", "eval_every", "keep_best"):
        if evaluation is None and getattr(cfg, name):
            raise BadConfig(
                f"train.{name} is set, and this training has nothing to evaluate on. Leave it out."
            )
    if cfg.keep_best and evaluation is not None and not evaluation.best:
        raise BadConfig("train.keep_best is set, and no number of this training says which weights are best.")


def measured(evaluation: Evaluation, model: nn.Module) -> dict[str, float]:
    """The numbers of an evaluation, with the model in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    try:
        # What is measured may call a part of the model, and then nobody gathers what lies outside its blocks.
        with torch.no_grad(), gathered(model):
            return {name: float(value) for name, value in evaluation.measure(model).items()}
    finally:
        model.train(was_training)
