"""The council's records: everything that is written can be read back, and a summary shares nothing but names with its document."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.text import stopwords
from gnomon.methods.sigext.council import (
    FRAMES,
    KINDS,
    MODIFIERS,
    NOUNS,
    TARGET,
    draw_facts,
    read_document,
    read_summary,
    vocabulary,
    write_document,
    write_summary,
)


@given(
    st.integers(0, 200),
    st.integers(0, 12),
    st.sampled_from(["", "Please summarise.\n", "The amber ferry 40!"]),
)
def test_a_document_is_read_back_as_it_was_written(seed, n, around):
    noise = Random(seed)
    facts = draw_facts(n, noise)
    found, rest = read_document(f"{around}{write_document(facts, noise)} {around}")
    assert found == facts
    assert rest.split() == (around + around).split() if around.endswith("\n") else rest.count(around) >= 1


@given(st.integers(0, 200), st.integers(0, 12))
def test_a_summary_is_read_back_also_in_lower_case_with_marks_apart(seed, n):
    facts = draw_facts(n, Random(seed))
    text = write_summary(facts)
    assert read_summary(text) == facts
    assert read_summary(re.sub(r"([.])", r" \1", text.lower())) == facts
    assert read_summary(write_summary(facts, TARGET)) == [fact for fact in facts if fact.kind in TARGET]


@pytest.mark.parametrize("n", [9, 180])
def test_names_differ_within_a_document(n):
    names = [fact.thing.rsplit(" ", 1)[0] for fact in draw_facts(n, Random(3))]
    assert len(set(names)) == n


def test_the_summary_s_words_are_not_the_document_s():
    clues = {word for *ways, _ in KINDS.values() for way in ways for word in way.split()}
    told = {word for *_, word in KINDS.values()}
    assert not clues & told and not (clues | told) & {*MODIFIERS, *NOUNS}
    assert not (clues | told | {*MODIFIERS, *NOUNS}) & stopwords()  # or phrases would be cut in two
    frames = " ".join(FRAMES).replace("{thing}", "").replace("{clue}", "")
    assert set(re.findall(r"[a-z]+", frames.lower())) <= stopwords()


def test_the_vocabulary_is_whole_and_small():
    noise = Random(1)
    facts = draw_facts(12, noise)
    words = re.findall(r"\w+", f"{write_document(facts, noise)} {write_summary(facts)}".lower())
    assert set(words) <= set(vocabulary())
    assert len(vocabulary()) <= 240
    assert (len(MODIFIERS), len(NOUNS), len(KINDS)) == (16, 120, 6)
