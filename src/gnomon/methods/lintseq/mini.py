"""The miniature: is the data what the paper says, and does a small model learn more from it than from its rivals?

Part 1 takes functions of the standard library apart with and without a linter and audits the outcome. Part 2 trains one small
model per arm on generated list programs and lets each write programs for compositions that none has seen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from gnomon.core import env
from gnomon.core.claims import Measured, judge
from gnomon.core.data.corpora import PythonSource, stdlib_functions
from gnomon.core.files import write_json
from gnomon.core.models import add_token, new_llama, train_bpe
from gnomon.core.models.config import GenConfig
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.core.train import TrainConfig
from gnomon.methods.lintseq import mini_page
from gnomon.methods.lintseq.audit import Audit, PathAudit, audit_path, summarise
from gnomon.methods.lintseq.config import CLAIMS, Mini
from gnomon.methods.lintseq.diffs import DIFF_TOKEN
from gnomon.methods.lintseq.edits import EditPath, sample_path
from gnomon.methods.lintseq.evaluation import Evaluation, evaluate
from gnomon.methods.lintseq.linters import shared_linter
from gnomon.methods.lintseq.program import Program
from gnomon.methods.lintseq.random_edits import randseq
from gnomon.methods.lintseq.sampling import Prompt, Sampled, sample_local
from gnomon.methods.lintseq.source import Rejected
from gnomon.methods.lintseq.suites import Problem
from gnomon.methods.lintseq.tasks import FUNCTION, Task, make_tasks, split_pairs
from gnomon.methods.lintseq.training import Pair, edit_pair, encode, matched, program_pair, train_examples

ARMS = ("full", "full, equal tokens", "lintseq", "randseq")
"""Whole programs with equal passes, whole programs with as many target tokens as lintseq saw, and the two kinds of edits."""

KS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    functions: int
    """Standard-library functions of part 1."""
    train_programs: int
    test_tasks: int
    paths: int
    """Edit sequences per program (s)."""
    passes: int
    hidden: int
    layers: int
    heads: int
    n: int
    """Samples per test task."""
    max_length: int = 256
    vocab_size: int = 512
    lr: float = 2e-3
    batch_size: int = 32
    precision: Literal["no", "bf16"] = "no"


SCALES = {
    "smoke": Scale(12, 60, 3, paths=2, passes=2, hidden=32, layers=1, heads=2, n=20, max_length=128),
    "mini": Scale(300, 3000, 60, paths=3, passes=3, hidden=128, layers=3, heads=4, n=20),
    "gpu": Scale(
        300, 60_000, 200, paths=3, passes=6, hidden=512, layers=8, heads=8, n=64,
        max_length=512, lr=1e-3, batch_size=256, precision="bf16",
    ),
}  # fmt: skip
"""`mini` was sized on seed 10: at 3 passes whole programs and edits both solve some tasks and not all."""

Scores = dict[str, dict[str, list[Measured]]]
"""Arm -> metric -> per seed a number, or a number per task."""


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, judge the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    arms = ARMS if cfg.parts != "data" else ()
    run.plan(
        seeds=list(seeds),
        functions_per_seed=scale.functions if cfg.parts != "learning" else 0,
        trainings=len(arms) * cfg.seeds,
        optimiser_steps_per_training=scale.train_programs * scale.passes // scale.batch_size,
        completions=len(arms) * cfg.seeds * scale.test_tasks * scale.n,
    )
    scores: Scores = {}
    data_rows: list[dict[str, Any]] = []
    learning: dict[str, list[Evaluation]] = {}
    extras: dict[str, list[dict[str, float]]] = {}
    parameters = 0
    functions = list(stdlib_functions(5, 40)) if cfg.parts != "learning" else []
    for seed in seeds:
        part = run.within(f"seed-{seed}")
        if cfg.parts != "learning":
            for arm, audit in _data_part(
                functions, scale, Rng(seed).child("data"), cfg.data_linter, run
            ).items():
                _add(scores, arm, "lint-clean states", audit.share_clean or 0.0)
                _add(scores, arm, "exact round trips", audit.share_exact or 0.0)
                data_rows.append({"seed": seed, "arm": arm, **_figures(audit)})
                part.log(arm=arm, **_figures(audit))
        if cfg.parts != "data":
            world = _World(scale, Rng(seed).child("learning"), cfg.data_linter)
            parameters = world.parameters
            for arm in ARMS:
                found, extra = _learning_arm(
                    arm, world, run.within(f"seed-{seed}/{arm.replace(', ', '-').replace(' ', '-')}"), cfg
                )
                learning.setdefault(arm, []).append(found)
                extras.setdefault(arm, []).append(extra)
                for k in KS:
                    _add(scores, arm, f"pass@{k}", found.pass_at(k).tolist())
                _add(
                    scores,
                    arm,
                    "gain from pass@1 to pass@20",
                    (found.pass_at(20) - found.pass_at(1)).tolist(),
                )
                _add(scores, arm, "well-formed samples", 1 - found.summary(())["resolve failures"])
                part.log(arm=arm, **found.summary(KS), **extra)
    measured = {(arm, metric) for arm, metrics in scores.items() for metric in metrics}
    verdicts = [
        judge(scores, claim)
        for claim in CLAIMS
        if cfg.scale != "smoke" and (claim.comparison.left, claim.comparison.metric) in measured
    ]
    run.page.title = "lintseq in miniature: edit sequences against whole programs and random edits"
    run.page.verdicts(verdicts)
    if data_rows:
        mini_page.data_part(run.page, data_rows)
    if learning:
        mini_page.learning_part(run.page, learning, extras, KS, parameters)
    _write_summary(run, cfg, scale, data_rows, learning, extras, verdicts, parameters)


def _add(scores: Scores, arm: str, metric: str, value: Measured | float) -> None:
    scores.setdefault(arm, {}).setdefault(metric, []).append(value)  # type: ignore[arg-type]


def _figures(audit: Audit) -> dict[str, Any]:
    return {name: value for name, value in asdict(audit).items() if name != "offences"}


def _data_part(
    every: Sequence[PythonSource], scale: Scale, rng: Rng, linter: str, run: Run
) -> dict[str, Audit]:
    """Part 1: both kinds of paths over the same functions, audited."""
    functions = list(every)
    rng.child("choose").python().shuffle(functions)
    texts = [f.code for f in functions[: scale.functions]]
    audits: dict[str, list[PathAudit]] = {"lintseq": [], "randseq": []}
    tokenizer = train_bpe(texts, scale.vocab_size)
    tokenizer.add_tokens([DIFF_TOKEN])
    size = partial(_n_tokens, tokenizer)
    judge_linter = shared_linter(linter)
    done = 0
    with run.progress(scale.functions, "data: functions") as bar:
        for index, function in enumerate(functions):
            if done == scale.functions:
                break
            try:
                program = Program(function.code, linter=linter)
            except Rejected:  # comments only, or a form that does not stand alone
                continue
            paths = {
                "lintseq": sample_path(program, rng.child("lintseq", index)),
                "randseq": randseq(function.code, rng.child("randseq", index)),
            }
            for arm, path in paths.items():
                audits[arm].append(audit_path(path.code, path.diffs, judge_linter, size=size))
            done += 1
            bar.advance()
    if functions and done:
        example = next((p for p in _examples(functions, linter, rng) if 4 <= len(p.diffs) <= 10), None)
        if example is not None:
            mini_page.example(run.page, example.states)
    return {arm: summarise(found) for arm, found in audits.items()}


def _examples(functions: Sequence[Any], linter: str, rng: Rng) -> Any:
    for index, function in enumerate(functions[:50]):
        try:
            yield sample_path(Program(function.code, linter=linter), rng.child("example", index))
        except Rejected:
            continue


def _n_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


class _World:
    """What all arms of one seed share: tasks, edit sequences, tokenizer, the model's first weights."""

    def __init__(self, scale: Scale, rng: Rng, linter: str) -> None:
        self.scale, self.rng = scale, rng
        train_pairs, test_pairs = split_pairs(rng.child("split").python())
        tasks = make_tasks(train_pairs, scale.train_programs, rng.child("tasks").python())
        self.test = make_tasks(test_pairs, scale.test_tasks, rng.child("test").python())
        self.programs = _pick_programs(tasks, scale.train_programs, rng.child("pick"))
        self.edits = {"lintseq": self._paths("lintseq", linter), "randseq": self._paths("randseq", linter)}
        text = [instruction + code for instruction, code in self.programs]
        text += ["".join(path.diffs) for paths in self.edits.values() for path in paths[0]]
        self.tokenizer = train_bpe(text, scale.vocab_size)
        model = self.new_model()
        self.parameters = sum(p.numel() for p in model.parameters())

    def new_model(self) -> Any:
        """The same untrained model for every arm, its vocabulary with the diff token."""
        scale = self.scale
        model = new_llama(
            self.tokenizer, scale.hidden, scale.layers, scale.heads, scale.max_length, self.rng.child("model")
        )
        add_token(model, self.tokenizer, DIFF_TOKEN)
        return model

    def _paths(self, arm: str, linter: str) -> list[list[EditPath]]:
        """Edit paths, [s][N]."""
        made: list[list[EditPath]] = [[] for _ in range(self.scale.paths)]
        for index, (_, code) in enumerate(self.programs):
            program = Program(code, linter=linter) if arm == "lintseq" else None
            for number in range(self.scale.paths):
                rng = self.rng.child(arm, index, number)
                made[number].append(sample_path(program, rng) if program else randseq(code, rng))
        return made

    def pairs(self, arm: str) -> list[Pair]:
        """The arm's training examples in words."""
        if arm.startswith("full"):
            return [program_pair(said, code, i) for i, (said, code) in enumerate(self.programs)]
        return [
            edit_pair(self.programs[i][0], path.diffs, i)
            for paths in self.edits[arm]
            for i, path in enumerate(paths)
        ]


def _pick_programs(tasks: Sequence[Task], count: int, rng: Rng) -> list[tuple[str, str]]:
    """`count` pairs of instruction and program: the tasks' equivalent programs in turn, in random order."""
    draws = rng.python()
    ranked = []
    for task in tasks:
        variants = list(task.programs)
        draws.shuffle(variants)
        ranked += [(rank, draws.random(), task.instruction, code) for rank, code in enumerate(variants)]
    ranked.sort()
    return [(instruction, code) for *_, instruction, code in ranked[:count]]


def _learning_arm(arm: str, world: _World, part: PartOfRun, cfg: Mini) -> tuple[Evaluation, dict[str, float]]:
    """Train one arm and let it write programs for the test tasks. A finished arm is read back."""
    scale, mode = world.scale, "program" if arm.startswith("full") else "editseq"
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
        found = evaluate(problems, samples, pool=pool, linter=shared_linter("pyflakes"), ks=_ks(scale))
    return found, saved["extra"]


def _ks(scale: Scale) -> tuple[int, ...]:
    return tuple(k for k in KS if k <= scale.n)


def _train_and_sample(
    arm: str, mode: Any, world: _World, part: PartOfRun, cfg: Mini
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


def _write_summary(
    run: Run,
    cfg: Mini,
    scale: Scale,
    data_rows: Sequence[Mapping[str, Any]],
    learning: Mapping[str, Sequence[Evaluation]],
    extras: Mapping[str, Sequence[Mapping[str, float]]],
    verdicts: Sequence[Any],
    parameters: int,
) -> None:
    """The run in one JSON file: what was run with what, and what came out, per seed."""
    path = run.artifact("summary", run.folder / "summary.json")
    ks = _ks(scale)
    write_json(
        path,
        {
            "method": "lintseq",
            "command": f"gnomon lintseq mini --scale {cfg.scale} --parts {cfg.parts} --data-linter {cfg.data_linter} "
            f"--seeds {cfg.seeds} --seed {run.seed}",
            "environment": env.describe(),
            "scale": asdict(scale),
            "parameters": parameters,
            "data": data_rows,
            "learning": {
                arm: [found.summary(ks) | dict(extra) for found, extra in zip(rows, extras[arm], strict=True)]
                for arm, rows in learning.items()
            },
            "verdicts": [verdict.as_row() for verdict in verdicts],
        },
    )
