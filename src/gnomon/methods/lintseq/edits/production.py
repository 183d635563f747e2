"""Edit sequences for any number of programs: the steps behind `generate`, `randseq` and `check`.

A step is a plain picklable object that takes programs and yields records; what spreads it over processes is core's business.
Every sequence has a random stream of its own, named by (seed, index of the program, number of the sequence), so the output is the
same for any number of workers and any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gnomon.core.config import narrow
from gnomon.core.data.execute import Rejected, Tally
from gnomon.core.rng import Rng
from gnomon.core.rollout.suites import strip_markdown
from gnomon.errors import BadInput
from gnomon.methods.lintseq.edits.audit import audit_path
from gnomon.methods.lintseq.edits.paths import EditPath, randseq, sample_path, search_paths
from gnomon.methods.lintseq.linters import open_linter, shared_linter
from gnomon.methods.lintseq.programs.data import SourceProgram
from gnomon.methods.lintseq.programs.program import Baseline, Program, Rules
from gnomon.methods.lintseq.programs.source import Rejected as NoPath
from gnomon.methods.lintseq.programs.source import normalise


@dataclass(frozen=True)
class Fields:
    """Names of the source's columns; a written record carries them as `source_<name>`, as the released generator does."""

    code: str = "response"
    prompt: str = "instruction"


@dataclass(frozen=True)
class LintSeqStep:
    """Programs in, `samples` lint-clean edit sequences for each out."""

    seed: int
    samples: int
    linter: str
    fields: Fields = Fields()
    indent_bias: float = 1.0
    skip_comments: bool = True
    skip_globals: bool = True
    baseline_errors: Baseline = "subtract"
    normalise_indent: bool = True
    incremental: bool = True
    max_edits: int = 512
    children_per_round: int = 1
    top_k: int = 1
    population: int = 1

    def __call__(self, programs: Iterator[SourceProgram]) -> Iterator[dict[str, Any] | Rejected | Tally]:
        """One record per sequence; a program that has none is rejected with the reason."""
        made_by = f"{self.linter} {shared_linter(self.linter).version}"
        rules = narrow(Rules, self)
        for source in programs:
            if source.problem:
                yield Rejected(source.problem, {"index": source.index, "source_file": source.source_file})
                continue
            try:
                program = Program(
                    strip_markdown(source.code),
                    linter=self.linter,
                    rules=rules,
                    incremental=self.incremental,
                )
            except NoPath as refusal:
                yield _refused(source, refusal)
                continue
            for path_id, path in enumerate(self._paths(program, source.index)):
                yield _record(source, path, path_id, self.fields, made_by)
                yield _counted(path)

    def _paths(self, program: Program, index: int) -> Iterator[EditPath]:
        root = Rng(self.seed).child("edits", index)
        for number in range(self.samples):
            if self.children_per_round == 1:  # the paper's setting
                yield sample_path(program, root.child(number), max_edits=self.max_edits)
            else:
                yield from search_paths(
                    program,
                    root.child(number),
                    children_per_round=self.children_per_round,
                    top_k=self.top_k,
                    population=self.population,
                    max_depth=self.max_edits,
                )


@dataclass(frozen=True)
class RandSeqStep:
    """Programs in, `samples` random edit sequences for each out; nothing is linted."""

    seed: int
    samples: int
    fields: Fields = Fields()
    normalise_indent: bool = True

    def __call__(self, programs: Iterator[SourceProgram]) -> Iterator[dict[str, Any] | Rejected | Tally]:
        """One record per sequence."""
        for source in programs:
            if source.problem:
                yield Rejected(source.problem, {"index": source.index, "source_file": source.source_file})
                continue
            root = Rng(self.seed).child("randseq", source.index)
            try:
                paths = [
                    randseq(
                        strip_markdown(source.code),
                        root.child(number),
                        normalise_indent=self.normalise_indent,
                    )
                    for number in range(self.samples)
                ]
            except NoPath as refusal:
                yield _refused(source, refusal)
                continue
            for path_id, path in enumerate(paths):
                yield _record(source, path, path_id, self.fields, "none")
                yield _counted(path)


@dataclass(frozen=True)
class EditRecord:
    """A written edit sequence, in the layout of the released generator."""

    edit_path: list[str]
    """Diffs in the order of insertion."""
    index: int
    """Position of the program in its source."""
    meta: dict[str, Any]
    """`source_file`, `source_<prompt>`, `source_<code>` and whatever else the record holds."""


@dataclass(frozen=True)
class AuditStep:
    """Edit records in, one audit row for each out."""

    linter: str
    code_field: str = "response"

    def __call__(self, rows: Iterator[EditRecord]) -> Iterator[dict[str, Any] | Rejected | Tally]:
        """Audit rows; a record without its program is rejected."""
        linter = open_linter(self.linter)
        for row in rows:
            column = f"source_{self.code_field}"
            code = row.meta.get(column)
            if not isinstance(code, str):
                has = ", ".join(name for name in row.meta if name.startswith("source_"))
                yield Rejected(
                    f'field "{column}" is missing (the record has {has}). Use --code-field.',
                    {"index": row.index},
                )
                continue
            audit = audit_path(normalise(strip_markdown(code)), row.edit_path, linter)
            yield {"index": row.index, "path_id": row.meta.get("path_id", 0), **asdict(audit)}
            yield Tally(
                {
                    "states": audit.n_states,
                    "clean": audit.n_clean,
                    "exact": float(audit.is_exact),
                    "edits": audit.n_edits,
                    "program_characters": audit.program_size,
                    "target_characters": audit.target_size,
                    "paths_with_offence": float(audit.offence is not None),
                }
            )


def _refused(source: SourceProgram, refusal: BadInput) -> Rejected:
    reason = getattr(refusal, "reason", "unusable")
    record = {"index": source.index, "source_file": source.source_file, "kind": reason, "code": source.code}
    return Rejected(f"{source.source_file}: {refusal}", record)


def _record(
    source: SourceProgram, path: EditPath, path_id: int, fields: Fields, made_by: str
) -> dict[str, Any]:
    return {
        "edit_path": path.diffs,
        "index": source.index,
        "path_id": path_id,
        "n_edits": len(path.line_sets),
        "lint": made_by,
        "source_file": source.source_file,
        f"source_{fields.prompt}": source.instruction,
        f"source_{fields.code}": source.code,
    }


def _counted(path: EditPath) -> Tally:
    between = path.lint_clean[1:-1]
    return Tally(
        {
            "edits": len(path.line_sets),
            "states": len(between),
            "clean": sum(between),
            "lint_calls": path.n_lint_calls,
        }
    )
