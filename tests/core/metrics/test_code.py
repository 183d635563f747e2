from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.metrics.code import pass_at_k, pass_at_k_mean, pass_at_k_per_task
from gnomon.errors import BadConfig, BadInput


def by_enumeration(n: int, c: int, k: int) -> float:
    """Share of all k-subsets of n samples that hold one of the c passing ones."""
    subsets = list(combinations(range(n), k))
    return sum(any(sample < c for sample in subset) for subset in subsets) / len(subsets)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_equals_the_share_of_subsets(case):
    n, c, k = case
    assert pass_at_k(n, c, k) == pytest.approx(by_enumeration(n, c, k), abs=1e-12)


def test_values_worked_by_hand():
    assert pass_at_k(10, 0, 5) == 0.0
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)  # C(3,2)/C(5,2)
    assert pass_at_k(4, 2, 3) == 1.0  # n - c < k: every draw holds a passing one
    assert pass_at_k(10**6, 1, 10) == pytest.approx(1e-5)


def test_mean_and_per_task_agree():
    per_task = pass_at_k_per_task([0, 3, 20], n=20, k=5)
    assert per_task.tolist() == pytest.approx([0.0, pass_at_k(20, 3, 5), 1.0])
    assert pass_at_k_mean(np.array([0, 3, 20]), 20, 5) == pytest.approx(per_task.mean())


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_grows_with_k_and_stays_a_probability(case):
    n, c = case
    curve = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert all(0 <= a <= b <= 1 for a, b in pairwise(curve))
    assert curve[-1] == (1.0 if c else 0.0)


@pytest.mark.parametrize(("n", "k"), [(5, 6), (5, 0), (0, 1)])
def test_k_out_of_range(n, k):
    with pytest.raises(BadConfig, match=rf"k={k} with n={n}"):
        pass_at_k(n, 0, k)


@pytest.mark.parametrize("counts", [[6], [-1], [0.5], [], [[1]]])
def test_impossible_counts(counts):
    with pytest.raises(BadInput, match="pass@k"):
        pass_at_k_mean(counts, 5, 1)
