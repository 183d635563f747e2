"""What generated programs are worth: pass@k in the sandbox, diversity, lint errors, and the cost of drawing them.

How different a task's programs are from one another.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon.core.metrics.code import pass_at_k_per_task
from gnomon.core.rollout.suites import Problem
from gnomon.core.sandbox import Outcome, SandboxPool
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.lintseq.linters import LinterBackend
from gnomon.methods.lintseq.models.sampling import Sampled

# How different a task's programs are from one another.


def canonical(code: str) -> str:
    """A text that is equal for programs that differ only in names they choose, layout and comments.

    Names that the program binds (functions, classes, arguments, variables) are numbered in the order in which they
    appear; built-ins, imported names and attributes stay. A program that does not parse stands for itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    renamer = _Renamer(_bound_names(tree))
    return ast.dump(renamer.visit(tree), include_attributes=False)


def _bound_names(tree: ast.AST) -> set[str]:
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            bound.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


class _Renamer(ast.NodeTransformer):
    """Numbers bound names in the order in which the walk meets them."""

    def __init__(self, bound: set[str]) -> None:
        self._bound = bound
        self._numbers: dict[str, str] = {}

    def _number(self, name: str) -> str:
        return self._numbers.setdefault(name, f"v{len(self._numbers)}") if name in self._bound else name

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for attribute in ("name", "id", "arg"):
            name = getattr(node, attribute, None)
            # An alias is an import: its name belongs to another module. A keyword names somebody's parameter, perhaps ours.
            if isinstance(name, str) and not isinstance(node, ast.alias):
                setattr(node, attribute, self._number(name))
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [self._number(name) for name in node.names]
        return super().generic_visit(node)


def distinct_share(programs: Sequence[str]) -> float:
    """Different programs, up to names, among all; 1 when no two are alike."""
    return len({canonical(code) for code in programs}) / len(programs) if programs else float("nan")


def edit_distance(programs: Sequence[str]) -> float:
    """Mean over all pairs of the Levenshtein distance divided by the longer length, 0..1; NaN for fewer than two."""
    if len(programs) < 2:
        return float("nan")
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    distances = process.cdist(programs, programs, scorer=Levenshtein.normalized_distance)
    return float(distances[np.triu_indices(len(programs), 1)].mean())


# What generated programs are worth: pass@k in the sandbox, diversity, lint errors, and the cost of drawing them.


@dataclass(frozen=True)
class TaskResult:
    """The samples of one task."""

    task_id: str
    n: int
    passed: int
    outcomes: dict[str, int]
    """Sandbox status -> how many samples ended so; `unresolved` where there was no program to run."""
    distinct: float
    """Different programs, up to names, among all."""
    distance: float
    """Mean pairwise normalised edit distance; NaN for a single sample."""
    malformed: int
    """Samples with a hunk that could not be read."""
    lint_errors: int
    """Samples with a lint error; -1: not linted."""
    prompt_tokens: int
    generated_tokens: int
    """Sums over the samples."""


@dataclass(frozen=True)
class Evaluation:
    """All tasks of a suite under one model."""

    tasks: list[TaskResult]
    outcomes: list[list[Outcome | None]]
    """Per task and sample, in the samples' order; None where there was no program."""

    @property
    def n(self) -> int:
        """Samples per task."""
        return self.tasks[0].n

    def pass_at(self, k: int) -> np.ndarray:
        """pass@k per task, `[N]`."""
        return pass_at_k_per_task([task.passed for task in self.tasks], self.n, k)

    def summary(self, ks: Sequence[int]) -> dict[str, float]:
        """The means over tasks, by name."""
        total = self.n * len(self.tasks)
        solved = sum(task.passed > 0 for task in self.tasks)
        tokens = sum(task.generated_tokens for task in self.tasks)
        linted = [task for task in self.tasks if task.lint_errors >= 0]
        return {
            **{f"pass@{k}": float(self.pass_at(k).mean()) for k in ks},
            "distinct programs": float(np.mean([task.distinct for task in self.tasks])),
            "edit distance": float(np.mean([task.distance for task in self.tasks])),
            "resolve failures": sum(task.malformed for task in self.tasks) / total,
            "lint errors": sum(t.lint_errors for t in linted) / (self.n * len(linted))
            if linted
            else math.nan,
            "tokens per sample": tokens / total,
            "tokens per solved task": tokens / solved if solved else math.inf,
        }

    def cost(self, parameters: int, k: int) -> float:
        """Mean FLOPs to draw k samples for a task: 2 P (prompt + generated tokens) per sample, times k.

        Source: section Metrics, test-time cost.
        """
        tokens = sum(task.prompt_tokens + task.generated_tokens for task in self.tasks)
        return 2.0 * parameters * tokens / (self.n * len(self.tasks)) * k


def evaluate(
    problems: Sequence[Problem],
    samples: Sequence[Sampled],
    *,
    pool: SandboxPool,
    linter: LinterBackend | None = None,
    ks: Sequence[int] = (),
) -> Evaluation:
    """Run every sample with its task's tests.

    Args:
        problems: the suite; every task needs samples.
        samples: equally many for each task.
        pool: where the programs run; identical ones run once.
        linter: counts programs with lint errors; None: they are not counted.
        ks: values of k that will be asked for.

    Raises:
        BadInput: a task has no samples, more or fewer than the others, or samples belong to no task.
        BadConfig: a k is greater than the number of samples.
    """
    by_task: dict[str, list[Sampled]] = {problem.task_id: [] for problem in problems}
    for sample in samples:
        if sample.task_id not in by_task:
            raise BadInput(
                f'Samples name the task "{sample.task_id}", which the suite does not have. {nearest(sample.task_id, by_task)}'
            )
        by_task[sample.task_id].append(sample)
    counts = {len(rows) for rows in by_task.values()}
    if len(counts) != 1 or 0 in counts:
        odd = min(by_task, key=lambda task: len(by_task[task]))
        raise BadInput(
            f'Every task needs equally many samples; "{odd}" has {len(by_task[odd])}, others up to {max(counts)}.'
        )
    n = counts.pop()
    if ks and max(ks) > n:
        raise BadConfig(
            f"k must be <= the samples per task ({n}); got {max(ks)}. Draw more samples or lower k."
        )
    scripts = [
        problem.script(sample.program)
        for problem in problems
        for sample in by_task[problem.task_id]
        if sample.program is not None
    ]
    outcomes = iter(pool.map(scripts))
    tasks, all_outcomes = [], []
    for problem in problems:
        rows = by_task[problem.task_id]
        ended = [None if sample.program is None else next(outcomes) for sample in rows]
        tasks.append(_task_result(problem, rows, ended, linter))
        all_outcomes.append(ended)
    return Evaluation(tasks, all_outcomes)


def _task_result(
    problem: Problem, rows: Sequence[Sampled], ended: Sequence[Outcome | None], linter: LinterBackend | None
) -> TaskResult:
    programs = [problem.assemble(sample.program or "") for sample in rows]
    statuses = ["unresolved" if outcome is None else outcome.status for outcome in ended]
    return TaskResult(
        task_id=problem.task_id,
        n=len(rows),
        passed=statuses.count("passed"),
        outcomes={status: statuses.count(status) for status in sorted(set(statuses))},
        distinct=distinct_share(programs),
        distance=edit_distance(programs),
        malformed=sum(sample.n_malformed > 0 for sample in rows),
        lint_errors=-1 if linter is None else sum(bool(linter.check(code)) for code in programs),
        prompt_tokens=sum(sample.prompt_tokens for sample in rows),
        generated_tokens=sum(sample.generated_tokens for sample in rows),
    )


def as_sampled(raw: dict[str, Any], number: int, where: str) -> Sampled:
    """A prediction record as a sample: what `sample` wrote, or any `task_id, prompt, completion`.

    Raises:
        BadInput: task_id or completion is missing.
    """
    for field in ("task_id", "completion"):
        if raw.get(field) is None:
            raise BadInput(f'{where}: field "{field}" is missing. Predictions need task_id and completion.')
    completion = str(raw["completion"])
    return Sampled(
        task_id=str(raw["task_id"]),
        sample=int(raw.get("sample", number)),
        prompt=str(raw.get("prompt", "")),
        completion=completion,
        program=raw.get("program", completion),
        n_hunks=int(raw.get("n_hunks", 0)),
        n_malformed=int(raw.get("n_malformed", 0)),
        prompt_tokens=int(raw.get("prompt_tokens", 0)),
        generated_tokens=int(raw.get("generated_tokens", 0)),
        finish=str(raw.get("finish", "")),
    )
