"""The miniature: a hidden house style that critiques must uncover, with critics that see less, nothing, or the wrong thing.

Critic and optimiser are simulated in every part: what is shown is that the loop works, not what a language model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.llm import Role
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.study import write_summary
from gnomon.methods.crispo.config import AT_5, CLAIMS, LATE, MODEL_AT_5, PARTS, Mini, SearchConfig
from gnomon.methods.crispo.mini import report
from gnomon.methods.crispo.mini.arms import DOSES, SEARCHES, SETTINGS, Arm, Ran, run_arm
from gnomon.methods.crispo.mini.world import HINTED, PROMPT, SCALES, TAG, Scale, World, both_metrics
from gnomon.methods.crispo.scoring.calls import LLMs
from gnomon.methods.crispo.scoring.evaluation import evaluate
from gnomon.methods.crispo.scoring.metrics import open_metrics
from gnomon.methods.crispo.search.loop import tune_suffix
from gnomon.methods.crispo.search.store import Store
from gnomon.methods.crispo.search.task import Result

EPS = 0.02
"""What a constrained postscript may lose of the first metric on dev."""
INVENTION = 0.5
"""Chance of each kind of invention, where a postscript is tuned."""
CHECKPOINT_ROWS, CHECKPOINT_STEPS = (34, 33, 33), 10
OPRO, CRISPO = SEARCHES[:2]


@dataclass
class Findings:
    """What all worlds and seeds brought."""

    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arm -> metric -> world or seed -> a number, as claims name them."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row per part, world or seed, and arm."""
    curves: dict[str, dict[str, dict[int, list[float]]]] = field(default_factory=dict)
    """Part -> arm -> step -> best on train so far, per world or seed."""

    def add(self, arm: str, metric: str, seed: int, value: float) -> None:
        """One number."""
        self.scores.setdefault(arm, {}).setdefault(metric, {})[seed] = float(value)

    def note(self, part: str, arm: str, seed: int, ran: Ran, run: Run) -> None:
        """One arm's search."""
        steps = ran.result.history.steps
        (metric,) = (one.name for one in ran.result.history.metrics)
        for step in steps:
            curve = self.curves.setdefault(part, {}).setdefault(arm, {})
            curve.setdefault(step.step, []).append(step.values["train"][metric])
        row = {
            "part": part,
            "world": seed,
            "arm": arm,
            **{f"test after {step}": value for step, value in ran.test.items()},
            "task calls": steps[-1].task_calls,
            "refused": sum(sum(step.rejected.values()) for step in steps),
        }
        self.rows.append(row)
        run.log(**row)


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    searches = len(SEARCHES) * ("search" in cfg.parts) + len(DOSES) * ("doses" in cfg.parts)
    run.plan(
        worlds=scale.worlds,
        searches=scale.worlds * (searches + 3 * ("suffix" in cfg.parts) + 2 * ("keyphrases" in cfg.parts)),
        trained_models=cfg.seeds if "model" in cfg.parts else 0,
        training_steps=scale.model.steps if "model" in cfg.parts else 0,
        simulated_task_calls_of_a_search=(1 + 3 * scale.steps) * scale.rows[0],
    )
    env.check_scale(cfg.scale, scale.model.device)
    run.page.title = "SIMULATED: crispo in miniature, a house style uncovered by critiques"
    run.page.simulated = True
    found = Findings()
    worlds = [World.draw(Rng(run.seed).child("world", i), scale.rows) for i in range(scale.worlds)]
    shown = _searches(worlds, scale, run, found, cfg.parts) if {"search", "doses"} & set(cfg.parts) else None
    if "suffix" in cfg.parts:
        _suffixes(worlds, scale, run, found)
    if "keyphrases" in cfg.parts:
        _keyphrases(scale, run, found)
    if "model" in cfg.parts:
        for seed in range(run.seed, run.seed + cfg.seeds):
            _trained(scale, seed, run, found)
    if cfg.checkpoint is not None:
        _checkpoint(cfg.checkpoint, run, found)
    claims = [claim for claim in CLAIMS if _is_there(found, claim.comparison)]
    assert len(claims) == len(CLAIMS) or set(cfg.parts) != set(PARTS)  # none may be lost without a word
    verdicts = [decide(found.scores, claim) for claim in claims if cfg.scale != "smoke"]
    run.page.verdicts(verdicts)
    report.write(run, found, shown)
    numbers = {"scores": found.scores, "rows": found.rows, "curves": found.curves}
    write_summary(run, cfg, scale, verdicts, numbers, "--parts", *cfg.parts)


def _is_there(found: Findings, comparison: Any) -> bool:
    arms = [arm for arm in (comparison.left, comparison.right) if isinstance(arm, str)]
    return all(comparison.metric in found.scores.get(arm, {}) for arm in arms)


def _searches(
    worlds: Sequence[World], scale: Scale, run: Run, found: Findings, parts: Sequence[str]
) -> Result:
    """Every arm in every world; the first world's CriSPO search is returned, to be shown.

    Critiques of other tasks come from the CriSPO searches of the other worlds, which are therefore run first.
    """
    own = [_search(CRISPO, world, i, scale.steps, run, found) for i, world in enumerate(worlds)]
    others = [arm for arm in SEARCHES if arm is not CRISPO] if "search" in parts else [OPRO, SEARCHES[2]]
    arms = [(arm, scale.steps if "search" in parts else scale.dose_steps) for arm in others]
    arms += [(arm, scale.dose_steps) for arm in DOSES if "doses" in parts]
    for arm, steps in arms:
        for i, world in enumerate(worlds):
            foreign = [text for j, ran in enumerate(own) if j != i for text in ran.critiques]
            _search(arm, world, i, steps, run, found, foreign)
    return own[0].result


def _search(
    arm: Arm, world: World, i: int, steps: int, run: Run, found: Findings, foreign: Sequence[str] = ()
) -> Ran:
    rng = Rng(run.seed).child("search", i)
    ran = run_arm(arm, world, rng, steps=steps, foreign=foreign, run=run)
    found.note("search", arm.name, i, ran, run)
    found.add(arm.name, AT_5, i, ran.test[5])
    if 20 in ran.test:
        found.add(arm.name, LATE, i, ran.test[20])
    return ran


def _suffixes(worlds: Sequence[World], scale: Scale, run: Run, found: Findings) -> None:
    """A postscript for a writer who invents, behind a prompt tuned for style alone, chosen by mean rank and with a constraint.

    The first world's search by mean rank stays in the folder `suffix`.
    """
    for i, world in enumerate(worlds):
        rng = Rng(run.seed).child("suffix", i)
        metrics = both_metrics()
        results = {}
        roles = {
            "task": f"sim:styler?{world.writer}&invention={INVENTION}",
            "critic": "sim:critic",
            "optimizer": "sim:optimizer",
        }
        with run.asking(roles, SETTINGS) as models:
            llms = LLMs(**models)
            main = run_arm(CRISPO, world, rng, steps=5, task=llms.task, run=run).chosen[5].text
            for arm, select in (("with postscript", "rank"), ("with constrained postscript", "pareto")):
                cfg = SearchConfig(steps=scale.dose_steps, recheck=0, select=select, eps=EPS)  # type: ignore[arg-type]
                results[arm] = tune_suffix(
                    main, world.train, world.dev, llms, metrics, cfg, rng=rng, answer_tag=TAG
                )
            ranked = results["with postscript"]
            # Measured as copies: what a candidate did on test is no part of the search.
            prompts = [ranked.history.candidates[0], *(result.best for result in results.values())]
            copies = [replace(one, measured={}) for one in prompts]
            tested = evaluate(copies, world.test, llms.task, metrics, main=main, answer_tag=TAG)
        for arm, one in zip(("without", *results), tested, strict=True):
            values = [metric.aggregate(one.scores[metric.name]) for metric in metrics]
            for name, value in zip(("first metric", "second metric"), values, strict=True):
                found.add(arm, name, i, value)
            row = {"part": "suffix", "world": i, "arm": arm, "style": values[0], "token support": values[1]}
            found.rows.append(row)
            run.log(**row)
        found.add("with postscript", "returned is best ranked", i, _is_best_ranked(ranked))
        if i == 0:
            store = Store(run.folder / "suffix", main, TAG, is_simulated=True)
            store.save(ranked.history, ranked.calls, ranked.best)


def _is_best_ranked(result: Result) -> float:
    """1 when no prompt measured on dev has a better mean rank than the returned one, counted prompt by prompt."""
    there = [one.values["dev"] for one in result.history.candidates if "dev" in one.values]

    def rank(values: dict[str, float]) -> float:
        return sum(sum(other[name] > values[name] for other in there) for name in values) / len(values)

    return float(rank(result.best.values["dev"]) == min(map(rank, there)))


def _keyphrases(scale: Scale, run: Run, found: Findings) -> None:
    """Houses that want facts told which only the key phrases show: with and without them, with and without a search."""
    for i in range(scale.worlds):
        world = World.draw(Rng(run.seed).child("salient", i), scale.rows, salient=True)
        (rouge,) = open_metrics(["rouge1"])
        for names, prompt in ((("plain", "crispo only"), PROMPT), (("key phrases only", "both"), HINTED)):
            ran = run_arm(
                CRISPO, world, Rng(run.seed).child("keyphrases", i), steps=scale.dose_steps, prompt=prompt, metric=rouge,
                run=run,
            )  # fmt: skip
            for name, step in zip(names, (0, scale.dose_steps), strict=True):
                found.add(name, "ROUGE-1 F", i, ran.test[step])
                row = {
                    "part": "keyphrases",
                    "world": i,
                    "arm": name,
                    "ROUGE-1 F": ran.test[step],
                    "K": ran.chosen[step].k,
                }
                found.rows.append(row)
                run.log(**row)


def _trained(scale: Scale, seed: int, run: Run, found: Findings) -> None:
    """CriSPO and OPRO with a task model that was trained, served from its folder."""
    from gnomon.methods.crispo.mini.models import train_writer

    sizes = scale.model
    part = run.within(f"seed-{seed}/writer")
    part.rng = Rng(seed).child("writer")
    world = World.draw(
        part.rng.child("world"), sizes.rows, longest=sizes.lengths, fewest=sizes.fewest, most=sizes.most
    )
    default = (world.default[0] % sizes.lengths, *world.default[1:])
    folder = train_writer(default, sizes, part)
    if seed == run.seed:
        run.artifact("writer", folder)
    with run.asking({"task": Role(f"hf:{folder}", batch_size=64)}, SETTINGS) as models:
        for arm in (OPRO, CRISPO):
            rng, steps = Rng(seed).child("trained"), sizes.search_steps
            ran = run_arm(
                arm, world, rng, steps=steps, task=models["task"], max_tokens=sizes.max_tokens, run=run
            )
            found.note("model", arm.name, seed, ran, run)
            found.add(arm.name, MODEL_AT_5, seed, ran.test[min(5, sizes.search_steps)])


def _checkpoint(folder: Path, run: Run, found: Findings) -> None:
    """CriSPO and OPRO with one model of the user's in all roles; nothing is simulated here, and nothing is claimed."""
    world = World.draw(Rng(run.seed).child("checkpoint"), CHECKPOINT_ROWS)
    with run.asking({"all three": Role(f"hf:{folder}", batch_size=32)}, SETTINGS) as models:
        for arm in (OPRO, CRISPO):
            rng, model = Rng(run.seed).child("checkpoint"), models["all three"]
            ran = run_arm(arm, world, rng, steps=CHECKPOINT_STEPS, everyone=model, max_tokens=160, run=run)
            found.note("checkpoint", arm.name, run.seed, ran, run)
