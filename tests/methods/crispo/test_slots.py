import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadInput
from gnomon.methods.crispo import fill
from gnomon.methods.crispo.examples import answer_in, last_tagged, repair, slots_in, tag_request

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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<a> 1 </a>", "1"),
        ("<a>1</a> or <a>2</a>", "2"),
        ("<a>1</a> or <a>2", None),  # the last opening tag counts, and it is open
        ("1</a>", None),
        ("<a></a>", ""),
        ("I think of <a> first. <a>x</a>", "x"),
        ("<a>say <summary>so</summary></a>", "say <summary>so</summary>"),
        ("", None),
    ],
)
def test_the_last_opening_tag_counts(text, found):
    assert last_tagged(text, "a") == found


def test_without_a_tag_the_whole_reply_is_the_answer():
    assert answer_in(" <summary>x</summary> y", "summary") == "x"
    assert answer_in(" x ", "summary") == "x"
    assert answer_in("<summary>x", "summary") == "<summary>x"
    assert answer_in("<summary>x</summary>", None) == "<summary>x</summary>"
