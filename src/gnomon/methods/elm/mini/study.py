"""The miniature: one of two domains of made-up facts is erased, by ELM and its rivals, and everything about it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.errors import UserError
from gnomon.methods.elm.config import CLAIMS, Mini
from gnomon.methods.elm.evaluation.measures import probe_chance
from gnomon.methods.elm.mini import report
from gnomon.methods.elm.mini.arms import (
    OURS,
    arms,
    best,
    fluent_texts,
    learned_personas,
    measure,
    off_window,
    run_arm,
)
from gnomon.methods.elm.mini.models import SCALES, Scale, stage, train_model

LEAST_KL = 0.05
"""Nats per token below which the base model cannot tell a novice from an expert, and there is nothing to erase by."""

ATTEMPTS = 4
"""Base models of a seed, from first weights of their own, of which one must learn the personas. About a third of them do not."""

ACCURACY, PROBABILITY = (0.10, 0.40), (0.18, 0.32)
"""Windows around chance, of questions with four options."""


def mini(cfg: Mini, run: Run) -> None:
    """Run every arm for every seed, decide the claims and write the page."""
    study(cfg).run(cfg, run)


def study(cfg: Mini) -> Study:
    """The study; ablations are a setting, and a base model of the smoke scale need not have learned anything."""
    return Study(
        title="elm in miniature: a domain of made-up facts is taken out",
        claims=CLAIMS,
        scales=SCALES,
        parts={"": Part(partial(_seed, full=cfg.full, is_checked=cfg.scale != "smoke"))},
        plan=_plan,
        page=report.write,
        summary=_summary,
        options=["--full"] if cfg.full else [],
        across=lambda results: scores(results.rows["arms"]),
    )


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    all_arms = arms(scale, full=cfg.full)
    return {
        "arms": [arm.name for arm in all_arms],
        "base_steps": scale.base_steps,
        "judge_steps": scale.judge_steps,
        "steps_of_arms": sum(max(arm.steps) for arm in all_arms),
    }


def _summary(results: Results) -> Mapping[str, object]:
    return {
        "KL of novice from expert": results.kept["KL of the personas"],
        "base models trained": results.kept["base models"],
        "rows": results.rows["arms"],
    }


def _seed(
    scale: Scale, seed: int, part: PartOfRun, out: Out, *, full: bool = False, is_checked: bool = True
) -> None:
    """World, base, judge and all arms of one seed.

    A base model that has not learned the personas is trained anew from other first weights: ELM's target would be the model itself.

    Raises:
        UserError: none of them has.
    """
    ready = stage(scale, *(_inner(part, name) for name in ("world", "base", "judge")))
    apart = learned_personas(ready)
    attempts = 1
    while is_checked and apart < LEAST_KL:
        if attempts == ATTEMPTS:
            raise UserError(
                f"None of {ATTEMPTS} base models of seed {seed} tells the personas apart (the last by {apart:.3f} nats per token): "
                "there is nothing to erase by. Train them longer."
            )
        inner = _inner(part, f"base-{attempts}")
        base = train_model(scale, ready.world, ready.tokenizer, scale.base_steps, inner, truth=True)
        ready = replace(ready, base=base)
        apart = learned_personas(ready)
        attempts += 1
    out.keep("KL of the personas", apart)
    out.keep("base models", attempts)
    out.keep("chance of the probe", probe_chance(ready.exam) or 0.0)
    out.add("arms", {"arm": "base", "step": 0, **measure(ready.base, ready)})
    fluent = fluent_texts(scale, ready, _inner(part, "fluent"))
    for arm in arms(scale, full=full):
        for row in run_arm(
            arm, scale, ready, fluent, _inner(part, arm.name.replace(" ", "-").replace(",", ""))
        ):
            out.add("arms", row)
            out.log(**{k: v for k, v in row.items() if not isinstance(v, list)})


def _inner(part: PartOfRun, name: str) -> PartOfRun:
    # Batches and adapters start alike in every arm.
    shared = name if name.split("-")[0] in ("world", "base", "judge", "fluent") else "arm"
    return part.within(name, part.rng.child(shared))


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
