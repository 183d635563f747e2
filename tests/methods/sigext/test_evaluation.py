"""Summaries measured: values by hand, ROUGE of the package, comparisons by document, and what is left out."""

import math

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from gnomon.core.llm import Reply
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sigext import Phrase, Reading
from gnomon.methods.sigext.phrases import Columns, to_row
from gnomon.methods.sigext.summaries import (
    Summary,
    by_lines,
    copy_rate,
    evaluate,
    fault_of,
    in_source,
    inventions,
    matched_length,
    uptake,
)

RAW = [
    {
        "id": "a",
        "document": "The new bridge costs 40 million. The mayor is glad.",
        "summary": "A bridge costs 40 million.",
    },
    {"id": "b", "document": "Ann Lee won the vote. The mill is old.", "summary": "Ann Lee won."},
    {"id": "c", "document": "The school is closed. The park is open.", "summary": "The school closed."},
]
ROWS = [to_row(raw, Reading(), Columns(), raw["id"]) for raw in RAW]


def made(arm, k, texts, phrases=None, faults=(None, None, None)):
    shown = phrases or [()] * 3
    return [
        Summary(row.id, arm, k, tuple(p), text, fault, False)
        for row, text, p, fault in zip(ROWS, texts, shown, faults, strict=True)
    ]


PLAIN = ["The mayor is glad.", "The mill is old.", "The park is open."]
HINTED = ["The new bridge costs 40 million.", "Ann Lee won the vote in 1999.", "The school is closed."]
SHOWN = [[Phrase("new bridge", 4, 14)], [Phrase("Ann Lee", 0, 7), Phrase("mill", 26, 30)], []]


def test_rouge_is_the_package_s_against_the_whole_reference():
    found = evaluate(ROWS, made("none", 0, PLAIN) + made("sigext", 5, HINTED, SHOWN))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    for name, texts in (("none", PLAIN), ("sigext, K=5", HINTED)):
        for kind, shown in (
            ("rouge1", "ROUGE-1"),
            ("rouge2", "ROUGE-2"),
            ("rougeL", "ROUGE-L"),
            ("rougeLsum", "ROUGE-Lsum"),
        ):
            expected = [scorer.score(row.summary, text)[kind] for row, text in zip(ROWS, texts, strict=True)]
            for i, what in enumerate(("precision", "recall", "F")):
                values = found.arms[name].values[f"{shown} {what}"]
                assert values.tolist() == pytest.approx([100 * score[i] for score in expected])


def test_what_became_of_the_phrases():
    found = evaluate(ROWS, made("none", 0, PLAIN) + made("sigext", 5, HINTED, SHOWN))
    arm = found.arms["sigext, K=5"]
    assert arm.values["hint uptake"][:2].tolist() == [100, 50] and math.isnan(arm.values["hint uptake"][2])
    assert arm.mean("hint uptake") == 75 and arm.mean("hint in source") == 100
    gained = arm.values["ROUGE-1 recall"] - found.arms["none"].values["ROUGE-1 recall"]
    assert arm.values["added recall per hint"][:2].tolist() == pytest.approx([gained[0], gained[1] / 2])
    assert arm.values["words"].tolist() == [6, 7, 4]
    assert found.invented == {"sigext, K=5: b": ["1999"]}
    assert arm.mean("summaries with inventions") == pytest.approx(100 / 3)
    assert found.faithfulness.startswith("token support (stand-in")
    assert arm.values[found.faithfulness].tolist() == pytest.approx([100, 80, 100])  # ann lee won vote | 1999


def test_comparisons_are_paired_by_document():
    found = evaluate(ROWS, made("none", 0, PLAIN) + made("sigext", 5, HINTED, SHOWN))
    gap = found.difference("sigext, K=5", "none", "ROUGE-1 recall")
    values = [found.arms[name].values["ROUGE-1 recall"] for name in ("sigext, K=5", "none")]
    assert gap.estimate == pytest.approx(float(np.mean(values[0] - values[1])))
    assert gap.low <= gap.estimate <= gap.high and gap.n_units == 3


def test_documents_without_a_summary_in_every_arm_are_left_out_and_counted():
    refused = made("sigext", 5, [HINTED[0], "", ""], faults=(None, "refusal", "budget"))
    found = evaluate(ROWS, made("none", 0, PLAIN) + refused)
    assert (found.documents, found.faults) == (1, {"refusal": 1, "budget": 1})
    with pytest.raises(BadInput, match=r"No document has a summary in every arm \(faults: refusal"):
        evaluate(ROWS, made("none", 0, [""] * 3, faults=("refusal",) * 3))


def test_faults_of_replies():
    assert fault_of(Reply("A summary.")) is None
    assert fault_of(Reply("I cannot.", "refusal")) == "refusal"
    assert fault_of(Reply("", "budget")) == "budget"
    assert fault_of(Reply("", "error", error="down", fault="server")) == "server"
    assert fault_of(Reply(" \n")) == "empty"
    assert fault_of(Reply("Half a", "length")) is None


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("The NEW bridges cost", 1.0),  # by stems, in any case
        ("bridge new", 0.0),  # side by side
        ("a newbridge", 0.0),
        ("", 0.0),
    ],
)
def test_uptake(summary, expected):
    assert uptake([Phrase("new bridge", 0, 10)], summary) == expected


def test_nothing_shown_has_no_uptake_and_no_place():
    assert math.isnan(uptake([], "x")) and math.isnan(in_source([], "x"))
    assert in_source([Phrase("ab", 0, 2), Phrase("ab", 1, 3)], "abc") == 0.5


def test_copies_and_inventions_by_hand():
    assert copy_rate("the new bridge costs money", "The new bridge costs 40") == 2 / 3
    assert math.isnan(copy_rate("too short", "too short a text"))
    document = "Ann met Bob on 12 May 1998 in New York."
    assert inventions("They say Ann met Carl in 1998. Bob lives in Paris, New York.", document) == [
        "Carl",
        "Paris",
    ]
    assert (
        inventions("Carl met 1,200 people.", "1200 people") == []
    )  # a sentence begins with a capital anyway


def test_lines_and_lengths():
    assert by_lines("One  a. Two!\n\nThree") == "One a.\nTwo!\nThree"
    assert matched_length([["a b c", "x"], ["d", "y z"]]) == [["a", "x"], ["d", "y"]]


def test_faithfulness_needs_a_name():
    with pytest.raises(BadConfig, match="faithfulness must be"):
        evaluate(ROWS, made("none", 0, PLAIN), faithfulness="")
