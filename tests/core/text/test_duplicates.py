"""The best k without near-duplicates: the rule worked by hand, and what holds for any ranking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.text import distinct
from gnomon.errors import BadConfig

TEXTS = st.lists(st.text(alphabet="abcd ", min_size=1, max_size=8), max_size=14)


def keep(ranked, k, **options):
    return [ranked[i] for i in distinct(ranked, k, **options)]


def lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def by_the_book(ranked, k, ratio=0.7):
    """The rule again, with a table for the LCS."""
    kept = []
    for text in ranked:
        for other in kept:
            a, b = text.lower(), other.lower()
            if 2 * lcs(a, b) >= ratio * (len(a) + len(b)) - 1e-9:
                if len(other) <= len(text):
                    kept = [one for one in kept if one is not other] + [text]
                break
        else:
            kept.append(text)
        if len(kept) == k:
            break
    return kept


def test_a_longer_text_takes_the_place_of_a_shorter_one_at_the_end():
    assert keep(["vote", "city hall", "votes"], 3) == ["city hall", "votes"]


def test_a_shorter_text_is_left_out_behind_a_longer_one():
    assert keep(["new transit plan", "transit plan"], 2) == ["new transit plan"]


def test_equal_texts_but_for_case_keep_the_later():
    assert keep(["Budget", "budget"], 2) == ["budget"]


def test_the_walk_stops_at_k_so_nothing_is_replaced_afterwards():
    assert keep(["vote", "city hall", "votes"], 2) == ["vote", "city hall"]


def test_seventy_hundredths_is_similar_and_less_is_not():
    a, b = "abcdefgxyz", "abcdefguvw"  # LCS 7: 14 / 20
    assert keep([a, b], 2) == [b]
    assert keep([a, b], 2, ratio=0.71) == [a, b]


def test_two_kept_texts_may_be_similar_through_a_third():
    # b is unlike a; c is like both, meets a first and takes its place, and stays beside b.
    a, b, c = "aaaabb", "bbbbcc", "aabbbbc"
    assert 2 * lcs(a, b) < 0.7 * 12
    assert 2 * lcs(a, c) >= 0.7 * 13 - 4 and 2 * lcs(b, c) >= 0.7 * 13
    assert keep([a, b, c], 3, ratio=0.6) == [b, c]


@given(TEXTS, st.integers(1, 6))
def test_any_ranking_is_kept_as_the_rule_says(ranked, k):
    assert keep(ranked, k) == by_the_book(ranked, k)


@given(TEXTS, st.integers(1, 6))
def test_places_are_distinct_and_at_most_k(ranked, k):
    found = distinct(ranked, k)
    assert len(found) == len(set(found)) <= k
    assert bool(found) == bool(ranked)


@pytest.mark.parametrize(("k", "ratio", "message"), [(0, 0.7, "k must be >= 1"), (3, 0.0, "ratio must be")])
def test_settings_out_of_range_are_named(k, ratio, message):
    with pytest.raises(BadConfig, match=message):
        distinct(["a"], k, ratio=ratio)
