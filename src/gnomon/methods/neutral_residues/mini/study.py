"""The miniature: a model that has read one domain learns another, by every method over its own learning rates.

Forgetting is compared at equal learning, and the same block without its gate stands beside ours.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from gnomon.core import study as core_study
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out
from gnomon.core.train import TrainConfig
from gnomon.methods.neutral_residues.config import BESIDE, CLAIMS, Mini
from gnomon.methods.neutral_residues.evaluation import Point, forgetting_at
from gnomon.methods.neutral_residues.extension.design import Design, Method
from gnomon.methods.neutral_residues.extension.extension import extend
from gnomon.methods.neutral_residues.mini import report
from gnomon.methods.neutral_residues.mini.world import SCALES, Scale, World, world
from gnomon.methods.neutral_residues.training.study import Study

RIVALS = ("full", "lora", "adapter")
OURS, CONTROL = "neutral", "no gate + l1"
TITLES = {
    "source": "neutral-residues in miniature: English that learns Python",
    "languages": "neutral-residues in miniature: a made-up language that learns another",
    "samples": "neutral-residues in miniature: a pretrained model that learns Python",
}

P = 0.1
"""Share of the old domain in training."""


@dataclass(frozen=True)
class Kind:
    """An arm of the miniature: its method and design."""

    method: Method
    design: Design
    p: float = P


def kinds(alpha: float, *, full: bool) -> dict[str, Kind]:
    """The arms by name; ablations on request."""
    ours = Design(alpha=alpha)
    arms = {
        OURS: Kind("neutral", ours),
        CONTROL: Kind("neutral", replace(ours, gate="none")),
        "adapter": Kind("adapter", ours),
        "lora": Kind("lora", ours),
        "full": Kind("full", ours),
    }
    if full:
        arms |= {
            "alpha 0": Kind("neutral", replace(ours, alpha=0.0)),
            "alpha 0.01": Kind("neutral", replace(ours, alpha=0.01)),
            "alpha 3": Kind("neutral", replace(ours, alpha=3.0)),
            "ELU gate": Kind("neutral", replace(ours, gate="elu")),
            "sigmoid gate + CE": Kind("neutral", replace(ours, gate="sigmoid", local="ce")),
            "He's variance": Kind("neutral", replace(ours, init="he")),
            "vector gate": Kind("neutral", replace(ours, gate_shape="vector")),
            **{f"p = {p:g}": Kind("neutral", ours, p) for p in (0.0, 0.01, 0.5)},
        }
    return arms


def mini(cfg: Mini, run: Run) -> None:
    """Run every arm for every seed, decide the claims and write the page."""
    study(cfg).run(cfg, run)


def study(cfg: Mini) -> core_study.Study:
    """The study; its pair of domains and its ablations are settings."""
    options = ["--full"] if cfg.full else []
    if cfg.pair != "source":
        options += ["--pair", cfg.pair]
    if cfg.checkpoint is not None:
        options += ["--checkpoint", cfg.checkpoint]
    return core_study.Study(
        title=TITLES[cfg.pair],
        claims=CLAIMS if cfg.pair == "source" else BESIDE,
        scales={name: sizes[cfg.pair] for name, sizes in SCALES.items()},
        parts={"": core_study.Part(partial(_seed, cfg))},
        plan=_plan,
        page=report.write,
        summary=lambda results: {"rows": results.rows["arms"], "scores": results.scores()},
        options=options,
    )


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    arms = kinds(scale.alpha, full=cfg.full)
    trainings = sum(len(rates(scale, name)) for name in arms)
    return {"arms": list(arms), "trainings": trainings * cfg.seeds, "steps_each": scale.steps}


def _seed(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """World, backbone and every arm of one seed."""
    ready = world(cfg.pair, scale, base_of(part), checkpoint=cfg.checkpoint)
    rows = []
    for row in one_seed(scale, kinds(scale.alpha, full=cfg.full), ready, part):
        out.add("arms", row)
        out.log(**row)
        rows.append(row)
    score(rows, out)
    out.show("about", ready.about)
    out.show("alpha", scale.alpha)


def rates(scale: Scale, arm: str) -> tuple[float, ...]:
    """Learning rates of an arm; ablations are trained at our largest two."""
    return scale.lr.get(arm) or scale.lr[OURS][-2:]


def one_seed(
    scale: Scale, arms: Mapping[str, Kind], ready: World, part: PartOfRun
) -> Iterator[dict[str, Any]]:
    """All trainings of one seed, one row each."""
    study = Study(ready.model, ready.tokenizer, ready.new, ready.old, p=P, length=scale.length)
    first = _first_loss(study)
    for name, kind in arms.items():
        for lr in rates(scale, name):
            # The same start and the same batches for all.
            inner = part.within(f"{name.replace(' ', '-')}-{lr:g}", part.rng.child("arm"))
            row = study.arm(kind.method, kind.design, _schedule(scale, lr), inner, p=kind.p)
            yield {"arm": name, "lr": lr, "first loss off": first, **row}


def base_of(part: PartOfRun) -> PartOfRun:
    """The part of a seed in which its backbone is trained."""
    return part.within("base", part.rng.child("base"))


def _schedule(scale: Scale, lr: float) -> TrainConfig:
    return TrainConfig(
        lr=lr,
        batch_size=scale.batch_size,
        epochs=1_000,
        max_steps=scale.steps,
        max_length=scale.length,
        schedule="cosine",
        warmup_ratio=0.1,
        precision=scale.precision,
        checkpoint_every=0,
    )


@torch.no_grad()
def _first_loss(study: Study) -> float:
    """Loss of a fresh extension minus the backbone's, on one row of the new domain."""
    ids = torch.from_numpy(study.new.train.rows(study.length)[:4].astype("int64")).to(study.model.device)
    extended = extend(copy.deepcopy(study.model)).eval()
    before = study.model(input_ids=ids, use_cache=False).logits
    return float((extended(ids).logits - before).abs().max())


def score(rows: Sequence[Mapping[str, Any]], out: Out) -> None:
    """The numbers that claims are about, of one seed."""

    def points(arm: str) -> list[Point]:
        return [Point(arm, r["lr"], r["learning"], r["forgetting"]) for r in rows if r["arm"] == arm]

    ours = points(OURS)
    ratios, controls = [], []
    for point in ours:
        at = [f for arm in RIVALS if (f := forgetting_at(points(arm), point.learning)) is not None]
        if at:
            ratios.append(point.forgetting / min(at))
        control = forgetting_at(points(CONTROL), point.learning)
        if control is not None:
            controls.append(point.forgetting / control)
    for metric, values in (
        ("forgetting over the best rival's, at equal learning", ratios),
        ("forgetting over the ungated block's, at equal learning", controls),
    ):
        if values:
            # Where we have learned most of what the rivals can be compared at.
            out.score(OURS, metric, values[-1])
        else:
            out.undefine(OURS, metric, "no rival learned as much as our blocks did at any rate")
    best = max((r for r in rows if r["arm"] == OURS), key=lambda r: r["learning"])
    out.score(OURS, "residual, old over new", best["residual ratio"])
    out.score(OURS, "first loss minus the backbone's", best["first loss off"])
