"""Chunks, candidates and training sets: what must never be a negative, what must be counted, and hubness by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_uncertainty_rag import made_documents, write_rows
from gnomon.core.retrieval import Passage
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag import (
    Choice,
    Cut,
    Pool,
    build_training_set,
    chunk,
    deduplicate,
    hubness,
    propose,
    similarity,
)
from gnomon.methods.uncertainty_rag.training.candidates import check_found, choose_anchors
from gnomon.methods.uncertainty_rag.training.chunks import (
    is_held_out,
    read_chunks,
    read_corpus,
    split_documents,
    write_chunks,
)


def passages(*texts, doc=None):
    return [Passage(f"p{i}", doc or f"d{i}", 0, len(t), t, i) for i, t in enumerate(texts)]


LONG = "the old mill by the river grinds the grain of all farms in the valley until late autumn"


def test_copies_are_removed_and_counted_and_the_first_stays():
    near = LONG.replace("late autumn", "late autumns")
    kept = deduplicate(passages(LONG, "Bread", LONG.upper().replace(" ", "  "), near, "ships sail at dawn"))
    assert [p.id for p in kept.kept] == ["p0", "p1", "p4"]
    assert kept.removed == [
        {"id": "p2", "of": "p0", "why": "exact"},
        {"id": "p3", "of": "p0", "why": "near"},
    ]
    assert kept.counts == {"exact": 1, "near": 1}
    assert [p.id for p in deduplicate(passages(LONG, near), near=None).kept] == ["p0", "p1"]
    with pytest.raises(BadInput, match="All 3 chunks say the same"):
        deduplicate(passages("a b", "A  b", "a B"))


@given(st.lists(st.text("ab ", min_size=1, max_size=12).filter(str.strip), min_size=2, max_size=12))
def test_no_two_that_are_kept_have_one_text(texts):
    try:
        kept = deduplicate(passages(*texts)).kept
    except BadInput:
        return
    assert len({" ".join(p.text.split()) for p in kept}) == len(kept)


def test_a_corpus_leaves_bad_rows_out_with_their_reason(tmp_path):
    rows = [
        {"id": "a", "text": "one"},
        {"id": "a", "text": "two"},
        {"id": "b"},
        {"id": "c", "text": " "},
        {"id": "d", "text": "x", "title": "T"},
    ]
    corpus = read_corpus(str(write_rows(tmp_path / "c.jsonl", rows)), id_field="id")
    assert [(d.doc_id, d.text) for d in corpus.documents] == [("a", "one"), ("d", "T\n\nx")]
    reasons = [row["reason"] for row in corpus.refused]
    assert (
        len(reasons) == 3
        and "read before" in reasons[0]
        and "missing" in reasons[1]
        and "empty" in reasons[2]
    )
    twice = [{"text": "one"}, {"text": "two"}, {"text": "one"}, {"text": "three"}]
    unnamed = read_corpus(str(write_rows(tmp_path / "t.jsonl", twice)))
    assert (len(unnamed.documents), unnamed.copies, unnamed.refused) == (3, 1, [])
    assert [d.text for d in read_corpus(str(tmp_path / "t.jsonl"), limit=2).documents] == ["one", "two"]
    with pytest.raises(BadInput, match="no document that can be used"):
        read_corpus(str(write_rows(tmp_path / "e.jsonl", [{"id": "c", "text": " "}])), id_field="id")


def test_whole_documents_are_set_aside_and_judged_ones_always(tmp_path):
    documents = read_corpus(
        str(write_rows(tmp_path / "c.jsonl", made_documents(40))), id_field="id"
    ).documents
    rest, aside = split_documents(documents, 0.3, never=["bread-0"])
    assert {d.doc_id for d in rest}.isdisjoint(d.doc_id for d in aside) and len(rest) + len(aside) == 40
    assert "bread-0" in {d.doc_id for d in aside} and 4 <= len(aside) <= 22
    assert all(is_held_out(d.doc_id, 0.3) or d.doc_id == "bread-0" for d in aside)
    with pytest.raises(BadInput, match="1 of 1 documents are left"):
        split_documents(documents[:1], 0.0)


def test_chunks_survive_their_file(tmp_path):
    document = read_corpus(str(write_rows(tmp_path / "c.jsonl", made_documents(1))), id_field="id").documents
    chunks = chunk(document, Cut("words", 20))
    write_chunks(tmp_path / "chunks.jsonl", chunks)
    again = list(read_chunks(tmp_path / "chunks.jsonl"))
    assert [(p.id, p.start, p.end, p.text, p.order) for p in again] == [
        (p.id, p.start, p.end, p.text, p.order) for p in chunks
    ]
    assert all(document[0].text[p.start : p.end] == p.text for p in again)


@pytest.fixture
def chunks(tmp_path):
    documents = read_corpus(
        str(write_rows(tmp_path / "c.jsonl", made_documents(16))), id_field="id"
    ).documents
    return chunk(documents, Cut("words", 24))


def test_candidates_are_never_the_anchor_its_copy_or_its_neighbour(chunks):
    anchor = chunks[3]
    copies = [
        Passage("copy", "other", 0, 1, anchor.text.upper(), 0),
        Passage("near", "other", 0, 1, anchor.text + " too", 5),
    ]
    pool = Pool(n_anchors=5, m=12, n_random=6, min_gap=2, near=0.9)
    found = list(propose([*chunks, *copies], [anchor], pool, Rng(0)))
    names = [pair.candidate for pair in found]
    assert anchor.id not in names and "copy" not in names and "near" not in names
    place = {p.id: p for p in chunks}
    for pair in found:
        other = place[pair.candidate]
        assert other.doc_id != anchor.doc_id or abs(other.order - anchor.order) > 2
        assert pair.same_document == (other.doc_id == anchor.doc_id)
    by_source = {s: [p for p in found if p.source == s] for s in ("bm25", "random")}
    assert len(by_source["bm25"]) == 12 and len(by_source["random"]) == 6 and len(set(names)) == 18
    scores = [pair.bm25 for pair in by_source["bm25"]]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0
    topic = anchor.doc_id.split("-")[0]
    assert np.mean([place[p.candidate].doc_id.startswith(topic) for p in by_source["bm25"]]) > 0.8


def test_bm25_of_a_candidate_is_that_of_the_index(chunks, tmp_path):
    from gnomon.core.retrieval import Terms

    anchor = chunks[7]
    found = list(propose(chunks, [anchor], Pool(m=5, n_random=2, min_gap=0), Rng(0)))
    terms = Terms.build(tmp_path / "terms", {p.id: p.text for p in chunks})
    (hits,) = terms.search([anchor.text], 30)
    wanted = {hit.id: hit.score for hit in hits}
    for pair in found:
        assert pair.bm25 == pytest.approx(wanted.get(pair.candidate, pair.bm25), rel=1e-5)


def test_the_same_seed_proposes_the_same_and_another_other_random_ones(chunks):
    pool = Pool(n_anchors=4, m=3, n_random=4)
    one, two, other = (
        list(propose(chunks, choose_anchors(chunks, pool, Rng(s)), pool, Rng(s))) for s in (0, 0, 1)
    )
    assert one == two != other
    assert check_found(one, chunks)["anchors"] == 4
    with pytest.raises(BadInput, match="have no candidates"):
        check_found([], chunks)


def clustered(n=120, k=6):
    draw = np.random.default_rng(0)
    centres = np.linalg.qr(draw.normal(size=(16, 16)))[0][:k]
    vectors = np.concatenate([c + 0.05 * draw.normal(size=(n // k, 16)) for c in centres]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("sampling", ["kmeans", "knn_spread"])
def test_diverse_anchors_come_from_every_cluster(sampling):
    vectors = clustered()
    chunks = passages(*(f"text {i}" for i in range(120)))
    chosen = choose_anchors(chunks, Pool(n_anchors=6, anchor_sampling=sampling), Rng(0), vectors)
    assert {int(p.id[1:]) // 20 for p in chosen} == set(range(6))
    with pytest.raises(BadConfig, match="--encoder"):
        choose_anchors(chunks, Pool(anchor_sampling=sampling), Rng(0))


def test_candidates_by_an_encoder_are_its_nearest():
    vectors = clustered()
    chunks = passages(*(f"text {i} word" for i in range(120)))
    found = list(
        propose(chunks, chunks[:1], Pool(m=0, n_random=0, n_encoder=5, near=1.0), Rng(0), vectors=vectors)
    )
    nearest = np.argsort(-(vectors @ vectors[0]))[1:6]
    assert [p.candidate for p in found] == [f"p{i}" for i in nearest] and found[0].source == "encoder"
    with pytest.raises(BadConfig, match="--encoder"):
        list(propose(chunks, chunks[:1], Pool(n_encoder=5), Rng(0)))


# Training sets


def columns(rows):
    """(anchor, candidate, U) rows as a table's columns."""
    anchors, candidates, values = zip(*rows, strict=True)
    return {
        "anchor": np.array(anchors),
        "candidate": np.array(candidates),
        "U": np.array(values, float),
        "gain": -np.array(values, float),
        "same_document": np.zeros(len(rows), bool),
    }


TEXTS = {
    "a": "an anchor",
    "b": "bread and butter",
    "c": "ships at sea",
    "d": "stars",
    "e": "trees in a forest",
    "f": "moss",
}


def test_the_most_certain_are_positives_and_the_least_certain_negatives():
    table = columns([("a", "b", 1.0), ("a", "c", 2.0), ("a", "d", 3.0), ("a", "e", 4.0)])
    (row,) = build_training_set(table, TEXTS, Choice(k_p=1, k_n=2)).rows
    assert row["positives"] == ["b"] and row["negatives"] == ["e", "d"]
    assert row["positive_texts"] == ["bread and butter"] and row["anchor_text"] == "an anchor"
    (row,) = build_training_set(
        table, TEXTS, Choice()
    ).rows  # twenty of each: the better half, the worse half
    assert row["positives"] == ["b", "c"] and row["negatives"] == ["e", "d"]


def test_a_positive_is_never_among_its_negatives_by_id_or_by_text():
    """sentence-transformers#1346: the positive's id; Dayallenr/RAG#10: its very text under another id, in 7.5% of rows."""
    texts = {**TEXTS, "b2": "Bread and  BUTTER", "b3": "bread and butter.", "a2": "AN anchor"}
    table = columns(
        [
            ("a", "b", 1.0),
            ("a", "c", 4.0),
            ("a", "b2", 9.0),
            ("a", "b3", 8.0),
            ("a", "a2", 7.0),
            ("a", "d", 5.0),
            ("a", "e", 6.0),
        ]
    )
    mined = build_training_set(table, texts, Choice(k_p=1, k_n=4))
    (row,) = mined.rows
    assert row["positives"] == ["b"] and row["negatives"] == ["e"]
    # c and d are of the better half; the copies of positive and anchor are gone, and counted.
    assert mined.figures["negatives removed, equal or near to a positive"] == 3


@given(
    st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 6), st.sampled_from(["span", "gain_centred"])
)
def test_no_negative_is_a_positive_whatever_the_table(seed, k_p, k_n, by):
    draw = np.random.default_rng(seed)
    words = ["oak", "sea", "sun"]
    texts = {f"x{i}": " ".join(draw.choice(words, 3)) for i in range(12)}
    pairs = [
        (f"x{i}", f"x{j}", draw.random())
        for i in range(3)
        for j in range(12)
        if i != j and draw.random() < 0.7
    ]
    if not pairs:
        return
    try:
        mined = build_training_set(columns(pairs), texts, Choice(by, k_p=k_p, k_n=k_n))
    except BadInput:
        return
    for row in mined.rows:
        own = {row["anchor_text"], *row["positive_texts"]}
        assert not own & set(row["negative_texts"]) and not set(row["positives"]) & set(row["negatives"])
        assert (
            row["anchor"] not in row["negatives"]
            and len(row["positives"]) <= k_p
            and len(row["negatives"]) <= k_n
        )


def test_hubness_by_hand():
    # One of 200 candidates is the positive of 100 anchors, the others of one each: top 1% are two.
    used = ["hub"] * 100 + [f"c{i}" for i in range(199)]
    numbers = hubness(used, 299)
    assert numbers["top 1%"] == pytest.approx(101 / 299) and numbers["most used"] == pytest.approx(100 / 299)
    counts = np.array([100] + [1] * 199, float)
    z = (counts - counts.mean()) / counts.std()
    assert numbers["skewness"] == pytest.approx((z**3).mean())
    assert hubness(["a", "b", "c"], 3)["skewness"] == 0


def test_centring_takes_easy_text_away():
    """Candidate `easy` looks certain beside every anchor; what is left is what it says about each."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(6):
        for j in range(6):
            rows.append((f"a{i}", f"c{j}", 3 - (i == j) + 0.01 * rng.random()))
        rows.append((f"a{i}", "easy", 0.5 + 0.01 * rng.random()))
    table = columns(rows)
    texts = {name: f"text {name}" for row in rows for name in row[:2]}
    plain, centred = (
        build_training_set(table, texts, Choice(centre=c, k_p=1)) for c in ("none", "candidate")
    )
    assert {row["positives"][0] for row in plain.rows} == {"easy"}
    assert [row["positives"][0] for row in centred.rows] == [f"c{i}" for i in range(6)]
    assert plain.figures["hubness, most used"] == 1 and centred.figures[
        "hubness, most used"
    ] == pytest.approx(1 / 6)


def test_centring_of_a_candidate_with_one_anchor_uses_the_mean_of_all():
    table = columns([("a", "b", 1.0), ("a", "c", 3.0), ("d", "c", 5.0)])
    # -U is -1, -3, -5; c's mean is -4, that of all -3.
    assert similarity(table, "span", "candidate") == pytest.approx([2.0, 1.0, -1.0])
    assert similarity(table, "gain_centred") == pytest.approx(similarity(table, "gain", "candidate"))
    with pytest.raises(BadConfig, match=r'no score "spam".*span'):
        similarity(table, "spam")
    with pytest.raises(BadInput, match='no score "cosine"'):
        similarity(table, "cosine")


def test_a_table_and_chunks_of_two_runs_are_refused():
    with pytest.raises(BadInput, match='"z" is in the table'):
        build_training_set(columns([("a", "z", 1.0), ("a", "b", 2.0)]), TEXTS, Choice())
    with pytest.raises(BadInput, match="two candidates or more"):
        build_training_set(columns([("a", "b", 1.0)]), TEXTS, Choice())
