"""How fast a chain forgets: eps and the paper's bound, measured distances, relaxation and mixing times, t_min.

Repetition, read from the chain: the greedy cycle, likely states, how soon they return, and memory of the training text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov.chain.chain import Chain, Floats
from gnomon.methods.markov.chain.states import Ints, StateSpace

DENSE = 1024
"""States up to which mixing times are exact: every start is followed by squaring the matrix."""


def log_epsilon(chain: Chain) -> float:
    """Logarithm of the smallest entry of Q^K between full-length states; -inf where decoding is truncated.

    (Q^K)[u, v] is the probability of writing v after u, one product along a path, so that its minimum over all u and v is a
    shortest path: K sweeps over the T^K full states in place of a matrix power. In logarithms nothing underflows.

    Source: section A.5 of the specification, theorem on convergence to the stationary distribution.
    """
    space = chain.space
    logp = chain.logp[space.offset(space.window) :]  # [T^K, T]
    least = np.zeros(space.full)
    for _ in range(space.window):
        # The state after u = (a, w) and x is (w, x): all a share the rows of w.
        after = np.tile(least.reshape(-1, space.tokens), (space.tokens, 1))
        least = (logp + after).min(1)
    return float(least.min())


def bound(log_eps: float, window: int, steps: Ints | Sequence[int]) -> Floats:
    """The paper's bound on max_ij |(Q^n)_ij - pi_j|: (1 - 2 eps)^(floor(n / K) - 1) at each n.

    Args:
        log_eps: from `log_epsilon`.
        window: K.
        steps: values of n, >= 0.
    """
    rounds = np.asarray(steps, dtype=np.int64) // window - 1
    shrink = max(0.0, 1 - 2 * math.exp(log_eps))
    if shrink == 0.0:
        return np.where(rounds > 0, 0.0, 1.0)
    limits: Floats = np.exp(rounds * math.log1p(-2 * math.exp(log_eps)))
    return limits


@dataclass(frozen=True)
class Curve:
    """Distance from the stationary distribution after n tokens, from the worst start."""

    steps: Ints
    """n, `[N]`."""
    largest: Floats
    """max_ij |(Q^n)_ij - pi_j|, which the paper bounds."""
    tv: Floats
    """max_i TV((Q^n)_i, pi)."""
    is_exact: bool
    """Whether every start was followed; otherwise both are lower limits."""


def measure(chain: Chain, pi: Floats, steps: int, starts: Sequence[int] | None = None) -> Curve:
    """Follow starts for `steps` tokens.

    Args:
        chain: the chain.
        pi: its stationary distribution, `[S]`.
        steps: how many tokens.
        starts: numbers of the states to start from; None: all.
    """
    chosen = np.arange(len(chain.space)) if starts is None else np.asarray(starts)
    # A column per start: the sparse product then reads and writes memory in order.
    here = np.zeros((len(chain.space), len(chosen)))
    here[chosen, np.arange(len(chosen))] = 1.0
    largest, tv = np.empty(steps + 1), np.empty(steps + 1)
    off, target = np.empty_like(here), pi[:, None]
    for n in range(steps + 1):
        np.abs(np.subtract(here, target, out=off), out=off)
        largest[n], tv[n] = off.max(), off.sum(0).max() / 2
        if n < steps:
            here = chain.transposed @ here
    return Curve(np.arange(steps + 1), largest, tv, len(chosen) == len(chain.space))


def violations(curve: Curve, log_eps: float, window: int) -> int:
    """Number of steps n >= K at which the measured distance exceeds the bound; 0 by theorem."""
    late = curve.steps >= window
    limit = bound(log_eps, window, curve.steps[late])
    return int((curve.largest[late] > limit + 1e-9).sum())


def mixing_time(matrix: Floats, pi: Floats, distance: float = 0.25, *, most: int = 10**9) -> int | None:
    """First n with max_i TV((P^n)_i, pi) <= distance, exactly; None when that takes more than `most` steps.

    The distance never grows, so n is found by squaring and then bit by bit: a billion steps are 60 products.

    Args:
        matrix: transition matrix, dense, `[N, N]`.
        pi: its stationary distribution, `[N]`.
        distance: total variation, within (0, 1).
        most: where to give up.

    Raises:
        BadConfig: `distance` is out of range.

    Source: Levin and Peres, "Markov Chains and Mixing Times", section 4.5.
    """
    if not 0 < distance < 1:
        raise BadConfig(f"distance must be within (0, 1); got {distance}.")
    size = len(matrix)
    if worst_tv(np.eye(size), pi) <= distance:
        return 0
    powers = [np.asarray(matrix, dtype=np.float64)]
    while worst_tv(powers[-1], pi) > distance:
        if 2 ** len(powers) > most:
            return None
        powers.append(_clean(powers[-1] @ powers[-1]))
    # The largest n that is still too far, from its highest bit down.
    here, n = np.eye(size), 0
    for bit in range(len(powers) - 2, -1, -1):
        further = _clean(here @ powers[bit])
        if worst_tv(further, pi) > distance:
            here, n = further, n + 2**bit
    return n + 1


def t_min(matrix: Floats, pi: Floats, *, most: int = 10**7) -> float:
    """Min over 0 <= e < 1 of t_mix(e/2) ((2 - e)/(1 - e))^2, the mixing constant of the in-context bound.

    t_mix(e/2) = n for all e between 2 d(n) and 2 d(n - 1), with d(n) the worst distance after n steps, and the second factor grows
    with e: so it is the least of n ((2 - e)/(1 - e))^2 at e = 2 d(n). Above 64 states n goes up by 2 % at a time, which finds it
    to within as much.

    Args:
        matrix: transition matrix of the TRUE chain, `[N, N]`.
        pi: its stationary distribution, `[N]`.
        most: where to give up.

    Raises:
        BadInput: the chain does not converge, as a periodic one does not.

    Source: LLMs as Markov chains (arXiv 2410.02724), mixing constant of the in-context bound (after Paulin, 2015).
    """
    every = len(matrix) <= 64
    here, n, best = np.asarray(matrix, dtype=np.float64), 1, math.inf
    powers = [here]
    while 4 * n < best and n <= most:
        e = 2 * worst_tv(here, pi)
        if e < 1:
            best = min(best, n * ((2 - e) / (1 - e)) ** 2)
        hop = 1 if every and n < 4096 else max(1, n // 50)
        for bit in range(hop.bit_length()):
            if bit == len(powers):
                powers.append(_clean(powers[-1] @ powers[-1]))
            if hop >> bit & 1:
                here = _clean(here @ powers[bit])
        n += hop
    if math.isinf(best):
        raise BadInput(
            f"t_min needs a chain that converges; after {most:,} steps this one has not. A periodic chain never does."
        )
    return best


def worst_tv(rows: Floats, pi: Floats) -> float:
    """max_i TV(rows_i, pi)."""
    return float(np.abs(rows - pi).sum(1).max() / 2)


def relaxation_time(second: float) -> float:
    """1 / (1 - |lambda_2|) in tokens; infinite when the second eigenvalue is 1.

    Source: Levin and Peres, "Markov Chains and Mixing Times", chapter 12.
    """
    return 1 / (1 - second) if second < 1 else math.inf


def _clean(rows: Floats) -> Floats:
    """Rows that sum to 1 again, so that rounding does not grow over many squarings."""
    clean: Floats = rows / rows.sum(1, keepdims=True)
    return clean


# Repetition, read from the chain: the greedy cycle, likely states, how soon they return, and memory of the training text.


@dataclass(frozen=True)
class Cycle:
    """The cycle of states in which greedy decoding ends."""

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
    numbers = [np.empty(0, dtype=np.int64)]
    for text in texts:
        ids = np.asarray(text, dtype=np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < space.tokens):
            raise BadInput(f"Tokens of the chain are 0..{space.tokens - 1}; a text has {int(ids.max())}.")
        if len(ids) >= space.window:
            windows = np.lib.stride_tricks.sliding_window_view(ids, space.window)
            numbers.append(space.offset(space.window) + windows @ powers)
    return np.unique(np.concatenate(numbers))


def _greedy(space: StateSpace, logits: NDArray[np.floating[Any]]) -> Ints:
    after: Ints = np.take_along_axis(space.successors(), logits.argmax(1)[:, None], 1).ravel()
    return after


def _ends(space: StateSpace, after: Ints) -> Ints:
    """A state of the final cycle for every full-length start, by doubling the number of steps."""
    jump = after
    for _ in range(len(space).bit_length()):
        jump = jump[jump]
    return jump[space.offset(space.window) :]


def _turned(path: Sequence[int]) -> tuple[int, ...]:
    at = min(range(len(path)), key=path.__getitem__)
    return (*path[at:], *path[:at])
