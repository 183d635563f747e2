"""Checkpoints to resume from: written whole or not at all, the last two kept."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from gnomon.errors import BadConfig

log = logging.getLogger(__name__)

KEPT = 2
# These change how a batch is computed, or how often it is saved, but not what it is.
FREE = ("micro_batch_size", "checkpoint_every")


class Checkpoints:
    """The checkpoints of one training run.

    A checkpoint is a folder `step-…` with the trainable weights and the buffers (`model.safetensors`), the
    optimiser (`optimizer.pt`) and the step, settings and history (`state.json`). Schedule, data order and
    random numbers follow from the step. The optimiser is saved as one process sees it: right for one process
    and for DDP, not for optimiser states that are sharded over processes.

    Args:
        folder: where they lie.
        accelerator: who writes, and who waits.
        settings: what must be equal for a run to be continued.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, settings: Mapping[str, Any]):
        self.folder, self.accelerator = folder, accelerator
        self.settings = {name: value for name, value in settings.items() if name not in FREE}

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[dict[str, float]]]:
        """Put the newest checkpoint into `model` and `optimizer`; the one before it where that is damaged.

        Returns:
            The number of steps taken and the history; 0 and nothing without a checkpoint.

        Raises:
            BadConfig: it was made with other settings, of another model or from other data.
        """
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                state = json.loads((folder / "state.json").read_text())
                weights = load_file(folder / "model.safetensors")
                moments = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
                self._check(folder, state["settings"], set(weights), model)
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
            model.load_state_dict(weights, strict=False)
            optimizer.load_state_dict(moments)
            return state["step"], state["history"]
        return 0, []

    def _check(self, folder: Path, saved: Mapping[str, Any], names: set[str], model: nn.Module) -> None:
        """Whether a checkpoint is one of this run."""
        if "data" in saved and saved["data"] != self.settings.get("data"):
            raise BadConfig(
                f"{folder} was made from other data than there are now. Put them back to continue, or start over with --fresh."
            )
        for name, value in self.settings.items():
            if saved.get(name) != value and name != "data":
                raise BadConfig(
                    f"{folder} was made with train.{name}={saved.get(name)}; this run has {value}. "
                    "Set it back to continue, or start over with --fresh."
                )
        missing = _saved_names(model) ^ names
        if missing:
            raise BadConfig(
                f"{folder} belongs to another model: {sorted(missing)[0]} is only in one of them. "
                "Name the same model to continue, or start over with --fresh."
            )

    def save(
        self,
        step: int,
        model: nn.Module,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        history: list[dict[str, float]],
    ) -> None:
        """Write the checkpoint of `step`; every process must call this."""
        names = _saved_names(model)
        weights = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.accelerator.get_state_dict(wrapped).items()
            if name in names
        }
        if self.accelerator.is_main_process:
            unfinished = self.folder / f".unfinished-{step:08d}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            save_file(weights, unfinished / "model.safetensors")
            torch.save(optimizer.state_dict(), unfinished / "optimizer.pt")
            state = {"step": step, "settings": self.settings, "history": history}
            (unfinished / "state.json").write_text(json.dumps(state))
            final = self.folder / f"step-{step:08d}"
            shutil.rmtree(final, ignore_errors=True)
            unfinished.rename(final)
            for old in (*sorted(self.folder.glob("step-*"))[:-KEPT], *self.folder.glob(".unfinished-*")):
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


def _saved_names(model: nn.Module) -> set[str]:
    """Trainable parameters, tied ones once, and persistent buffers."""
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in model.named_buffers()}
    return trainable | (buffers & set(model.state_dict()))
