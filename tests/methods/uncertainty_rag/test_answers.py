"""Contexts, answers and their measures by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.llm import Reply
from gnomon.core.retrieval import Gain, Passage, Search, Terms
from gnomon.core.retrieval.hits import ranked
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag import (
    Asking,
    LongContextRAG,
    answer_coverage,
    calibration,
    pack,
    score_answers,
)
from gnomon.methods.uncertainty_rag.answering.answers import filled, load_template
from gnomon.methods.uncertainty_rag.answering.context import arranged, with_citations
from gnomon.methods.uncertainty_rag.answering.evaluation import compare_rankings, cross_fitted, judge_answers

TEXT = "abcdefghijklmnopqrstuvwxyz"


def passage(name, doc, start, end):
    return Passage(name, doc, start, end, TEXT[start:end])


PASSAGES = {
    p.id: p
    for p in (
        passage("x1", "x", 0, 6),
        passage("x2", "x", 4, 10),
        passage("x3", "x", 12, 16),
        passage("y1", "y", 2, 8),
    )
}


def test_document_order_puts_back_what_stood_together_and_sends_an_overlap_once():
    ids = ["x3", "y1", "x2", "x1"]
    shown = arranged(ids, PASSAGES, "document")
    assert [(s.id, s.text) for s in shown] == [
        ("x1", "abcdef"),
        ("x2", "ghij"),
        ("x3", "mnop"),
        ("y1", "cdefgh"),
    ]
    by_score = arranged(ids, PASSAGES, "score")
    assert [(s.id, s.text) for s in by_score] == [
        ("x3", "mnop"),
        ("y1", "cdefgh"),
        ("x2", "efghij"),
        ("x1", "abcd"),
    ]
    assert [s.id for s in arranged(ids, PASSAGES, "reverse")] == ["x1", "x2", "y1", "x3"]
    inside = {**PASSAGES, "x4": passage("x4", "x", 1, 3)}
    assert [s.id for s in arranged(["x1", "x4"], inside, "score")] == ["x1"]  # nothing of it is left


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), min_size=1, max_size=7),
    st.sampled_from(["score", "document", "reverse"]),
)
def test_every_character_is_sent_exactly_once(spans, order):
    passages = {f"p{i}": passage(f"p{i}", "d", a, min(26, a + n)) for i, (a, n) in enumerate(spans)}
    sent = "".join(s.text.replace(" ", "") for s in arranged(list(passages), passages, order))
    wanted = {c for p in passages.values() for c in p.text}
    assert sorted(sent) == sorted(wanted)


def test_the_best_that_fit_are_taken_and_a_shorter_one_may_still():
    hits = ranked([("x1", 3.0), ("y1", 2.0), ("x3", 1.0)])
    prompt = lambda shown: "Q" + "".join(s.text for s in shown)  # noqa: E731
    context = pack(hits, PASSAGES, prompt, len, 12, "score")
    assert [s.id for s in context.passages] == ["x1", "x3"] and (context.tokens, context.left_out) == (11, 1)
    with pytest.raises(BadConfig, match="without a passage has 1 tokens and --budget allows 0"):
        pack(hits, PASSAGES, prompt, len, 0)
    with pytest.raises(BadConfig, match="order must be"):
        pack(hits, PASSAGES, prompt, len, 9, "random")


def test_what_stands_in_a_passage_is_never_a_slot():
    assert (
        filled("<passages> <question>", {"<passages>": "<question>", "<question>": "why"}) == "<question> why"
    )


def test_citations_are_read_and_unknown_ones_stay():
    shown = arranged(["x1", "y1"], PASSAGES, "score")
    assert with_citations("In May [1, 2]. Later [7]!", shown) == [
        ("In May.", ("x1", "y1")),
        ("Later!", ("?7",)),
    ]
    assert with_citations("Yes", shown) == [("Yes", ())]


class Writer:
    """A language model that answers with the words behind "the answer is" in its prompt."""

    name = "writer"

    def __init__(self):
        self.prompts = []

    async def acomplete(self, request):
        prompt = request.messages[-1].content
        self.prompts.append(prompt)
        if "boom" in prompt.rsplit("Question:", 1)[1]:
            return Reply("", "error", error="no", fault="rejected")
        passages = prompt.split("\n\nAnswer the question")[0]
        at = passages.find("answer is ")
        return Reply(passages[at + 10 :].split(".")[0] + " [1]." if at >= 0 else "I don't know.")


@pytest.fixture
def search(tmp_path):
    texts = {
        "m#0": "Of the mill the answer is 1912. It burned.",
        "m#1": "The mill was sold.",
        "s#0": "Ships sail.",
    }
    passages = {
        n: Passage(n, n[0], 50 * int(n[-1]), 50 * int(n[-1]) + len(t), t, int(n[-1]))
        for n, t in texts.items()
    }
    return Search(passages, terms=Terms.build(tmp_path / "terms", texts))


def test_an_answer_has_its_source_and_no_percentage_without_a_sample(search):
    writer = Writer()
    rag = LongContextRAG(search, writer)
    answer, unknown, nothing, failed = rag.answers(["when did the mill burn?", "ships", "zebra", "boom mill"])
    assert answer.sentences == (("1912.", ("m#0",)),) and answer.confidence is None and not answer.abstained
    assert set(answer.trace["signals"]) == {"score", "margin"} and answer.trace["shown"] == ["m#0", "m#1"]
    assert unknown.abstained and unknown.trace["why"] == "the model does not know"
    assert nothing.abstained and nothing.trace["why"] == "nothing was found" and len(writer.prompts) == 3
    assert failed.abstained and failed.trace["failed"] and failed.trace["why"] == "no"
    assert writer.prompts[0].startswith("[1] Of the mill") and writer.prompts[0].endswith(
        "Question: when did the mill burn?\nAnswer:"
    )
    assert rag.answer("mill").text == "1912."
    with pytest.raises(BadInput, match="Question 1 is empty"):
        rag.answers(["a", " "])


def test_signals_include_the_gain_and_a_sample_gives_a_percentage(search, lm):
    gain = Gain(lm)
    rag = LongContextRAG(search, Writer(), gain=gain)
    answer = rag.answer("the mill burned")
    texts = [search.passages[n].text for n in answer.trace["shown"]]
    assert answer.trace["signals"]["gain"] == pytest.approx(
        max(gain.gains(texts, ["the mill burned"] * len(texts)))
    )
    draw = np.random.default_rng(0)
    signals = draw.normal(size=(80, 3))
    right = draw.random(80) < 1 / (1 + np.exp(-3 * signals[:, 0]))
    fitted = cross_fitted(signals, right, ["gain", "margin", "score"], "logistic", Rng(0))
    assert len(fitted.held_out) == 80 and fitted.error < 0.25
    sure = LongContextRAG(search, Writer(), gain=gain, confidence=fitted.confidence).answer("the mill burned")
    row = [sure.trace["signals"][n] for n in ("gain", "margin", "score")]
    assert (
        sure.confidence == pytest.approx(float(fitted.confidence.probabilities([row])[0]))
        and not sure.abstained
    )
    strict = LongContextRAG(
        search, Writer(), Asking(abstain_below=1.0), gain=gain, confidence=fitted.confidence
    )
    withheld = strict.answer("the mill burned")
    assert (
        withheld.abstained
        and "is below 1" in withheld.trace["why"]
        and withheld.trace["reply"] == "1912 [1]."
    )
    with pytest.raises(BadConfig, match="--confidence"):
        LongContextRAG(search, Writer(), Asking(abstain_below=0.5))


def test_templates_need_their_slots(tmp_path):
    (tmp_path / "t.txt").write_text("<passages> only")
    with pytest.raises(BadConfig, match="<question> once; it does 0 times"):
        load_template(str(tmp_path / "t.txt"))
    with pytest.raises(BadConfig, match="no template"):
        load_template("nowhere")


# Measures


def test_squad_scores_by_hand_and_rouge_of_the_package():
    scores = score_answers(["The cat sat.", "In 1912", ""], [["a cat", "dog"], ["1912"], ["x"]])
    assert scores.exact.tolist() == [0, 0, 0] and scores.contains.tolist() == [1, 1, 0]
    # "cat sat" against "cat": precision 1/2, recall 1; "in 1912" against "1912" the same.
    assert scores.f1 == pytest.approx([2 / 3, 2 / 3, 0])
    assert score_answers(["A  cat!"], [["the cat"]]).exact.tolist() == [1]
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rougeL"], use_stemmer=True).score("a cat", "The cat sat.")["rougeL"].fmeasure
    other = RougeScorer(["rougeL"], use_stemmer=True).score("dog", "The cat sat.")["rougeL"].fmeasure
    assert scores.rouge_l[0] == pytest.approx(max(theirs, other))
    for wrong in (([], []), (["a"], []), (["a"], [[]])):
        with pytest.raises(BadInput):
            score_answers(*wrong)


def test_an_answer_that_a_cut_goes_through_is_not_covered():
    texts = ["It was built in nineteen", "twelve by the town of Ely."]
    assert answer_coverage(
        [["nineteen twelve"], ["the Town"], ["Ely", "Rome"], ["el"]], texts
    ) == pytest.approx(0.5)


def test_calibration_finds_the_slope_that_was_planted_and_the_likelihood_is_scipy_s():
    draw = np.random.default_rng(0)
    values = draw.normal(3, 1, 4000)
    same = draw.random(4000) < 1 / (1 + np.exp(-(6 - 2 * values)))
    result = calibration(values, same, Rng(0), reference=-values)
    assert result.alpha == pytest.approx(6, abs=0.7) and result.beta == pytest.approx(2, abs=0.25)
    assert result.error < 0.03 and result.spearman == pytest.approx(1.0)
    assert [b["pairs"] for b in result.bins] == [
        200
    ] * 10  # of equal counts, on the half that was not fitted on
    assert [b["same"] for b in result.bins] == sorted(
        (b["same"] for b in result.bins), reverse=True
    ) or result.bins[0]["same"] > 0.9
    for wrong in ((values[:10], same[:10]), (values[:40], np.ones(40, bool))):
        with pytest.raises(BadInput):
            calibration(*wrong, Rng(0))


def test_rankings_are_compared_pair_by_pair():
    qrels = {f"q{i}": {"a": 1} for i in range(20)}
    good, bad = {q: ["a", "b"] for q in qrels}, {q: ["b", "a"] for q in qrels}
    rows = {row["arm"]: row for row in compare_rankings({"bm25": bad, "ours": good}, qrels)}
    assert rows["ours"]["MRR@10"][0] == 1.0 and rows["bm25"]["MRR@10"][0] == 0.5
    assert rows["ours"]["MRR@10 - bm25"] == (0.5, 0.5, 0.5) and "MRR@10 - bm25" not in rows["bm25"]


def test_judged_answers_know_both_kinds_of_error():
    draw = np.random.default_rng(1)
    rows = []
    for i in range(60):
        margin = float(draw.normal())
        rows.append({
            "answer": "x" if margin + 0.5 * draw.normal() > 0 else "y", "abstained": i % 20 == 0, "references": ["x"],
            "trace": {"signals": {"margin": margin, "score": 1.0}},
        })  # fmt: skip
    result = judge_answers(rows, ["an x here"], "contains", "logistic", Rng(0))
    assert not result.right[::20].any()  # a withheld answer is never right
    curve, summary = result.curve, result.summary()
    assert summary["answer coverage"] == 1 and json.dumps(summary)
    assert curve.coverage[-1] == 1 and curve.wrong_given[-1] == pytest.approx(1 - result.right.mean())
    assert curve.right_withheld[-1] == 0 and curve.aurc < curve.always
    few = judge_answers(rows[:5], ["x"], "f1", "logistic", Rng(0))
    assert few.fitted.confidence is None and few.curve is None
