import math

import pytest

from gnomon.core.retrieval import Terms
from gnomon.core.retrieval.terms import K1, B, words_of
from gnomon.errors import BadConfig, BadInput

TEXTS = {
    "b": "The river flows past the old mill.",
    "a": "An old river; rivers, old and new.",
    "c": "Nothing to see here, only the cat.",
    "d": "",
}


def test_words_are_stemmed_and_stop_words_left_out():
    assert words_of("The meetings of Ann\u2019s rivers") == ["meet", words_of("Ann's")[0], "river"]
    assert words_of("Die Häuser und der Fluss", "german") == ["haus", "fluss"]


def test_scores_by_hand(tmp_path):
    """Lucene's BM25, bm25s' default: ln(1 + (N - n + .5) / (n + .5)) f / (f + k1 (1 - b + b |d| / mean |d|))."""
    terms = Terms.build(tmp_path / "t", TEXTS)
    lengths = {name: len(words_of(text)) for name, text in TEXTS.items()}
    mean = sum(lengths.values()) / 4

    def score(word, name):
        n = sum(word in words_of(text) for text in TEXTS.values())
        f = words_of(TEXTS[name]).count(word)
        return math.log(1 + (4 - n + 0.5) / (n + 0.5)) * f / (f + K1 * (1 - B + B * lengths[name] / mean))

    (hits,) = terms.search(["old rivers"], 5)
    wanted = {name: score("old", name) + score("river", name) for name in "ab"}
    assert {hit.id: hit.score for hit in hits} == pytest.approx(wanted, rel=1e-5)
    assert [hit.id for hit in hits] == sorted(wanted, key=lambda name: -wanted[name])
    assert hits[0].parts == {"terms": (1, hits[0].score)}


def test_words_that_nobody_wrote_find_nothing(tmp_path):
    """bm25s 60: such a query was an error, and k arbitrary documents with a score of 0 are no answer either."""
    terms = Terms.build(tmp_path / "t", TEXTS)
    assert terms.search(["zebra crossing", "", "the of and", "cat zebra"], 3)[:3] == [[], [], []]
    assert [hit.id for hit in terms.search(["cat zebra"], 3)[0]] == ["c"]


def test_more_than_there_is_gives_what_there_is(tmp_path):
    """bm25s 116: two documents, k = 10."""
    terms = Terms.build(tmp_path / "t", {"x": "old mill", "y": "old river"})
    assert [hit.id for hit in terms.search(["old"], 10)[0]] == ["x", "y"]  # equal scores, in the order of ids


def test_an_index_does_not_depend_on_the_order_of_its_texts_and_opens_again(tmp_path):
    one = Terms.build(tmp_path / "a", TEXTS)
    other = Terms.build(tmp_path / "b", dict(reversed(TEXTS.items())))
    again = Terms.open(tmp_path / "a")
    for query in "old", "river mill", "cat":
        assert one.search([query], 3) == other.search([query], 3) == again.search([query], 3)


def test_texts_without_words_are_no_index(tmp_path):
    with pytest.raises(BadInput, match="None of the 2 texts has a word"):
        Terms.build(tmp_path / "t", {"a": "the of", "b": " "})
    assert not list((tmp_path).glob("t/generation-*"))
    with pytest.raises(BadConfig, match="no language"):
        Terms.build(tmp_path / "t", TEXTS, language="klingon")
    with pytest.raises(BadInput, match="no index"):
        Terms.open(tmp_path / "t")
