"""One program prepared for deletions: which lines leave together, and which errors a state has.

A *state* is the set of indices of the lines that are still there.
"""

from __future__ import annotations

import random
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gnomon.errors import BadConfig, nearest
from gnomon.methods.lintseq.linters import (
    Diagnostic,
    IncrementalBackend,
    LinterBackend,
    StateDiagnoser,
    shared_linter,
)
from gnomon.methods.lintseq.programs.layout import LayoutOf, candidates, python_layout
from gnomon.methods.lintseq.programs.source import Rejected, normalise, split_lines

State = frozenset[int]
Baseline = Literal["subtract", "fail", "keep"]

MAX_ROUNDS = 32
"""Rounds of linting after which a deletion takes whole top-level blocks, so that it ends soon."""


@dataclass(frozen=True)
class Deletion:
    """The lines that one draw removes from a state."""

    lines: State
    """Line indices, the drawn line and all that has to leave with it."""
    n_diagnostics: int
    """Errors that removing them caused on the way."""


@dataclass(frozen=True)
class Rules:
    """Where deletions may start, and which errors of a state count.

    Raises:
        BadConfig: a value is out of range.
    """

    indent_bias: float = 1.0
    """How much more likely deep lines are drawn, per level; greater than 0."""
    skip_comments: bool = True
    """Start no deletion at a comment."""
    skip_globals: bool = True
    """Start no deletion inside an upper-case literal."""
    baseline_errors: Baseline = "subtract"
    """What to do about errors of the whole program: `"subtract"` ignores them in every state, keyed by (code, line); `"fail"`
    rejects the program; `"keep"` counts them, so that the first deletion removes them."""
    normalise_indent: bool = True
    """Write tabs in indentation as spaces."""

    def __post_init__(self) -> None:
        if not self.indent_bias > 0:
            raise BadConfig(f"indent_bias must be > 0; got {self.indent_bias}.")
        if self.baseline_errors not in get_args(Baseline):
            raise BadConfig(
                f'baseline_errors cannot be "{self.baseline_errors}". {nearest(self.baseline_errors, get_args(Baseline))}'
            )


class Program:
    """A normalised program with its layout, its baseline errors and the memory of every state linted so far.

    Args:
        code: the program as it came.
        linter: the name of a linter, or a linter of your own.
        rules: where deletions may start, and which errors count.
        layout: finds what belongs together; another language brings its own.
        incremental: let the linter answer from its tables where it is sure; the answers are the same.
        memoise: lint no state twice.

    Attributes:
        code: the normalised program.
        lines: its lines.
        is_clean: the whole program has no error that counts.
        n_lint_calls: texts that were linted so far.

    Raises:
        Rejected: the program is empty, has no line of code, does not parse, or has errors and may not have
            them.

    Source: section A and pitfall 5.
    """

    def __init__(
        self,
        code: str,
        *,
        linter: str | LinterBackend = "pylint",
        rules: Rules = Rules(),
        layout: LayoutOf = python_layout,
        incremental: bool = True,
        memoise: bool = True,
    ):
        self.linter = shared_linter(linter) if isinstance(linter, str) else linter
        self.code = normalise(code, indent=rules.normalise_indent)
        self.lines = split_lines(self.code)
        if not self.lines:
            raise Rejected("empty", "The program is empty.")
        self.n_lint_calls = 0
        self._memo: dict[bytes, frozenset[tuple[str, int]]] | None = {} if memoise else None
        self._candidates = candidates(
            self.lines, skip_comments=rules.skip_comments, skip_globals=rules.skip_globals
        )
        self._baseline: frozenset[tuple[str, int]] = frozenset()
        self._diagnose: StateDiagnoser | None = None
        if incremental and layout is python_layout and isinstance(self.linter, IncrementalBackend):
            self._diagnose = self.linter.prepare(self.lines)
        self._open_baseline(rules.baseline_errors)
        try:
            self.layout = layout(self.lines)
        except (tokenize.TokenError, SyntaxError) as error:
            raise Rejected("syntax-error", f"The program does not parse: {error}.") from None
        if not self._candidates:
            raise Rejected("no-code", "The program has no line of code, only comments.")
        width = self.layout.tab_width()
        columns = self.layout.indent
        self._weights = {
            line: columns[line] / width * rules.indent_bias if columns[line] else 1.0
            for line in self._candidates
        }
        self._waiting: dict[int, list[tuple[int, State]]] = defaultdict(list)
        for owner, needed in self.layout.needs:
            for line in needed:
                self._waiting[line].append((owner, needed))

    @property
    def full(self) -> State:
        """The state with every line."""
        return frozenset(range(len(self.lines)))

    def text(self, state: Iterable[int]) -> str:
        """The text of a state."""
        return "\n".join([self.lines[line] for line in sorted(state)])

    def errors(self, state: State) -> frozenset[tuple[str, int]]:
        """The errors of a state as pairs (code, index of the line to blame), without those that are ignored.

        The empty state has none.
        """
        if not state:
            return frozenset()
        if self._memo is None:
            return self._lint(state)
        key = bytes(map(state.__contains__, range(len(self.lines))))  # a twentieth of the set's size
        if key not in self._memo:
            self._memo[key] = self._lint(state)
        return self._memo[key]

    def draw(self, state: State, rng: random.Random) -> Deletion | None:
        """A deletion that starts from a random candidate of the state; None when no candidate is left.

        Source: A.4, A.5.
        """
        left = [line for line in self._candidates if line in state]
        if not left:
            return None
        (line,) = rng.choices(left, [self._weights[line] for line in left])
        return self.close({line}, state)

    def close(self, lines: Iterable[int], state: State) -> Deletion:
        """What has to leave a state together with some of its lines, so that no error is left.

        Each round takes away at least the lines that the linter blames, so it ends.

        Source: A.5, pitfall 6.
        """
        removed = self._dependents(lines, state)
        n_diagnostics = 0
        for rounds in range(len(self.lines) + 1):
            left = state - removed
            errors = self.errors(left)
            if not errors:
                break
            n_diagnostics += len(errors)
            blamed = {line for _, line in errors}
            if rounds >= MAX_ROUNDS:
                blamed = {self._top_level(line, left) for line in blamed}
            removed |= self._dependents(blamed, left)
        return Deletion(removed, n_diagnostics)

    def _open_baseline(self, policy: Baseline) -> None:
        """Lint the whole program and decide what its errors mean."""
        diagnostics = self._found(range(len(self.lines)))
        broken = next((diagnostic for diagnostic in diagnostics if diagnostic.is_syntax), None)
        if broken is not None:
            raise Rejected(
                "syntax-error", f"The program does not parse: line {broken.line}: {broken.message}."
            )
        if diagnostics and policy == "fail":
            first = min(diagnostics, key=lambda diagnostic: diagnostic.line)
            raise Rejected(
                "baseline-errors",
                f"The program has {len(diagnostics)} lint errors of its own, the first on line {first.line}: "
                f'{first.code} {first.message}. Repair it, or set baseline_errors to "subtract".',
            )
        if policy == "subtract":
            self._baseline = self._keys(diagnostics, range(len(self.lines)))
        self.is_clean = policy == "subtract" or not diagnostics

    def _lint(self, state: State) -> frozenset[tuple[str, int]]:
        lines = sorted(state)
        return self._keys(self._found(lines), lines) - self._baseline

    def _found(self, lines: Sequence[int]) -> list[Diagnostic]:
        """The diagnostics of some lines: from tables if they are sure, from the linter otherwise."""
        diagnostics = self._diagnose(lines) if self._diagnose else None
        if diagnostics is None:
            self.n_lint_calls += 1
            diagnostics = self.linter.check(self.text(lines))
        return diagnostics

    @staticmethod
    def _keys(diagnostics: Iterable[Diagnostic], lines: Sequence[int]) -> frozenset[tuple[str, int]]:
        """Diagnostics as (code, line index); a line beyond the text counts as its last (pitfall 6)."""
        last = len(lines) - 1
        return frozenset(
            (item.code, lines[min(max(item.blamed_line() - 1, 0), last)]) for item in diagnostics
        )

    def _dependents(self, lines: Iterable[int], state: State) -> State:
        """The given lines of a state with all that the layout says must leave with them."""
        removed: set[int] = set()
        work = list(lines)
        while work:
            line = work.pop()
            if line in removed:
                continue
            new = (self.layout.together[line] & state) - removed | {line}
            removed |= new
            for gone in new:
                work += [
                    owner
                    for owner, needed in self._waiting.get(gone, ())
                    if owner in state and owner not in removed and not (needed & state) - removed
                ]
        return frozenset(removed)

    def _top_level(self, line: int, state: State) -> int:
        """The nearest line of the state at the left margin, upwards; the line itself without one."""
        above = [other for other in state if other <= line and self.layout.indent[other] == 0]
        return max(above, default=line)
