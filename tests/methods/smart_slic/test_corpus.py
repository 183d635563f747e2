"""The corpus: rows that are no papers, two papers that cite each other, thresholds by hand, steps of cleaning by name."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, BudgetSpent
from gnomon.methods.smart_slic.corpus.cleaning import STEPS, acronyms, clean, is_english
from gnomon.methods.smart_slic.corpus.expansion import LocalProvider, expand
from gnomon.methods.smart_slic.corpus.papers import Paper, paper_of, read_papers
from gnomon.methods.smart_slic.corpus.pruning import PruneOptions, prune


def test_rows_that_are_no_papers_are_left_out_with_a_reason(tmp_path):
    path = tmp_path / "papers.jsonl"
    rows = [
        {"id": "a", "title": "A", "authors": "Ann; Bob ;", "year": 2020.0, "references": [], "field": "x"},
        {"id": "b"},
        {"id": "a", "title": "again"},
        {"id": "c", "title": "C", "year": "soon"},
    ]
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]) + "\n")
    papers = read_papers(path)
    (paper,) = papers.papers
    assert (paper.authors, paper.year, paper.meta) == (("Ann", "Bob"), 2020, {"field": "x"})
    assert paper.references == () and paper.citations is None  # none, and not known
    reasons = " | ".join(why for _, why in papers.rejected)
    assert len(papers.rejected) == 4
    for word in ("title", "twice", "soon"):
        assert word in reasons


def paper(name, references=None, citations=None):
    return paper_of({"id": name, "title": name, "references": references, "citations": citations})


def test_references_lead_to_what_is_cited_and_citations_to_what_cites():
    new, old = paper("new", ["old", "gone"], []), paper("old", [], ["new"])
    provider = LocalProvider([new, old])
    assert set(expand([new], provider, by=["references"]).papers) == {"new", "old"}
    assert set(expand([new], provider, by=["citations"]).papers) == {"new"}
    assert set(expand([old], provider, by=["citations"]).papers) == {"old", "new"}
    hop = expand([new], provider, by=["references"]).hops[0]
    assert (hop.linked, hop.fetched, hop.missing, hop.unknown) == (2, 1, 1, 0.0)


def test_a_hop_is_capped_by_how_many_point_there_and_unknown_is_not_none():
    core = [paper("a", ["x", "y"]), paper("b", ["y", "z"]), paper("c")]
    lines = []
    grown = expand(
        core, LocalProvider([paper(n) for n in "xyz"]), by=["references"], max_papers=1, say=lines.append
    )
    assert list(grown.papers) == ["a", "b", "c", "y"] and grown.hop_of["y"] == 1
    assert grown.hops[0].not_chosen == 2 and grown.hops[0].unknown == pytest.approx(1 / 3)
    assert "at most 3 papers" in lines[0] and "33%" in lines[0]


def test_a_spent_budget_keeps_what_was_fetched():
    class Daily(LocalProvider):
        calls = 0

        def papers(self, ids):
            self.calls += 1
            if self.calls > 1:
                raise BudgetSpent("No credits are left today.")
            return super().papers(ids)

    grown = expand([paper("a", ["b"])], Daily([paper("b", ["c"]), paper("c")]), hops=3, by=["references"])
    assert list(grown.papers) == ["a", "b"] and "No credits" in grown.stopped


@pytest.mark.parametrize("options", [{"hops": 0}, {"max_papers": 0}, {"by": ["authors"]}])
def test_expansions_that_cannot_be(options):
    with pytest.raises(BadConfig):
        expand([paper("a")], LocalProvider([]), **options)


def at(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_the_rule_of_the_centroid_by_hand():
    """Core at +-20 degrees: its centroid is (cos 20, 0), both distances sin 20, so anything farther than that is dropped."""
    ids = ["a", "b", "near", "far"]
    result = prune(ids, at(20, -20, 0, 25), ["a", "b"], PruneOptions(rule="centroid", neighbours=1))
    assert result.threshold == pytest.approx(-np.sin(np.deg2rad(20)))
    assert [d.status for d in result.decisions] == ["core", "core", "kept", "dropped"]
    assert "0.347" not in result.decisions[2].reason and "below" in result.decisions[3].reason
    loose = prune(
        ids, at(20, -20, 0, 25), ["a", "b"], PruneOptions(rule="centroid", neighbours=1, leave_one_out=True)
    )
    assert loose.threshold == pytest.approx(-2 * np.sin(np.deg2rad(20)))  # each is held against the other


def test_the_nearest_of_the_core_by_hand():
    """Core at 0, 10, 30: left out in turn the nearest is 10, 10, 20 degrees away; the smallest cosine is the threshold."""
    options = PruneOptions(rule="knn", neighbours=1, quantile=0.0)
    result = prune(["a", "b", "c", "in", "out"], at(0, 10, 30, 49, 51), ["a", "b", "c"], options)
    assert result.threshold == pytest.approx(np.cos(np.deg2rad(20)))
    assert [d.status for d in result.decisions[3:]] == ["kept", "dropped"]


def test_a_background_tells_a_neighbouring_field_apart():
    """Papers as near to the core as its own are dropped when the pool has much nearer company for them."""
    draw = np.random.default_rng(0)

    def cloud(centre, n, spread):
        vectors = centre + spread * draw.standard_normal((n, 20))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    e = np.eye(20)
    own, neighbour, far = e[0], e[0] * 0.9 + e[1] * 0.45, e[5]
    vectors = np.vstack([cloud(own, 60, 0.16), cloud(neighbour, 150, 0.06), cloud(far, 50, 0.1)])
    ids = [str(i) for i in range(len(vectors))]
    labels = np.repeat([True, False, False], [60, 150, 50])[30:]
    precision = {}
    for rule in ("knn", "relative"):
        result = prune(ids, vectors, ids[:30], PruneOptions(rule=rule), rng=Rng(0))
        kept = np.array([d.status == "kept" for d in result.decisions])[30:]
        assert (kept & labels).sum() / labels.sum() >= 0.8
        precision[rule] = (kept & labels).sum() / kept.sum()
    assert precision["relative"] >= 0.85 > precision["knn"] + 0.3


def test_a_core_as_mixed_as_the_pool_is_named():
    vectors = np.random.default_rng(0).standard_normal((200, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [str(i) for i in range(200)]
    assert "not coherent" in prune(ids, vectors, ids[:30]).warning
    vectors[:30] = vectors[0] + 0.2 * vectors[:30]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert not prune(ids, vectors, ids[:30]).warning


def test_pruning_that_cannot_be():
    with pytest.raises(BadInput, match='"z"'):
        prune(["a", "b"], at(0, 1), ["z"])
    with pytest.raises(BadInput, match="more than 5"):
        prune(["a", "b"], at(0, 1), ["a"])
    with pytest.raises(BadConfig, match="rule"):
        PruneOptions(rule="best")


@pytest.mark.parametrize(
    ("step", "raw", "wanted"),
    [
        ("hyphens", "a\u2013b\u2010c", "a-b-c"),
        ("phrases", "End. Copyright 2020 by ACM. Published by Elsevier.", "End.    "),
        ("formulas", "x=1 a/b +-2 word", "word"),
        ("emails", "write a.b@c.org now", "write   now"),
        ("tags", "<b>bold</b> a < b", " bold  a < b"),
        ("special", "what? yes-no", "what  yes-no"),
        ("ascii", "na\u00efve \u03b1", "naive "),
        ("numbers", "12 3-4 gpt", "gpt"),
        ("short", "a be -c", "be"),
        ("alphanumeric", "gpt4 gpt 4", "gpt 4"),
        ("roman", "part xiv mix civil", "part civil"),
    ],
)
def test_steps_of_cleaning(step, raw, wanted):
    assert STEPS[step](raw) == wanted


def test_a_step_is_left_out_by_name():
    assert clean("The 3 cats", steps=["numbers"]) == "The cats"
    with pytest.raises(BadConfig, match="numbers"):
        clean("x", steps=["number"])


@given(st.text(max_size=200))
def test_cleaning_is_pure_and_leaves_plain_words(text):
    cleaned = clean(text)
    assert cleaned == clean(text)
    assert all(token == token.lower() and len(token) >= 2 for token in cleaned.split())
    assert cleaned.isascii()


@given(st.text(alphabet="ab c-19(", max_size=40), st.text(alphabet="ab c-19(", max_size=40))
def test_frozen_terms_are_never_altered(before, after):
    assert "covid-19" in clean(f"{before} COVID-19 {after}", frozen=["covid-19"]).split()


def test_what_is_not_english():
    assert is_english("We show that this is the case for all of the models that we have.")
    assert not is_english("Wir zeigen, dass dies der Fall ist.") and not is_english("")


def test_acronyms_need_their_letters():
    assert acronyms("a graph network (GN), some words (XY)") == {"GN": "graph network"}
    assert isinstance(Paper("a", "b").summary, str)
