"""The miniature: a hidden house style that critiques must uncover, with critics that see less, nothing, or the wrong thing.

Critic and optimiser are simulated in every part: what is shown is that the loop works, not what a language model does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gnomon.core.llm import Role
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.crispo.config import AT_5, CLAIMS, LATE, MODEL_AT_5, Mini, SearchConfig
from gnomon.methods.crispo.mini import report
from gnomon.methods.crispo.mini.arms import DOSES, SEARCHES, SETTINGS, Arm, Ran, Speaking, run_arm
from gnomon.methods.crispo.mini.world import (
    HINTED,
    PROMPT,
    SCALES,
    TAG,
    Scale,
    World,
    both_metrics,
    train_writer,
)
from gnomon.methods.crispo.scoring.calls import LLMs
from gnomon.methods.crispo.scoring.evaluation import Setup, evaluate
from gnomon.methods.crispo.scoring.metrics import open_metrics
from gnomon.methods.crispo.search.loop import tune_suffix
from gnomon.methods.crispo.search.store import Store
from gnomon.methods.crispo.search.task import POSTSCRIPT, Result, Task

EPS = 0.02
"""What a constrained postscript may lose of the first metric on dev."""
INVENTION = 0.5
"""Chance of each kind of invention, where a postscript is tuned."""
CHECKPOINT_ROWS, CHECKPOINT_STEPS = (34, 33, 33), 10
ROLES = ("task", "critic", "optimizer")
OPRO, CRISPO, BLIND = SEARCHES[:3]


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts, decide the claims and write the page."""
    study(cfg).run(cfg, run)


def study(cfg: Mini) -> Study:
    """The study that the settings choose.

    Doses of the critic are compared with searches of the part `search`; alone, the part `doses` runs those itself.
    """
    is_alone = "search" not in cfg.parts
    checkpoint = (
        {}
        if cfg.checkpoint is None
        else {"checkpoint": Part(partial(_checkpoint, cfg.checkpoint), once=True, extra=True)}
    )
    return Study(
        title="SIMULATED: crispo in miniature, a house style uncovered by critiques",
        simulated=True,
        claims=[
            replace(claim, part="doses") if is_alone and claim.part == "search and doses" else claim
            for claim in CLAIMS
        ],
        scales=SCALES,
        parts={
            "search": Part(_searches, once=True),
            "doses": Part(partial(_doses, is_alone), once=True),
            "suffix": Part(_suffixes, once=True),
            "keyphrases": Part(_keyphrases, once=True),
            "model": Part(_trained),
            **checkpoint,
        },
        plan=_plan,
        page=report.write,
        summary=_summary,
    )


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    searches = len(SEARCHES) * ("search" in cfg.parts) + len(DOSES) * ("doses" in cfg.parts)
    return {
        "worlds": scale.worlds,
        "searches": scale.worlds * (searches + 3 * ("suffix" in cfg.parts) + 2 * ("keyphrases" in cfg.parts)),
        "trained_models": cfg.seeds if "model" in cfg.parts else 0,
        "training_steps": scale.model.steps if "model" in cfg.parts else 0,
        "simulated_task_calls_of_a_search": (1 + 3 * scale.steps) * scale.rows[0],
    }


def _worlds(scale: Scale, part: PartOfRun) -> list[World]:
    return [World.draw(part.rng.child("world", i), scale.rows) for i in range(scale.worlds)]


def _searches(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Every arm in every world.

    Critiques of other tasks come from the CriSPO searches of the other worlds, which are therefore run first.
    """
    worlds = _worlds(scale, part)
    own = [_search(CRISPO, world, i, scale.steps, part, out) for i, world in enumerate(worlds)]
    for arm in SEARCHES:
        for i, world in enumerate(worlds):
            if arm is not CRISPO:
                foreign = [text for j, ran in enumerate(own) if j != i for text in ran.critiques]
                _search(arm, world, i, scale.steps, part, out, foreign)
    out.show("search", own[0].result)


def _doses(is_alone: bool, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Better and worse critics; alone also those that they are compared with."""
    worlds = _worlds(scale, part)
    if is_alone:
        own = [_search(CRISPO, world, i, scale.steps, part, out) for i, world in enumerate(worlds)]
        out.show("search", own[0].result)
    for arm in (OPRO, BLIND, *DOSES) if is_alone else DOSES:
        for i, world in enumerate(worlds):
            _search(arm, world, i, scale.dose_steps, part, out)


def _search(
    arm: Arm, world: World, i: int, steps: int, part: PartOfRun, out: Out, foreign: Sequence[str] = ()
) -> Ran:
    ran = run_arm(arm, world, part.rng.child("search", i), steps=steps, foreign=foreign, run=part)
    _note("search", arm.name, i, ran, out)
    out.score(arm.name, AT_5, ran.test[5], i)
    if 20 in ran.test:
        out.score(arm.name, LATE, ran.test[20], i)
    return ran


def _note(part: str, arm: str, world: int, ran: Ran, out: Out) -> None:
    """Enter one search: a row, and its curve on train."""
    steps = ran.result.history.steps
    (metric,) = (metric.name for metric in ran.result.history.metrics)
    for step in steps:
        out.add(
            "curves", {"part": part, "arm": arm, "step": step.step, "value": step.values["train"][metric]}
        )
    _row(
        out,
        {
            "part": part,
            "world": world,
            "arm": arm,
            **{f"test after {step}": value for step, value in ran.test.items()},
            "task calls": steps[-1].task_calls,
            "refused": sum(sum(step.rejected.values()) for step in steps),
        },
    )


def _row(out: Out, row: Mapping[str, object]) -> None:
    out.add("arms", row)
    out.log(**row)


def _suffixes(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """A postscript for a writer who invents, behind a prompt tuned for style alone, chosen by mean rank and with a constraint.

    The first world's search by mean rank stays in the folder `suffix`.
    """
    for i, world in enumerate(_worlds(scale, part)):
        rng = part.rng.child("suffix", i)
        metrics = both_metrics()
        results = {}
        roles = {
            "task": f"sim:styler?{world.writer}&invention={INVENTION}",
            "critic": "sim:critic",
            "optimizer": "sim:optimizer",
        }
        with part.asking(roles, SETTINGS) as models:
            llms = LLMs(**models)
            main = run_arm(CRISPO, world, rng, steps=5, models={"task": llms.task}, run=part).chosen[5].text
            for arm, select in (("with postscript", "rank"), ("with constrained postscript", "pareto")):
                cfg = SearchConfig(steps=scale.dose_steps, recheck=0, select=select, eps=EPS)  # type: ignore[arg-type]
                results[arm] = tune_suffix(
                    main, world.train, world.dev, llms, metrics, cfg, task=Task([POSTSCRIPT], TAG), rng=rng
                )
            ranked = results["with postscript"]
            # Measured as copies: what a candidate did on test is no part of the search.
            prompts = [ranked.history.candidates[0], *(result.best for result in results.values())]
            copies = [replace(candidate, measured={}) for candidate in prompts]
            tested = evaluate(copies, world.test, llms, metrics, Setup(TAG, main))
        for arm, measured in zip(("without", *results), tested, strict=True):
            values = [metric.aggregate(measured.scores[metric.name]) for metric in metrics]
            for name, value in zip(("first metric", "second metric"), values, strict=True):
                out.score(arm, name, value, i)
            _row(
                out,
                {"part": "suffix", "world": i, "arm": arm, "style": values[0], "token support": values[1]},
            )
        out.score("with postscript", "returned is best ranked", _is_best_ranked(ranked), i)
        if i == 0:
            store = Store(part.folder, main, TAG, is_simulated=True)
            store.save(ranked.history, ranked.calls, ranked.best)


def _is_best_ranked(result: Result) -> float:
    """1 when no prompt measured on dev has a better mean rank than the returned one, counted prompt by prompt."""
    on_dev = [candidate.values["dev"] for candidate in result.history.candidates if "dev" in candidate.values]

    def rank(values: dict[str, float]) -> float:
        return sum(sum(other[name] > values[name] for other in on_dev) for name in values) / len(values)

    return float(rank(result.best.values["dev"]) == min(map(rank, on_dev)))


def _keyphrases(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """References with facts that only the key phrases show: with and without phrases, with and without a search."""
    for i in range(scale.worlds):
        (rouge,) = open_metrics(["rouge1"])
        world = replace(World.draw(part.rng.child("salient", i), scale.rows, salient=True), metric=rouge)
        for names, prompt in ((("plain", "crispo only"), PROMPT), (("key phrases only", "both"), HINTED)):
            rng, arm = part.rng.child("keyphrases", i), replace(CRISPO, prompt=prompt)
            ran = run_arm(arm, world, rng, steps=scale.dose_steps, run=part)
            for name, step in zip(names, (0, scale.dose_steps), strict=True):
                out.score(name, "ROUGE-1 F", ran.test[step], i)
                row = {"part": "keyphrases", "world": i, "arm": name}
                _row(out, {**row, "ROUGE-1 F": ran.test[step], "K": ran.chosen[step].k})


def _trained(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """CriSPO and OPRO with a task model that was trained, served from its folder."""
    sizes = scale.model
    inner = part.within("writer", part.rng.child("writer"))
    world = World.draw(
        inner.rng.child("world"), sizes.rows, longest=sizes.lengths, fewest=sizes.fewest, most=sizes.most
    )
    world = replace(world, max_tokens=sizes.max_tokens)
    default = (world.default[0] % sizes.lengths, *world.default[1:])
    folder = out.artifact("writer", train_writer(default, sizes, inner))
    role = Role(f"hf:{folder}", replace(SETTINGS, max_failed=1.0), batch_size=64)
    with part.asking({"task": role}, SETTINGS) as models:
        writer = {"task": Speaking(models["task"])}
        for arm in (OPRO, CRISPO):
            rng, steps = part.rng.child("trained"), sizes.search_steps
            ran = run_arm(arm, world, rng, steps=steps, models=writer, run=part)
            _note("model", arm.name, seed, ran, out)
            out.score(arm.name, MODEL_AT_5, ran.test[min(5, sizes.search_steps)])


def _checkpoint(model: Path, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """CriSPO and OPRO with one model of the user's in all roles; nothing is simulated here, and nothing is claimed."""
    world = replace(World.draw(part.rng.child("checkpoint"), CHECKPOINT_ROWS), max_tokens=160)
    with part.asking({"all three": Role(f"hf:{model}", batch_size=32)}, SETTINGS) as models:
        for arm in (OPRO, CRISPO):
            rng, everyone = part.rng.child("checkpoint"), dict.fromkeys(ROLES, models["all three"])
            ran = run_arm(arm, world, rng, steps=CHECKPOINT_STEPS, models=everyone, run=part)
            _note("checkpoint", arm.name, seed, ran, out)


def _summary(results: Results) -> Mapping[str, object]:
    return {
        "scores": results.measured(),
        "rows": [
            {name: value for name, value in row.items() if name != "seed"}
            for row in results.rows.get("arms", [])
        ],
        "curves": report.curves(results),
    }
