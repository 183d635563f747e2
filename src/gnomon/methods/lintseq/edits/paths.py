"""Edit paths: a program taken apart at random, seen as insertions that build it without a lint error.

A wider search for edit paths: several draws per state, and those that cause most errors go on.

With one child, one kept and one branch it is `sample_path`, draw for draw, which is the paper's setting.

RandSeq: the ablation without a linter. Random lines leave in chunks of random size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.lintseq.edits.diffs import forward_diffs, states_of
from gnomon.methods.lintseq.linters import LinterBackend
from gnomon.methods.lintseq.programs.program import Deletion, Program, Rules, State
from gnomon.methods.lintseq.programs.source import Rejected, normalise, split_lines

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
    rules: Rules = Rules(),  # noqa: B008  frozen
    max_edits: int = MAX_EDITS,
    rng: Rng | random.Random,
) -> EditPath:
    """One random edit path of `code`; for several of one program, make a `Program` and use `sample_path`.

    The arguments are those of `Program` and `sample_path`.

    Raises:
        Rejected: the program cannot become an edit path; `reason` says why.

    Source: section A.
    """
    return sample_path(Program(code, linter=linter, rules=rules), rng, max_edits=max_edits)


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


# A wider search for edit paths: several draws per state, and those that cause most errors go on.


@dataclass(frozen=True)
class _Branch:
    """A program partly taken apart."""

    state: State
    deletions: tuple[State, ...]


def search_paths(
    program: Program,
    rng: Rng | random.Random,
    *,
    children_per_round: int = 16,
    top_k: int = 4,
    population: int = 64,
    max_depth: int = MAX_EDITS,
) -> list[EditPath]:
    """The edit paths that a beam over deletions finds: at least one, in the order in which they are complete.

    Args:
        program: the program.
        rng: where the draws come from.
        children_per_round: deletions drawn from each branch in each round.
        top_k: how many different ones of them go on, those with the most induced errors first, earlier draws
            first among equals.
        population: most branches after a round; the rule is the same.
        max_depth: most edits of a path.

    Source: section D, optional search generalisation.
    """
    sizes = {
        "children_per_round": children_per_round,
        "top_k": top_k,
        "population": population,
        "max_depth": max_depth,
    }
    for name, value in sizes.items():
        if value < 1:
            raise BadConfig(f"{name} must be >= 1; got {value}.")
    draws = as_random(rng)
    calls_before = program.n_lint_calls
    finished: list[tuple[State, ...]] = []
    alive = [_Branch(program.full, ())]
    for _ in range(max_depth - 1):
        grown: list[tuple[_Branch, Deletion]] = []
        for branch in alive:
            children = [program.draw(branch.state, draws) for _ in range(children_per_round)]
            best = _most_errors([child for child in children if child is not None])[:top_k]
            grown += [(branch, deletion) for deletion in best]
            if not best:
                finished.append(branch.deletions)
        grown.sort(key=lambda pair: -pair[1].n_diagnostics)
        alive = [
            _Branch(branch.state - deletion.lines, (*branch.deletions, deletion.lines))
            for branch, deletion in grown[:population]
        ]
        if not alive:
            break
    finished += [branch.deletions for branch in alive]
    return [build_path(program, deletions, calls_before) for deletions in finished]


def _most_errors(children: list[Deletion]) -> list[Deletion]:
    """The different ones among `children`, most induced errors first, earlier draws first among equals."""
    different: dict[State, Deletion] = {}
    for child in children:
        different.setdefault(child.lines, child)
    return sorted(different.values(), key=lambda deletion: -deletion.n_diagnostics)


# RandSeq: the ablation without a linter. Random lines leave in chunks of random size.


def randseq(code: str, rng: Rng | random.Random, *, normalise_indent: bool = True) -> EditPath:
    """A random edit path that no linter has seen; its `lint_clean` is empty.

    Each deletion takes k random lines of those left, k uniform in 1..(left - 1); the last line goes on its
    own.

    Raises:
        Rejected: the program is empty.

    Source: D.15.
    """
    lines = split_lines(normalise(code, indent=normalise_indent))
    if not lines:
        raise Rejected("empty", "The program is empty.")
    draws = as_random(rng)
    left = list(range(len(lines)))
    deletions: list[list[int]] = []
    while left:
        size = draws.randint(1, len(left) - 1) if len(left) > 1 else 1
        chunk = sorted(draws.sample(left, size))
        deletions.append(chunk)
        left = sorted(set(left).difference(chunk))
    return EditPath(lines, deletions[::-1], [], 0)
