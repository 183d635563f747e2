"""What is kept back for early stopping."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnomon.methods.sieve.students import split_held_out


def split(labels, groups=None, share=0.25, seed=0):
    return split_held_out(np.array(labels), groups, share, np.random.default_rng(seed))


def test_the_share_of_each_verdict_is_kept_back():
    labels = [1] * 8 + [0] * 40
    train, kept = split(labels)
    assert np.bincount(np.array(labels)[kept]).tolist() == [10, 2]
    assert sorted([*train, *kept]) == list(range(48))


def test_nothing_is_kept_back_where_it_would_take_the_only_pass():
    for labels, groups in (([1, 0, 0, 0], None), ([1, 1, 0, 0], ["a", "a", "b", "c"])):
        train, kept = split(labels, groups)
        assert train.tolist() == [0, 1, 2, 3] and len(kept) == 0


def test_two_passes_are_one_for_each_side():
    train, kept = split([1, 1, 0, 0, 0, 0])
    labels = np.array([1, 1, 0, 0, 0, 0])
    assert labels[train].sum() == labels[kept].sum() == 1


@given(
    arrays(np.int64, st.integers(2, 40), elements=st.integers(0, 1)).filter(lambda y: 0 < y.mean() < 1),
    st.integers(1, 10),
    st.floats(0, 0.9),
    st.integers(0, 5),
)
def test_groups_stay_whole_and_both_sides_hold_both_verdicts(labels, n_groups, share, seed):
    groups = [f"d{i * 7 % n_groups}" for i in range(len(labels))]
    train, kept = split(labels, groups, share, seed)
    assert sorted([*train, *kept]) == list(range(len(labels)))
    assert set(labels[train]) == {0, 1}
    if len(kept):
        assert set(labels[kept]) == {0, 1}
        assert not {groups[i] for i in train} & {groups[i] for i in kept}
