"""Arms, controls and reasons: against hand-worked cases and independent sums."""

import numpy as np
import pytest

from fixtures_interleaved import encoder, small_documents, small_queries
from fixtures_vlm import picture
from gnomon.core.retrieval.hits import ranked
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval import Block, Document, Query, Section, explain, merged
from gnomon.methods.interleaved_retrieval.documents.rows import section_id
from gnomon.methods.interleaved_retrieval.encoding.vectors import Encoded
from gnomon.methods.interleaved_retrieval.evaluation.cloze import KINDS, cloze
from gnomon.methods.interleaved_retrieval.evaluation.comparison import compare
from gnomon.methods.interleaved_retrieval.evaluation.controls import (
    Alarm,
    by_length,
    by_pool,
    leaks,
    swapped,
    without_images,
)
from gnomon.methods.interleaved_retrieval.evaluation.judged import judged
from gnomon.methods.interleaved_retrieval.evaluation.sections import distinct_documents, section_stage


def both(n=4):
    documents, queries = small_documents(n), small_queries(n)
    return judged(documents, queries, {q.id: {section_id(f"doc {i}", 1): 1} for i, q in enumerate(queries)})


def test_a_judged_section_judges_its_document():
    documents, queries = small_documents(2), small_queries(3)
    result = judged(
        documents,
        queries,
        {"q0": {section_id("doc 0", 2): 1, "doc 1": 1}, "q1": {"doc%201#8": 1}, "q2": {"no": 1}},
    )
    assert result.qrels == {"q0": {"doc 0": 1, "doc 1": 1}} and result.sections == {"q0": {"doc%200#2": 1}}
    assert [q.id for q in result.queries] == ["q0"]
    assert any("no section 8" in reason for reason in result.left_out)
    assert any('no document "no"' in reason for reason in result.left_out)
    with pytest.raises(BadInput, match="No query has a relevant document"):
        judged(documents, queries, {})


def test_metrics_agree_with_ir_measures():
    import ir_measures
    from ir_measures import RR, R, Success, nDCG

    data, rng = both(4), np.random.default_rng(0)
    hits = [ranked((f"doc {i}", float(rng.normal())) for i in range(4)) for _ in data.queries]
    row = data.row("x", hits)
    qrels = [ir_measures.Qrel(q, d, r) for q, of in data.qrels.items() for d, r in of.items()]
    run = [
        ir_measures.ScoredDoc(q.id, h.id, h.score)
        for q, own in zip(data.queries, hits, strict=True)
        for h in own
    ]
    theirs = ir_measures.calc_aggregate([Success @ 1, R @ 10, RR @ 10, nDCG @ 10], qrels, run)
    for ours, name in (
        ("success@1", Success @ 1),
        ("recall@10", R @ 10),
        ("MRR@10", RR @ 10),
        ("nDCG@10", nDCG @ 10),
    ):
        assert row[ours][0] == pytest.approx(theirs[name])


def test_every_document_gets_the_pictures_of_another():
    documents = [*small_documents(3), Document("bare", "", (Section("h", (Block("text", text="x"),)),))]
    other = swapped(documents)
    pictures = [d.sections[1].blocks[1].image for d in documents[:3]]
    assert [d.sections[1].blocks[1].image for d in other[:3]] == [pictures[2], pictures[0], pictures[1]]
    assert other[3] == documents[3] and other[0].sections[1].blocks[1].caption == "picture 0"
    with pytest.raises(BadInput, match="at least two documents"):
        swapped(documents[2:])


@pytest.mark.parametrize(
    ("right", "other", "without", "rings"),
    [
        (0.9, 0.5, 0.5, False),
        (0.9, 0.88, 0.5, True),
        (0.5, 0.5, 0.5, True),
        (0.9, 0.69, 0.5, False),
        (0.9, 0.71, 0.5, True),
    ],
)
def test_the_alarm(right, other, without, rings):
    alarm = Alarm(right, other, without)
    assert alarm.rings == rings and ("ignores pictures" in alarm.sentence) == rings


def test_a_model_that_ignores_pictures_sets_off_the_alarm():
    """Its projector gives the same for every picture."""
    import torch

    from fixtures_interleaved import new_encoder

    blind = new_encoder()
    with torch.no_grad():
        for parameter in blind.handle.model.model.multi_modal_projector.parameters():
            parameter.zero_()
    result = compare(both(4), blind, rivals={}, pools=(2,), rng=Rng(0))
    assert result.alarm.rings and result.alarm.swapped == result.alarm.right


def test_pictures_that_queries_share_with_documents():
    documents = small_documents(3)
    near = documents[1].sections[1].blocks[1].image.resize((80, 60)).resize((40, 30))
    queries = [
        Query("same", "x", picture(0)),
        Query("near", "x", near),
        Query("new", "x", picture(77)),
        Query("none", "x"),
    ]
    shared = leaks(queries, documents)
    assert shared.same == {"same": ["doc 0"]} and shared.alike == {"near": ["doc 1"]}
    left = [without_images(d, shared.keys) for d in documents]
    assert [len(d.sections[1].blocks) for d in left] == [2, 2, 3]


def test_dilution_by_hand():
    documents = [
        Document(f"d{n}", "", tuple(Section("h", (Block("text", text="x"),)) for _ in range(n)))
        for n in (1, 3, 5, 5)
    ]
    queries = [Query(f"q{i}", "x") for i in range(3)]
    data = judged(documents[:3], queries, {"q0": {"d1": 1}, "q1": {"d3": 1}, "q2": {"d5": 1}})
    hits = [ranked([("d1", 2.0), ("d3", 1.0)]), ranked([("d1", 2.0), ("d3", 1.0)]), ranked([("d1", 2.0)])]
    rows = {row["sections"]: (row["success@1"], row["success@10"]) for row in by_length(data, hits)}
    assert rows == {"1": (1.0, 1.0), "2-3": (0.0, 1.0), "4-6": (0.0, 0.0)}


def test_pools_are_nested_and_success_never_rises():
    rng = np.random.default_rng(1)
    names = [f"d{i}" for i in range(30)]
    encoded = Encoded(
        names,
        np.arange(31),
        [(0, 0)] * 30,
        [()] * 30,
        np.ones(30, int),
        rng.normal(size=(30, 4)).astype(np.float32),
    )
    documents = [Document(n, "", (Section("h", (Block("text", text="x"),)),)) for n in names]
    queries = [Query(f"q{i}", "x") for i in range(30)]
    data = judged(documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(30)})
    vectors = encoded.vectors + rng.normal(size=(30, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = by_pool(data, encoded, vectors, "mean", (1, 5, 15, 99), Rng(0))
    assert [row["pool"] for row in rows] == [1, 5, 15, 30] and rows[0]["success@1"] == 1.0
    curve = [row["success@1"] for row in rows]
    assert curve == sorted(curve, reverse=True) and curve[-1] < 1
    scores = vectors @ merged(encoded).T
    assert curve[-1] == pytest.approx(float(np.mean(scores.argmax(1) == np.arange(30))))


def test_both_stages_hand_equally_many_documents_on():
    data = both(4)
    ours = encoder()
    encoded, queries = ours.encode_sections(data.documents), ours.encode_queries(data.queries)
    ways = section_stage(data, encoded, queries, merge="mean", top=2)
    for hits in ways["documents, then sections"]:
        assert len({h.id.rpartition("#")[0] for h in hits}) == 2 and len(hits) == 6
    owners = {"a#0": "a", "a#1": "a", "b#0": "b", "c#0": "c"}
    hits = ranked([("a#0", 4.0), ("a#1", 3.0), ("b#0", 2.0), ("c#0", 1.0)])
    assert distinct_documents(hits, owners, 2) == ["a", "b"]


def test_why_a_document_was_returned():
    """Each loss is the score less that of the document without the block, encoded as a whole."""
    from dataclasses import replace

    ours, document, query = encoder(), small_documents(1)[0], Query("q", "a cat sat")
    score, reasons = explain(ours, query, document)
    vector = ours.encode_queries([query])[0]
    assert score == pytest.approx(float(merged(ours.encode_sections([document]))[0] @ vector), abs=1e-5)
    assert len(reasons) == 5 and [r.drop for r in reasons] == sorted((r.drop for r in reasons), reverse=True)
    for reason in reasons:
        sections = list(document.sections)
        blocks = tuple(b for k, b in enumerate(sections[reason.section].blocks) if k != reason.block)
        sections[reason.section] = replace(sections[reason.section], blocks=blocks)
        if not blocks:
            del sections[reason.section]
        less = float(merged(ours.encode_sections([replace(document, sections=tuple(sections))]))[0] @ vector)
        assert reason.drop == pytest.approx(score - less, abs=1e-4)
    with pytest.raises(BadInput, match="nothing to show"):
        explain(ours, query, Document("e", "", (Section("", ()),)))


def test_what_is_taken_out_is_gone_and_names_its_section():
    text = "The first sentence of this paragraph has quite a few words. The second one goes on in the same vein here. A third."
    from gnomon.methods.interleaved_retrieval.documents.rows import table_block

    table = table_block(["alpha", "beta"], [[f"a{i}", f"b{i}"] for i in range(4)])
    document = Document("d 1", "", (Section("h", (Block("text", text=text),)), Section("t", (table,))))
    (new,), queries, qrels, kinds = cloze([document], Rng(0))
    by_kind = {kinds[q.id]: q for q in queries}
    assert set(by_kind) == set(KINDS)
    sentence = by_kind["sentences"].text
    assert sentence in text and sentence not in new.sections[0].blocks[0].text
    assert len(new.sections[1].blocks[0].rows) == 3 and by_kind["column names"].text == "alpha beta"
    assert tuple(by_kind["table rows"].text.split()) not in new.sections[1].blocks[0].rows
    assert qrels[by_kind["table rows"].id] == {"d%201#1": 1}
