"""The miniature: a model that has read one domain learns another, by every method over its own learning rates.

Forgetting is compared at equal learning, and the same block without its gate stands beside ours.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import write_summary
from gnomon.core.train import TrainConfig
from gnomon.methods.neutral_residues import mini_page
from gnomon.methods.neutral_residues.config import BESIDE, CLAIMS, Mini
from gnomon.methods.neutral_residues.design import Design, Method
from gnomon.methods.neutral_residues.extension import extend
from gnomon.methods.neutral_residues.mini_world import SCALES, Scale, World, world
from gnomon.methods.neutral_residues.study import Study
from gnomon.methods.neutral_residues.tradeoff import Point, forgetting_at

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
    """What an arm is."""

    method: Method
    design: Design
    p: float = P


@dataclass
class Findings:
    """What all seeds brought."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed, arm and learning rate."""
    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Arm -> metric -> one number per seed, as claims name them."""

    def add(self, arm: str, metric: str, value: float) -> None:
        """One seed's score."""
        self.scores.setdefault(arm, {}).setdefault(metric, []).append(value)


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
    scale = SCALES[cfg.scale][cfg.pair]
    arms = kinds(scale.alpha, full=cfg.full)
    seeds = range(run.seed, run.seed + cfg.seeds)
    trainings = sum(len(rates(scale, name)) for name in arms)
    run.plan(seeds=list(seeds), arms=list(arms), trainings=trainings * cfg.seeds, steps_each=scale.steps)
    env.check_scale(cfg.scale, scale.device)
    run.page.title = TITLES[cfg.pair]
    found = Findings()
    for seed in seeds:
        part = run.within(f"seed-{seed}")
        part.rng = Rng(seed)
        ready = world(cfg.pair, scale, base_of(part, run), checkpoint=cfg.checkpoint)
        rows = one_seed(scale, arms, ready, part, run, seed)
        found.rows += rows
        score(rows, found)
    claims = CLAIMS if cfg.pair == "source" else BESIDE
    verdicts = [decide(found.scores, claim) for claim in claims if cfg.scale != "smoke"]
    run.page.verdicts(verdicts)
    mini_page.write(run.page, ready.about, found.rows, scale.alpha)
    numbers = {"rows": found.rows, "scores": found.scores}
    words = ["--full"] if cfg.full else []
    if cfg.pair != "source":
        words += ["--pair", cfg.pair]
    if cfg.checkpoint is not None:
        words += ["--checkpoint", cfg.checkpoint]
    write_summary(run, cfg, scale, verdicts, numbers, *words)


def rates(scale: Scale, arm: str) -> tuple[float, ...]:
    """Learning rates of an arm; ablations are trained at our largest two."""
    return scale.lr.get(arm) or scale.lr[OURS][-2:]


def one_seed(
    scale: Scale, arms: Mapping[str, Kind], ready: World, part: PartOfRun, run: Run, seed: int
) -> list[dict[str, Any]]:
    """All trainings of one seed."""
    study = Study(ready.model, ready.tokenizer, ready.new, ready.old, p=P, length=scale.length)
    first = _first_loss(study)
    rows = []
    for name, kind in arms.items():
        for lr in rates(scale, name):
            inner = run.within(f"{part.name}/{name.replace(' ', '-')}-{lr:g}")
            inner.rng = part.rng.child("arm")  # the same start and the same batches for all
            row = study.arm(kind.method, kind.design, _schedule(scale, lr), inner, p=kind.p)
            rows.append({"seed": seed, "arm": name, "lr": lr, "first loss off": first, **row})
            run.log(**rows[-1])
    return rows


def base_of(part: PartOfRun, run: Run) -> PartOfRun:
    """The part of a seed in which its backbone is trained."""
    base = run.within(f"{part.name}/base")
    base.rng = part.rng.child("base")
    return base


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


def score(rows: Sequence[Mapping[str, Any]], found: Findings) -> None:
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
    if ratios:
        # Where we have learned most of what the rivals can be compared at.
        found.add(OURS, "forgetting over the best rival's, at equal learning", ratios[-1])
    if controls:
        found.add(OURS, "forgetting over the ungated block's, at equal learning", controls[-1])
    best = max((r for r in rows if r["arm"] == OURS), key=lambda r: r["learning"])
    found.add(OURS, "residual, old over new", best["residual ratio"])
    found.add(OURS, "first loss minus the backbone's", best["first loss off"])
