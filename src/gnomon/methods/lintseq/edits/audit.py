"""What edit paths are worth as data: clean states, diffs that give the program back, and their cost.

The audit starts from the written diffs and shares no code with the sampler but the linter, so it can
contradict it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gnomon.errors import BadInput
from gnomon.methods.lintseq.edits.diffs import DIFF_TOKEN, line_sets_of, render_target, resolve
from gnomon.methods.lintseq.linters import Diagnostic, LinterBackend


@dataclass(frozen=True)
class Offence:
    """The first lint error of a path that its program does not have."""

    edit: int
    """1-based number of the edit after which it appears."""
    line: int
    """1-based line of the state, as the linter reports it."""
    code: str
    """The linter's name for the error."""
    message: str
    """The linter's sentence."""
    state: str
    """The state's text."""


@dataclass(frozen=True)
class PathAudit:
    """What was found about one path."""

    n_edits: int
    """Edits of the path."""
    n_states: int
    """Intermediate states: all but the empty one and the program."""
    n_clean: int
    """Intermediate states without an error beyond the program's own."""
    is_exact: bool
    """The rendered diffs resolve to the program, byte for byte."""
    program_size: int
    """Length of the program: tokens if a tokenizer was given, characters otherwise."""
    target_size: int
    """Length of the rendered target, in the same unit."""
    offence: Offence | None
    """The first error that the program does not have."""


@dataclass(frozen=True)
class Audit:
    """What was found about a set of paths. Shares are 0..1, and None where there is nothing to count."""

    n_paths: int
    """Paths audited."""
    n_states: int
    """Intermediate states of all paths."""
    share_clean: float | None
    """Clean intermediate states among all."""
    share_exact: float | None
    """Paths that resolve to their program among all."""
    edits_per_path: float | None
    """Mean number of edits."""
    overhead: float | None
    """Length of all targets divided by the length of all programs."""
    offences: list[tuple[int, Offence]]
    """(position of the path, its first offence), for the paths that have one."""


def audit_path(
    code: str,
    diffs: Sequence[str],
    linter: LinterBackend,
    *,
    diff_token: str = DIFF_TOKEN,
    size: Callable[[str], int] = len,
) -> PathAudit:
    """The audit of one path.

    Args:
        code: the normalised program.
        diffs: the path's edits in the order of insertion.
        linter: judges the states; an error counts when (code, original line index) is not among the program's
            own.
        diff_token: the token between edits of the target.
        size: length of a text; pass a tokenizer's count to measure in tokens.
    """
    target = render_target(diffs, diff_token)
    is_exact = resolve(target, strict=True, diff_token=diff_token).code == code
    try:
        lines, line_sets = line_sets_of(diffs)
    except BadInput:
        return PathAudit(len(diffs), max(len(diffs) - 1, 0), 0, False, size(code), size(target), None)
    own = {_key(diagnostic, range(len(lines))) for diagnostic in linter.check("\n".join(lines))}
    n_clean = 0
    offence = None
    present: list[int] = []
    for number, line_set in enumerate(line_sets[:-1], start=1):
        present = sorted([*present, *line_set])
        state = "\n".join(lines[line] for line in present)
        new = [diagnostic for diagnostic in linter.check(state) if _key(diagnostic, present) not in own]
        n_clean += not new
        if new and offence is None:
            first = min(new, key=lambda diagnostic: diagnostic.line)
            offence = Offence(number, first.line, first.code, first.message, state)
    return PathAudit(len(diffs), max(len(diffs) - 1, 0), n_clean, is_exact, size(code), size(target), offence)


def summarise(audits: Iterable[PathAudit]) -> Audit:
    """The audit of a set of paths from those of its members."""
    audits = list(audits)
    n_states = sum(audit.n_states for audit in audits)
    return Audit(
        n_paths=len(audits),
        n_states=n_states,
        share_clean=_ratio(sum(audit.n_clean for audit in audits), n_states),
        share_exact=_ratio(sum(audit.is_exact for audit in audits), len(audits)),
        edits_per_path=_ratio(sum(audit.n_edits for audit in audits), len(audits)),
        overhead=_ratio(
            sum(audit.target_size for audit in audits), sum(audit.program_size for audit in audits)
        ),
        offences=[
            (number, audit.offence) for number, audit in enumerate(audits) if audit.offence is not None
        ],
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _key(diagnostic: Diagnostic, present: Sequence[int]) -> tuple[str, int]:
    return diagnostic.code, present[min(max(diagnostic.blamed_line(), 1), len(present)) - 1]
