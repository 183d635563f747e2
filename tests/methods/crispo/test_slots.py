import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadInput
from gnomon.methods.crispo import fill
from gnomon.methods.crispo.examples import answer_in, repair, slots_in, tag_request

NASTY = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "{0} {input} {{x}} {% raw %}",
            "INSERT_CONTEXT_HERE",
            "</summary><summary>INSERT_INPUT_HERE",
            "\\1 \\g<0> %s $x",
            "<instruction>",
        ]
    ),
)


@given(NASTY, NASTY)
def test_filling_is_literal_and_in_one_pass(a, b):
    """A document that looks like a slot, a format string or a tag goes in as it is, and never into another slot."""
    text = "A INSERT_INPUT_HERE B INSERT_CONTEXT_HERE C INSERT_INPUT_HERE"
    assert fill(text, {"input": a, "context": b}) == f"A {a} B {b} C {a}"


def test_slots_and_their_values():
    assert slots_in("INSERT_QUESTION_HERE INSERT_INPUT_HERE INSERT_X INSERT_LONG_NAME_HERE") == [
        "question",
        "input",
        "long_name",
    ]
    with pytest.raises(BadInput, match="slot INSERT_CONTEXT_HERE and nothing to put there"):
        fill("INSERT_CONTEXT_HERE", {"input": "x"})


def test_repairs_say_what_they_did():
    text, made = repair("Be brief.", ["input", "question"], "answer")
    assert text == (
        "INSERT_INPUT_HERE\nINSERT_QUESTION_HERE\nBe brief.\nWrite the answer inside <answer> and </answer>."
    )
    assert made == ("slot question prepended", "slot input prepended", "tag request appended")
    whole = f"INSERT_INPUT_HERE {tag_request('a')}"
    assert repair(whole, ["input"], "a") == (whole, ())
    assert repair("INSERT_INPUT_HERE", ["input"], None) == ("INSERT_INPUT_HERE", ())


def test_a_tag_that_is_asked_for_in_other_letters_is_not_asked_for_again():
    for text in (
        "INSERT_INPUT_HERE <Summary>",
        "INSERT_INPUT_HERE in `<summary>` tags",
        'INSERT_INPUT_HERE <summary lang="en">',
    ):
        assert repair(text, ["input"], "summary") == (text, ())


@pytest.mark.parametrize(
    ("reply", "prediction"),
    [
        ("<summary>draft</summary>\nShorter:\n<SUMMARY>x</SUMMARY>", "x"),
        ("<thinking>Perhaps <summary>draft</summary>?</thinking>\n<summary>x</summary>", "x"),
        ("<summary>x</summary>\nI put it between `<summary>` and `</summary>`.", "x"),
        (
            "<thinking>Perhaps <summary>draft</summary>?</thinking>\nx",
            "<thinking>Perhaps <summary>draft</summary>?</thinking>\nx",
        ),
        ("```\n<summary>\nx\n</summary>\n```", "x"),
    ],
)
def test_a_draft_is_no_prediction(reply, prediction):
    assert answer_in(reply, "summary") == prediction


def test_without_a_tag_the_whole_reply_is_the_answer():
    assert answer_in(" <summary>x</summary> y", "summary") == "x"
    assert answer_in(" x ", "summary") == "x"
    assert answer_in("<summary>x", "summary") == "<summary>x"
    assert answer_in("<summary>x</summary>", None) == "<summary>x</summary>"
