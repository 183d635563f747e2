"""Numbers of states: hand-worked ones, and what holds for every size."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov import StateSpace

SIZES = st.tuples(st.integers(2, 4), st.integers(1, 4))


def test_two_tokens_and_a_window_of_three_make_fourteen_states():
    space = StateSpace(2, 3)
    assert (len(space), space.full) == (14, 8)
    assert [space.state(i) for i in range(6)] == [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
    assert space.state(13) == (1, 1, 1)
    assert space.index([1, 0, 1]) == 6 + 5


def test_successors_by_hand():
    after = StateSpace(2, 3).successors()
    assert after.shape == (14, 2)
    assert after[0].tolist() == [2, 3]  # 0 -> 00, 01
    assert after[5].tolist() == [6 + 6, 6 + 7]  # 11 -> 110, 111
    assert after[6 + 6].tolist() == [6 + 4, 6 + 5]  # 110 -> 100, 101


@settings(max_examples=15, deadline=None)
@given(SIZES)
def test_numbers_follow_length_and_then_order(size):
    space = StateSpace(*size)
    listed = [s for n in range(1, size[1] + 1) for s in itertools.product(range(size[0]), repeat=n)]
    assert len(space) == len(listed)
    assert [space.state(i) for i in range(len(space))] == listed
    assert [space.index(s) for s in listed] == list(range(len(space)))


@settings(max_examples=15, deadline=None)
@given(SIZES)
def test_a_successor_is_the_last_window_of_what_was_written(size):
    space = StateSpace(*size)
    after = space.successors()
    for i in range(len(space)):
        for token in range(size[0]):
            assert space.state(int(after[i, token])) == (*space.state(i), token)[-size[1] :]


def test_a_part_of_a_block_and_labels():
    space = StateSpace(3, 4)
    assert np.array_equal(space.block(3)[5:9], space.block(3, 5, 9))
    assert space.label(space.index([2, 0]), ["a", "b", "c"]) == "ca"
    assert space.label(space.index([2, 0]), ["a", "b", "the"]) == "the a"


def test_too_many_states_are_refused_with_their_number_and_a_hint():
    with pytest.raises(
        BadConfig,
        match=r"2 tokens and a window of 30 make 2,147,483,646 states and 4,294,967,292 .*limit of 100,000,000.*smaller window",
    ):
        StateSpace(2, 30)
    with pytest.raises(BadConfig, match=r"about 10\^38 states"):
        StateSpace(2, 128)
    with pytest.raises(BadConfig, match=r"about 10\^4613"):
        StateSpace(32000, 1024)
    assert StateSpace(2, 4, limit=60).full == 16  # 30 states with two numbers each
    with pytest.raises(BadConfig, match=r"30 states and 60 transitions, more than the limit of 59.*--limit"):
        StateSpace(2, 4, limit=59)


def test_the_limit_counts_numbers_and_not_states():
    """Few states of many tokens make a large matrix: 1,400 tokens seen in pairs are 2 million states and 2.7 billion numbers."""
    with pytest.raises(BadConfig, match=r"1,961,400 states and 2,745,960,000 transitions"):
        StateSpace(1400, 2)
    assert StateSpace(2, 21).numbers == 2 * (2**22 - 2)  # many states of few tokens are a small one


def test_a_chain_for_which_memory_does_not_suffice_is_refused():
    space = StateSpace(10, 3)
    space.check_memory(None)
    space.check_memory(space.memory)
    with pytest.raises(BadConfig, match=r"11,100 transitions and takes about 0\.0 GiB; 0\.0 GiB are free"):
        space.check_memory(space.memory - 1)


@pytest.mark.parametrize(("tokens", "window"), [(1, 3), (0, 3), (2, 0)])
def test_sizes_out_of_range(tokens, window):
    with pytest.raises(BadConfig):
        StateSpace(tokens, window)


@pytest.mark.parametrize("state", [[], [0, 0, 0, 0], [2], [-1]])
def test_states_that_do_not_exist(state):
    with pytest.raises(BadInput, match="A state has 1 to 3 tokens"):
        StateSpace(2, 3).index(state)
    with pytest.raises(BadInput, match="There are 14 states"):
        StateSpace(2, 3).state(14)
