import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.retrieval import Passage, Search, Terms, Vectors, fuse
from gnomon.core.retrieval.hits import ranked
from gnomon.errors import BadConfig, BadInput

TEXTS = {"a": "old mill", "b": "old river", "c": "the cat", "d": "river and mill"}
MEANING = {"a": [1, 0], "b": [0.8, 0.6], "c": [0, 1], "d": [0.6, 0.8]}


class Encoder:
    fingerprint = "two numbers"

    def encode(self, texts, role="passage"):
        assert role == "query"
        return np.array([[1, 0] if text == "old mill" else [0.8, 0.6] for text in texts], np.float32)


class Longest:
    """Prefers long passages, and says how many it was shown."""

    shown = 0

    def score(self, query, passages):
        self.shown = len(passages)
        return [len(passage.text) for passage in passages]


@pytest.fixture
def parts(tmp_path):
    ids = list(TEXTS)
    meta = [{"year": year} for year in (2000, 2001, 2002, 2003)]
    vectors = Vectors.build(
        tmp_path / "v",
        ids,
        np.array(list(MEANING.values()), np.float32),
        fingerprint="two numbers",
        meta=meta,
    )
    passages = {name: Passage(name, name, 0, len(text), text) for name, text in TEXTS.items()}
    return passages, Encoder(), vectors, Terms.build(tmp_path / "t", TEXTS)


def test_ranks_add_up_by_hand_and_scores_are_kept_apart():
    dense, terms = ranked([("x", 0.9), ("y", 0.8), ("z", 0.1)]), ranked([("z", 12.0), ("y", 3.0)])
    hits = fuse({"dense": dense, "terms": terms}, weights={"terms": 2.0})
    wanted = {"x": 1 / 61, "y": 1 / 62 + 2 / 62, "z": 1 / 63 + 2 / 61}
    assert {hit.id: hit.score for hit in hits} == pytest.approx(wanted)
    assert [hit.id for hit in hits] == ["z", "y", "x"]
    assert hits[0].parts == {"dense": (3, 0.1), "terms": (1, 12.0)}
    with pytest.raises(BadConfig, match='no source "graph"'):
        fuse({"dense": dense}, weights={"graph": 1.0})


@given(st.lists(st.permutations("abcdef").map(lambda p: p[:4]), min_size=1, max_size=4))
def test_the_order_in_which_sources_are_named_changes_nothing(rankings):
    sources = {
        f"s{i}": ranked([(name, 9.0 - j) for j, name in enumerate(names)]) for i, names in enumerate(rankings)
    }
    assert fuse(sources) == fuse(dict(reversed(sources.items())))
    scores = [hit.score for hit in fuse(sources)]
    assert scores == sorted(scores, reverse=True)


def test_a_search_by_both_keeps_where_a_hit_comes_from(parts):
    passages, encoder, vectors, terms = parts
    hits = Search(passages, encoder, vectors, terms).search("old river", 3)
    assert hits[0].id == "b" and set(hits[0].parts) == {"dense", "terms"}
    only_dense = next(
        hit for hit in Search(passages, encoder, vectors, terms).search("old river", 4) if hit.id == "c"
    )
    assert set(only_dense.parts) == {"dense"}


def test_all_candidates_are_reranked_and_then_cut(parts):
    passages, encoder, vectors, _ = parts
    reranker = Longest()
    hits = Search(passages, encoder, vectors, reranker=reranker).search("old mill", 1)
    assert reranker.shown == 4 and [hit.id for hit in hits] == ["d"]  # the longest, though not the nearest
    assert hits[0].parts["dense"][0] == 3 and hits[0].parts["reranker"] == (1, 14.0)


def test_a_filter_holds_for_words_too(parts):
    passages, encoder, vectors, terms = parts
    hits = Search(passages, encoder, vectors, terms).search("old river", 4, {"year": {"gte": 2002}})
    assert {hit.id for hit in hits} == {"c", "d"}
    with pytest.raises(BadInput, match="cannot be filtered"):
        Search(passages, terms=terms).search("old", 4, {"year": 2000})
    with pytest.raises(BadConfig, match="nothing to search"):
        Search(passages).search("old")


def test_entropy_weighs_a_sure_source_more_by_hand():
    sure, unsure = ranked([("x", 3.0), ("a", 1.0), ("b", 1.0), ("c", 1.0)]), ranked([("a", 5.0), ("x", 5.0)])
    up, down = np.exp(3**0.5), np.exp(-(3**-0.5))  # z-scores of 3 and 1, 1, 1
    p, q = up / (up + 3 * down), down / (up + 3 * down)
    weight = 1 + (p * np.log(p) + 3 * q * np.log(q)) / np.log(4)
    hits = fuse({"sure": sure, "unsure": unsure}, how="entropy")
    scores = {hit.id: hit.score for hit in hits}
    # The second list says nothing: its scores are equal, its certainty 0.
    assert scores == pytest.approx({"x": weight * p, "a": weight * q, "b": weight * q, "c": weight * q})
    assert hits[0].parts == {"sure": (1, 3.0), "unsure": (2, 5.0)} and [h.id for h in hits] == list("xabc")
    twice = fuse({"sure": sure, "unsure": unsure}, how="entropy", weights={"sure": 2.0})
    assert twice[0].score == pytest.approx(2 * weight * p)
    assert fuse({"one": ranked([("a", 1.0)]), "none": []}, how="entropy")[0].score == 1.0
    with pytest.raises(BadConfig, match="rrf or entropy"):
        fuse({"sure": sure}, how="votes")


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8),
    st.floats(0.1, 10),
    st.floats(-50, 50),
)
def test_certainty_does_not_depend_on_the_scale_of_scores(scores, factor, shift):
    from gnomon.core.retrieval.fusion import certainty

    if np.std(scores) < 1e-3:
        return
    assert 0 <= certainty(scores) <= 1
    assert certainty([factor * s + shift for s in scores]) == pytest.approx(certainty(scores), abs=1e-6)


def test_a_search_fuses_by_entropy_when_it_is_told_to(parts):
    passages, encoder, vectors, terms = parts
    dense, words = (Search(passages, encoder, vectors), Search(passages, terms=terms))
    both = Search(passages, encoder, vectors, terms, how="entropy")
    wanted = fuse(
        {"dense": dense.search("old river", 100), "terms": words.search("old river", 100)}, how="entropy"
    )
    assert [(h.id, h.score) for h in both.search("old river")] == [(h.id, h.score) for h in wanted]
