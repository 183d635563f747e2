"""Candidate phrases: cut by hand, exact places in any text, and the released code's search beside ours."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadConfig
from gnomon.methods.sigext import Phrase, extract_phrases, locate
from gnomon.methods.sigext.phrases import clean_scientific, cut, tokens


def texts(text, **options):
    return [phrase.text for phrase in extract_phrases(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The new transit plan costs 40 million.", ["new transit plan costs 40 million"]),
        ("Ann's bridge, the old one, is closed", ["Ann's bridge", "old", "closed"]),
        ("It cost $1,200.50 (10%) more", ["cost", "1,200.50", "10"]),
        ("Budgets. Votes", ["Budgets", "Votes"]),  # a sentence ends between two content words
        ("Ann: bridge\nBob: vote", ["Ann", "bridge", "Bob", "vote"]),
        ("a wrapped\n  line of text", ["wrapped\n  line", "text"]),
        ("New York, new york and NEW\nYORK", ["New York"]),
        ("don't, it\u2019s, WON'T", []),
        (
            "see http://a.b/c?d=e, mail x@y.org, #tag @me",
            ["see http://a.b/c?d=e", "mail x@y.org", "#tag @me"],
        ),
        ("Z\u00fcrich f\u00f6rdert den Caf\u00e9-Bau", ["Z\u00fcrich f\u00f6rdert den Caf\u00e9-Bau"]),
        ("the U.S. Senate voted", ["U.S. Senate voted"]),
        ("!!! ... ???", []),
        ("", []),
        ("the of and", []),
        ("_", []),
    ],
)
def test_phrases_by_hand(text, expected):
    assert texts(text) == expected


@given(st.text(max_size=120))
def test_every_phrase_stands_where_it_says_in_any_text(text):
    found = extract_phrases(text)
    assert all(text[p.start : p.end] == p.text and p.text.strip() == p.text for p in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert len({p.key for p in found}) == len(found)


WORDS = st.sampled_from(
    ["the", "new", "Bridge", "bridge", "of", "art", "party", ".", ",", "\n\n", "40", "vote's"]
)


@given(st.lists(WORDS, max_size=25), st.lists(st.sampled_from([" ", "  ", "\n"]), min_size=25, max_size=25))
def test_white_space_moves_phrases_and_changes_none(words, gaps):
    text = "".join(w + g for w, g in zip(words, gaps, strict=False))
    plain = [p.key for p in extract_phrases(" ".join(words))]
    assert [p.key for p in extract_phrases(text)] == plain


def test_the_released_search_finds_phrases_inside_longer_words_and_ours_does_not():
    text = "During the ring"
    assert extract_phrases(text) == [Phrase("ring", 11, 15)]
    assert extract_phrases(text, released_search=True) == [Phrase("ring", 2, 6)]
    same = "The old bridge,\nthe new  park"
    assert extract_phrases(same, released_search=True) == extract_phrases(same)


def test_the_released_search_never_moves_backwards():
    text = "vote on the budget and then vote"
    released = extract_phrases(text, released_search=True)
    assert [p.start for p in released] == [0, 12]  # the second "vote" is a duplicate, wherever it was found


def test_phrases_of_others_are_located_at_word_boundaries():
    text = "party art,\n Old  Bridge"
    assert locate(["art", "old bridge", "part", "arty", ""], text) == [
        Phrase("art", 6, 9),
        Phrase("Old  Bridge", 12, 23),
        None,
        None,
        None,
    ]


def test_other_languages_have_their_own_stop_words_and_unspaced_ones_are_refused():
    assert texts("Die Br\u00fccke und der Park", language="german") == ["Br\u00fccke", "Park"]
    with pytest.raises(BadConfig, match="without spaces"):
        extract_phrases("x", language="chinese")


def test_scientific_markers_are_folded_and_cut_phrases():
    text = clean_scientific("the model @xcite12  of\nspin @xmath0 waves@xcite")
    assert text == "the model @cite of spin @math waves@cite"
    assert texts(text) == ["model", "spin", "waves@cite"] or texts(text) == ["model", "spin", "waves"]


@given(st.text(max_size=60), st.integers(1, 12))
def test_a_cut_text_has_so_many_tokens_and_is_a_beginning(text, n):
    short = cut(text, n)
    assert text.startswith(short)
    assert [t.text for t in tokens(short)] == [t.text for t in tokens(text)][:n]
