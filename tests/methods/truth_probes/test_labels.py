"""Matching by whole words and numbers, labels, and exact answers by every way of finding them."""

import json

import pytest

from fixtures_truth_probes import made
from gnomon.core.llm import Script
from gnomon.core.text.matching import number_of, number_spans, spans_of
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes import Extraction, extract, label
from gnomon.methods.truth_probes.answers import (
    NLI,
    SENTIMENT,
    drop_report,
    label_by_text,
    labelled,
    read_digit,
    trim,
)


@pytest.mark.parametrize(
    ("needle", "text", "boundary", "substring"),
    [
        ("1", "16 and 1", 1, 2),
        ("US", "because of the US.", 1, 2),
        ("1.5", "11.5 or 1.5.", 1, 2),
        ("5", "1.5", 0, 1),
        ("3", "-3 and 3", 1, 2),
        ("C++", "C++ and C", 1, 1),
        ("café", "Café Noir, cafés", 1, 2),
        ("", "anything", 0, 0),
    ],
)
def test_whole_words_and_numbers(needle, text, boundary, substring):
    assert len(spans_of(needle, text)) == boundary
    assert len(spans_of(needle, text, "substring")) == substring


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,234.5", 1234.5), ("-3", -3.0), ("$18", 18.0), ("50%", 50.0), ("1,2", None), ("a1", None)],
)
def test_numbers(text, value):
    assert number_of(text) == value


def test_numbers_are_found_by_value():
    text = "16 - 3 = 13, so $1,000 or 1000.0, not 10001"
    assert [text[a:b] for a, b in number_spans(1000, text)] == ["1,000", "1000.0"]
    assert [text[a:b] for a, b in number_spans(3, text)] == ["3"]  # a minus between numbers is no sign
    assert number_spans(-3, text) == []


def closed(label, labels):
    """Accepted and wrong answers of a closed set."""
    found = labelled(label, labels)
    return {"gold": found["answer"], "wrong": found["wrong_answer"]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (made("It is Paris.", gold=["paris"]), 1),
        (made("It is Lyon, not Paris.", gold=["Paris"], wrong=["Lyon"]), 0),
        (made("Paris and not Lyon", gold=["Paris"], wrong=["Lyon"]), 1),
        (made("I do not know", gold=["Paris"]), 0),
        (made("The result is 16", gold=["1"], task="number"), 0),
        (made("The result is 18.00", gold=["18"], task="number"), 1),
        (made("1,000 in all", gold=["1000"], task="number"), 1),
        (made("It was negative, no, positive", task="imdb", gold=["positive"], wrong=["negative"]), 0),
        (made("The hypothesis contradicts it", task="nli", **closed("contradiction", NLI)), 1),
        (made("not positive", task="imdb", **closed("positive", SENTIMENT)), 1),
        (made("New York City it is", gold=["New York City"], wrong=["New York"]), 1),
    ],
)  # fmt: skip
def test_labels(answer, expected):
    assert label_by_text(answer) == expected


def test_substrings_reproduce_the_paper():
    answer = made("because", gold=["US"])
    assert (label([answer])[0].correct, label([answer], match="substring")[0].correct) == (0, 1)
    number = made("It is 16", gold=["1"], task="number")
    assert (label([number])[0].correct, label([number], match="substring")[0].correct) == (0, 1)


def test_an_accepted_answer_that_is_no_number_is_told():
    with pytest.raises(BadInput, match='"Paris" is no number'):
        label([made("x", gold=["Paris"], task="number")])


def test_a_function_may_judge():
    answers = [made("ab", name="1"), made("abc", name="2")]
    assert [a.correct for a in label(answers, lambda question, answer, gold: len(answer) == 3)] == [0, 1]
    with pytest.raises(BadInput, match="must give 1 or 0; got 'yes'"):
        label(answers, lambda *_: "yes")
    assert [a.correct for a in label(answers, "rule:fixtures_truth_rules:is_long")] == [0, 1]  # fmt: skip
    with pytest.raises(BadInput, match=r'no function "is_lon".*"is_long"'):
        label(answers, "rule:fixtures_truth_rules:is_lon")
    with pytest.raises(BadConfig, match="names no function"):
        label(answers, "rule:nothing")


def test_a_judge_is_asked_again_until_it_gives_a_digit():
    said = []

    def judge(request):
        said.append(request.draw)
        return "hm" if request.draw < 2 else "Label: 1, not 0"

    (found,) = label([made("The city of light")], "judge", llm=Script(judge))
    assert (found.correct, said) == (1, [0, 1, 2])


def test_where_a_judge_gives_no_digit_in_five_tries_there_is_no_label():
    requests, unread = [], []
    judge = Script(lambda request: requests.append(1) or "no")
    (answer,) = label([made("x")], "judge", llm=judge, on_unread=unread.append)
    assert (answer.correct, len(requests), unread) == (None, 5, [1])


def test_a_reply_that_fails_leaves_its_answer_without_a_label_and_the_others_with_theirs():
    tries = []

    def judge(request):
        text = request.messages[0].content
        if "Rome" in text:
            tries.append(request.draw)
            raise ConnectionError("refused")
        return "1" if "Bern" in text else "0"

    unread = []
    answers = [made(text, name=text) for text in ("Bern", "Rome", "Oslo")]
    labelled = label(answers, "judge", llm=Script(judge), on_unread=unread.append)
    assert [answer.correct for answer in labelled] == [1, None, 0]
    assert (tries, unread) == ([0], [0])  # not asked again in this run, and nothing that came was unreadable


def test_a_reply_that_fails_is_no_sign_that_there_is_no_exact_answer():
    def copy(request):
        if "Rome" in request.messages[0].content:
            raise ConnectionError("refused")
        return "Oslo"

    answers = [made(f"It is {text}", correct=0, name=text) for text in ("Rome", "Oslo")]
    failed, copied = extract(answers, Extraction("llm", "x"), llm=Script(copy))
    assert (failed.valid, failed.exact_answer, failed.is_usable) == (None, "", False)
    assert (copied.valid, copied.exact_answer) == (1, "Oslo")


def test_read_digit():
    assert [read_digit(text) for text in ("1", "0 or 1", "one", "")] == [1, 0, None, None]
    assert [read_digit(text) for text in ("In 1901 and 10.5: **0**.", "Label:1", "0.", "1.0")] == [
        0,
        1,
        0,
        None,
    ]


# Exact answers


def test_known_answers_and_choices_are_found_first_come_first():
    answers = [
        made("No, Lyon or Paris", gold=["Paris"], wrong=["Lyon"], correct=0, name="1"),
        made("Paris. Paris!", gold=["Paris"], wrong=["Lyon"], correct=1, name="2"),
        made("Rome", gold=["Paris"], wrong=["Lyon"], correct=0, name="3"),
    ]
    lyon, paris, none = extract(answers, Extraction("known"))
    assert (lyon.exact_answer, lyon.spans, lyon.valid) == ("Lyon", [[4, 8]], 1)
    assert (paris.exact_answer, paris.spans) == ("Paris", [[0, 5], [7, 12]])
    assert (none.valid, none.is_usable) == (0, False)


def test_of_aliases_the_earliest_counts_and_of_equals_the_longest():
    (found,) = extract(
        [made("In New York City", gold=["City", "New York", "New York City"], correct=1)], Extraction("known")
    )
    assert found.exact_answer == "New York City"


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        (" Paris (France).\nIs it?", "Paris"),
        ("Paris</s>", "Paris"),
        (".Paris.", "Paris"),
        ("\n\nParis", "Paris"),
        ("", ""),
    ],
)
def test_trim(text, exact):
    assert trim(text) == exact


def test_patterns_and_functions_treat_right_and_wrong_answers_alike():
    answers = [made("so 12, then 7", gold=["7"], task="number", correct=c, name=str(c)) for c in (0, 1)]
    for how in (
        Extraction("regex", r"\d+"),
        Extraction("regex", r"so (\d+)"),
        Extraction("rule", "rule:fixtures_truth_rules:first_number"),
    ):
        assert {a.exact_answer for a in extract(answers, how)} == {"12"}
    with pytest.raises(BadInput, match="must give a part of the answer or None; got 0"):
        extract(answers, Extraction("rule", "rule:fixtures_truth_rules:is_long"))


def test_the_exact_answer_is_looked_for_in_the_output_alone():
    (found,) = extract(
        [made("none of this", correct=0)], Extraction("rule", "rule:fixtures_truth_rules:from_the_question")
    )
    assert found.valid == 0


def test_a_language_model_copies_what_wrong_answers_say():
    """The label decides who is asked; replies that are no part of the answer are asked for again."""
    asked = []

    def copy(request):
        asked.append(request.draw)
        if "Rome" in request.messages[0].content:
            return "Berlin" if request.draw == 0 else "Rome.\nIndeed"
        return "NO ANSWER"

    answers = [
        made("It is Paris", correct=1, name="1"),
        made("It is Rome (Italy)", correct=0, name="2"),
        made("I cannot say", correct=0, name="3"),
        made(" ", correct=0, name="4"),
    ]
    right, wrong, refused, empty = extract(answers, Extraction("llm", "script:x:y"), llm=Script(copy))
    assert (right.exact_answer, wrong.exact_answer) == ("Paris", "Rome")
    assert (refused.exact_answer, refused.valid, refused.is_usable) == ("NO ANSWER", 1, False)
    assert empty.exact_answer == "NO ANSWER"
    assert sorted(asked) == [0, 0, 1]


@pytest.mark.parametrize(
    "way", ["known", "line", "regex:x", "rule:fixtures_truth_rules:first_number", "hf:folder"]
)
def test_an_output_without_text_is_a_refusal_whatever_the_way(way):
    def never(request):
        raise AssertionError("nobody is asked about an empty output")

    answers = [made("  \n", correct=0, name="1"), made("so 12 x", correct=0, gold=["12"], name="2")]
    how = Extraction.parse(way, ["open"])
    llm = Script(lambda request: "12") if how.kind == "llm" else Script(never)
    silent, spoken = extract(answers, how, llm=llm)
    assert (silent.exact_answer, silent.valid, silent.is_usable) == ("NO ANSWER", 1, False)
    assert (spoken.valid, spoken.found_by) == (1, way)


def test_after_five_tries_an_answer_is_not_valid():
    (found,) = extract(
        [made("It is Rome", correct=0)], Extraction("llm", "x"), llm=Script(lambda request: "Berlin")
    )
    assert (found.valid, found.spans) == (0, [])


def test_ways_are_read_and_written():
    for text in ("known", "line", "regex:a+", "rule:m:f", "hf:folder"):
        assert str(Extraction.parse(text, ["open"])) == text
    (found,) = extract([made("so 12", correct=0)], Extraction("regex", r"\d+"))
    assert found.found_by == r"regex:\d+"  # a probe keeps it, to find exact answers in the same way
    assert Extraction.parse("auto", ["imdb", "nli"]).kind == "known"
    assert Extraction.parse("auto", ["imdb", "open"]).kind == "line"
    with pytest.raises(BadConfig, match="does not compile"):
        Extraction.parse("regex:(", ["open"])
    with pytest.raises(BadConfig, match='got "lines"'):
        Extraction.parse("lines", ["open"])


def test_what_is_dropped_is_told_for_right_and_wrong_answers_apart():
    answers = [
        made("Paris", correct=1, name="1"), made("Lyon", correct=0, name="2"), made("", correct=0, name="3", finish="length"),
    ]  # fmt: skip
    found = drop_report(extract(answers, Extraction("line")))
    assert (found["usable"], found["dropped of right"], found["dropped of wrong"], found["cut off"]) == (
        2,
        0.0,
        0.5,
        1,
    )
    assert (found["refused"], found["not located"]) == (1, 0)
    lost = drop_report(extract(answers, Extraction("regex", "P.*")))
    assert (lost["refused"], lost["not located"]) == (1, 1)


def test_answers_are_plain_json():
    assert json.loads(json.dumps(made().__dict__))["gold"] == ["Paris"]
