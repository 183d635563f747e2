"""ROUGE against the package rouge-score, to the last digit, and against values worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer, _backtrack_norec, _lcs_table

from gnomon.core.metrics.rouge import KINDS, rouge, rouge_tokens
from gnomon.core.text.subsequences import lcs_length, lcs_places
from gnomon.errors import BadConfig, BadInput

WORDS = [
    "The",
    "city's",
    "budgets",
    "budget",
    "meetings",
    "met",
    "a",
    "1,200",
    "zürich",
    "is",
    "\n",
    ".",
    "\n\n",
]
TEXT = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)


def theirs(prediction, references, stem):
    scores = RougeScorer(KINDS, use_stemmer=stem).score_multi(references, prediction)
    return [tuple(scores[kind]) for kind in KINDS]


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3), st.booleans())
def test_numbers_are_those_of_rouge_score(prediction, references, stem):
    found = rouge([prediction], [references], stem=stem)
    assert [tuple(found[kind][0]) for kind in KINDS] == theirs(prediction, references, stem)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_characters_give_the_numbers_of_rouge_score(prediction, reference):
    found = rouge([prediction], [reference])
    assert [tuple(found[kind][0]) for kind in KINDS] == theirs(prediction, [reference], True)


@given(st.lists(st.integers(0, 3), max_size=90), st.lists(st.integers(0, 3), max_size=90))
def test_subsequences_are_those_of_the_table(a, b):
    table = _lcs_table(a, b)
    assert lcs_length(a, b) == table[-1][-1]
    assert lcs_places(a, b) == _backtrack_norec(table, a, b)


def test_by_hand():
    # prediction 4 words, reference 5; shared: the, cat, sat; in order: the cat sat
    found = rouge(["the cat sat here"], ["the big cat sat down"])
    assert found["rouge1"][0] == pytest.approx([3 / 4, 3 / 5, 2 / 3])
    assert found["rouge2"][0] == pytest.approx([1 / 3, 1 / 4, 2 / 7])  # "cat sat"
    assert found["rougeL"][0] == pytest.approx([3 / 4, 3 / 5, 2 / 3])


def test_lines_are_the_sentences_of_rouge_lsum():
    # As one text "b a" has one word in order with "a b"; as lines both words are found.
    assert rouge(["b\na"], ["a\nb"], ["rougeL"])["rougeL"][0, 1] == 0.5
    assert rouge(["b\na"], ["a\nb"], ["rougeLsum"])["rougeLsum"][0, 1] == 1.0


def test_an_empty_side_scores_nothing():
    found = rouge(["", "a", "..."], ["a", "", "a"])
    assert all((found[kind] == 0).all() for kind in KINDS)


def test_other_languages_keep_their_letters():
    assert rouge_tokens("Häuser in Zürich", True, "german") == ("haus", "in", "zurich")
    assert rouge(["Häusern"], ["Häuser"], ["rouge1"], language="german")["rouge1"][0, 2] == 1.0


@pytest.mark.scale
def test_several_processes_give_the_numbers_of_one():
    texts = [f"the city {i} met {i % 7} times and paid {i % 5}" for i in range(150)]
    one, many = rouge(texts, texts[::-1]), rouge(texts, texts[::-1], workers=2)
    assert all(np.array_equal(one[kind], many[kind]) for kind in KINDS)


@pytest.mark.parametrize(
    ("predictions", "references", "kinds", "error", "message"),
    [
        (["a"], ["a", "b"], KINDS, BadInput, "one reference per prediction; got 1 and 2"),
        (["a"], [[]], KINDS, BadInput, "Row 0 has no reference"),
        (["a", 3], ["a", "b"], KINDS, BadInput, "Row 1: the prediction must be a string; got int"),
        (["a"], [["b", None]], KINDS, BadInput, "Row 0: the reference must be a string"),
        (["a"], ["a"], ["rouge3"], BadInput, "got rouge3"),
        ("a", ["a"], KINDS, BadInput, "lists of texts"),
    ],
)
def test_bad_input_is_named(predictions, references, kinds, error, message):
    with pytest.raises(error, match=message):
        rouge(predictions, references, kinds)


def test_no_rows_give_no_scores_and_no_workers_are_refused():
    assert rouge([], [])["rouge1"].shape == (0, 3)
    with pytest.raises(BadConfig, match="workers must be >= 1"):
        rouge(["a"], ["a"], workers=0)
