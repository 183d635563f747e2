import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.data.documents import Document
from gnomon.core.models import train_bpe
from gnomon.core.retrieval.passages import UNITS, Cut, check_passages, cut
from gnomon.errors import BadConfig, BadInput

TOKENIZER = train_bpe(["the red cat sees the old river", "one two three"], 300)


def pieces(text, **how):
    return list(cut(Document("d", text), Cut(**how), TOKENIZER))


def test_words_by_hand():
    found = pieces("  one two\nthree  four five ", unit="words", size=3, overlap=1)
    assert [p.text for p in found] == ["one two\nthree", "three  four five"]
    assert [(p.start, p.end, p.id, p.order) for p in found] == [(2, 15, "d#0", 0), (10, 26, "d#1", 1)]


def test_an_overlap_in_tokens_begins_where_its_token_stands():
    """Splitters that look for the overlap's text again find another place, or -1 (langchain 29884, 17642)."""
    text = "the cat the cat the cat the cat the cat"
    found = pieces(text, unit="tokens", size=6, overlap=2)
    assert len(found) == 2 and found[1].start == 16
    assert all(p.start >= 0 and text[p.start : p.end] == p.text for p in found)
    assert [p.start for p in found] == sorted({p.start for p in found})


def test_sentences_stay_whole():
    found = pieces("Dr. Smith left. Why? Nobody knows.", unit="sentences", size=1)
    assert [p.text for p in found] == ["Dr. Smith left.", "Why?", "Nobody knows."]


def test_headings_are_those_above():
    text = "intro\n\n# A\na\n\n## B\nb b\n\n# C ##\nc"
    found = pieces(text, unit="words", size=1)
    by_word = {p.text: p.headings for p in found}
    assert (
        by_word["intro"] == ()
        and by_word["a"] == ("A",)
        and by_word["b"] == ("A", "B")
        and by_word["c"] == ("C",)
    )


def test_white_space_alone_gives_nothing():
    for unit in UNITS:
        assert pieces(" \n\t ", unit=unit, size=2) == [] == pieces("", unit=unit, size=2)


@given(
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60)
    | st.text(" ab.\n", max_size=40),
    unit=st.sampled_from(UNITS),
    size=st.integers(1, 7),
    overlap=st.integers(0, 6),
)
def test_every_character_lies_in_a_passage_that_stands_where_it_says(text, unit, size, overlap):
    found = pieces(text, unit=unit, size=size, overlap=min(overlap, size - 1))
    check_passages(text, found)
    starts = [p.start for p in found]
    assert starts == sorted(set(starts))
    assert all(p.text == p.text.strip() and p.text for p in found)
    if unit == "chars":
        assert all(len(p.text) <= size for p in found)
    if unit == "words":
        assert all(len(p.text.split()) <= size for p in found)


def test_what_cannot_be_cut_is_said():
    for how, message in (
        ({"unit": "lines"}, "cut.unit must be"),
        ({"size": 0}, "cut.size must be >= 1"),
        ({"size": 3, "overlap": 3}, "below cut.size; got 3 of 3"),
    ):
        with pytest.raises(BadConfig, match=message):
            Cut(**how)
    with pytest.raises(BadConfig, match="fast tokenizer"):
        list(cut(Document("d", "a b"), Cut(unit="tokens")))


def test_lost_characters_are_named():
    (passage,) = pieces("a b", size=5)
    check_passages("a b", [passage])
    with pytest.raises(BadInput, match="Character 4"):
        check_passages("a b c", [passage])
    with pytest.raises(BadInput, match="is not what stands"):
        check_passages("x b", [passage])
