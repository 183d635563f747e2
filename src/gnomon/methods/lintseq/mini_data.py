"""The data half: functions of the standard library taken apart with and without a linter, and audited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gnomon.core.data.corpora import PythonSource
from gnomon.core.models import train_bpe
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.methods.lintseq.audit import Audit, PathAudit, audit_path, summarise
from gnomon.methods.lintseq.diffs import DIFF_TOKEN
from gnomon.methods.lintseq.edits import EditPath, sample_path
from gnomon.methods.lintseq.linters import shared_linter
from gnomon.methods.lintseq.program import Program
from gnomon.methods.lintseq.random_edits import randseq
from gnomon.methods.lintseq.source import Rejected

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
    return {arm: summarise(found) for arm, found in audits.items()}


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
