"""eps, bound, distances and mixing times: reference values, hand-worked ones, and the paper's theorem on random chains."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_markov import RANDOM, SPACE, chain_of, first_order, parity, uniform
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov import (
    Chain,
    StateSpace,
    log_epsilon,
    measure,
    mixing_time,
    relaxation_time,
    stationary,
    t_min,
)
from gnomon.methods.markov.chain import bound, violations

TWO = np.array([[0.9, 0.1], [0.2, 0.8]])
PI = np.array([2 / 3, 1 / 3])


@pytest.mark.parametrize(("rule", "eps"), [(uniform, 0.125), (first_order, 0.002), (parity, 0.001)])
def test_epsilon_references(rule, eps):
    assert math.exp(log_epsilon(chain_of(rule))) == pytest.approx(eps)


@settings(max_examples=15, deadline=None)
@given(RANDOM)
def test_epsilon_is_the_smallest_entry_of_the_matrix_power(chain):
    first = chain.space.offset(chain.space.window)
    power = np.linalg.matrix_power(chain.Q.toarray()[first:, first:], chain.space.window)
    assert math.exp(log_epsilon(chain)) == pytest.approx(power.min(), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(RANDOM)
def test_the_bound_is_never_violated(chain):
    curve = measure(chain, stationary(chain).pi, 60)
    assert curve.is_exact
    assert violations(curve, log_epsilon(chain), chain.space.window) == 0
    assert (np.diff(curve.tv) < 1e-12).all()
    assert (curve.largest <= curve.tv + 1e-12).all()


def test_a_violated_bound_is_counted():
    curve = measure(chain_of(first_order), stationary(chain_of(first_order)).pi, 30)
    assert violations(curve, math.log(0.4), 3) > 0


def test_epsilon_does_not_underflow():
    chain = Chain.from_logits(StateSpace(2, 1), np.array([[0.0, 3000.0], [3000.0, 0.0]]))
    assert log_epsilon(chain) == pytest.approx(-3000)
    truncated = Chain.from_logits(SPACE, np.tile([0.0, 1.0], (14, 1)), top_k=1)
    assert log_epsilon(truncated) == -math.inf


def test_bound_by_hand():
    assert bound(math.log(0.125), 3, [0, 3, 6, 9]) == pytest.approx([4 / 3, 1, 0.75, 0.5625])
    assert bound(math.log(0.5), 1, [1, 2]).tolist() == [1.0, 0.0]
    assert bound(-math.inf, 3, [300]).tolist() == [1.0]


def test_the_uniform_chain_is_exact_after_three_steps():
    curve = measure(chain_of(uniform), stationary(chain_of(uniform)).pi, 5)
    # From 0 one of the four states 0xy follows after 2 tokens: TV 1/2; from 000, the same: one of two after 1 token.
    assert curve.tv[2] == pytest.approx(0.5)
    assert curve.tv[3] == pytest.approx(0, abs=1e-15)


def test_some_starts_give_a_lower_limit():
    chain = chain_of(first_order)
    pi = stationary(chain).pi
    part, whole = measure(chain, pi, 10, starts=[6]), measure(chain, pi, 10)
    assert not part.is_exact
    assert (part.tv <= whole.tv + 1e-15).all()


@pytest.mark.parametrize(("distance", "steps"), [(0.25, 3), (0.6, 1), (0.7, 0)])
def test_mixing_time_by_hand(distance, steps):
    """d(n) = 2/3 * .7^n: .667, .467, .327, .229."""
    assert mixing_time(TWO, PI, distance) == steps


@settings(max_examples=15, deadline=None)
@given(RANDOM, st.floats(0.01, 0.5))
def test_mixing_time_is_the_first_step_below(chain, distance):
    pi = stationary(chain).pi
    curve = measure(chain, pi, 200)
    close = np.flatnonzero(curve.tv <= distance)
    if len(close) and abs(curve.tv[close[0]] - distance) > 1e-9:
        assert mixing_time(chain.Q.toarray(), pi, distance) == close[0]


def test_very_slow_chains_are_followed_to_the_end_or_given_up():
    slow = np.array([[1 - 1e-6, 1e-6], [1e-6, 1 - 1e-6]])
    # d(n) = (1 - 2e-6)^n / 2 <= 1/4
    assert mixing_time(slow, np.full(2, 0.5)) == math.ceil(math.log(0.5) / math.log1p(-2e-6))
    assert mixing_time(np.eye(2)[::-1], np.full(2, 0.5), most=10_000) is None
    with pytest.raises(BadConfig, match="distance"):
        mixing_time(slow, np.full(2, 0.5), 1.0)


def test_t_min_references():
    """Minimum at n = 3: e = 2 d(3) = 4/3 * .343 = .4573; 3 (1.5427 / .5427)^2 = 24.24."""
    e = 4 / 3 * 0.343
    assert t_min(TWO, PI) == pytest.approx(3 * ((2 - e) / (1 - e)) ** 2)
    assert t_min(TWO, PI) == pytest.approx(24.4, abs=0.2)
    assert t_min(np.full((2, 2), 0.5), np.full(2, 0.5)) == pytest.approx(4)


def test_t_min_of_many_states_is_close_to_the_exact_one():
    """Two chains in one: 70 states that are left with chance 1/2 for a uniform one; d(n) = (69/70) 2^-n."""
    size = 70
    matrix = 0.5 * np.eye(size) + 0.5 / size
    pi = np.full(size, 1 / size)
    exact = min(n * ((2 - e) / (1 - e)) ** 2 for n in range(2, 30) if (e := 2 * 69 / 70 * 0.5**n) < 1)
    assert t_min(matrix, pi) == pytest.approx(exact, rel=0.02)


def test_a_periodic_chain_has_no_t_min():
    with pytest.raises(BadInput, match="periodic chain never does"):
        t_min(np.eye(2)[::-1], np.full(2, 0.5), most=1000)


def test_relaxation_time():
    assert relaxation_time(0.9) == pytest.approx(10)
    assert relaxation_time(1.0) == math.inf
