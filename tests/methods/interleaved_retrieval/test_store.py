"""The index: an update is a rebuild to the last bit, only changed sections are read, hits name blocks and pictures."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures_interleaved import encoder, new_encoder, small_documents, small_queries
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.interleaved_retrieval import (
    Block,
    Document,
    DocumentIndex,
    InterleavedEncoder,
    Section,
    section_rows,
)
from gnomon.methods.interleaved_retrieval.documents.rows import section_id

FOLDERS = itertools.count()


def build(folder, documents, ours=None, **options):
    ours = ours or encoder()
    rows = [row for d in documents for row in section_rows(ours, d, ours.how.form)]
    return DocumentIndex.build(folder, rows, encoder=ours, form=ours.how.form, **options)


def files(index):
    at = index._generations.current()
    return {p.name: p.read_bytes() for p in at.iterdir() if p.suffix in (".f32", ".f16", ".parquet", ".json")}


def edited(document, number, text):
    sections = list(document.sections)
    sections[number] = Section("new", (Block("text", text=text),))
    return replace(document, sections=tuple(sections))


def test_an_updated_index_is_the_rebuilt_one_byte_for_byte(tmp_path):
    documents = small_documents(5)
    index = build(tmp_path / "a", documents)
    changed = edited(documents[1], 1, "a bird sang in the park")
    index = index.update_section(encoder(), changed, 1)
    index = index.delete(["doc 3"])
    new = Document("another", "t", documents[3].sections)
    index = index.add(encoder(), [new])
    rebuilt = build(tmp_path / "b", [documents[0], changed, documents[2], documents[4], new])
    assert files(index) == files(rebuilt)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["update", "delete", "add"]), st.integers(0, 4), st.integers(0, 2)),
        max_size=4,
    )
)
def test_any_changes_equal_a_rebuild(tmp_path, changes):
    at = tmp_path / str(next(FOLDERS))
    now = {d.id: d for d in small_documents(3)}
    index = build(at / "a", now.values())
    for step, (what, i, number) in enumerate(changes):
        name = f"doc {i}"
        if what == "update" and name in now:
            now[name] = edited(now[name], number, f"step {step}")
            index = index.update_section(encoder(), now[name], number)
        elif what == "delete" and name in now and len(now) > 1:
            index = index.delete([name])
            del now[name]
        elif what == "add":
            now[name] = edited(small_documents(5)[i], number, f"added {step}")
            index = index.add(encoder(), [now[name]])
    assert files(index) == files(build(at / "b", now.values()))


def test_only_what_changed_is_read(tmp_path, monkeypatch):
    ours = new_encoder()
    documents = small_documents(4)
    index = build(tmp_path / "a", documents, ours)
    read = []
    states = InterleavedEncoder._states
    monkeypatch.setattr(
        InterleavedEncoder,
        "_states",
        lambda self, seen, exact: read.append(len(seen)) or states(self, seen, exact=exact),
    )
    index.add(ours, [edited(documents[2], 0, "a new text")])
    assert sum(read) == 1


def test_hits_name_blocks_and_pictures(tmp_path):
    """LightRAG#3405: answers cannot show the source image."""
    from fixtures_interleaved import write_documents
    from gnomon.methods.interleaved_retrieval import read_documents

    documents = list(read_documents(write_documents(tmp_path / "in", small_documents(3))))
    index = build(tmp_path / "a", documents)
    title, heading, blocks = index.shown(section_id("doc 1", 1))
    assert (title, heading) == ("title 1", "second")
    assert [b.type for b in blocks] == ["text", "image", "text"]
    assert blocks[1].file.endswith("doc%201-1-1.png") and blocks[1].text == "picture 1"
    with pytest.raises(BadInput, match="no section"):
        index.shown("doc#9")
    assert index.sections_of(["doc 1"]) == {"doc 1": [section_id("doc 1", i) for i in range(3)]}


def test_search_is_the_cosine_of_merged_vectors(tmp_path):
    ours = encoder()
    documents = small_documents(4)
    index = build(tmp_path / "a", documents)
    queries = ours.encode_queries(small_queries(3))
    vectors, _, offsets = ours.encode_documents(documents, exact=True)
    assert offsets.tolist() == [0, 3, 6, 9, 12]
    for query, hits in zip(queries, index.search(queries, 2), strict=True):
        scores = vectors @ query
        order = sorted(range(4), key=lambda i: (-scores[i], documents[i].id))[:2]
        assert [h.id for h in hits] == [documents[i].id for i in order]
        np.testing.assert_allclose([h.score for h in hits], scores[order], atol=1e-6)
    many = InterleavedEncoder(ours.handle, replace(ours.how, merge="max_sim"))
    best = build(tmp_path / "b", documents, many).search(queries, 4)[0]
    assert [h.rank for h in best] == [1, 2, 3, 4] and best[0].score >= index.search(queries, 1)[0][
        0
    ].score - 0.5


def test_another_encoder_is_refused(tmp_path):
    index = build(tmp_path / "a", small_documents(2))
    other = InterleavedEncoder(encoder().handle, replace(encoder().how, max_length=60))
    with pytest.raises(ModelMismatch):
        DocumentIndex.open(tmp_path / "a", fingerprint=other.fingerprint)
    with pytest.raises(ModelMismatch):
        index.add(other, small_documents(1))


def test_sixteen_bits_are_smaller_and_say_what_they_lose(tmp_path):
    whole, half = (
        build(tmp_path / "a", small_documents(3)),
        build(tmp_path / "b", small_documents(3), width="f16"),
    )
    assert whole.loss == 0 and 0 < half.loss < 1e-5
    sizes = [len(files(i)[name]) for i, name in ((whole, "sections.f32"), (half, "sections.f16"))]
    assert sizes[0] == 2 * sizes[1]


def test_what_cannot_be_stored(tmp_path):
    with pytest.raises(BadInput, match="no section to index"):
        build(tmp_path / "a", [])
    with pytest.raises(BadInput, match="comes twice"):
        build(tmp_path / "b", [small_documents(1)[0]] * 2)
    index = build(tmp_path / "c", small_documents(2))
    with pytest.raises(BadInput, match='no document "x"'):
        index.delete(["x"])
    with pytest.raises(BadInput, match="no section"):
        index.update_section(encoder(), small_documents(1)[0], 7)
    with pytest.raises(BadInput, match="nothing to show"):
        index.add(encoder(), [Document("empty", "", (Section("", ()),))])
