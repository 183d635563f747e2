import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.llm import choice, json_object, last_verdict, tagged

WORDS = ["PASS", "FAIL"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("PASS", "PASS"),
        ("pass.", "PASS"),
        ("It might fail at first, yet: **Pass**", "PASS"),
        ("PASS or FAIL? FAIL", "FAIL"),
        ("Verdict:FAIL", "FAIL"),
        ("It is passable, and never failed; surpass, pass_rate, PASS2", None),
        ("I cannot say.", None),
        ("", None),
        ("pass-fail", "FAIL"),
        ("<verdict>fail</verdict>", "FAIL"),
        ('{"verdict": "Pass"}', "PASS"),
    ],
)
def test_the_last_verdict_counts(text, verdict):
    assert last_verdict(text, WORDS) == verdict


def test_verdicts_of_several_words_and_other_scripts():
    assert last_verdict("it is not relevant", ["relevant", "not relevant"]) == "not relevant"
    assert last_verdict("Ответ: ДА", ["да", "нет"]) == "да"
    assert last_verdict("a+b", ["a+", "b"]) == "b"
    assert last_verdict("anything", ["", "any"]) is None
    assert last_verdict("anything", []) is None


@settings(max_examples=50)
@given(st.text(), st.sampled_from(WORDS), st.sampled_from(["", "\n", " ", ".", "**", '"']))
def test_whatever_comes_before_the_verdict(reasoning, word, around):
    assert last_verdict(f"{reasoning} {around}{word.lower()}{around}", WORDS) == word


@given(st.text(), st.lists(st.text(max_size=5), max_size=4), st.text(max_size=5))
def test_no_text_raises(text, words, tag):
    assert last_verdict(text, words) in [None, *words]
    assert choice(text, words) in [None, *words]
    assert tagged(text, tag) is None or f"</{tag}>" in text
    assert json_object(text) is None or "{" in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"),
        (" (b). ", "B"),
        ("**A**", "A"),
        ("The answer is B", "B"),
        ("A and B", None),
        ("Bob", None),
        ("", None),
    ],
)
def test_choices(text, found):
    assert choice(text, ["A", "B"]) == found


def test_choices_that_contain_each_other():
    assert choice("not relevant", ["relevant", "not relevant"]) == "not relevant"
    assert choice("It is not relevant.", ["relevant", "not relevant"]) == "not relevant"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<a>x</a>", "x"),
        ("<a> x\ny </a> more", "x\ny"),
        ("<a>1</a><a>2</a>", "2"),
        ("<a>1<a>2</a>", "2"),
        ("<a>open", None),
        ("closed</a>", None),
        ("</a><a>", None),
        ("", None),
    ],
)
def test_tags(text, found):
    assert tagged(text, "a") == found


@given(st.text().filter(lambda text: "<" not in text), st.text(), st.text())
def test_whatever_stands_around_a_tag(inside, before, after):
    assert tagged(f"{before}<a>{inside}</a>{after.replace('</a>', '')}", "a") == inside.strip()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4), st.sampled_from([None, 2]), st.text("ab \n.:}]"))
def test_an_object_among_other_text(value, indent, around):
    text = json.dumps(value, indent=indent)
    assert json_object(text) == value
    assert json_object(f"{around}{text}{around}") == value
    assert json_object(f"{around}\n```json\n{text}\n```\n{around}") == value
    assert json_object(f'Like {{"a": 1}} perhaps? {text}') == value


@pytest.mark.parametrize(
    "text",
    ['{"a": 1', "{'a': 1}", "[1, 2]", "{{{", '{"a": NaN}', "", "```json\nno\n```", '{"a":' * 3000, '{"a": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_what_is_no_object(text):
    assert json_object(text) is None


def test_an_object_outside_the_fence_is_found_too():
    assert json_object('```python\nprint("x")\n```\n{"verdict": "PASS"}') == {"verdict": "PASS"}
