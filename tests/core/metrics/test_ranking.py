"""AUC against pairs counted one by one, and its bootstrap by groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.metrics.ranking import auc, auc_interval
from gnomon.errors import BadInput

ITEMS = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=30)


def by_pairs(labels, scores):
    pairs = [
        (a, b)
        for a, y in zip(scores, labels, strict=True)
        if y
        for b, n in zip(scores, labels, strict=True)
        if not n
    ]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs) if pairs else None


@given(ITEMS)
def test_auc_is_the_share_of_pairs_in_order(items):
    labels, scores = zip(*items, strict=True)
    expected = by_pairs(labels, scores)
    found = auc(labels, scores)
    assert found == (None if expected is None else pytest.approx(expected))


@given(ITEMS)
def test_turning_the_scores_round_turns_the_auc_round(items):
    labels, scores = zip(*items, strict=True)
    found = auc(labels, scores)
    if found is not None:
        assert auc(labels, [-s for s in scores]) == pytest.approx(1 - found)


def test_one_class_is_undefined_and_not_one_half():
    found = auc_interval([1, 1, 1], [0.1, 0.2, 0.3])
    assert (found.value, found.low, found.std, found.cell, found.n, found.base_rate) == (
        None,
        None,
        None,
        None,
        3,
        1.0,
    )


def test_the_interval_holds_the_value_and_narrows_with_more_items():
    rng = np.random.default_rng(0)
    widths = []
    for n in (50, 2000):
        z = rng.integers(0, 2, n)
        found = auc_interval(z, z + rng.normal(0, 1.5, n))
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_repeated_items_of_a_group_do_not_make_the_interval_narrower():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 60)
    s = z + rng.normal(0, 1.5, 60)
    alone = auc_interval(z, s)
    copies = auc_interval(np.repeat(z, 20), np.repeat(s, 20), np.repeat(np.arange(60), 20))
    pretended = auc_interval(np.repeat(z, 20), np.repeat(s, 20))
    assert copies.std == pytest.approx(alone.std, rel=0.1)
    assert pretended.std < alone.std / 3


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.5], "one score per label"),
        ([2, 0], [0.1, 0.2], "must be 0 or 1; got 2"),
        ([1, 0], [0.1, np.nan], "finite"),
    ],
)
def test_errors(labels, scores, message):
    with pytest.raises(BadInput, match=message):
        auc(labels, scores)


def test_every_item_needs_its_group():
    with pytest.raises(BadInput, match="3 items and 2 groups"):
        auc_interval([1, 0, 1], [1, 2, 3], ["a", "b"])
