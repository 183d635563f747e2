"""Both label rules against the packages they come from, and the label rates of real dialogues."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from gnomon.errors import BadConfig
from gnomon.methods.sigext import Reading, label, matches, read_rows
from gnomon.methods.sigext.phrases import Columns, label_figures

SCORER = RougeScorer(["rouge1"], use_stemmer=True)

WORD = st.sampled_from(
    ["budget", "Budgets", "vote", "voting", "new", "bridge", "bridges", "40", "a", "\u00e9t\u00e9"]
)
PHRASE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
PHRASES = st.lists(PHRASE, max_size=6)


def released(phrase, references):
    """The rule as the released code writes it: one ROUGE call per pair, three maxima."""
    scores = [SCORER.score(target, phrase)["rouge1"] for target in references]
    f, p, r = (max((s[i] for s in scores), default=0) for i in (2, 0, 1))
    return f >= 0.6 or p >= 0.8 or r >= 0.8


def lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


@given(PHRASES, PHRASES)
def test_rule_code_is_that_of_rouge_score_call_by_call(phrases, references):
    assert label(phrases, references) == [released(phrase, references) for phrase in phrases]


@given(PHRASES, PHRASES)
def test_rule_paper_is_the_longest_common_subsequence_over_the_longer_text(phrases, references):
    expected = [
        any(lcs(p.lower(), q.lower()) / max(len(p), len(q)) >= 0.7 for q in references) for p in phrases
    ]
    assert label(phrases, references, "paper") == expected


def test_the_rules_differ_where_the_specification_says():
    assert label(["40 million"], ["40 million transit plan"]) == [True]  # precision 1
    (match,) = matches(["40 million"], ["40 million transit plan"], "paper")
    assert match.f == pytest.approx(10 / 23, abs=1e-9)  # 0.43
    assert label(["40 million"], ["40 million transit plan"], "paper") == [False]


def test_maxima_are_taken_apart():
    # F is best with one reference phrase, recall with another: either is enough.
    phrase = "new city transit plan office"
    (match,) = matches([phrase], ["new city transit plan", "office"])
    assert (match.reference, match.recall) == ("new city transit plan", 1.0)
    assert match.precision == 0.8 and match.f == pytest.approx(8 / 9)


def test_what_a_label_rests_on_can_be_looked_at():
    found = matches(["voting rights", "river"], ["votes", "rights to vote"])
    assert found[0].reference == "rights to vote" and found[0].is_positive
    assert (found[1].reference, found[1].f, found[1].is_positive) == ("", 0.0, False)


def test_nothing_to_compare_is_negative_and_a_wrong_rule_is_named():
    assert label(["a b"], []) == label(["\u4f60"], ["\u4f60"]) == [False]
    assert label(["a b"], [], "paper") == [False]
    assert label([], ["a"]) == label([], ["a"], "paper") == []
    with pytest.raises(BadConfig, match='rule must be "code" or "paper"'):
        label(["a"], ["a"], "fuzzy")


def test_label_rates_of_sixty_real_dialogues(shared_data):
    dialogues = shared_data / "dialogue" / "dialogsum.dev.jsonl"
    if not dialogues.exists():
        pytest.skip("the dialogues are not there")
    columns = Columns("dialogue", "summary", "fname")
    rows = {rule: read_rows(dialogues, Reading(rule=rule), columns, limit=60) for rule in ("code", "paper")}
    code, paper = (label_figures(found) for found in rows.values())
    # Our stop list finds 31 phrases a document; smaller lists leave more phrases and lower rates.
    assert code["phrases per document"] == pytest.approx(31.4, abs=0.1)
    assert code["positive rate"] == pytest.approx(0.26, abs=0.01)
    assert paper["positive rate"] == pytest.approx(0.18, abs=0.01)
    pairs = [
        (a, b) for x, y in zip(*rows.values(), strict=True) for a, b in zip(x.labels, y.labels, strict=True)
    ]
    assert sum(a == b for a, b in pairs) / len(pairs) == pytest.approx(0.88, abs=0.01)
    raw = [json.loads(line) for line in dialogues.read_text("utf-8").splitlines()[:3]]
    for one, row in zip(raw, rows["code"], strict=False):
        wanted = [p.text for p in Reading().phrases(one["summary"])]
        assert list(row.labels) == [released(p.text, wanted) for p in row.phrases]
