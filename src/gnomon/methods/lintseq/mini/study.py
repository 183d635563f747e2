"""The miniature: is the data what the paper says, and does a small model learn more from it than from its rivals?

Part 1 takes functions of the standard library apart with and without a linter and audits the outcome. Part 2 trains one small
model per arm on generated list programs and lets each write programs for compositions that none has seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from gnomon.core import env
from gnomon.core.data.corpora import stdlib_functions
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.rollout.suites import Problem
from gnomon.core.run import PartOfRun, Run
from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.core.study import Out, Part, Results, Study
from gnomon.core.train import TrainConfig
from gnomon.methods.lintseq.config import CLAIMS, Mini
from gnomon.methods.lintseq.linters import shared_linter
from gnomon.methods.lintseq.mini import report
from gnomon.methods.lintseq.mini.report import KS
from gnomon.methods.lintseq.mini.tasks import FUNCTION
from gnomon.methods.lintseq.mini.world import SCALES, Scale, World, audit_functions, example
from gnomon.methods.lintseq.models.evaluation import Evaluation, evaluate
from gnomon.methods.lintseq.models.sampling import Mode, Prompt, Sampled, sample_local
from gnomon.methods.lintseq.models.training import encode, matched, train_examples

ARMS = ("full", "full, equal tokens", "lintseq", "randseq")
"""Whole programs with equal passes, whole programs with as many target tokens as lintseq saw, and the two kinds of edits."""


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    study(cfg).run(cfg, run)


def study(cfg: Mini) -> Study:
    """The study; its linter and where its models are saved are settings."""
    return Study(
        title="lintseq in miniature: edit sequences against whole programs and random edits",
        claims=CLAIMS,
        scales=SCALES,
        parts={"data": Part(partial(_data, cfg)), "learning": Part(partial(_learning, cfg))},
        plan=_plan,
        page=report.write,
        summary=_summary,
        options=("--data-linter", cfg.data_linter),
    )


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    trainings = 0 if cfg.parts == "data" else len(ARMS) * cfg.seeds
    return {
        "functions_per_seed": 0 if cfg.parts == "learning" else scale.functions,
        "trainings": trainings,
        "optimiser_steps_per_training": scale.train_programs * scale.passes // scale.batch_size,
        "completions": trainings * scale.test_tasks * scale.n,
    }


def _data(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Part 1: functions of the standard library taken apart."""
    functions = list(stdlib_functions(5, 40))
    audits = audit_functions(
        functions, scale.functions, cfg.data_linter, rng=part.rng.child("data"), run=part
    )
    for arm, audit in audits.items():
        row = {name: value for name, value in asdict(audit).items() if name != "offences"}
        out.score(arm, "lint-clean states", audit.share_clean or 0.0)
        out.score(arm, "exact round trips", audit.share_exact or 0.0)
        out.add("data", {"arm": arm, **row})
        part.log(arm=arm, **row)
    if out.is_first and (path := example(functions, cfg.data_linter, part.rng)) is not None:
        out.show("states", path.states)


def _learning(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Part 2: a small model per arm writes programs."""
    world = World(scale, part.rng.child("learning"), cfg.data_linter)
    out.show("parameters", world.parameters)
    for arm in ARMS:
        inner = part.within(arm.replace(", ", "-").replace(" ", "-"))
        evaluation, extra = _learning_arm(arm, world, inner, out, cfg)
        out.add("learning", {"arm": arm, "evaluation": evaluation, "extra": extra})
        for k in KS:
            out.score(arm, f"pass@{k}", evaluation.pass_at(k))
        out.score(arm, "gain from pass@1 to pass@20", evaluation.pass_at(20) - evaluation.pass_at(1))
        out.score(arm, "well-formed samples", 1 - evaluation.summary(())["resolve failures"])
        inner.log(**evaluation.summary(KS), **extra)


def _learning_arm(
    arm: str, world: World, part: PartOfRun, out: Out, cfg: Mini
) -> tuple[Evaluation, dict[str, float]]:
    """Train one arm and let it write programs for the test tasks. A finished arm is read back."""
    mode: Mode = "program" if arm.startswith("full") else "editseq"

    def write_programs() -> dict[str, Any]:
        samples, extra = _train_and_sample(arm, mode, world, part, cfg)
        return {"samples": [asdict(s) for s in samples], "extra": extra}

    saved = out.once(f"{part.folder.name}/samples", write_programs)
    shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    samples = [Sampled(**row) for row in saved["samples"]]
    problems = [
        Problem(t.task_id, t.instruction, "", "", FUNCTION, t.test_code, t.programs[0]) for t in world.test
    ]
    with SandboxPool(env.cores(), limits=Limits(timeout_s=5.0, cpu_s=5)) as pool:
        evaluation = evaluate(problems, samples, pool=pool, linter=shared_linter("pyflakes"), ks=KS)
    return evaluation, saved["extra"]


def _train_and_sample(
    arm: str, mode: Mode, world: World, part: PartOfRun, cfg: Mini
) -> tuple[list[Sampled], dict[str, float]]:
    scale = world.scale
    train = TrainConfig(
        lr=scale.lr,
        batch_size=scale.batch_size,
        max_length=scale.max_length,
        warmup_ratio=0.02,
        checkpoint_every=200,
        precision=scale.precision,
    )
    model = world.new_model()
    examples = encode(world.pairs(arm), world.tokenizer, max_length=scale.max_length)
    planned = matched(train, examples, scale.passes)
    if arm == "full, equal tokens":
        edits = encode(world.pairs("lintseq"), world.tokenizer, max_length=scale.max_length)
        ratio = (edits.n_target_tokens / len(edits.rows)) / (examples.n_target_tokens / len(examples.rows))
        planned = matched(train, examples, round(scale.passes * ratio))
    model, history = train_examples(model, world.tokenizer, examples, run=part, cfg=planned)
    prompts = [Prompt(task.task_id, task.instruction) for task in world.test]
    gen = GenConfig(
        max_new_tokens=scale.max_length - 40, temperature=1.0, top_p=0.95, n=scale.n, batch_size=240
    )
    written = sample_local(model, world.tokenizer, prompts, mode, gen, rng=part.rng.child("sample"))
    samples = [row for row in written if isinstance(row, Sampled)]  # no prompt of this world is too long
    if cfg.model_dir is not None:
        folder = cfg.model_dir / part.name
        model.save_pretrained(folder)
        world.tokenizer.save_pretrained(folder)
    steps = len(history.curve("loss"))
    seen = history.curve("epoch")[-1] * len(examples.rows)
    return samples, {
        "steps": steps,
        "last loss": float(np.mean(history.curve("loss")[-20:])),
        "target tokens seen": seen * examples.n_target_tokens / len(examples.rows),
        "passes": seen / examples.n_groups,
        "too long": examples.n_truncated,
    }


def _summary(results: Results) -> dict[str, Any]:
    """What came out, per seed."""
    learning: dict[str, Any] = {}
    for row in results.rows.get("learning", []):
        learning.setdefault(row["arm"], []).append(row["evaluation"].summary(KS) | row["extra"])
    return {
        "parameters": results.shown.get("parameters", 0),
        "data": results.rows.get("data", []),
        "learning": learning,
    }
