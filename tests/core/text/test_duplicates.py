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


def are_similar(a, b, ratio=0.7):
    return 2 * lcs(a.lower(), b.lower()) >= ratio * (len(a) + len(b)) - 1e-9


def by_the_book(ranked, k, ratio=0.7):
    """The rule again, with a table for the LCS."""
    kept = []
    for text in ranked:
        near = [other for other in kept if are_similar(text, other, ratio)]
        if all(len(other) <= len(text) for other in near):
            kept = [other for other in kept if other not in near] + [text]
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


def test_no_two_kept_texts_are_similar_through_a_third():
    # b is unlike a; c is like both and longer than either: it takes the place of both.
    a, b, c = "aaaabb", "bbbbcc", "aabbbbc"
    assert not are_similar(a, b, 0.6) and are_similar(a, c, 0.6) and are_similar(b, c, 0.6)
    assert keep([a, b, c], 3, ratio=0.6) == [c]


def test_forms_of_one_word_do_not_stay_together():
    # By hand: sees / seeing 6/10, seen / sees 6/8, seen / seeing 8/10. In place of `sees`, `seen` would stay beside `seeing`.
    assert keep(["sees", "seeing", "seen"], 3) == ["sees", "seeing"]
    assert keep(["seen", "budget", "seeing"], 3) == ["budget", "seeing"]


def test_a_longer_one_that_stays_protects_a_shorter_one_too():
    # c is like the longer a and the shorter b: it is left out, and b, which repeats nothing that is kept, stays.
    a, b, c = "aaaaaaaa bb", "bbcc", "aaaa bbcc"
    assert not are_similar(a, b, 0.6) and are_similar(a, c, 0.6) and are_similar(b, c, 0.6)
    assert keep([a, b, c], 3, ratio=0.6) == [a, b]


@given(TEXTS, st.integers(1, 6))
def test_no_two_that_are_kept_are_similar(ranked, k):
    kept = keep(ranked, k)
    assert not any(are_similar(a, b) for i, a in enumerate(kept) for b in kept[:i])


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
