"""The learning half's world: how large it is, and what all arms of one seed share.

The data half: functions of the standard library taken apart with and without a linter, and audited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.data.corpora import PythonSource
from gnomon.core.models import add_token, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.methods.lintseq.edits.audit import Audit, PathAudit, audit_path, summarise
from gnomon.methods.lintseq.edits.diffs import DIFF_TOKEN
from gnomon.methods.lintseq.edits.paths import EditPath, randseq, sample_path
from gnomon.methods.lintseq.linters import shared_linter
from gnomon.methods.lintseq.mini.tasks import Task, make_tasks, split_pairs
from gnomon.methods.lintseq.models.training import Pair, edit_pair, program_pair
from gnomon.methods.lintseq.programs.program import Program
from gnomon.methods.lintseq.programs.source import Rejected


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
    device: Literal["cpu", "cuda"] = "cpu"


SCALES = {
    "smoke": Scale(12, 60, 3, paths=2, passes=2, hidden=32, layers=1, heads=2, n=20, max_length=128),
    "mini": Scale(300, 3000, 60, paths=3, passes=3, hidden=128, layers=3, heads=4, n=20),
    "gpu": Scale(
        300, 60_000, 200, paths=3, passes=6, hidden=512, layers=8, heads=8, n=64,
        max_length=512, lr=1e-3, batch_size=256, precision="bf16", device="cuda",
    ),
}  # fmt: skip
"""`mini` was sized on seed 10: at 3 passes whole programs and edits both solve some tasks and not all."""


class World:
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
        return model.to(scale.device)

    def _paths(self, arm: str, linter: str) -> list[list[EditPath]]:
        """Edit paths, [s][N]."""
        paths: list[list[EditPath]] = [[] for _ in range(self.scale.paths)]
        for index, (_, code) in enumerate(self.programs):
            program = Program(code, linter=linter) if arm == "lintseq" else None
            for number in range(self.scale.paths):
                rng = self.rng.child(arm, index, number)
                paths[number].append(sample_path(program, rng) if program else randseq(code, rng))
        return paths

    def pairs(self, arm: str) -> list[Pair]:
        """The arm's training examples in words."""
        if arm.startswith("full"):
            return [program_pair(instruction, code, i) for i, (instruction, code) in enumerate(self.programs)]
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


# The data half: functions of the standard library taken apart with and without a linter, and audited.

VOCAB_SIZE = 512
"""Tokens of the tokenizer that measures lengths, trained on the functions themselves."""


def audit_functions(
    every: Sequence[PythonSource], count: int, linter: str, *, rng: Rng, run: PartOfRun
) -> dict[str, Audit]:
    """Arm -> audit of one edit sequence per function.

    Args:
        every: functions to choose from.
        count: how many to take apart; those that do not stand alone (comments only) are passed over.
        linter: samples the sequences of arm `lintseq`, and judges the states of both arms.
        rng: chooses the functions and draws the edits.
        run: shows the progress.
    """
    functions = list(every)
    rng.child("choose").python().shuffle(functions)
    tokenizer = train_bpe([function.code for function in functions[:count]], VOCAB_SIZE)
    tokenizer.add_tokens([DIFF_TOKEN])

    def size(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    judge = shared_linter(linter)
    audits: dict[str, list[PathAudit]] = {"lintseq": [], "randseq": []}
    with run.progress(count, "functions") as bar:
        for index, program in _programs(functions, linter):
            paths = {
                "lintseq": sample_path(program, rng.child("lintseq", index)),
                "randseq": randseq(program.code, rng.child("randseq", index)),
            }
            for arm, path in paths.items():
                audits[arm].append(audit_path(path.code, path.diffs, judge, size=size))
            bar.advance()
            if len(audits["lintseq"]) == count:
                break
    return {arm: summarise(rows) for arm, rows in audits.items()}


def example(every: Sequence[PythonSource], linter: str, rng: Rng) -> EditPath | None:
    """A sequence of four to ten edits, to look at."""
    paths = (
        sample_path(program, rng.child("example", index)) for index, program in _programs(every[:200], linter)
    )
    return next((path for path in paths if 4 <= len(path.diffs) <= 10), None)


def _programs(functions: Sequence[PythonSource], linter: str) -> Iterator[tuple[int, Program]]:
    for index, function in enumerate(functions):
        try:
            yield index, Program(function.code, linter=linter)
        except Rejected:
            continue
