import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from gnomon.core.metrics.classify import (
    Confusion,
    agreement,
    average_precision,
    balanced_accuracy,
    best_f1,
    cohen_kappa,
    confusion,
    f1,
)
from gnomon.errors import BadInput

# ten items: tp 2, fp 1, fn 2, tn 5
LABELS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
DECIDED = [1, 1, 0, 0, 1, 0, 0, 0, 0, 0]


def test_values_worked_by_hand():
    assert confusion(LABELS, DECIDED) == (2, 1, 2, 5)
    assert balanced_accuracy(LABELS, DECIDED) == pytest.approx((2 / 4 + 5 / 6) / 2)
    assert f1(LABELS, DECIDED) == pytest.approx(4 / 7)
    assert agreement(LABELS, DECIDED) == pytest.approx(0.7)
    # chance: 0.4 * 0.3 + 0.6 * 0.7 = 0.54
    assert cohen_kappa(LABELS, DECIDED) == pytest.approx((0.7 - 0.54) / (1 - 0.54))
    # order of scores: 1 0 1 1 0 -> precision at the positives 1/1, 2/3, 3/4
    assert average_precision([1, 0, 1, 1, 0], [5, 4, 3, 2, 1]) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    # cut after the fourth: precision 3/4, recall 1
    assert best_f1([1, 0, 1, 1, 0], [5, 4, 3, 2, 1]) == (pytest.approx(6 / 7), 2.0)


def test_weights_worked_by_hand():
    weights = [1, 0, 2, 1, 3, 1, 1, 1, 0, 0]
    assert confusion(LABELS, DECIDED, weights) == (1, 3, 3, 3)
    assert balanced_accuracy(LABELS, DECIDED, weights) == pytest.approx((1 / 4 + 3 / 6) / 2)
    # a positive of weight 2 above a negative of weight 1 above a positive of weight 1: (2 * 1 + 1 * 3/4) / 3
    assert average_precision([1, 0, 1], [3, 2, 1], [2, 1, 1]) == pytest.approx((2 + 3 / 4) / 3)


def test_equal_scores_are_one_block():
    assert average_precision([1, 0, 0, 1], [0.5] * 4) == pytest.approx(0.5)
    assert best_f1([1, 0, 0, 1], [0.5] * 4) == (pytest.approx(2 / 3), 0.5)
    assert best_f1([1, 0, 1], [0.5, 0.5, 0.1]) == (pytest.approx(0.8), 0.1)


def test_of_thresholds_that_tie_the_highest_is_given():
    # above 4: precision 1, recall 1/2, F1 2/3; above 1: precision 1/2, recall 1, F1 2/3
    assert best_f1([1, 0, 0, 1], [4, 3, 2, 1]) == (pytest.approx(2 / 3), 4.0)


def test_nothing_to_divide_by_is_nan():
    assert math.isnan(balanced_accuracy([1, 1], [1, 0]))
    assert math.isnan(balanced_accuracy([0, 0], [1, 0]))
    assert math.isnan(f1([0, 0], [0, 0])) and f1([0, 0], [1, 0]) == 0
    assert math.isnan(cohen_kappa([1, 1], [1, 1])) and cohen_kappa([1, 1], [1, 0]) == 0
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))
    assert math.isnan(average_precision([0, 1], [0.1, 0.2], [1, 0]))
    assert all(map(math.isnan, best_f1([0, 0], [0.1, 0.2])))
    assert agreement([1, 1], [1, 1]) == 1


binary = st.lists(st.integers(0, 1), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_same_as_scikit_learn(data):
    labels = data.draw(binary)
    n = len(labels)
    decided = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]), min_size=n, max_size=n))
    weights = data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=n, max_size=n))
    one = {"sample_weight": weights}
    assert agreement(labels, decided, weights) == pytest.approx(
        reference.accuracy_score(labels, decided, **one)
    )
    if any(labels) or any(decided):
        assert f1(labels, decided, weights) == pytest.approx(
            reference.f1_score(labels, decided, zero_division=0, **one)
        )
    if len(set(labels)) == 2:
        expected = reference.balanced_accuracy_score(labels, decided, **one)
        assert balanced_accuracy(labels, decided, weights) == pytest.approx(expected)
        expected = reference.cohen_kappa_score(labels, decided, **one)
        assert cohen_kappa(labels, decided, weights) == pytest.approx(expected)
    if any(labels):
        expected = reference.average_precision_score(labels, scores, **one)
        assert average_precision(labels, scores, weights) == pytest.approx(expected)
        best, threshold = best_f1(labels, scores, weights)
        at = [f1(labels, np.array(scores) >= cut, weights) for cut in sorted(set(scores))]
        assert best == pytest.approx(max(at))
        assert f1(labels, np.array(scores) >= threshold, weights) == pytest.approx(best)


def test_many_tables_at_once():
    table = Confusion(*np.array([[2, 0], [1, 0], [2, 0], [5, 4]], dtype=float))
    assert table.balanced_accuracy()[0] == pytest.approx(balanced_accuracy(LABELS, DECIDED))
    assert table.kappa()[0] == pytest.approx(cohen_kappa(LABELS, DECIDED))
    assert np.isnan(table.balanced_accuracy()[1]) and np.isnan(table.f1()[1]) and table.agreement()[1] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: f1([], []), "at least one; got labels of shape"),
        (lambda: f1([1, 2], [0, 1]), "Labels must be 0 or 1; got 2"),
        (lambda: f1([1, 0], [0, -1]), "Decisions must be 0 or 1; got -1"),
        (lambda: f1([1, 0], [0]), r"one length; got labels \(2,\), decisions \(1,\)"),
        (lambda: f1([1, 0], [0, 1], [1]), r"weights \(1,\)"),
        (lambda: f1([1, 0], [0, 1], [1, -1]), "Weights must be finite and >= 0"),
        (lambda: average_precision([1, 0], [0.1, math.nan]), "Scores must be finite; got nan"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(BadInput, match=message):
        call()
