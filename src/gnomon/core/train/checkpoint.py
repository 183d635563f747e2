"""Checkpoints to resume from: written whole or not at all, the newest kept."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gnomon.core.train.config import TrainConfig
from gnomon.core.train.memory import whole_of
from gnomon.errors import BadConfig

if TYPE_CHECKING:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training run.

    A checkpoint is a folder `step-…` with the trainable weights and the buffers (`model.safetensors`), the optimiser by the names
    of the weights (`optimizer.pt`) and the step, settings and history (`state.json`). Schedule, data order and random numbers
    follow from the step. Shares that processes hold are put together, so a run goes on with another number of processes, and
    with weights that are sharded or not.

    Args:
        folder: where they lie.
        accelerator: who writes, and who waits.
        cfg: its settings must be equal for a run to be continued, but for those that are loose; and no fewer steps.
        total: optimiser steps in all.
        data: tells data from other data.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, cfg: TrainConfig, *, total: int, data: Any):
        self.folder, self.accelerator, self.keep, self.total = (
            folder,
            accelerator,
            cfg.keep_checkpoints,
            total,
        )
        self._settings = {
            name: value for name, value in cfg.decisive.items() if name not in TrainConfig.GROWS
        }
        self._defaults = asdict(TrainConfig())
        self._settings["data"] = data

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[dict[str, float]]]:
        """Put the newest checkpoint into `model` and `optimizer`; the one before it where that is damaged.

        Returns:
            The number of steps taken and the history; 0 and nothing without a checkpoint.

        Raises:
            BadConfig: it was made with other settings, of another model or from other data, or has more steps than are wanted.
        """
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                state = json.loads((folder / "state.json").read_text())
                weights = load_file(folder / "model.safetensors")
                moments = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
                before = state["total"]
                self._check(folder, state, set(weights), model)
            except (
                OSError,
                ValueError,
                KeyError,
                RuntimeError,
                EOFError,
                SafetensorError,
                UnpicklingError,
            ) as error:
                log.warning(
                    "%s is damaged (%s); training goes on from the one before.", folder, type(error).__name__
                )
                continue
            if before != self.total and self._settings["schedule"] != "constant":
                log.warning(
                    "%s was made on the way to %d steps, now it is %d: from here on the learning rate falls by the new number. The "
                    "result is not that of a training that was that long from the start.",
                    folder, before, self.total,
                )  # fmt: skip
            put_into(model, weights)
            _put_moments(model, optimizer, moments)
            return state["step"], state["history"]
        return 0, []

    def _check(self, folder: Path, state: Mapping[str, Any], names: set[str], model: nn.Module) -> None:
        """Whether a checkpoint is one of this run."""
        saved = state["settings"]
        if "data" in saved and saved["data"] != self._settings["data"]:
            raise BadConfig(
                f"{folder} was made from other data than there are now. Put them back to continue, or start over with --fresh."
            )
        for name, value in self._settings.items():
            before = saved.get(name, self._defaults.get(name))
            if before != value and name != "data":
                raise BadConfig(
                    f"{folder} was made with train.{name}={before}; this run has {value}. "
                    "Set it back to continue, or start over with --fresh."
                )
        if state["step"] > self.total:
            raise BadConfig(
                f"{folder} holds {state['step']} steps, and {self.total} are wanted. Raise train.epochs or train.max_steps, or "
                "start over with --fresh."
            )
        missing = saved_names(model) ^ names
        if missing:
            raise BadConfig(
                f"{folder} belongs to another model: {sorted(missing)[0]} is only in one of them. "
                "Name the same model to continue, or start over with --fresh."
            )

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
    ) -> None:
        """Write the checkpoint of `step`; every process must call this."""
        weights = weights_of(model, saved_names(model))
        moments = _moments_of(model, optimizer)
        if self.accelerator.is_main_process:
            unfinished = self.folder / f".unfinished-{step:08d}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            save_file(weights, unfinished / "model.safetensors")
            torch.save(moments, unfinished / "optimizer.pt")
            state = {"step": step, "total": self.total, "settings": self._settings, "history": history}
            (unfinished / "state.json").write_text(json.dumps(state))
            final = self.folder / f"step-{step:08d}"
            shutil.rmtree(final, ignore_errors=True)
            unfinished.rename(final)
            self._clean(max(1, self.keep))
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Training has ended: leave as many checkpoints as are wanted."""
        if self.accelerator.is_main_process:
            self._clean(self.keep)

    def _clean(self, keep: int) -> None:
        steps = sorted(self.folder.glob("step-*"))
        for old in (*steps[: len(steps) - keep], *self.folder.glob(".unfinished-*")):
            shutil.rmtree(old)


def saved_names(model: nn.Module) -> set[str]:
    """Trainable parameters, tied ones once, and persistent buffers."""
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in model.named_buffers()}
    return trainable | (buffers & set(model.state_dict()))


def weights_of(model: nn.Module, names: set[str]) -> dict[str, Tensor]:
    """Copies of the named weights on the CPU; every process must call this."""
    state = {name: tensor for name, tensor in model.state_dict().items() if name in names}
    return {name: whole_of(tensor.detach()).cpu().clone() for name, tensor in state.items()}


def put_into(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights by name, sharded or not; those that are not among them stay."""
    from torch.distributed.checkpoint.state_dict import set_model_state_dict

    set_model_state_dict(model, dict(weights), options=_options(strict=False))


def _moments_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    return get_optimizer_state_dict(model, optimizer, options=_options())


def _put_moments(model: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, Any]) -> None:
    from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

    set_optimizer_state_dict(model, optimizer, moments, options=_options())


def _options(*, strict: bool = True) -> StateDictOptions:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True, strict=strict)
