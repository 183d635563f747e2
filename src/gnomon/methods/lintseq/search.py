"""A wider search for edit paths: several draws per state, and those that cause most errors go on.

With one child, one kept and one branch it is `sample_path`, draw for draw, which is the paper's setting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.lintseq.edits import MAX_EDITS, EditPath, as_random, build_path
from gnomon.methods.lintseq.program import Deletion, Program, State


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
