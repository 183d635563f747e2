import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.llm import choice, json_object, last_verdict, tagged
from gnomon.core.llm.parse import without_thoughts

WORDS = ["PASS", "FAIL"]

FENCED = "Write it so:\n```xml\n<think>\nyour reasons\n</think>\nPASS\n```\nThat is all."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Verdict: PASS?</think>\nFAIL", "FAIL"),
        ("<think>\nPASS?\n\nNo.\n</think>\n\nFAIL\n", "FAIL\n"),
        ("  \n<THINK>PASS?</Think> FAIL", "FAIL"),
        ("<thinking>PASS?</thinking>FAIL", "FAIL"),
        ("<thought>PASS?</thought>FAIL", "FAIL"),
        ("<reasoning>PASS?</reasoning>FAIL", "FAIL"),
        ('<think effort="high" budget=3>PASS?</think>FAIL', "FAIL"),
        ("< think >PASS?</ think >FAIL", "FAIL"),
        ("<seed:think>PASS?</seed:think>FAIL", "FAIL"),
        ("<think></think>\n\nFAIL", "FAIL"),
    ],
)
def test_a_thought_is_no_answer(text, answer):
    assert without_thoughts(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>one</think><think>two</think>FAIL", "FAIL"),
        ("<think>one</think>\n\n<reasoning>two</reasoning>\nFAIL", "FAIL"),
        ("<think>a <think>b</think> c PASS</think>FAIL", "FAIL"),
        ("<think>a <thinking>b</thinking> c PASS</think>FAIL", "FAIL"),
        ("<think>one</think>I look again.\n<think>two: PASS?</think>\nFAIL", "I look again.\nFAIL"),
    ],
)
def test_several_thoughts_and_thoughts_in_thoughts(text, answer):
    assert without_thoughts(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>It may be a PASS, since", ""),
        ("<think>", ""),
        ("<think>It says `</think>` and more", ""),  # in code it ends nothing
        ("<think>a <think>b</think> c", "c"),  # only named: the last one closes
        ("<think>He wants <think> tags.</think>Put <think> and </think> around it.", "Put <think> and </think> around it."),
    ],
)  # fmt: skip
def test_a_thought_that_is_not_closed(text, answer):
    assert without_thoughts(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("PASS?\nOr not.\n</think>\n\nFAIL", "FAIL"),
        ("PASS?</think>FAIL", "FAIL"),
        ("So PASS. </thinking> FAIL", "FAIL"),
        ("</think>FAIL", "FAIL"),
        ('The word is "PASS"</think>"FAIL"', '"FAIL"'),
        ("PASS?</think>", ""),
    ],
)
def test_a_thought_that_the_prompt_opened(text, answer):
    assert without_thoughts(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>In Python:\n```\nprint('</think>')\n```\nPASS?</think>FAIL", "FAIL"),
        ("<think>In Python:\n```\nprint(\nPASS?\n</think>\nFAIL, as in\n```\nx\n```", "FAIL, as in\n```\nx\n```"),
        ("<think>Not `</think>` but PASS?</think>FAIL", "FAIL"),
        ('<think>Not "</think>" but PASS?</think>FAIL', "FAIL"),
    ],
)  # fmt: skip
def test_a_thought_that_holds_code(text, answer):
    assert without_thoughts(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FAIL",
        "  FAIL\n",
        FENCED,
        FENCED.replace("```", "~~~~"),
        "Reason between <think> and </think>, then answer.",
        "Use `<think>` and `</think>`.",
        "It ends at `</think>`.",
        'It ends at "</think>".',
        "It ends at \u201c</think>\u201d.",
        "First the tag:\n<think>\nyour reasons\n</think>\nthen the answer.",
        "<instruction>\nReason first:\n<think>\n...\n</think>\nThen answer.\n</instruction>",
        "I think <b>PASS</b>, thinking of <thinker>.",
        "<thinker>PASS</thinker>",
        "a < think > b",
    ],
)
def test_an_answer_about_thoughts_is_left_alone(text):
    assert without_thoughts(text) == text


def test_an_answer_about_thoughts_is_left_alone_behind_a_thought_too():
    for answer in (
        FENCED,
        "<instruction>\nFirst\n<think>\n...\n</think>\nlast.\n</instruction>",
        "Say <think>x</think>.",
    ):
        assert without_thoughts(f"<think>PASS?</think>\n{answer}") == answer


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<THINKING a='b'>", "</thinking>", "<b>", "</b>", "`", "```", "\n", " ", '"', "PASS", "FAIL", "<"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@settings(max_examples=300)
@given(PIECES | st.text())
def test_thoughts_are_gone_after_the_first_time(text):
    answer = without_thoughts(text)
    assert without_thoughts(answer) == answer
    assert text.endswith(answer) or "<think" in text.lower()


TEXT = st.text(
    st.characters(exclude_characters="<>`~\"'\u201c\u201d\u2018\u201e\u00ab\u00bb", exclude_categories=["Cs"])
)
NAMES = st.sampled_from(["think", "Thinking", "thought", "REASONING"])


@given(st.lists(st.tuples(NAMES, TEXT), min_size=1, max_size=3), TEXT)
def test_no_thought_survives(thoughts, answer):
    text = "".join(f"<{name}>{thought}</{name}>\n" for name, thought in thoughts)
    assert without_thoughts(text + answer) == answer.lstrip()


@given(NAMES, TEXT, TEXT)
def test_no_thought_survives_without_its_opening_tag_or_its_closing_one(name, thought, answer):
    assert without_thoughts(f"{thought}</{name}>{answer}") == answer.lstrip()
    assert without_thoughts(f"<{name}>{thought}") == ""


@given(TEXT)
def test_an_answer_without_thoughts_comes_back_as_it_is(text):
    assert without_thoughts(text) == text
    assert (
        without_thoughts(f"{text}\n```\n<think>{text}</think>\n```\n")
        == f"{text}\n```\n<think>{text}</think>\n```\n"
    )


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "<think></think>", "<", "`", "`<think>` ", "\n```\n<b>\n", '"<b>"']
)
def test_a_long_reply_is_read_in_time(piece):
    begin = time.process_time()
    without_thoughts(piece * (8_000 // len(piece)))
    assert time.process_time() - begin < 2


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
