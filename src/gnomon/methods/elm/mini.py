"""The miniature: one of two domains of made-up facts is erased, by ELM and its rivals, and everything about it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import write_summary
from gnomon.errors import UserError
from gnomon.methods.elm import mini_page
from gnomon.methods.elm.config import CLAIMS, Mini
from gnomon.methods.elm.evaluation import probe_chance
from gnomon.methods.elm.mini_models import SCALES, Scale, stage, train_model
from gnomon.methods.elm.mini_study import (
    OURS,
    arms,
    best,
    fluent_texts,
    learned_personas,
    measure,
    off_window,
    run_arm,
)

LEAST_KL = 0.05
"""Nats per token below which the base model cannot tell a novice from an expert, and there is nothing to erase by."""

ATTEMPTS = 4
"""Base models of a seed, from first weights of their own, of which one must learn the personas. About a third of them do not."""

ACCURACY, PROBABILITY = (0.10, 0.40), (0.18, 0.32)
"""Windows around chance, of questions with four options."""


@dataclass
class Findings:
    """What all seeds brought."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed, arm and measured step."""
    personas: list[float] = field(default_factory=list)
    """KL of the novice from the expert, per seed."""
    bases: list[int] = field(default_factory=list)
    """Base models that were trained, per seed; the last one learned the personas."""
    chances: list[float] = field(default_factory=list)
    """Chance of the probe, per seed."""


def mini(cfg: Mini, run: Run) -> None:
    """Run every arm for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    all_arms = arms(scale, full=cfg.full)
    seeds = range(run.seed, run.seed + cfg.seeds)
    run.plan(
        seeds=list(seeds),
        arms=[arm.name for arm in all_arms],
        base_steps=scale.base_steps,
        judge_steps=scale.judge_steps,
        steps_of_arms=sum(max(arm.steps) for arm in all_arms),
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "elm in miniature: a domain of made-up facts is taken out"
    found = Findings()
    for seed in seeds:
        one_seed(scale, seed, run, found, full=cfg.full, check=cfg.scale != "smoke")
    verdicts = [decide(scores(found.rows), claim) for claim in CLAIMS if cfg.scale != "smoke"]
    run.page.verdicts(verdicts)
    mini_page.write(run.page, found.rows, found.personas, median(found.chances))
    numbers = {
        "KL of novice from expert": found.personas,
        "base models trained": found.bases,
        "rows": found.rows,
    }
    write_summary(run, cfg, scale, verdicts, numbers, *(["--full"] if cfg.full else []))


def one_seed(
    scale: Scale, seed: int, run: Run, found: Findings, *, full: bool = False, check: bool = True
) -> None:
    """World, base, judge and all arms of one seed.

    A base model that has not learned the personas is trained anew from other first weights: ELM's target would be the model itself.

    Raises:
        UserError: none of them has.
    """
    ready = stage(scale, *(_part(run, seed, name) for name in ("world", "base", "judge")))
    apart = learned_personas(ready)
    attempts = 1
    while check and apart < LEAST_KL:
        if attempts == ATTEMPTS:
            raise UserError(
                f"None of {ATTEMPTS} base models of seed {seed} tells the personas apart (the last by {apart:.3f} nats per token): "
                "there is nothing to erase by. Train them longer."
            )
        part = _part(run, seed, f"base-{attempts}")
        base = train_model(scale, ready.world, ready.tokenizer, scale.base_steps, part, truth=True)
        ready = replace(ready, base=base)
        apart = learned_personas(ready)
        attempts += 1
    found.personas.append(apart)
    found.bases.append(attempts)
    found.chances.append(probe_chance(ready.exam) or 0.0)
    found.rows.append({"seed": seed, "arm": "base", "step": 0, **measure(ready.base, ready)})
    fluent = fluent_texts(scale, ready, _part(run, seed, "fluent"))
    for arm in arms(scale, full=full):
        part = _part(run, seed, arm.name.replace(" ", "-").replace(",", ""))
        for row in run_arm(arm, scale, ready, fluent, part):
            found.rows.append({"seed": seed, **row})
            run.log(**{k: v for k, v in found.rows[-1].items() if not isinstance(v, list)})


def _part(run: Run, seed: int, name: str) -> PartOfRun:
    part = run.within(f"seed-{seed}/{name}")
    # Batches and adapters start alike in every arm.
    shared = name if name.split("-")[0] in ("world", "base", "judge", "fluent") else "arm"
    part.rng = Rng(seed).child(shared)
    return part


def scores(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The numbers that claims are about: medians of the seeds for the windows, else one per seed."""
    seeds = list(dict.fromkeys(row["seed"] for row in rows))

    def of(arm: str, seed: int) -> list[dict[str, Any]]:
        return [row for row in rows if row["seed"] == seed and row["arm"].split(",")[0] == arm]

    ours = [[row for row in of(OURS, seed) if row["arm"] == OURS][-1] for seed in seeds]
    base = [of("base", seed)[0] for seed in seeds]
    rivals = [best(of("rmu", seed)) for seed in seeds]

    def off(name: str, window: tuple[float, float]) -> list[float]:
        return [off_window(median(row[name] for row in ours), *window)]

    def over(name: str) -> list[float]:
        return [mine[name] / before[name] for mine, before in zip(ours, base, strict=True)]

    return {
        OURS: {
            "forget accuracy, off 0.10 to 0.40": off("forget", ACCURACY),
            "true option, off 0.18 to 0.32": off("true option", PROBABILITY),
            "forget accuracy behind the expert, off 0.10 to 0.40": off("forget, expert prefix", ACCURACY),
            "true option behind the expert, off 0.18 to 0.32": off("true option, expert prefix", PROBABILITY),
            "retain accuracy": [row["retain"] for row in ours],
            "R-PPL over the base's": over("R-PPL"),
            "generic perplexity over the base's": over("perplexity, generic"),
        },
        "rmu": {
            "R-PPL over the base's, at the best point": [
                theirs["R-PPL"] / before["R-PPL"] for theirs, before in zip(rivals, base, strict=True)
            ],
            "R-PPL over ELM's, at the best point": [
                theirs["R-PPL"] / mine["R-PPL"] for theirs, mine in zip(rivals, ours, strict=True)
            ],
        },
    }  # fmt: skip
