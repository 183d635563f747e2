"""The other ways to choose phrases, each against its definition worked by hand or by a package."""

from dataclasses import replace

import networkx
import numpy as np
import pytest
import yake
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sigext import ARMS, Reading, rank_phrases
from gnomon.methods.sigext.phrases import Columns, to_row
from gnomon.methods.sigext.summaries import page_rank

RAW = [
    {
        "id": "a",
        "document": "The old bridge is closed. A new bridge opens in spring, and the mayor is glad.",
        "summary": "New bridge opens.",
    },
    {
        "id": "b",
        "document": "Votes were counted at the mill. The mayor lost the vote.",
        "summary": "The mayor lost.",
    },
]
ROWS = [to_row(raw, Reading(), Columns(), "row") for raw in RAW]


def texts(arm, **options):
    return [[phrase.text for phrase in ranked] for ranked in rank_phrases(arm, ROWS, **options)]


@pytest.mark.parametrize("arm", ["random", *ARMS])
def test_every_phrase_of_every_arm_stands_in_its_document(arm):
    for row, ranked in zip(ROWS, rank_phrases(arm, ROWS), strict=True):
        assert ranked and all(row.document[p.start : p.end] == p.text for p in ranked)


def test_first_is_reading_order_and_the_oracle_says_what_the_reference_says():
    assert texts("first")[0] == ["old bridge", "closed", "new bridge opens", "spring", "mayor", "glad"]
    assert texts("oracle") == [["new bridge opens"], ["mayor lost"]]
    with pytest.raises(BadInput, match="needs reference summaries"):
        rank_phrases("oracle", [replace(row, labels=()) for row in ROWS])


def test_random_phrases_depend_on_the_seed_and_the_document_alone():
    one, again, other = (texts("random", rng=Rng(seed)) for seed in (1, 1, 2))
    assert one == again and one != other
    assert [sorted(a) for a in one] == [sorted(b) for b in texts("first")]
    (alone,) = rank_phrases("random", ROWS[1:], rng=Rng(1))
    assert [p.text for p in alone] == one[1]


def test_rake_is_degree_over_frequency_summed():
    # old 2/1, bridge (2+3)/2, new 3/1, opens 3/1: the long phrase first; single words have 1, in reading order.
    assert texts("rake")[0] == ["new bridge opens", "old bridge", "closed", "spring", "mayor", "glad"]


def test_tf_idf_is_scikit_learn_s():
    documents = [
        ["old", "bridg", "close", "new", "bridg", "open", "spring", "mayor", "glad"],
        ["vote", "count", "mill", "mayor", "lost", "vote"],
    ]
    weigh = TfidfVectorizer(analyzer=lambda words: words)
    table = weigh.fit_transform(documents).toarray()
    weight = {word: table[0][i] for word, i in weigh.vocabulary_.items()}
    means = {
        "old bridge": (weight["old"] + weight["bridg"]) / 2,
        "new bridge opens": (weight["new"] + weight["bridg"] + weight["open"]) / 3,
        "mayor": weight["mayor"],
        "closed": weight["close"],
    }
    order = texts("tf-idf")[0]
    found = [text for text in order if text in means]
    assert found == sorted(means, key=lambda text: -means[text])
    assert order[-1] == "mayor"  # in both documents


@given(st.lists(st.sampled_from("abcdef"), max_size=14))
def test_page_rank_is_that_of_networkx(words):
    graph = networkx.Graph()
    graph.add_nodes_from(words)
    for i, one in enumerate(words):
        for other in words[i + 1 : i + 3]:
            if one != other:
                weight = graph.get_edge_data(one, other, {"weight": 0})["weight"]
                graph.add_edge(one, other, weight=weight + 1)
    expected = networkx.pagerank(graph, max_iter=500, tol=1e-12) if words else {}
    found = page_rank(words)
    assert found.keys() == expected.keys()
    assert all(found[word] == pytest.approx(expected[word], abs=2e-4) for word in found)


def test_yake_s_keywords_are_its_own_in_its_order():
    keywords = [
        text for text, _ in yake.KeywordExtractor(lan="en", n=3, top=100).extract_keywords(RAW[0]["document"])
    ]
    found = [text.lower() for text in texts("yake")[0]]
    assert found == [text.lower() for text in keywords if text.lower() in found]
    assert len(found) >= 0.8 * len(keywords)


@pytest.mark.parametrize("arm", ["random", *(arm for arm in ARMS if arm != "oracle")])
def test_documents_without_words_have_no_phrases(arm):
    empty = [replace(ROWS[0], document="of the", phrases=(), labels=())]
    assert rank_phrases(arm, empty) == [[]]


def test_a_misspelt_arm_is_named():
    with pytest.raises(BadConfig, match=r'no arm "rack".*Did you mean "rake"'):
        rank_phrases("rack", ROWS)
    assert np.isclose(sum(page_rank(["a"]).values()), 1)
