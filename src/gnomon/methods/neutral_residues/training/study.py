"""One backbone and two domains: methods are trained on them under equal conditions, and measured alike."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from gnomon.core.config import fingerprint
from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import Evaluation, History, TrainConfig
from gnomon.core.train.loop import TrainRun
from gnomon.methods.neutral_residues.evaluation import Activity, activity, backbone_of, by_layer, drift, score
from gnomon.methods.neutral_residues.extension.design import (
    Design,
    Method,
    backbone,
    block_width,
    count,
    lora_rank,
)
from gnomon.methods.neutral_residues.extension.extension import Extended
from gnomon.methods.neutral_residues.extension.store import Trained
from gnomon.methods.neutral_residues.training.arms import GateWatcher, prepare, train_arm
from gnomon.methods.neutral_residues.training.data import Corpus, Stream
from gnomon.methods.neutral_residues.training.mixing import Mixture

WATCHED = 64
"""Rows of a text on which blocks and drift are measured."""


@dataclass(frozen=True)
class Arm:
    """A trained model."""

    model: nn.Module
    """As `prepare` made it, trained."""
    history: History
    """Its curve."""


class Study:
    """A backbone, which stays as it is, and the texts of two domains.

    Args:
        model: the backbone.
        tokenizer: its tokenizer.
        new: the domain to learn.
        old: text that stands for what the backbone knows.
        p: share of training sequences from `old`.
        length: tokens a row.
    """

    def __init__(self, model: Any, tokenizer: Any, new: Corpus, old: Corpus, *, p: float, length: int):
        self.model, self.tokenizer, self.new, self.old, self.p, self.length = (
            model,
            tokenizer,
            new,
            old,
            p,
            length,
        )
        self._before: dict[str, float] | None = None

    def mixture(self, cfg: TrainConfig, rng: Rng, p: float | None = None) -> Mixture:
        """The training batches."""
        p = self.p if p is None else p
        return Mixture(
            self.new.train.rows(self.length),
            self.old.train.rows(self.length) if p > 0 else None,
            p,
            cfg.batch_size,
            generator=rng.child("mixture"),
            micro_batch_size=cfg.micro_batch_size,
        )

    def costs(self, design: Design, cfg: TrainConfig, arms: int) -> dict[str, Any]:
        """What training will take."""
        d = int(self.model.config.get_text_config().hidden_size)
        budget = design.extra * backbone(self.model, design.budget_of)
        steps = cfg.epochs * len(self.mixture(cfg, Rng(0)))
        return {
            "parameters": count(self.model),
            "new weights": round(budget),
            "block width": block_width(budget, d, self.model.config.get_text_config().num_hidden_layers),
            "LoRA rank": lora_rank(self.model, budget),
            "new tokens": len(self.new.train.ids),
            "original tokens": len(self.old.train.ids),
            "optimiser steps": arms * min(steps, cfg.max_steps or steps),
        }

    def train(
        self, method: Method, design: Design, cfg: TrainConfig, run: TrainRun, *, p: float | None = None
    ) -> Arm:
        """Train one method on a copy of the backbone."""
        model = prepare(
            copy.deepcopy(self.model), method, design, rank=cfg.lora_rank, generator=run.rng.child("start")
        )
        watchers = [GateWatcher(model)] if isinstance(model, Extended) else []
        wants = cfg.eval_every is not None or cfg.keep_best
        history = train_arm(
            model,
            self.mixture(cfg, run.rng, p),
            cfg,
            run=run,
            on_step=watchers,
            eval=Evaluation(self.progress, ("new bits per byte",)) if wants else None,
        )
        return Arm(model.eval(), history)

    def progress(self, model: nn.Module) -> dict[str, float]:
        """Bits per byte of a model in training on the texts that were set aside."""
        texts = (("original", self.old), ("new", self.new))
        return {
            f"{name} bits per byte": score(model, text.held, self.length).bits_per_byte
            for name, text in texts
        }

    def arm(
        self, method: Method, design: Design, cfg: TrainConfig, part: PartOfRun, *, p: float | None = None
    ) -> dict[str, Any]:
        """Train and measure one method within a part of a run; what an earlier process finished is read back."""
        kept = part.folder / f"measured-{fingerprint(cfg.decisive, asdict(design), p)}.json"
        if kept.exists():
            measured: dict[str, Any] = json.loads(kept.read_text("utf-8"))
            return measured
        row = self.measure(self.train(method, design, cfg, part, p=p))
        if part.is_main:
            write_json(kept, row)
        return row

    def before(self) -> dict[str, float]:
        """Bits per byte of the backbone on both domains."""
        if self._before is None:
            self._before = {
                name: score(self.model, text.held, self.length).bits_per_byte
                for name, text in (("original", self.old), ("new", self.new))
            }
        return self._before

    def measure(self, arm: Arm) -> dict[str, Any]:
        """What an arm has learned and forgotten, and how far it drifted."""
        reference = None if _knows_backbone(arm.model) else self.model
        texts = {"original": self.old.held, "new": self.new.held}
        measured = _after(arm.model, texts, self.length, reference)
        return gains(self.before(), measured) | {"trained weights": count(arm.model, trainable=True)}


def compared(
    trained: Trained, texts: Mapping[str, Stream], length: int, *, batch_size: int
) -> dict[str, Any]:
    """A trained model and its backbone on texts of both domains: bits per byte, G, F, drift, residuals, gates."""
    with backbone_of(trained.model):
        reference = trained.reference or trained.model
        before = {
            name: score(reference, s, length, batch_size=batch_size).bits_per_byte
            for name, s in texts.items()
        }
    return gains(before, _after(trained.model, texts, length, trained.reference))


def gains(before: Mapping[str, float], after: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one arm: learning G and forgetting F in bits per byte beside what was measured."""
    return {
        "learning": before["new"] - after["new"],
        "forgetting": after["original"] - before["original"],
        "original before": before["original"],
        "new before": before["new"],
        **after,
    }


def _after(model: Any, texts: Mapping[str, Stream], length: int, reference: Any) -> dict[str, Any]:
    row: dict[str, Any] = {name: score(model, stream, length).bits_per_byte for name, stream in texts.items()}
    rows = {name: stream.rows(min(length, len(stream.ids)))[:WATCHED] for name, stream in texts.items()}
    row["drift"] = drift(model, rows["original"], reference)
    if isinstance(model, Extended):
        seen = {name: activity(model, some) for name, some in rows.items()}
        row |= neutrality(seen["original"], seen["new"]) | {"layers": by_layer(seen)}
    return row


def neutrality(old: Activity, new: Activity) -> dict[str, float]:
    """How much blocks add to either domain, and how often their gates are open there."""
    residuals = {
        "residual, original": float(old.residual.mean()),
        "residual, new": float(new.residual.mean()),
    }
    ratio = (
        residuals["residual, original"] / residuals["residual, new"]
        if residuals["residual, new"]
        else math.nan
    )
    measures = residuals | {"residual ratio": ratio}
    if old.is_open is not None and new.is_open is not None:
        measures |= {"open, original": float(old.is_open.mean()), "open, new": float(new.is_open.mean())}
    return measures


def _knows_backbone(model: Any) -> bool:
    return isinstance(model, Extended) or hasattr(model, "disable_adapter")
