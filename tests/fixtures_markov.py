"""Chains whose every number is known, and random ones."""

import numpy as np
from hypothesis import strategies as st

from gnomon.methods.markov import Chain, StateSpace

SPACE = StateSpace(2, 3)


def chain_of(rule, space=SPACE):
    """The chain whose next-token distribution after a state is `rule(state)`."""
    with np.errstate(divide="ignore"):
        return Chain(space, np.log([rule(space.state(i)) for i in range(len(space))]))


def uniform(state):
    return [0.5, 0.5]


def first_order(state):
    return [[0.9, 0.1], [0.2, 0.8]][state[-1]]


def parity(state):
    """0 after an even sum, else 1; with noise .1."""
    return [0.9, 0.1] if sum(state) % 2 == 0 else [0.1, 0.9]


def random_chain(tokens, window, seed, spread=1.0):
    space = StateSpace(tokens, window)
    return Chain.from_logits(space, np.random.default_rng(seed).normal(0, spread, (len(space), tokens)))


RANDOM = st.builds(random_chain, st.integers(2, 3), st.integers(1, 3), st.integers(0, 99), st.floats(0.1, 2))
