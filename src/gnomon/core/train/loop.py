"""The training loop: batches in, loss out, on one process or many, and exact to resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gnomon.core.config import option
from gnomon.core.rng import Rng
from gnomon.core.train.batches import BatchSource, GlobalBatch
from gnomon.core.train.checkpoint import Checkpoints
from gnomon.core.train.config import TrainConfig
from gnomon.core.train.optim import decay_groups, lr_factor, make_adamw, set_lr
from gnomon.errors import UserError

Loss = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
"""The model and a micro-batch -> the loss SUMMED over its targets, a scalar."""


@runtime_checkable
class Bar(Protocol):
    """A progress bar."""

    def advance(self, n: int = 1, **shown: float) -> None:
        """Go `n` steps on and show these numbers."""


@runtime_checkable
class TrainRun(Protocol):
    """What the loop needs of a run."""

    folder: Path
    rng: Rng
    is_main: bool

    def log(self, **numbers: float) -> None:
        """Append one line of numbers to the run's metrics."""

    def rewind(self, *, step: int) -> None:
        """Drop the rows of later steps from the run's metrics."""

    def progress(self, total: int, label: str) -> AbstractContextManager[Bar]:
        """A progress bar over `total` steps."""


@dataclass(frozen=True)
class Step:
    """What has just happened, for callbacks."""

    step: int
    """Optimiser steps taken, from 1."""
    epoch: float
    """Passes over the data so far, with a fraction."""
    loss: float
    """Mean over the targets of the batch."""
    lr: float
    """Learning rate of the first parameter group in this step."""
    grad_norm: float
    """Length of the gradient before clipping."""
    model: nn.Module
    """The model as it was given to `fit`."""


@dataclass
class History:
    """The numbers of each step, in order; what `metrics.jsonl` holds as well."""

    records: list[dict[str, float]] = field(default_factory=list)
    """A row per step (`step`, `epoch`, `loss`, `lr`, `grad_norm`) or evaluation (`step`, `epoch`, others)."""

    def curve(self, name: str) -> list[float]:
        """The values of one number over the rows that have it."""
        return [record[name] for record in self.records if name in record]


def fit(
    model: nn.Module,
    batches: BatchSource,
    loss: Loss,
    cfg: TrainConfig,
    *,
    run: TrainRun,
    groups: list[dict[str, Any]] | None = None,
    on_step: Sequence[Callable[[Step], None]] = (),
    eval: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> History:
    """Train `model` in place and return the curve.

    What is trained is held in float32, also where the model is in 16 bit, which it is again afterwards; its frozen weights stay as
    they are, and computing is then in mixed precision.

    Continues from the newest checkpoint in `run.folder/checkpoints`, if there is one, to bit for bit the
    weights and the curve of an uninterrupted run. Random numbers inside the model (dropout) are a function of
    `run.rng`, the step and the process.

    Args:
        model: any module; parameters without `requires_grad` stay.
        batches: the data, batch by batch.
        loss: summed over the targets of a micro-batch.
        cfg: how to train; its lengths and batch sizes were used where `batches` was made.
        run: folder, random numbers, log and progress.
        groups: parameter groups for AdamW in place of `decay_groups`.
        on_step: called after each step on every process.
        eval: called after each epoch and after the last step, on every process, with the model in evaluation
            mode; what it returns is logged.

    Raises:
        UserError: the loss or the gradient is not finite.
        BadConfig: the checkpoint in the folder belongs to a run with other settings.
    """
    with _full_precision(model) as mixes:
        if mixes and cfg.precision == "no":
            cfg = replace(cfg, precision="bf16")
        return _fit(model, batches, loss, cfg, run=run, groups=groups, on_step=on_step, eval=eval)


def _fit(
    model: nn.Module,
    batches: BatchSource,
    loss: Loss,
    cfg: TrainConfig,
    *,
    run: TrainRun,
    groups: list[dict[str, Any]] | None,
    on_step: Sequence[Callable[[Step], None]],
    eval: Callable[[nn.Module], Mapping[str, float]] | None,
) -> History:
    """`fit` with what is trained in float32."""
    # A model that was put on the CPU stays there, also where there is a GPU.
    accelerator = Accelerator(cpu=next(model.parameters()).device.type == "cpu")
    total = cfg.epochs * len(batches)
    total = total if cfg.max_steps is None else min(total, cfg.max_steps)
    optimizer = make_adamw(groups or decay_groups(model, cfg.weight_decay), cfg.lr)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    checkpoints = Checkpoints(
        run.folder / "checkpoints",
        accelerator,
        {**asdict(cfg), "total_steps": total, "data": _digest(batches)},
    )
    start, records = checkpoints.load(model, optimizer)
    if run.is_main:
        run.rewind(step=start)

    def note(**numbers: float) -> None:
        records.append(numbers)
        if run.is_main:
            run.log(**numbers)

    was_training = model.training
    bar_of_main = run.progress(total, "train") if run.is_main else nullcontext(_NoBar())
    with bar_of_main as bar, _own_random_numbers(accelerator.device):
        bar.advance(start)
        for step in range(start, total):
            wrapped.train()
            torch.manual_seed(run.rng.child("step", step, accelerator.process_index).key & (2**63 - 1))
            lr = set_lr(optimizer, lr_factor(step, total, cfg.warmup_ratio, cfg.schedule))
            batch = batches.at(step, accelerator.process_index, accelerator.num_processes)
            value = _accumulate(accelerator, wrapped, loss, batch, cfg)
            norm = float(accelerator.clip_grad_norm_(wrapped.parameters(), cfg.grad_clip or math.inf))
            for name, number in (("loss", value), ("length of the gradient", norm)):
                if not math.isfinite(number):
                    raise UserError(
                        f"Training stopped at step {step + 1}: the {name} is {number}. Lower {option('train.lr')}, "
                        f"raise {option('train.warmup_ratio')} or look at the data of that step."
                    )
            optimizer.step()
            optimizer.zero_grad()
            now = Step(step + 1, (step + 1) / len(batches), value, lr, norm, model)
            note(step=now.step, epoch=now.epoch, loss=now.loss, lr=now.lr, grad_norm=now.grad_norm)
            for callback in on_step:
                callback(now)
            is_last = now.step == total
            if eval is not None and (is_last or now.step % len(batches) == 0):
                model.eval()
                with torch.no_grad(), _autocast(accelerator, cfg):
                    note(step=now.step, epoch=now.epoch, **eval(model))
            if is_last or (cfg.checkpoint_every and now.step % cfg.checkpoint_every == 0):
                checkpoints.save(now.step, model, wrapped, optimizer, records)
            bar.advance(loss=value)
    model.train(was_training)
    return History(records)


def _accumulate(
    accelerator: Accelerator, wrapped: nn.Module, loss: Loss, batch: GlobalBatch, cfg: TrainConfig
) -> float:
    """Add up the gradient of a batch over micro-batches and processes; returns the loss per target."""
    targets = max(1, batch.targets)
    # Processes average their gradients; times their number makes that a sum.
    scale = accelerator.num_processes / (targets if cfg.reduction == "token_mean" else 1)
    total = torch.zeros((), device=accelerator.device)
    for i, micro in enumerate(batch.micro):
        is_last = i == len(batch.micro) - 1
        micro = {name: tensor.to(accelerator.device) for name, tensor in micro.items()}
        with nullcontext() if is_last else accelerator.no_sync(wrapped):
            with _autocast(accelerator, cfg):
                value = loss(wrapped, micro)
            accelerator.backward(value * scale)
        total += value.detach()
    return float(accelerator.reduce(total, "sum")) / targets


def _digest(batches: BatchSource) -> list[list[int]]:
    """What tells data from other data: of three batches the number of targets, their sum and the sum of their squares.

    The same however a batch is cut into micro-batches and filled up.
    """
    digest = []
    for step in sorted({0, len(batches) // 2, len(batches) - 1}):
        batch = batches.at(step, 0, 1)  # whole, whatever the number of processes
        labels = [micro["labels"] for micro in batch.micro if "labels" in micro]
        values = [tensor[tensor != -100].long() for tensor in labels]
        digest.append(
            [batch.targets, sum(int(v.sum()) for v in values), sum(int((v * v).sum()) for v in values)]
        )
    return digest


def _autocast(accelerator: Accelerator, cfg: TrainConfig) -> AbstractContextManager[Any]:
    return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=cfg.precision == "bf16")


@contextmanager
def _full_precision(model: nn.Module) -> Iterator[bool]:
    """Hold the trained weights in float32 while training, and give them their own type back at the end.

    In 16 bit an update smaller than about 1/256 of a weight is rounded away: a fine-tuned bf16 checkpoint keeps nine of ten weights
    as they were, without a word. Yields whether frozen 16-bit weights stand beside them, which only mixed precision computes with.
    """
    small = (torch.bfloat16, torch.float16)
    types = {p: p.dtype for p in model.parameters() if p.requires_grad and p.dtype in small}
    mixes = any(not p.requires_grad and p.dtype in small for p in model.parameters())
    has_float32 = bool(types) or any(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    for parameter in types:
        parameter.data = parameter.data.float()
    try:
        yield mixes and has_float32
    finally:
        for parameter, dtype in types.items():
            parameter.data = parameter.data.to(dtype)


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    """Let the loop seed torch's global streams, which dropout draws from, and put them back after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


class _NoBar:
    def advance(self, n: int = 1, **shown: float) -> None:
        """Only the main process shows a bar."""
