"""Greedy cycles, return times and memory of the training text, by hand."""

import numpy as np
import pytest

from fixtures_markov import SPACE, chain_of, first_order, parity
from gnomon.errors import BadInput
from gnomon.methods.markov import greedy_cycle, greedy_cycles, likely_states, mass_on, stationary
from gnomon.methods.markov.chain import seen_states


def names(states):
    return [SPACE.label(i) for i in states]


def test_the_orbits_of_parity():
    logits = chain_of(parity).logp
    cycle = greedy_cycle(SPACE, logits, (0, 0, 1))
    assert names(cycle.members) == ["001", "011", "110", "100"]
    assert (cycle.period, cycle.lead, cycle.basin) == (4, 0, 0.5)
    assert names(greedy_cycle(SPACE, logits, (1, 1, 1)).members) == ["111"]
    assert names(greedy_cycle(SPACE, logits, (1, 0, 1)).members) == ["010", "101"]


def test_tokens_before_the_cycle_are_counted():
    """After 1 comes 1, after 00 comes 0: from (0,) two tokens lead to 000."""
    logits = chain_of(first_order).logp
    cycle = greedy_cycle(SPACE, logits, (0,))
    assert (names(cycle.members), cycle.lead) == (["000"], 2)


def test_all_cycles_and_their_basins():
    cycles = greedy_cycles(SPACE, chain_of(parity).logp)
    assert [(cycle.period, cycle.basin) for cycle in cycles] == [(4, 0.5), (2, 0.25), (1, 0.125), (1, 0.125)]
    assert [names(c.members) for c in greedy_cycles(SPACE, chain_of(first_order).logp)] == [["000"], ["111"]]


def test_likely_states_return_soonest():
    pi = stationary(chain_of(first_order)).pi
    rows = likely_states(pi, 3)
    assert [SPACE.label(i) for i, _, _ in rows] == ["000", "111", "001"]
    assert rows[0][2] == pytest.approx(1 / 0.54)
    assert len(likely_states(pi, 100)) == 8


def test_mass_on_training_states():
    pi = stationary(chain_of(first_order)).pi
    assert mass_on(SPACE, pi, [[0, 0, 0, 0]]) == pytest.approx(0.54)
    assert mass_on(SPACE, pi, [[0, 0, 0], [1, 1, 1, 1]]) == pytest.approx(0.54 + 0.64 / 3)
    assert names(seen_states(SPACE, [[0, 1, 1, 0]])) == ["011", "110"]
    with pytest.raises(BadInput, match="No text has 3 tokens"):
        mass_on(SPACE, pi, [[0, 1]])
    with pytest.raises(BadInput, match=r"0\.\.1; a text has 2"):
        seen_states(SPACE, [np.array([0, 2, 1])])
