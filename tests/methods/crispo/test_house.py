import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_crispo import expected_score
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.crispo.house import (
    ASPECTS,
    INVENTIONS,
    ORDER,
    Fact,
    agreement,
    choose,
    draw_documents,
    draw_facts,
    last_notes,
    levels_of_order,
    notes,
    ordered,
    parse_style,
    read_forbidden,
    read_notes,
    read_requests,
    read_summary,
    style_score,
    summary,
    with_request,
    with_sentence,
)

STYLES = st.tuples(*[st.integers(0, 3)] * 8)
ANNA = Fact("Anna", "Berger", "treasurer", 0, 4200, "roof", 3, 2)
BORIS = Fact("Boris", "Adler", "mayor", 1, 1950, "mill", 9, 4)
CLARA = Fact("Clara", "Conti", "baker", 2, 5700, "park", 1, 7)
FACTS = [ANNA, BORIS, CLARA]


def test_notes_and_summaries_are_what_a_person_would_write():
    assert notes([ANNA]) == "On 3 March Anna Berger, the treasurer, paid 4,200 euros for the roof."
    assert summary(FACTS, (0, 1, 2, 1, 2, 1, 1, 3)) == (
        "In short:\n"
        "- C. C. has offered about 6,000 euros for the park.\n"
        "- B. A. has raised about 2,000 euros for the mill.\n"
        "- A. B. has paid about 4,000 euros for the roof.\n"
        "Questions are welcome."
    )
    assert summary(FACTS, (0, 3, 3, 2, 1, 3, 0, 0)) == (
        "The mayor raises 1.95k euros for the mill; the treasurer pays 4.2k euros for the roof; "
        "the baker offers 5.7k euros for the park."
    )
    assert summary(FACTS, (0, 2, 1, 3, 3, 2, 0, 1)).split("\n") == [
        "1. Conti will offer money for the park.",
        "2. Berger will pay money for the roof.",
        "3. Adler will raise money for the mill.",
        "More will follow.",
    ]


@given(STYLES, st.integers(0, 10**6), st.booleans())
def test_what_a_style_writes_can_be_read_back(style, seed, salient):
    (one,) = draw_documents(1, style, Rng(seed), salient=salient)
    reading = read_summary(one.reference)
    shown = [level for aspect, level in enumerate(reading.levels) if aspect != ORDER]
    assert shown == [level for aspect, level in enumerate(style) if aspect != ORDER]
    assert style[ORDER] in levels_of_order(reading.things, one.facts)
    assert read_notes(one.notes) == list(one.facts)
    assert style_score(one.reference, one.reference) == 1
    told = {fact.thing for fact, mark in zip(one.facts, one.salient, strict=True) if mark}
    assert told == (set(reading.things) if salient else set())


@given(STYLES, st.integers(0, 10**6))
def test_a_document_is_a_function_of_its_seed(style, seed):
    assert draw_documents(2, style, Rng(seed)) == draw_documents(3, style, Rng(seed))[:2]


@given(STYLES, st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=12))
def test_the_last_request_of_an_aspect_is_read(style, requests):
    text = "Summarise.\nINSERT_INPUT_HERE"
    for aspect, level in requests:
        text = with_request(text, aspect, level)
    assert read_requests(text) == dict(requests)
    assert text.endswith("\nINSERT_INPUT_HERE")
    assert text.count(".") == 1 + len(dict(requests))  # an old request is gone, not contradicted


def test_requests_are_whole_sentences_in_any_case():
    assert read_requests("please USE  bullet\npoints, then end without a closing") == {1: 1, 7: 0}
    assert read_requests("use bullet pointsmen") == {}
    assert read_requests("Use bullet points. Number the points.") == {1: 2}
    assert read_forbidden("name no guests that the notes do not name") == {"guests"}
    text = with_sentence("Be faithful.\nINSERT", INVENTIONS["praise"][1])
    assert text == "Be faithful. Add no praise that the notes do not hold.\nINSERT"
    assert with_sentence("", "A.") == "A."


def test_the_last_notes_of_a_conversation_are_found():
    text = f"Input:\n{notes(FACTS[:2])}\nOutput:\nx\n\n<notes>\n{notes([CLARA, ANNA])}\n</notes> and so on"
    facts, start = last_notes(text)
    assert facts == [CLARA, ANNA]
    assert text[start:].startswith("On 1 August Clara")
    assert last_notes("nothing here") == ([], 12)


def test_agreement_by_hand():
    """Same length, layout, amounts, tense, order, opening; other people and closing."""
    one, other = summary(FACTS, (0, 0, 0, 0, 0, 0, 0, 0)), summary(FACTS, (0, 0, 1, 0, 0, 0, 0, 2))
    assert agreement(one, other) == (True, True, False, True, True, True, True, False)
    assert style_score(one, other) == 6 / 8
    assert style_score("", one) == 2 / 8  # nothing opens and nothing closes it
    assert style_score(notes(FACTS), one) == 2 / 8
    order = {"roof", "mill", "park"}
    assert levels_of_order(["park", "roof", "mill"], FACTS) == {2}  # by amount
    assert levels_of_order(["mill", "roof", "park"], FACTS) == {3}  # by surname: Adler, Berger, Conti
    assert levels_of_order(["roof"], FACTS) == set()
    assert {fact.thing for fact in FACTS} == order


def test_inventions_do_not_hide_the_style():
    for style in ((0, 0, 0, 0, 0, 0, 0, 0), (1, 3, 2, 1, 2, 1, 1, 1), (0, 1, 3, 2, 3, 2, 3, 3)):
        facts = draw_facts(6, random.Random(3))
        plain, invented = summary(facts, style), summary(facts, style, invented=list(INVENTIONS))
        assert all(words in invented for words, _ in INVENTIONS.values())
        assert style_score(invented, plain) == 1


def test_hints_move_facts_to_the_front():
    facts = draw_facts(8, random.Random(0))
    told = choose(facts, (0,) * 8, [False] * 6 + [True] * 2)
    assert told == [facts[0], facts[6], facts[7]]  # as many as the style tells, in the order of the notes
    assert choose(facts, (0,) * 8) == facts[:3]
    assert ordered(told, 1) == told[::-1]


def test_a_style_is_written_as_eight_digits():
    assert parse_style("01230123") == (0, 1, 2, 3, 0, 1, 2, 3)
    for wrong in ("0123", "01230124", "0123012x"):
        with pytest.raises(BadConfig, match="style must be 8 digits from 0 to 3; got"):
            parse_style(wrong)


def test_the_expected_score_by_hand():
    """Seven aspects by their chances; the order by what the writer tells in which order."""
    (one,) = draw_documents(1, (0,) * 8, Rng(1))
    zero = (0,) * 8
    assert expected_score({}, zero, zero, 0.9, one) == 1
    assert expected_score({1: 1}, zero, zero, 0.9, one) == pytest.approx(1 - 0.9 / 8)
    assert expected_score({1: 0}, (0, 2, 0, 0, 0, 0, 0, 0), zero, 0.9, one) == pytest.approx(1 - 0.1 / 8)
    # Latest first: with three facts or more no order told backwards is the order of the notes.
    assert expected_score({ORDER: 1}, zero, zero, 0.6, one) == pytest.approx(1 - 0.6 / 8)


def test_aspects_are_told_apart():
    sentences = [text for aspect in ASPECTS for text in aspect.requests]
    assert len(set(sentences)) == 32
    for i, text in enumerate(sentences):
        assert read_requests(text) == {i // 4: i % 4}
