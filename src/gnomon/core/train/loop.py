"""The training loop: batches in, loss out, on one process or many, and exact to resume."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gnomon.core.config import option
from gnomon.core.rng import Rng
from gnomon.core.train.batches import BatchSource, GlobalBatch, OwnBatches, check_borders, reads_packed
from gnomon.core.train.checkpoint import Checkpoints
from gnomon.core.train.config import TrainConfig
from gnomon.core.train.evaluation import Best, Evaluation, check_evaluation, measured
from gnomon.core.train.memory import own_gradients, recomputed, renamed, sharded, whole_of
from gnomon.core.train.optim import clip_gradients, decay_groups, lr_factor, make_adamw, set_lr, warmup_of
from gnomon.core.train.trackers import check_trackers, tracking
from gnomon.errors import BadConfig, UserError

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
    eval: Evaluation | Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> History:
    """Train `model` in place and return the curve.

    What is trained is held in float32, also where the model is in 16 bit, which it is again afterwards; its frozen weights stay as
    they are, and computing is then in mixed precision.

    Continues from the newest checkpoint in `run.folder/checkpoints`, if there is one, to bit for bit the
    weights and the curve of an uninterrupted run. Random numbers inside the model (dropout) are a function of
    `run.rng`, the step and the process.

    Args:
        model: any module; parameters without `requires_grad` stay.
        batches: the data, batch by batch. Where the policy itself makes them, see `OwnBatches`.
        loss: summed over the targets of a micro-batch. Further models that it calls, frozen, it names in an attribute `references`:
            they are placed, and sharded, as the model is.
        cfg: how to train; its lengths and batch sizes were used where `batches` was made.
        run: folder, random numbers, log and progress.
        groups: parameter groups for AdamW in place of `decay_groups`; see `clip_gradients` for clipping apart.
        on_step: called after each step on every process.
        eval: measured after each epoch, or every `cfg.eval_every` steps, and after the last step, on every process, with the
            model in evaluation mode; the numbers are logged.

    Raises:
        UserError: the loss or the gradient is not finite.
        BadConfig: the checkpoint in the folder belongs to a run with other settings, or a setting does not fit this training.
        MissingExtra: an optimiser or tracker is not installed.
    """
    evaluation = Evaluation(eval) if callable(eval) else eval
    check_evaluation(cfg, evaluation)
    check_trackers(cfg.track)
    check_borders(cfg, batches)
    if cfg.packing and not getattr(batches, "packing", False):
        raise BadConfig("train.packing is set, and the rows of this training cannot be packed. Leave it out.")
    # A model that was put on the CPU stays there, also where there is a GPU.
    accelerator = Accelerator(cpu=next(model.parameters()).device.type == "cpu")
    with ExitStack() as stack:
        mixes = stack.enter_context(_full_precision(model))
        if mixes and cfg.precision == "no":
            cfg = replace(cfg, precision="bf16")
        if cfg.packing and not reads_packed(model):
            raise BadConfig(
                f"train.packing: {type(model).__name__} does not keep the examples of a row apart. Leave it out."
            )
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = groups or decay_groups(model, cfg.weight_decay)
        if cfg.gradient_checkpointing:
            stack.enter_context(recomputed(model))
        if cfg.sharded:
            wrapped = model
            for part in (model, *_references(loss)):
                stack.enter_context(sharded(part, accelerator.device))
            groups = renamed(groups, names, model)
        else:
            wrapped = accelerator.prepare(model)
            for part in _references(loss):
                part.to(accelerator.device)
        training = _Training(model, wrapped, batches, loss, cfg, accelerator)
        return training.run(run, groups, on_step, evaluation)


def _references(loss: Any) -> Sequence[nn.Module]:
    return getattr(loss, "references", ())


class _Training:
    """A training whose model is placed.

    Args:
        model: as it was given to `fit`.
        wrapped: what is called: the same, or the same wrapped for several processes.
        batches: the data.
        loss: of a micro-batch.
        cfg: how to train.
        accelerator: the processes.
    """

    def __init__(
        self,
        model: nn.Module,
        wrapped: Any,
        batches: BatchSource,
        loss: Loss,
        cfg: TrainConfig,
        accelerator: Accelerator,
    ):
        self.model, self.wrapped, self.batches, self.loss = model, wrapped, batches, loss
        self.cfg, self.accelerator = cfg, accelerator
        total = cfg.epochs * len(batches)
        self.total = total if cfg.max_steps is None else min(total, cfg.max_steps)
        self.warmup = warmup_of(cfg, self.total)

    def run(
        self,
        run: TrainRun,
        groups: list[dict[str, Any]],
        on_step: Sequence[Callable[[Step], None]],
        evaluation: Evaluation | None,
    ) -> History:
        """All steps that are still to be taken."""
        cfg, model, total = self.cfg, self.model, self.total
        self.optimizer = make_adamw(groups, cfg.lr, kind=cfg.optimizer)
        checkpoints = Checkpoints(
            run.folder / "checkpoints", self.accelerator, cfg, total=total, data=_digest(self.batches)
        )
        start, records = checkpoints.load(model, self.optimizer)
        if run.is_main:
            run.rewind(step=start)
        best = Best(run.folder / "best", evaluation, run.is_main) if cfg.keep_best and evaluation else None
        was_training = model.training
        bar_of_main = run.progress(total, "train") if run.is_main else nullcontext(_NoBar())
        trackers = tracking(cfg.track if run.is_main else (), run.folder, asdict(cfg))
        with bar_of_main as bar, trackers as track, _own_random_numbers(self.accelerator.device):

            def note(numbers: dict[str, float], more: Mapping[str, float] = {}) -> None:
                records.append(numbers)
                if run.is_main:
                    run.log(**numbers, **more)
                    track(int(numbers["step"]), {**numbers, **more})

            bar.advance(start)
            clock = time.perf_counter()
            for step in range(start, total):
                torch.manual_seed(
                    run.rng.child("step", step, self.accelerator.process_index).key & (2**63 - 1)
                )
                now, tokens = self._step(step)
                seconds, clock = time.perf_counter() - clock, time.perf_counter()
                numbers = {
                    "step": now.step,
                    "epoch": now.epoch,
                    "loss": now.loss,
                    "lr": now.lr,
                    "grad_norm": now.grad_norm,
                }
                note(
                    numbers,
                    {"tokens_per_s": tokens / seconds, "memory_gib": _memory(self.accelerator.device)},
                )
                for callback in on_step:
                    callback(now)
                is_last = now.step == total
                if evaluation is not None and (
                    is_last or now.step % (cfg.eval_every or len(self.batches)) == 0
                ):
                    with _autocast(self.accelerator, cfg):
                        values = measured(evaluation, model)
                    note({"step": now.step, "epoch": now.epoch, **values})
                    if best is not None:
                        best.offer(now.step, values, model)
                if is_last or (cfg.checkpoint_every and now.step % cfg.checkpoint_every == 0):
                    checkpoints.save(now.step, model, self.optimizer, records)
                bar.advance(loss=now.loss)
        if best is not None:
            self.accelerator.wait_for_everyone()
            best.restore(model)
        checkpoints.close()
        model.train(was_training)
        return History(records)

    def _step(self, step: int) -> tuple[Step, int]:
        """Take one step; also the tokens read in it."""
        self.wrapped.train()
        factor = lr_factor(step, self.total, self.warmup, self.cfg.schedule, self.cfg.min_lr_ratio)
        lr = set_lr(self.optimizer, factor)
        batch = self.batches.at(step, self.accelerator.process_index, self.accelerator.num_processes)
        value = _accumulate(self.accelerator, self.wrapped, self.loss, batch, self.cfg)
        length = clip_gradients(self.optimizer.param_groups, self.cfg.grad_clip)
        norm = float(whole_of(length))
        for name, number in (("loss", value), ("length of the gradient", norm)):
            if not math.isfinite(number):
                raise UserError(
                    f"Training stopped at step {step + 1}: the {name} is {number}. Lower {option('train.lr')}, "
                    f"raise {option('train.warmup_ratio')} or look at the data of that step."
                )
        self.optimizer.step()
        self.optimizer.zero_grad()
        now = Step(step + 1, (step + 1) / len(self.batches), value, lr, norm, self.model)
        return now, batch.targets if batch.tokens is None else batch.tokens


def _memory(device: torch.device) -> float:
    """The most memory that was taken so far, in GiB: of the GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


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
        with own_gradients(wrapped, is_kept=not is_last):
            with _autocast(accelerator, cfg):
                value = loss(wrapped, micro)
            accelerator.backward(value * scale)
        total += value.detach()
    return float(accelerator.reduce(total, "sum")) / targets


def _digest(batches: BatchSource) -> list[list[int]]:
    """What tells data from other data: of three batches the number of targets, their sum and the sum of their squares.

    The same however a batch is cut into micro-batches and filled up.
    """
    if isinstance(batches, OwnBatches):  # they depend on weights that are not restored yet
        return [list(row) for row in batches.digest()]
    digest = []
    for step in sorted({0, len(batches) // 2, len(batches) - 1}):
        batch = batches.at(step, 0, 1)  # whole, whatever the number of processes
        labels = [micro["labels"] for micro in batch.micro if "labels" in micro]
        values = [tensor[tensor != -100].long() for tensor in labels]
        digest.append(
            [batch.targets, sum(int(v.sum()) for v in values), sum(int((v * v).sum()) for v in values)]
        )
        if soft := [
            micro[name].double().sum()
            for micro in batch.micro
            for name in ("weights", "soft")
            if name in micro
        ]:
            digest[-1].append(round(1e6 * float(sum(soft))))
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
