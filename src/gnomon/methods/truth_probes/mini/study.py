"""The miniature: a small world in which a model knows better than it says, the same without what makes it so, and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gnomon.core import env, records
from gnomon.core.claims import decide
from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.study import write_summary
from gnomon.methods.truth_probes.answers.data import Question
from gnomon.methods.truth_probes.answers.extraction import Extraction
from gnomon.methods.truth_probes.config import CLAIMS, Mini
from gnomon.methods.truth_probes.errors.choice import STRATEGIES
from gnomon.methods.truth_probes.mini import report
from gnomon.methods.truth_probes.mini.measures import LOG_PROBABILITY, OTHERS, Study, study
from gnomon.methods.truth_probes.mini.world import CUED, SCALES, Scale, World, train_sums, train_world
from gnomon.methods.truth_probes.states.positions import NAMES

ON_GREEDY = "AUC on greedy answers"


@dataclass
class Findings:
    """What all seeds brought."""

    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Arm -> metric -> a number per seed, as claims name them."""
    detectors: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed, part and detector."""
    choices: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed, part and group of questions."""
    others: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed and part: shares right, transfer, kinds of errors."""
    shown: dict[str, Study] = field(default_factory=dict)
    """Of the first seed, to be drawn."""

    def add(self, arm: str, metric: str, value: float | None) -> None:
        """One seed's score; NaN where it is not defined."""
        self.scores.setdefault(arm, {}).setdefault(metric, []).append(
            math.nan if value is None else float(value)
        )

    def can_decide(self, arm: str | float, metric: str) -> bool:
        """Whether every seed has a number."""
        if not isinstance(arm, str):
            return True
        values = self.scores.get(arm, {}).get(metric, [])
        return bool(values) and all(map(math.isfinite, values))


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    run.plan(
        seeds=list(seeds),
        models=len(cfg.parts) * cfg.seeds,
        steps=cfg.seeds * sum(scale.sum_steps if part == "arithmetic" else scale.steps for part in cfg.parts),
        questions=4 * scale.subjects,
        samples_per_question=scale.samples,
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "truth-probes in miniature: models that know better than they say"
    found = Findings()
    for seed in seeds:
        studies = {part: _PARTS[part](scale, seed, run) for part in cfg.parts}
        for part, one in studies.items():
            _note(part, seed, one, run, found)
        _score(studies, found)
    verdicts = [
        decide(found.scores, claim)
        for claim in CLAIMS
        if cfg.scale != "smoke"
        and all(
            found.can_decide(arm, claim.comparison.metric)
            for arm in (claim.comparison.left, claim.comparison.right)
        )
    ]
    run.page.verdicts(verdicts)
    report.write(run.page, found.detectors, found.choices, found.others, found.shown)
    numbers = {
        "log-probability": LOG_PROBABILITY,
        "scores": found.scores,
        "detectors": found.detectors,
        "choices": found.choices,
        "others": found.others,
    }
    write_summary(run, cfg, scale, verdicts, numbers, "--parts", *cfg.parts)


def _world(scale: Scale, seed: int, run: Run, cued: float = CUED, name: str = "world") -> Study:
    """The world, with or without cues; subjects and answers are the same."""
    part = run.within(f"seed-{seed}/{name}")
    part.rng = Rng(seed).child("model of the world")
    world = World.draw(scale.subjects, Rng(seed), cued)
    handle = train_world(world, scale, part)
    questions = world.questions()
    if seed == run.seed and name == "world":
        _leave(handle, questions, run)
    return study(
        handle,
        questions,
        samples=scale.samples,
        max_new_tokens=8,
        how=Extraction("known"),
        seed=seed,
        tasks=[question.id.partition("-")[0] for question in questions],
    )


def _control(scale: Scale, seed: int, run: Run) -> Study:
    return _world(scale, seed, run, cued=0.0, name="control")


def _arithmetic(scale: Scale, seed: int, run: Run) -> Study:
    """Sums of two numbers, asked of a model that has not seen these and is not through with learning."""
    part = run.within(f"seed-{seed}/arithmetic")
    part.rng = Rng(seed).child("arithmetic")
    handle, questions = train_sums(scale, part)
    how = Extraction("regex", r"\d+")
    return study(handle, questions, samples=scale.samples, max_new_tokens=6, how=how, seed=seed)


_PARTS = {"world": _world, "control": _control, "arithmetic": _arithmetic}


def _leave(handle: ModelHandle, questions: Sequence[Question], run: Run) -> None:
    """The first seed's model and questions, to try the other verbs on."""
    folder = run.artifact("model", run.folder / "model")
    handle.model.save_pretrained(folder)
    handle.processor.save_pretrained(folder)
    records.write(run.artifact("questions", run.folder / "questions.jsonl"), questions)


def _note(part: str, seed: int, one: Study, run: Run, found: Findings) -> None:
    """The numbers of one study as rows."""
    for name in one.greedy:
        row = {
            "seed": seed,
            "part": part,
            "detector": name,
            "greedy": one.greedy[name],
            "sampled": one.sampled[name],
        }
        found.detectors.append(row)
        run.log(**row)
    groups = {"all": list(range(len(one.typed))), "C2, D, E2": one.knowing()}
    for name, rows in groups.items():
        if rows:
            shares = {strategy: one.choice.accuracy(strategy, rows) for strategy in STRATEGIES}
            found.choices.append({"seed": seed, "part": part, "questions": name, "n": len(rows), **shares})
    same, other = one.skills()
    rest = {
        **one.figures,
        "same skill": same,
        "other skill": other,
        **{f"type {kind}": value.value for kind, value in one.types.items()},
    }
    found.others.append({"seed": seed, "part": part, **rest})
    run.log(seed=seed, part=part, **rest)
    if seed == run.seed:
        found.shown[part] = one


def _score(studies: dict[str, Study], found: Findings) -> None:
    """One seed's scores as the claims name them."""
    if "world" in studies:
        one = studies["world"]
        found.add("exact answer", ON_GREEDY, one.greedy["exact_last"])
        found.add("best other token", ON_GREEDY, max(one.greedy[name] for name in OTHERS))
        found.add("best logit baseline", ON_GREEDY, max(one.greedy[name] for name in NAMES))
        same, other = one.skills()
        found.add("same skill", "AUC on another task", same)
        found.add("other skill", "AUC on another task", other)
        knowing = one.knowing()
        for strategy in ("probe", "majority"):
            found.add(strategy, "right answers", one.choice.accuracy(strategy))
            hard = one.choice.accuracy(strategy, knowing) if knowing else None
            found.add(strategy, "right answers on C2, D and E2", hard)
        for kind in ("B", "C"):
            found.add(
                f"type {kind}", "AUC of error types", one.types[kind].value if kind in one.types else None
            )
    if {"world", "control"} <= studies.keys():
        metric = "lead over log-probability"
        found.add("without cues", metric, studies["control"].lead)
        found.add("half of that with cues", metric, studies["world"].lead / 2)
