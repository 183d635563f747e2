"""Series whose transition law is known: Markov chains, and dynamical systems cut into bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, nearest
from gnomon.methods.markov.chain import rates
from gnomon.methods.markov.chain.chain import Chain, Floats
from gnomon.methods.markov.chain.equilibrium import stationary
from gnomon.methods.markov.chain.states import Ints, StateSpace
from gnomon.methods.markov.icl.systems import SYSTEMS


@dataclass(frozen=True)
class Series:
    """One series of states and the law behind it."""

    kind: str
    """A key of `KINDS`."""
    x: Ints
    """States 0..d-1, `[N]`."""
    P: Floats
    """True transition probabilities, `[d, d]`."""

    @property
    def states(self) -> int:
        """Number of states d."""
        return len(self.P)

    @cached_property
    def pi(self) -> Floats:
        """Stationary distribution of the true chain, `[d]`.

        Raises:
            BadInput: it is not unique.
        """
        with np.errstate(divide="ignore"):
            chain = Chain(StateSpace(self.states, 1), np.log(self.P))
        return stationary(chain).pi

    @cached_property
    def t_min(self) -> float:
        """Mixing constant of the in-context bound.

        Raises:
            BadInput: the chain is periodic, as a walk on a line or on a ring of even length is, or has several closed classes.
        """
        return rates.t_min(self.P, self.pi)


def generate(kind: str, states: int, length: int, seed: int | Rng = 0) -> Series:
    """A series of the given kind.

    Args:
        kind: a key of `KINDS`.
        states: d, at least 2 (3 for rings and cliques).
        length: N, at least 2.
        seed: of every draw: law, start and steps.

    Raises:
        BadConfig: there is no such kind, or it needs more states.
    """
    if kind not in KINDS:
        raise BadConfig(f'There is no kind of series "{kind}". {nearest(kind, KINDS)}')
    fewest = 3 if kind in ("polygon", "cliques", "slow") else 2
    if states < fewest or length < 2:
        raise BadConfig(
            f"A series of kind {kind} needs {fewest} states and 2 steps or more; got {states} and {length}."
        )
    rng = seed if isinstance(seed, Rng) else Rng(seed)
    draw = rng.child("icl", kind).numpy()
    if kind in SYSTEMS:
        return Series(kind, *SYSTEMS[kind](states, length, draw))
    matrix = _LAWS[kind](states, draw)
    return Series(kind, sample(matrix[None], length, draw)[0], matrix)


def sample(matrices: Floats, length: int, draw: Generator) -> Ints:
    """One series from each chain, `[B, N]`, side by side; the first state is drawn uniformly.

    Args:
        matrices: transition probabilities, `[B, d, d]`.
        length: N.
        draw: where randomness comes from.
    """
    chains, states = matrices.shape[:2]
    edges = matrices.cumsum(2)
    edges[:, :, -1] = np.inf
    rows, x = np.arange(chains), np.empty((chains, length), dtype=np.int64)
    x[:, 0] = draw.integers(states, size=chains)
    for n in range(1, length):
        x[:, n] = (draw.random((chains, 1)) >= edges[rows, x[:, n - 1]]).sum(1)
    return x


def dirichlet(states: int, draw: Generator) -> Floats:
    """Rows drawn from Dirichlet(1): uniform over all distributions."""
    return draw.dirichlet(np.ones(states), size=states)


def drifting(states: int, draw: Generator) -> Floats:
    """A random walk that is pulled to a random centre: pull 0 to 0.3, steps of sd 1 to 5 bins, ends that hold what leaves."""
    from scipy.special import ndtr

    centre, pull, sd = draw.uniform(0, states - 1), draw.uniform(0, 0.3), draw.uniform(1, 5)
    here = np.arange(states)[:, None]
    edges = np.arange(1, states)[None] - 0.5
    below = ndtr((edges - here - pull * (centre - here)) / sd)
    return np.diff(below, axis=1, prepend=0.0, append=1.0)


def _uniform_rows(states: int, draw: Generator) -> Floats:
    entries = draw.random((states, states))
    rows: Floats = entries / entries.sum(1, keepdims=True)
    return rows


def _walk(states: int, draw: Generator) -> Floats:
    matrix = np.zeros((states, states))
    inner = np.arange(1, states - 1)
    matrix[inner, inner - 1] = matrix[inner, inner + 1] = 0.5
    matrix[0, 1] = matrix[-1, -2] = 1.0
    return matrix


def _polygon(states: int, draw: Generator) -> Floats:
    p, here = draw.uniform(0.1, 0.9), np.arange(states)
    matrix = np.zeros((states, states))
    matrix[here, (here + 1) % states] = p
    matrix[here, (here - 1) % states] = 1 - p
    return matrix


def _cliques(states: int, draw: Generator) -> Floats:
    """An inner set that is walked at random and now and then left for the rim, whose every state leads back to one inner state."""
    inner = max(2, states // 3)
    rim = states - inner
    matrix = np.zeros((states, states))
    matrix[:inner, :inner] = 0.9 / inner
    matrix[:inner, inner:] = 0.1 / rim
    matrix[np.arange(inner, states), draw.integers(inner, size=rim)] = 1.0
    return matrix


def _slow(states: int, draw: Generator) -> Floats:
    """Two blocks of Dirichlet rows; a step leads into the other one with chance 0.05."""
    first = states // 2
    is_first = np.arange(states) < first
    matrix = np.zeros((states, states))
    for i in range(states):
        for block, weight in ((is_first == is_first[i], 0.95), (is_first != is_first[i], 0.05)):
            matrix[i, block] = weight * draw.dirichlet(np.ones(int(block.sum())))
    return matrix


_LAWS: dict[str, Callable[[int, Generator], Floats]] = {
    "random": dirichlet,
    "uniform-rows": _uniform_rows,
    "walk": _walk,
    "polygon": _polygon,
    "cliques": _cliques,
    "slow": _slow,
    "drift": drifting,
}

KINDS = (*_LAWS, *SYSTEMS)
"""Kinds of series: Markov chains first, then dynamical systems in bins."""
