"""The miniature: is the data what the paper says, and does a small model learn more from it than from its rivals?

Part 1 takes functions of the standard library apart with and without a linter and audits the outcome. Part 2 trains one small
model per arm on generated list programs and lets each write programs for compositions that none has seen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gnomon.core import env
from gnomon.core.claims import Measured, decide
from gnomon.core.data.corpora import stdlib_functions
from gnomon.core.files import write_json
from gnomon.core.models.config import GenConfig
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.core.study import write_summary
from gnomon.core.train import TrainConfig
from gnomon.methods.lintseq import mini_page
from gnomon.methods.lintseq.config import CLAIMS, Mini
from gnomon.methods.lintseq.evaluation import Evaluation, evaluate
from gnomon.methods.lintseq.linters import shared_linter
from gnomon.methods.lintseq.mini_data import audit_functions, example
from gnomon.methods.lintseq.mini_world import SCALES, Scale, World
from gnomon.methods.lintseq.sampling import Mode, Prompt, Sampled, sample_local
from gnomon.methods.lintseq.suites import Problem
from gnomon.methods.lintseq.tasks import FUNCTION
from gnomon.methods.lintseq.training import encode, matched, train_examples

ARMS = ("full", "full, equal tokens", "lintseq", "randseq")
"""Whole programs with equal passes, whole programs with as many target tokens as lintseq saw, and the two kinds of edits."""

KS = (1, 5, 10, 20)


@dataclass
class Findings:
    """What all seeds brought, as claims, pages and the summary need it."""

    scores: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    """Arm -> metric -> per seed a number, or a number per task."""
    data: list[dict[str, Any]] = field(default_factory=list)
    """Part 1, one row per seed and arm."""
    learning: dict[str, list[Evaluation]] = field(default_factory=dict)
    """Part 2, arm -> one evaluation per seed."""
    extras: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Part 2, arm -> what its training took, per seed."""
    parameters: int = 0
    """Size of the model."""

    def add(self, arm: str, metric: str, value: Any) -> None:
        """One seed's score."""
        self.scores.setdefault(arm, {}).setdefault(metric, []).append(value)


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    trainings = 0 if cfg.parts == "data" else len(ARMS) * cfg.seeds
    run.plan(
        seeds=list(seeds),
        functions_per_seed=0 if cfg.parts == "learning" else scale.functions,
        trainings=trainings,
        optimiser_steps_per_training=scale.train_programs * scale.passes // scale.batch_size,
        completions=trainings * scale.test_tasks * scale.n,
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "lintseq in miniature: edit sequences against whole programs and random edits"
    found = Findings()
    if cfg.parts != "learning":
        _data_part(cfg, scale, seeds, run, found)
    if cfg.parts != "data":
        _learning_part(cfg, scale, seeds, run, found)
    verdicts = [
        decide(found.scores, claim)
        for claim in CLAIMS
        if cfg.scale != "smoke" and claim.comparison.metric in found.scores.get(claim.comparison.left, {})
    ]
    run.page.verdicts(verdicts)
    words = ("--parts", cfg.parts, "--data-linter", cfg.data_linter)
    write_summary(run, cfg, scale, verdicts, _summary(found), *words)


def _data_part(cfg: Mini, scale: Scale, seeds: Sequence[int], run: Run, found: Findings) -> None:
    functions = list(stdlib_functions(5, 40))
    for seed in seeds:
        rng = Rng(seed).child("data")
        for arm, audit in audit_functions(
            functions, scale.functions, cfg.data_linter, rng=rng, run=run
        ).items():
            row = {name: value for name, value in asdict(audit).items() if name != "offences"}
            found.add(arm, "lint-clean states", audit.share_clean or 0.0)
            found.add(arm, "exact round trips", audit.share_exact or 0.0)
            found.data.append({"seed": seed, "arm": arm, **row})
            run.within(f"seed-{seed}").log(arm=arm, **row)
    if (path := example(functions, cfg.data_linter, Rng(seeds[0]))) is not None:
        mini_page.example(run.page, path.states)
    mini_page.data_part(run.page, found.data)


def _learning_part(cfg: Mini, scale: Scale, seeds: Sequence[int], run: Run, found: Findings) -> None:
    for seed in seeds:
        world = World(scale, Rng(seed).child("learning"), cfg.data_linter)
        found.parameters = world.parameters
        for arm in ARMS:
            part = run.within(f"seed-{seed}/{arm.replace(', ', '-').replace(' ', '-')}")
            evaluation, extra = _learning_arm(arm, world, part, cfg)
            found.learning.setdefault(arm, []).append(evaluation)
            found.extras.setdefault(arm, []).append(extra)
            for k in KS:
                found.add(arm, f"pass@{k}", evaluation.pass_at(k).tolist())
            gain = evaluation.pass_at(20) - evaluation.pass_at(1)
            found.add(arm, "gain from pass@1 to pass@20", gain.tolist())
            found.add(arm, "well-formed samples", 1 - evaluation.summary(())["resolve failures"])
            part.log(**evaluation.summary(KS), **extra)
    mini_page.learning_part(run.page, found.learning, found.extras, KS, found.parameters)


def _learning_arm(arm: str, world: World, part: PartOfRun, cfg: Mini) -> tuple[Evaluation, dict[str, float]]:
    """Train one arm and let it write programs for the test tasks. A finished arm is read back."""
    mode: Mode = "program" if arm.startswith("full") else "editseq"
    done = part.folder / "samples.json"
    if not done.exists():
        samples, extra = _train_and_sample(arm, mode, world, part, cfg)
        write_json(done, {"samples": [asdict(s) for s in samples], "extra": extra})
        shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    saved = json.loads(done.read_text("utf-8"))
    samples = [Sampled(**row) for row in saved["samples"]]
    problems = [
        Problem(t.task_id, t.instruction, "", "", FUNCTION, t.test_code, t.programs[0]) for t in world.test
    ]
    with SandboxPool(env.cores(), limits=Limits(timeout_s=5.0, cpu_s=5)) as pool:
        found = evaluate(problems, samples, pool=pool, linter=shared_linter("pyflakes"), ks=KS)
    return found, saved["extra"]


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
    samples = sample_local(model, world.tokenizer, prompts, mode, gen, rng=part.rng.child("sample"))
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


def _summary(found: Findings) -> dict[str, Any]:
    """What came out, per seed."""
    learning: Mapping[str, Any] = {
        arm: [one.summary(KS) | extra for one, extra in zip(rows, found.extras[arm], strict=True)]
        for arm, rows in found.learning.items()
    }
    return {"parameters": found.parameters, "data": found.data, "learning": learning}
