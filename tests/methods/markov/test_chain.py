"""Chains whose every number is known: uniform, first-order and noisy parity; and what holds for all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from fixtures_markov import RANDOM, SPACE, chain_of, first_order, parity, random_chain, uniform
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov import Chain, StateSpace, second_eigenvalue, stationary
from gnomon.methods.markov.chain import truncate


def test_structure_of_the_matrix_by_hand():
    chain = chain_of(first_order)
    dense = chain.Q.toarray()
    assert chain.Q.nnz / dense.size == pytest.approx(1 / 7)
    assert dense[SPACE.index([0, 1, 1]), SPACE.index([1, 1, 0])] == pytest.approx(0.2)
    assert dense[SPACE.index([1]), SPACE.index([1, 1])] == pytest.approx(0.8)
    assert chain.classes.transient == 6
    assert [len(group) for group in chain.classes.recurrent] == [8]
    assert chain.classes.is_ergodic
    assert not np.linalg.matrix_power(dense[:6, :6], 2).any()


@settings(max_examples=15, deadline=None)
@given(RANDOM)
def test_what_the_paper_says_of_every_chain(chain):
    space, dense = chain.space, chain.Q.toarray()
    assert np.allclose(dense.sum(1), 1, atol=1e-12)
    share = (space.tokens - 1) / (space.full - 1)
    assert chain.Q.nnz / dense.size == pytest.approx(share if space.window > 1 else 1)
    short = space.offset(space.window)
    assert not np.linalg.matrix_power(dense[:short, :short], max(space.window - 1, 1)).any() or short == 0
    assert chain.classes.transient == short
    assert chain.classes.is_ergodic
    found = stationary(chain)
    assert found.residual < 1e-12
    assert not found.pi[:short].any()
    assert np.allclose(found.pi @ dense, found.pi, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(RANDOM)
def test_all_methods_find_the_same_distribution(chain):
    exact = stationary(chain, "elimination").pi
    for method in ("eigen", "power", "lu"):
        assert np.allclose(stationary(chain, method).pi, exact, atol=1e-9), method


def test_uniform_reference():
    assert stationary(chain_of(uniform)).pi[6:] == pytest.approx(np.full(8, 1 / 8))


def test_first_order_reference():
    found = stationary(chain_of(first_order))
    by_state = {SPACE.state(i): found.pi[i] for i in range(14)}
    assert by_state[0, 0, 0] == pytest.approx(0.54)
    assert by_state[1, 1, 1] == pytest.approx(0.213333, abs=1e-6)
    assert by_state[0, 1, 0] == pytest.approx(0.013333, abs=1e-6)
    assert second_eigenvalue(chain_of(first_order)) == pytest.approx(0.7)


def test_parity_reference():
    chain = chain_of(parity)
    assert stationary(chain).pi[6:] == pytest.approx(np.full(8, 1 / 8))
    assert second_eigenvalue(chain) == pytest.approx(0.894427, abs=1e-6)


def test_a_deterministic_rule_falls_into_the_four_orbits_of_parity():
    chain = chain_of(lambda state: [1.0, 0.0] if sum(state) % 2 == 0 else [0.0, 1.0])
    labels = [sorted(SPACE.label(int(i)) for i in group) for group in chain.classes.recurrent]
    assert sorted(labels) == [["000"], ["001", "011", "100", "110"], ["010", "101"], ["111"]]
    assert sorted(chain.classes.periods) == [1, 1, 2, 4]
    assert not chain.classes.is_ergodic
    with pytest.raises(BadInput, match="has 4 closed classes"):
        stationary(chain)
    with pytest.raises(BadInput, match="several closed classes"):
        second_eigenvalue(chain)


def test_power_iteration_does_not_oscillate_on_a_cycle():
    """The token after 0 is 1 and the other way round: period 2, pi = 1/2 each."""
    chain = chain_of(lambda state: [0.0, 1.0] if state[-1] == 0 else [1.0, 0.0])
    assert chain.classes.periods == (2,)
    found = stationary(chain, "power")
    assert {SPACE.label(i): p for i, p in enumerate(found.pi) if p > 1e-9} == {"010": 0.5, "101": 0.5}


def test_elimination_keeps_its_digits_where_the_chain_hardly_mixes():
    """Two states that are left with chance 1e-13 and 2e-13: pi = 2/3, 1/3; worked by hand, far below what an eigenvector sees."""
    space = StateSpace(2, 1)
    chain = Chain(space, np.log([[1 - 1e-13, 1e-13], [2e-13, 1 - 2e-13]]))
    assert stationary(chain, "elimination").pi == pytest.approx([2 / 3, 1 / 3], rel=1e-12)


def test_low_temperatures_do_not_make_zeros():
    space = StateSpace(2, 1)
    logits = np.array([[0.0, 100.0], [60.0, 0.0]], dtype=np.float32)
    cold = Chain.from_logits(space, logits, 0.1)
    assert cold.classes.is_ergodic
    assert cold.logp[0, 0] == pytest.approx(-1000)


def test_temperature_divides_the_logits():
    chain = Chain.from_logits(StateSpace(2, 1), np.array([[0.0, math.log(3)], [0.0, 0.0]]), 0.5)
    assert chain.probabilities == pytest.approx(np.array([[0.1, 0.9], [0.5, 0.5]]))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(BadConfig, match="temperature must be > 0"):
            Chain.from_logits(StateSpace(2, 1), np.zeros((2, 2)), temperature)


def test_truncation_by_hand():
    logp = np.log([[0.5, 0.3, 0.2]])
    assert np.exp(truncate(logp, top_k=2)) == pytest.approx(np.array([[0.625, 0.375, 0]]))
    assert np.exp(truncate(logp, top_p=0.5)) == pytest.approx(np.array([[1, 0, 0]]))
    assert np.exp(truncate(logp, top_p=0.6)) == pytest.approx(np.array([[0.625, 0.375, 0]]))
    assert np.exp(truncate(logp, top_k=2, top_p=0.62)) == pytest.approx(np.array([[1, 0, 0]]))
    assert truncate(logp, top_p=1.0) is logp
    with pytest.raises(BadConfig, match="top_k"):
        truncate(logp, top_k=0)
    with pytest.raises(BadConfig, match="top_p"):
        truncate(logp, top_p=0)


def test_logits_that_are_not_numbers_are_told():
    with pytest.raises(BadInput, match="not finite"):
        Chain.from_logits(StateSpace(2, 1), np.array([[0, np.inf], [0, 0]]))
    with pytest.raises(BadInput, match=r"must be \[14, 2\]"):
        Chain(SPACE, np.log(np.full((8, 2), 0.5)))
    with pytest.raises(BadInput, match=r"Row 1 .* does not sum to 1"):
        Chain(StateSpace(2, 1), np.log([[0.5, 0.5], [0.5, 0.6]]))


@pytest.mark.slow
def test_large_chains_use_power_and_arnoldi():
    chain = random_chain(2, 11, 0)
    found = stationary(chain)
    assert (found.method, found.residual < 1e-11) == ("power", True)
    assert np.allclose(found.pi, stationary(chain, "lu").pi, atol=1e-10)
    members = chain.classes.recurrent[0]
    dense = np.sort(np.abs(np.linalg.eigvals(random_chain(2, 9, 0).Q.toarray())))[-2]
    assert second_eigenvalue(random_chain(2, 9, 0)) == pytest.approx(dense)
    assert len(members) == 2048
    assert 0 < second_eigenvalue(chain) < 1


def test_an_unknown_method_is_told():
    with pytest.raises(BadConfig, match='Did you mean "power"'):
        stationary(chain_of(uniform), "powr")
