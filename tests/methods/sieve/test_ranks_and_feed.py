"""Ranks among recent scores, and the stream as rounds read it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadInput
from gnomon.methods.sieve import Snippet
from gnomon.methods.sieve.choosing import Feed, Reservoir


class Numbers:
    """A stream of n snippets, each pass in an order of its own."""

    def __init__(self, n):
        self.n = n

    def pass_(self, number, *, skip=0):
        order = np.random.default_rng(number + 1).permutation(self.n)
        for i in order[skip:]:
            yield Snippet(str(i), str(i), "x", 0, 1)


class TestReservoir:
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 9))
    def test_ranks_count_equal_scores_half(self, scores, wanted):
        reservoir = Reservoir(100)
        reservoir.add(np.array(scores, float))
        plain = sum(1.0 if s < wanted else 0.5 if s == wanted else 0.0 for s in scores) / len(scores)
        assert reservoir.ranks(wanted) == pytest.approx(plain)

    def test_forgets_the_oldest(self):
        reservoir = Reservoir(3)
        reservoir.add([9.0, 9.0, 1.0])
        reservoir.add([2.0, 3.0])
        assert reservoir.scores.tolist() == [1.0, 2.0, 3.0]

    def test_mass_of_a_closed_interval(self):
        reservoir = Reservoir(10)
        assert reservoir.mass(0.4, 0.5) == 1.0
        reservoir.add([0.1, 0.2, 0.2, 0.3])
        assert reservoir.mass(0.2, 0.3) == 0.75
        assert reservoir.mass(0.25, 0.28) == 0.0

    def test_score_at_is_the_quantile(self):
        reservoir = Reservoir(10)
        reservoir.add([0.0, 0.5, 1.0])
        assert (reservoir.score_at(0.5), reservoir.score_at(2.0)) == (0.5, 1.0)


class TestFeed:
    @given(st.integers(1, 30), st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data())
    def test_a_round_sees_every_unlabelled_snippet_at_most_once(self, n, takes, data):
        labelled = {str(i) for i in range(n) if data.draw(st.booleans())}
        feed = Feed(Numbers(n), labelled)
        for size in takes:
            feed.begin_round()
            seen = []
            while part := feed.take(size):
                seen += [s.snippet_id for s in part]
            assert sorted(seen) == sorted({str(i) for i in range(n)} - labelled)

    @given(st.integers(0, 40), st.integers(0, 10))
    def test_reading_goes_on_where_another_feed_stopped(self, read, back):
        first = Feed(Numbers(25), set())
        first.begin_round()
        taken = [s for _ in range(read) for s in first.take(1)]
        first.give_back(taken[len(taken) - min(back, len(taken)) :])
        first.begin_round()
        other = Feed(Numbers(25), set(), first.cursor)
        other.begin_round()
        assert first.take(5) == other.take(5)

    def test_what_is_given_back_comes_again(self):
        feed = Feed(Numbers(10), set())
        feed.begin_round()
        taken = feed.take(6)
        feed.give_back(taken[2:])
        feed.begin_round()
        assert feed.take(4) == taken[2:]

    def test_an_empty_stream_is_told(self):
        feed = Feed(Numbers(0), set())
        feed.begin_round()
        with pytest.raises(BadInput, match="no snippets"):
            feed.take(1)
