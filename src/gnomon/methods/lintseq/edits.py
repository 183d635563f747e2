"""Edit paths: a program taken apart at random, seen as insertions that build it without a lint error."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.lintseq.diffs import forward_diffs, states_of
from gnomon.methods.lintseq.linters import LinterBackend
from gnomon.methods.lintseq.program import Baseline, Program, State

MAX_EDITS = 512


@dataclass(frozen=True)
class EditPath:
    """A program of N lines and T edits that build it from nothing, in the order of insertion."""

    lines: Sequence[str]
    """[N] the lines of the normalised program."""
    line_sets: list[list[int]]
    """[T] the line indices that each edit inserts, ascending; every line is in exactly one."""
    lint_clean: list[bool]
    """[T + 1] whether each state has no error that counts; empty if nobody linted."""
    n_lint_calls: int
    """Texts that were linted for this path; states known from earlier paths of the program cost none."""

    @property
    def code(self) -> str:
        """The normalised program."""
        return "\n".join(self.lines)

    @cached_property
    def states(self) -> list[str]:
        """[T + 1] the text before the first edit (empty) and after each edit.

        Source: B.8.
        """
        return states_of(self.lines, self.line_sets)

    @cached_property
    def diffs(self) -> list[str]:
        """[T] the edits as unified diffs without context and without file headers."""
        return forward_diffs(self.lines, self.line_sets)


def sample_path(program: Program, rng: Rng | random.Random, *, max_edits: int = MAX_EDITS) -> EditPath:
    """One random edit path of a prepared program.

    Args:
        program: the program; several paths of it share its memory of linted states.
        rng: where the draws come from; the same generator gives the same path, whatever was sampled before.
        max_edits: most edits; a path that would be longer inserts what is left in its first edit.

    Source: A.6, A.7.
    """
    if max_edits < 1:
        raise BadConfig(f"max_edits must be >= 1; got {max_edits}.")
    draws = as_random(rng)
    calls_before = program.n_lint_calls
    deletions: list[State] = []
    state = program.full
    while len(deletions) < max_edits - 1 and (deletion := program.draw(state, draws)) is not None:
        deletions.append(deletion.lines)
        state -= deletion.lines
    return build_path(program, deletions, calls_before)


def sample_edits(
    code: str,
    *,
    linter: str | LinterBackend = "pylint",
    indent_bias: float = 1.0,
    skip_comments: bool = True,
    skip_globals: bool = True,
    baseline_errors: Baseline = "subtract",
    normalise_indent: bool = True,
    max_edits: int = MAX_EDITS,
    rng: Rng | random.Random,
) -> EditPath:
    """One random edit path of `code`; for several of one program, make a `Program` and use `sample_path`.

    The arguments are those of `Program` and `sample_path`.

    Raises:
        Rejected: the program cannot become an edit path; `reason` says why.

    Source: section A.
    """
    program = Program(
        code,
        linter=linter,
        indent_bias=indent_bias,
        skip_comments=skip_comments,
        skip_globals=skip_globals,
        baseline_errors=baseline_errors,
        normalise_indent=normalise_indent,
    )
    return sample_path(program, rng, max_edits=max_edits)


def build_path(program: Program, deletions: Sequence[State], calls_before: int) -> EditPath:
    """The path that undoes `deletions`, given in deletion order; what they leave over is inserted first.

    Args:
        program: the program that was taken apart.
        deletions: disjoint sets of lines, each from `Program.draw`.
        calls_before: `program.n_lint_calls` before the path was begun.
    """
    rest = program.full.difference(*deletions)
    order = [*deletions, rest] if rest else list(deletions)
    clean = [True] * len(order) + [program.is_clean]  # a deletion ends with a state that the linter passed
    line_sets = [sorted(lines) for lines in reversed(order)]
    return EditPath(program.lines, line_sets, clean, program.n_lint_calls - calls_before)


def as_random(rng: Rng | random.Random) -> random.Random:
    """A standard-library generator from either kind."""
    return rng.python() if isinstance(rng, Rng) else rng
