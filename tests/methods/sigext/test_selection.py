"""From scores to phrases: ranking, threshold, top K, words and sentences of the same size, and how rankings are measured."""

import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sigext import Phrase, extract_phrases, measure, select
from gnomon.methods.sigext.phrases import as_granularity, kept_phrases, ranking, scored_row, threshold, tokens

TEXT = (
    "The new bridge costs a lot. The mayor is at the old mill, and the school is closed. Votes were counted."
)
PHRASES = extract_phrases(TEXT)
SCORES = [-1.0, -0.5, -3.0, -2.0, -0.1, math.nan, -4.0][: len(PHRASES)]


def test_ties_go_to_the_earlier_phrase_and_phrases_without_a_score_are_left_out():
    assert ranking([-1.0, math.nan, -0.5, -0.5, -1.0]) == [2, 3, 0, 4]


def test_the_threshold_is_a_percentile_between_two_scores():
    scores = [[-4.0, -3.0, math.nan], [-2.0, -1.0]]
    assert threshold(scores, 75) == pytest.approx(np.percentile([-4, -3, -2, -1], 75))
    assert threshold(scores, 0) == threshold([[]], 75) == threshold([], 75) == -math.inf


def test_nothing_under_tau_is_shown_and_all_under_it_means_none():
    phrases = [Phrase(text, i, i + 1) for i, text in enumerate(["bridge", "mayor", "school"])]
    assert select(phrases, [-1.0, -2.0, -0.5], 3, tau=-1.0) == [2, 0]
    assert select(phrases, [-1.0, -2.0, -0.5], 3, tau=-0.1) == []
    with pytest.raises(BadConfig, match="k must be >= 1"):
        select(phrases, [-1.0, -2.0, -0.5], 0)


@given(st.lists(st.floats(-9, 0), min_size=7, max_size=7), st.integers(1, 8), st.floats(-9, 0))
def test_a_scored_row_gives_its_kept_phrases_back_in_their_order(scores, k, tau):
    phrases = [Phrase(c * 6, i * 7, i * 7 + 6) for i, c in enumerate("abcdefg")]
    kept = select(phrases, scores, k, tau=tau)
    row = scored_row(phrases, scores, kept)
    assert kept_phrases(row, "row") == [phrases[i] for i in kept]
    assert [one["rank"] for one in row] == [ranking(scores).index(i) + 1 for i in range(7)]


def test_phrases_without_a_score_have_no_rank_and_broken_rows_are_named():
    row = scored_row(PHRASES[:2], [-1.0, math.nan], [0])
    assert (row[1]["score"], row[1]["rank"], row[1]["kept"]) == (None, None, False)
    with pytest.raises(BadInput, match="rows, line 3: a phrase has"):
        kept_phrases([{"text": "a"}], "rows, line 3")


def test_words_and_sentences_have_as_many_words_as_the_phrases():
    assert [p.text for p in PHRASES] == [
        "new bridge costs",
        "lot",
        "mayor",
        "old mill",
        "school",
        "closed",
        "Votes",
        "counted",
    ]
    scores = [-1.0, -0.5, -3.0, -2.0, -0.1, math.nan, -4.0, -5.0]
    kept = [4, 1, 0]  # school, lot, new bridge costs: five words
    assert as_granularity(TEXT, PHRASES, scores, kept, "phrases") == [PHRASES[i] for i in kept]
    words = as_granularity(TEXT, PHRASES, scores, kept, "words")
    assert [w.text for w in words] == ["school", "lot", "new", "bridge", "costs"]
    assert all(TEXT[w.start : w.end] == w.text for w in words)
    sentences = as_granularity(TEXT, PHRASES, scores, kept, "sentences")
    # Means: -0.75 for the first (six words), -1.7 for the second, -4.5 for the third. One is always taken, none else fits.
    assert [s.text for s in sentences] == ["The new bridge costs a lot."]
    assert as_granularity(TEXT, PHRASES, scores, [], "words") == []


def test_words_come_once_by_their_stem():
    text = "bridges and votes for a bridge"
    phrases = extract_phrases(text)
    words = as_granularity(text, phrases, [-1.0, -2.0, -3.0], [0, 1, 2], "words")
    assert [w.text for w in words] == ["bridges", "votes"]


@given(st.lists(st.lists(st.tuples(st.booleans(), st.integers(-4, 0)), max_size=9), max_size=6))
def test_ranks_are_those_counted_one_by_one(documents):
    labels = [[y for y, _ in d] for d in documents]
    scores = [[float(s) for _, s in d] for d in documents]
    found = measure(labels, scores, ks=(3,))
    precision, recall, r_precision = [], [], []
    for wanted, values in zip(labels, scores, strict=True):
        if any(wanted):
            order = sorted(range(len(values)), key=lambda i: (-values[i], i))
            hits = sum(wanted[i] for i in order[:3])
            precision.append(hits / min(3, len(order)))
            recall.append(hits / sum(wanted))
            r_precision.append(sum(wanted[i] for i in order[: sum(wanted)]) / sum(wanted))
    assert (found.documents, found.skipped) == (len(recall), len(labels) - len(recall))
    if not recall:
        assert math.isnan(found.recall[3])  # and no division by zero
        return
    assert found.precision[3] == pytest.approx(np.mean(precision))
    assert found.recall[3] == pytest.approx(np.mean(recall))
    assert found.r_precision == pytest.approx(np.mean(r_precision))
    flat, values = list(chain(*labels)), list(chain(*scores))
    assert found.auc is None if all(flat) else found.auc == pytest.approx(roc_auc_score(flat, values))


def test_phrases_without_a_score_are_never_found_and_counted():
    found = measure([[True, True]], [[-1.0, math.nan]], ks=(2,))
    assert (found.recall[2], found.unscored, found.auc) == (0.5, 1, None)


def test_tokens_of_phrases_count_as_the_budget():
    assert len(tokens("new bridge costs")) == 3
