"""Repetition, read from the chain: the greedy cycle, likely states, how soon they return, and memory of the training text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput
from gnomon.methods.markov.chain import Floats
from gnomon.methods.markov.states import Ints, StateSpace


@dataclass(frozen=True)
class Cycle:
    """Where greedy decoding ends."""

    members: tuple[int, ...]
    """Numbers of the states of the cycle, in the order in which they are visited, the smallest first."""
    lead: int
    """Tokens written before the cycle is entered."""
    basin: float
    """Share of all full-length states from which greedy decoding ends in this cycle."""

    @property
    def period(self) -> int:
        """Length of the cycle in tokens."""
        return len(self.members)


def greedy_cycle(space: StateSpace, logits: NDArray[np.floating[Any]], start: Sequence[int] = (0,)) -> Cycle:
    """The cycle that greedy decoding falls into from `start`; ties go to the lower token.

    Args:
        space: the states.
        logits: next-token logits or log-probabilities, `[S, T]`.
        start: a state.
    """
    after = _greedy(space, logits)
    path, seen = [space.index(start)], {}
    while path[-1] not in seen:
        seen[path[-1]] = len(path) - 1
        path.append(int(after[path[-1]]))
    lead = seen[path[-1]]
    members = _turned(path[lead:-1])
    ends = _ends(space, after)
    return Cycle(members, lead, float(np.isin(ends, members).mean()))


def greedy_cycles(space: StateSpace, logits: NDArray[np.floating[Any]]) -> list[Cycle]:
    """All cycles of greedy decoding, the one with the largest basin first; `lead` is 0, as they start in themselves."""
    after = _greedy(space, logits)
    ends, left, cycles = _ends(space, after), set(), []
    for end in np.unique(ends).tolist():
        if end in left:
            continue
        path = [end]
        while (there := int(after[path[-1]])) != end:
            path.append(there)
        left.update(path)
        cycles.append(Cycle(_turned(path), 0, float(np.isin(ends, path).mean())))
    return sorted(cycles, key=lambda cycle: (-cycle.basin, cycle.members))


def likely_states(pi: Floats, n: int = 10) -> list[tuple[int, float, float]]:
    """The `n` most probable states: number, probability, and expected number of tokens between two visits, 1 / pi."""
    order = np.argsort(-pi, kind="stable")[:n]
    return [(int(i), float(pi[i]), float(1 / pi[i])) for i in order if pi[i] > 0]


def mass_on(space: StateSpace, pi: Floats, texts: Iterable[Sequence[int]]) -> float:
    """Stationary probability of the full-length states that occur in the texts.

    Raises:
        BadInput: no text is as long as the window.
    """
    seen = seen_states(space, texts)
    if not len(seen):
        raise BadInput(
            f"No text has {space.window} tokens of the chain in a row; there are no states to look up."
        )
    return float(pi[seen].sum())


def seen_states(space: StateSpace, texts: Iterable[Sequence[int]]) -> Ints:
    """Numbers of the full-length states that occur in the texts, in order."""
    powers = space.tokens ** np.arange(space.window - 1, -1, -1, dtype=np.int64)
    found = [np.empty(0, dtype=np.int64)]
    for text in texts:
        ids = np.asarray(text, dtype=np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < space.tokens):
            raise BadInput(f"Tokens of the chain are 0..{space.tokens - 1}; a text has {int(ids.max())}.")
        if len(ids) >= space.window:
            windows = np.lib.stride_tricks.sliding_window_view(ids, space.window)
            found.append(space.offset(space.window) + windows @ powers)
    return np.unique(np.concatenate(found))


def _greedy(space: StateSpace, logits: NDArray[np.floating[Any]]) -> Ints:
    after: Ints = np.take_along_axis(space.successors(), logits.argmax(1)[:, None], 1).ravel()
    return after


def _ends(space: StateSpace, after: Ints) -> Ints:
    """A state of the final cycle for every full-length start: by doubling, as many steps as there are states."""
    jump = after
    for _ in range(len(space).bit_length()):
        jump = jump[jump]
    return jump[space.offset(space.window) :]


def _turned(path: Sequence[int]) -> tuple[int, ...]:
    at = min(range(len(path)), key=path.__getitem__)
    return (*path[at:], *path[:at])
