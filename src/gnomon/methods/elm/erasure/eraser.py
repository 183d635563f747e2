"""Erasing a concept: low-rank adapters trained towards the frozen model's own reweighted predictions.

How long the gradient of each loss term is, over a whole batch and all processes.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gnomon.core.config import narrow
from gnomon.core.log import progress
from gnomon.core.models import add_lora, find_sites
from gnomon.core.rng import Rng, seeded
from gnomon.core.train import History, TrainConfig, fit
from gnomon.core.train.loop import Step, TrainRun
from gnomon.core.train.losses import token_cross_entropy
from gnomon.core.train.memory import is_distributed, is_sharded
from gnomon.errors import BadConfig
from gnomon.methods.elm.erasure.design import Erasure, layer_range
from gnomon.methods.elm.erasure.inspection import check_personas
from gnomon.methods.elm.erasure.target import erase_loss, retain_loss, target_of
from gnomon.methods.elm.texts.batches import (
    FLUENT,
    FORGET,
    RETAIN,
    Feed,
    Texts,
    counted,
    frozen_batch,
    of_kind,
    read_by,
    text_logits,
)
from gnomon.methods.elm.texts.passages import Fluent, cut, encode_fluent, encode_texts, read_fluent
from gnomon.methods.elm.texts.personas import Personas, read_personas, start_ids

if TYPE_CHECKING:
    from peft import PeftModel

    from gnomon.methods.elm.config import ELMConfig


# How long the gradient of each loss term is, over a whole batch and all processes.


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
            gradients = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
            parts = [
                torch.zeros_like(p) if g is None else g
                for g, p in zip(gradients, self.parameters, strict=True)
            ]
            flat = over_processes(torch.cat([part.flatten().float() for part in parts]))
            lengths[name] = float(flat.norm())
            self._sums[name] = self._sums[name] + flat if name in self._sums else flat
        return lengths

    def take(self) -> dict[str, float]:
        """Length of each term's gradient over the step; empty where it was not measured. What was added is forgotten."""
        lengths = {name: float(flat.norm()) for name, flat in self._sums.items()}
        self._sums = {}
        return lengths


def over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if is_distributed():
        torch.distributed.all_reduce(value)
    return value


def total(sums: Mapping[str, float], model: Any) -> dict[str, float]:
    """Sums over all processes; every process must have the same names."""
    device = next(model.parameters()).device
    flat = over_processes(torch.tensor(list(sums.values()), device=device))
    return dict(zip(sums, flat.tolist(), strict=True))


# Erasing a concept: low-rank adapters trained towards the frozen model's own reweighted predictions.

log = logging.getLogger(__name__)

TERMS = ("erase", "retain", "fluency")
SATURATED = 2.0
"""Mean support of q below which it is said that targets are one-hot."""


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Inside the `with`, a PEFT model is its base in evaluation mode and builds no graph."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), model.disable_adapter():
            yield
    finally:
        model.train(was_training)


def attach(model: Any, design: Erasure, generator: Rng) -> PeftModel:
    """`model` with the adapters that are to be trained, their first weights drawn from `generator`.

    Raises:
        BadConfig: `design.layers` leads out of the model.
        ModelMismatch: the model's family is not known.
    """
    blocks = find_sites(model).top.blocks
    layers = layer_range(design.layers, len(blocks))
    stacked = [n for n, p in blocks[layers[0]].named_parameters() if "experts" in n and p.dim() == 3]
    if stacked:
        log.warning(
            "%s keeps its experts' weights in stacks (%s), which low-rank adapters of linear maps do not reach: only attention and "
            "what every token goes through is adapted. A baseline that trains all weights reaches them: npo, simnpo.",
            type(model).__name__,
            ", ".join(stacked),
        )
    with seeded(generator):
        adapted: PeftModel = add_lora(
            model, design.rank, alpha=design.alpha, layers=layers, dropout=design.dropout
        )
    return adapted


class ErasureLoss:
    """Weighted sum of the three losses on a micro-batch of `Feed`, and its log after a step.

    Args:
        model: the model with its adapters, not wrapped for several processes.
        design: weights and targets.
        run: where numbers are logged; its random numbers make the noise of `action="random"`.
    """

    def __init__(self, model: PeftModel, design: Erasure, run: TrainRun):
        vocabulary = model.get_input_embeddings().num_embeddings
        if design.top_k > vocabulary:
            raise BadConfig(
                f"top_k must be at most {vocabulary}, the size of the model's vocabulary; got {design.top_k}."
            )
        self.model, self.design, self.run = model, design, run
        self.weights = dict(
            zip(TERMS, (design.erase_weight, design.retain_weight, design.fluency_weight), strict=True)
        )
        self.norms = Norms([p for p in model.parameters() if p.requires_grad])
        self._said = False
        self._start()

    def _start(self) -> None:
        self._sums: dict[str, float] = {}

    def __call__(self, wrapped: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch, a scalar."""
        terms = self.terms(wrapped, batch)
        weights = {name: self.weights[name] for name in terms}
        every, step = self.design.norms_every, int(batch["step"])
        if is_sharded(self.model):  # no process has the whole gradient of a term
            every = 0
        if self.design.balance == "grad_norm" or (every and step % every == 0):
            lengths = self.norms.add(terms)
            if self.design.balance == "grad_norm":
                weights = {name: weights[name] * ratio(lengths, name) for name in terms}
        for name, value in terms.items():
            self._add(name, float(value.detach()))
        loss = sum(weights[name] * value for name, value in terms.items())
        assert isinstance(loss, Tensor)
        return loss

    def terms(self, wrapped: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each loss as this micro-batch's part of the mean over the whole batch's tokens."""
        design = self.design
        rows = {kind: of_kind(batch, kind) for kind in (FORGET, RETAIN, FLUENT)}
        forget, retain = counted(batch, FORGET), counted(batch, RETAIN)
        with frozen(self.model):
            read, width = frozen_batch(batch)
            passes = text_logits(self.model, read, width)
            n = len(forget)
            draw = self.run.rng.child("noise", int(batch["step"])).torch()
            target = target_of(
                (passes[:n], passes[n : 2 * n], passes[2 * n : 3 * n]),
                forget,
                design,
                noise=draw,
            )
        self._add("support", float(target.support[forget].sum() / batch["tokens_forget"]))
        read, width = read_by(batch)
        logits = text_logits(wrapped, read, width)
        terms = {
            "erase": erase_loss(logits[rows[FORGET]], target, design.erase_target) / batch["tokens_forget"],
            "retain": retain_loss(logits[rows[RETAIN]], passes[3 * n :], retain, design.retain_target)
            / batch["tokens_retain"],
        }
        if rows[FLUENT].any():
            labels = batch["labels"][rows[FLUENT]]
            terms["fluency"] = token_cross_entropy(logits[rows[FLUENT]], labels) / batch["targets_fluent"]
        return terms

    def _add(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value

    def watch(self, step: Step) -> None:
        """After a step: log each term over all processes, and the length of its gradient where that was measured."""
        sums = total(self._sums, step.model)
        lengths = self.norms.take()
        if self.run.is_main:
            self.run.log(step=step.step, **sums, **{f"gradient of {n}": v for n, v in lengths.items()})
        if sums["support"] < SATURATED and not self._said and self.design.action != "random":
            self._said = True
            log.warning(
                "Targets are one-hot: q has a mean support of %.2f tokens, so top_k and soft targets do nothing, and the target "
                "may be an anti-answer. Lower --eta; gnomon elm target shows a table of it.",
                sums["support"],
            )
        self._start()


def ratio(lengths: Mapping[str, float], name: str, most: float = 100.0) -> float:
    """By what a term is multiplied so that its gradient is as long as the erase term's, at most `most`; 1 where it has none."""
    mine, wanted = lengths[name], lengths.get("erase", 0.0)
    if name == "erase" or not mine or not wanted:
        return 1.0
    return min(most, wanted / mine)


def train_eraser(
    model: PeftModel, texts: Texts, design: Erasure, cfg: TrainConfig, *, run: TrainRun, **watchers: Any
) -> History:
    """Train adapters that `attach` made, in place; see `gnomon.core.train.fit`.

    Raises:
        BadConfig: a setting does not fit the model, or the terms are to be balanced by gradients that are sharded.
        BadInput: there is no text of a kind that is needed.
    """
    if cfg.sharded and design.balance == "grad_norm":
        raise BadConfig(
            "balance grad_norm needs whole gradients, and train.sharded splits them. Leave one of the two out."
        )
    feed = Feed(
        texts,
        cfg.batch_size,
        generator=run.rng.child("feed"),
        micro_batch_size=cfg.micro_batch_size,
        fluency_every=design.fluency_every,
        fluency_batch=design.fluency_batch,
    )
    loss = ErasureLoss(model, design, run)
    on_step = [loss.watch, *watchers.pop("on_step", ())]
    return fit(model, feed, loss, cfg, run=run, on_step=on_step, **watchers)


class ScratchRun:
    """What training needs of a run, in a folder that goes with it: for use from Python.

    Args:
        seed: of all random choices.
    """

    def __init__(self, seed: int = 0):
        self.folder, self.rng, self.is_main = Path(tempfile.mkdtemp(prefix="gnomon-")), Rng(seed), True
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.rows: list[dict[str, float]] = []
        """What was logged."""

    def log(self, **numbers: float) -> None:
        """Keep one row."""
        self.rows.append(numbers)

    def rewind(self, *, step: int) -> None:
        """Drop the rows of later steps."""
        self.rows = [row for row in self.rows if row.get("step", 0) <= step]

    def progress(self, total: int, label: str) -> Any:
        """No progress is shown."""
        return progress(total, label, silent=True)


class ELM:
    """A model whose concept is to be erased.

    Args:
        model: a causal transformers model; `fit` puts adapters into it.
        tokenizer: its tokenizer.
        cfg: the concept, the personas, the design and the training.
        seed: of all random choices.
    """

    def __init__(self, model: Any, tokenizer: Any, cfg: ELMConfig, *, seed: int = 0):
        self.model, self.tokenizer, self.cfg, self.seed = model, tokenizer, cfg, seed
        self.history = History()
        """The numbers of each step, once `fit` is done."""

    def fit(
        self,
        forget: Sequence[str],
        retain: Sequence[str],
        fluency: str | Path | Sequence[Fluent] | None = None,
        *,
        run: TrainRun | None = None,
    ) -> PeftModel:
        """The model with trained adapters. `save_pretrained` writes a folder that PEFT loads without this package.

        Args:
            forget: texts about the concept.
            retain: other texts.
            fluency: fluent texts, or where `fluency-data` wrote them; None: no fluency term.
            run: folder, random numbers and log; a run with a folder is continued where it stopped. None: a folder for the moment.

        Raises:
            BadInput: no text is long enough, or a file cannot be used.
            BadConfig: a setting does not fit the model.
            ModelMismatch: to the model expert and novice agree, so that nothing would be erased.
        """
        cfg, run = self.cfg, run or ScratchRun(self.seed)
        fluent = read_fluent(fluency) if isinstance(fluency, str | Path) else fluency or ()
        sizes = {"max_chars": cfg.max_chars, "min_chars": cfg.min_chars}
        texts = encode_all(
            self.tokenizer,
            [cut(forget, **sizes)],
            cut(retain, **sizes),
            fluent,
            read_personas(cfg.concept, cfg.personas),
            cfg.train.max_length,
        )
        design = narrow(Erasure, cfg)
        if design.action != "random":
            check_personas(self.model, texts, design)
        model = attach(self.model, design, run.rng.child("adapters"))
        self.history = train_eraser(model, texts, design, cfg.train, run=run)
        return model.eval()


def encode_all(
    tokenizer: Any,
    forget: Sequence[Sequence[str]],
    retain: Sequence[str],
    fluent: Sequence[Fluent],
    personas: Personas | None,
    max_length: int | None = None,
) -> Texts:
    """Everything that is trained on, as token ids; sets that are the same object stay one set.

    Raises:
        BadInput: there is no text to forget or to retain.
    """
    encoded = {id(some): encode_texts(tokenizer, some, "forget", max_length) for some in forget}
    experts, novices = personas.encode(tokenizer) if personas else ([], [])
    return Texts(
        [encoded[id(some)] for some in forget],
        encode_texts(tokenizer, retain, "retain", max_length),
        encode_fluent(tokenizer, fluent, max_length),
        start_ids(tokenizer),
        experts,
        novices,
    )
