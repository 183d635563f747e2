"""Sections and queries made vectors: padding, batches, long sections, merges, and the cases that users met."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures_interleaved import encoder, new_encoder, new_handle, small_documents, small_queries
from fixtures_vlm import picture, saved_vlm, vlm
from gnomon.core.models import ModelHandle
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.interleaved_retrieval import (
    Block,
    Document,
    Form,
    InterleavedEncoder,
    Query,
    Retrieving,
    Section,
)
from gnomon.methods.interleaved_retrieval.documents.rows import table_block
from gnomon.methods.interleaved_retrieval.encoding.opened import open_encoder
from gnomon.methods.interleaved_retrieval.encoding.settings import read_settings
from gnomon.methods.interleaved_retrieval.encoding.units import Units
from gnomon.methods.interleaved_retrieval.encoding.vectors import (
    Encoded,
    merged,
    rank_documents,
    rank_sections,
    unit,
)


def test_the_vector_is_the_state_at_the_end_token():
    ours = encoder()
    document = small_documents(1)[0]
    encoded = ours.encode_sections([document])
    (whole,) = ours.units.of_section(document, 1)
    assert whole.seen.ids[-1] == ours.units.ends["passage"] != ours.units.ends["query"]
    batch = ours.handle.gather([whole.seen])
    state = ours.handle.capture(batch, ["final_norm"], where="last")["final_norm"][0]
    np.testing.assert_allclose(encoded.vectors[1], state, rtol=1e-4, atol=1e-5)
    query = ours.units.of_query(Query("q", "a dog"))
    assert query.ids[-1] == ours.units.ends["query"]


def test_batches_and_company_change_a_vector_by_rounding_alone():
    """VLM2Vec#18: left padding and the last token gave other vectors."""
    ours = encoder()
    documents = small_documents(4)
    whole = ours.encode_sections(documents).vectors
    alone = np.concatenate([ours.encode_sections([d], exact=True).vectors for d in documents])
    np.testing.assert_allclose(whole, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).mean())
    exact = ours.encode_sections(documents, exact=True).vectors
    assert np.array_equal(exact, alone)  # to the last bit, whatever stands beside it
    small = InterleavedEncoder(ours.handle, ours.how, batch_tokens=1)
    np.testing.assert_allclose(small.encode_sections(documents).vectors, alone, rtol=1e-5, atol=1e-6)


def test_merges_by_hand():
    vectors = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]], np.float32)
    encoded = Encoded(
        ["a", "b"], np.array([0, 2, 3]), [(0, 0), (1, 0), (0, 0)], [(), (), ()], np.array([1, 3, 5]), vectors
    )
    np.testing.assert_allclose(
        merged(encoded, "mean")[0], np.array([1.5, 3.0]) / np.hypot(1.5, 3.0), rtol=1e-6
    )
    np.testing.assert_allclose(
        merged(encoded, "norm_mean")[0], np.array([0.3, 0.9]) / np.hypot(0.3, 0.9), rtol=1e-6
    )
    weighted = 0.25 * np.array([3.0, 4.0]) + 0.75 * np.array([0.0, 2.0])
    np.testing.assert_allclose(
        merged(encoded, "token_weighted_mean")[0], weighted / np.linalg.norm(weighted), rtol=1e-6
    )
    query = np.array([[0.0, 1.0]], np.float32)
    hits = {
        m: [(h.id, round(h.score, 4)) for h in rank_documents(query, encoded, m, 2)[0]]
        for m in ("mean", "max_sim")
    }
    assert hits["max_sim"] == [("a", 1.0), ("b", 0.0)]
    assert hits["mean"] == [("a", 0.8944), ("b", 0.0)]
    sections = rank_sections(query, encoded, 3, [["a"]])[0]
    assert [(h.id, round(h.score, 4)) for h in sections] == [("a#1", 1.0), ("a#0", 0.8)]
    with pytest.raises(BadConfig, match="Did you mean"):
        merged(encoded, "maen")
    with pytest.raises(ModelMismatch, match="not finite"):
        unit(np.zeros((1, 2), np.float32))


def test_equal_scores_are_ordered_by_id():
    encoded = Encoded(
        ["b", "a"],
        np.array([0, 1, 2]),
        [(0, 0), (0, 0)],
        [(), ()],
        np.ones(2, int),
        np.ones((2, 2), np.float32),
    )
    assert [h.id for h in rank_documents(np.ones((1, 2), np.float32), encoded, "mean", 2)[0]] == ["a", "b"]


def limited(tokens, **options):
    return Units(
        encoder().handle, replace(encoder().how, max_length=tokens, form=Form(prefix="none")), **options
    )


def test_a_long_section_is_cut_between_blocks_and_keeps_its_end():
    """VLM2Vec#38 and Qwen3-VL-Embedding#64: the length cut image tokens, and the counts no longer went together."""
    blocks = [Block("text", text=f"a cat sat on the mat {i}") for i in range(4)]
    section = Section("", (*blocks[:2], Block("image", image=picture(1)), *blocks[2:]))
    units = limited(40)
    document = Document("long doc", "", (section,))
    parts = units.of_section(document, 0)
    assert len(parts) > 1 and [u.part for u in parts] == list(range(len(parts)))
    assert [i for u in parts for i in u.blocks] == [0, 1, 2, 3, 4]
    for part in parts:
        assert len(part.seen.ids) <= 40 and part.seen.ids[-1] == units.ends["passage"]
        assert part.seen.ids.count(units.handle.sites.top.image_token) == part.image_tokens
    assert units.troubles.count == 0
    encoded = InterleavedEncoder(units.handle, units.how).encode_sections([document])
    assert encoded.section_ids == ["long%20doc#0"] * len(parts)


def test_an_image_that_is_too_large_is_left_out_and_named():
    document = Document(
        "d", "", (Section("", (Block("image", image=picture(1), caption="cat"), Block("text", text="sat"))),)
    )
    units = limited(8)
    assert units.of_section(document, 0)
    ((name, reason),) = units.troubles.dropped.items()
    assert name == "d#0, block 0" and "8 that the model reads" in reason
    with pytest.raises(BadInput, match='Block 0 in section 0 of document "d"'):
        limited(8, strict=True).of_section(document, 0)


def test_a_split_table_has_its_header_in_every_part():
    """docling#2975: the second half of a split table lost its header."""
    table = table_block(["name", "value"], [[f"cat {i}", str(i)] for i in range(12)], "cats")
    units = limited(100)
    parts = units.of_section(Document("d", "", (Section("", (table,)),)), 0)
    written = [units.handle.tokenizer.decode(p.seen.ids[:-1]) for p in parts]
    assert len(parts) > 1 and all("| name | value |" in text and "cats" in text for text in written)
    rows = [line for text in written for line in text.splitlines() if line.startswith("| cat")]
    assert rows == [f"| cat {i} | {i} |" for i in range(12)]


def test_a_long_paragraph_is_cut_between_words():
    words = [f"word{i}" for i in range(40)]
    units = limited(50)
    parts = units.of_section(Document("d", "", (Section("", (Block("text", text=" ".join(words)),)),)), 0)
    assert len(parts) > 1
    assert " ".join(units.handle.tokenizer.decode(p.seen.ids[:-1]) for p in parts).split() == words
    single = limited(20).of_section(Document("d", "", (Section("", (Block("text", text="x" * 200),)),)), 0)
    assert "".join(units.handle.tokenizer.decode(p.seen.ids[:-1]) for p in single) == "x" * 200


def test_a_long_query_loses_its_end_and_is_noted():
    units = limited(20)
    seen = units.of_query(Query("q", "a cat sat on the mat while a dog ran in the park " * 3))
    assert (
        len(seen.ids) <= 20 and seen.ids[-1] == units.ends["query"] and 'query "q"' in units.troubles.dropped
    )
    with pytest.raises(BadInput, match='Query "q" has'):
        limited(6).of_query(Query("q", "a", picture(0)))


def test_markers_in_a_user_s_text_stay_text():
    ours = encoder()
    text = "write <image> and then [EoS] or [EoQ] and </s>"
    document = Document("d", "", (Section("", (Block("text", text=text), Block("image", image=picture(0)))),))
    (whole,) = InterleavedEncoder(ours.handle, replace(ours.how, form=Form(prefix="none"))).units.of_section(
        document, 0
    )
    end = ours.units.ends["passage"]
    assert whole.seen.ids.count(end) == 1 and len(whole.seen.layouts) == 1
    assert whole.seen.ids.count(ours.handle.sites.top.image_token) == whole.image_tokens
    assert ours.units.ends["query"] not in whole.seen.ids
    query = ours.units.of_query(Query("q", text))
    assert query.ids.count(ours.units.ends["query"]) == 1 and end not in query.ids


def test_a_retriever_survives_saving_in_a_fresh_process(tmp_path):
    import subprocess
    import sys

    ours = new_encoder(
        Retrieving(form=Form(tile_images=4), merge="norm_mean", max_length=200, temperature=0.1)
    )
    with torch.no_grad():  # both ends have rows of their own
        ours.handle.model.get_input_embeddings().weight[-2:].normal_(0, 0.3)
    folder = ours.save_pretrained(tmp_path / "saved")
    vectors = ours.encode_queries(small_queries(2))
    code = (
        "import sys, numpy as np\n"
        "from gnomon.methods.interleaved_retrieval import open_encoder, Query\n"
        "e = open_encoder(sys.argv[1]); np.save(sys.argv[2], e.encode_queries([Query('0', 'a cat'), Query('1', 'a dog')]))\n"
        "print(e.fingerprint, e.merge, e.how.form.tile_images, e.how.temperature)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "v.npy")],
        capture_output=True,
        text=True,
        check=True,
    )
    vars(ours).pop("fingerprint", None)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), vectors)
    assert done.stdout.split() == [ours.fingerprint, "norm_mean", "4", "0.1"]
    with pytest.raises(BadConfig, match="is not empty"):
        ours.save_pretrained(folder)
    (folder / "retriever_config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        read_settings(folder)


def test_other_weights_forms_and_lengths_have_other_fingerprints():
    ours = encoder()
    names = {ours.fingerprint, ours.with_form(Form(tables=False)).fingerprint}
    names.add(InterleavedEncoder(ours.handle, replace(ours.how, max_length=50)).fingerprint)
    names.add(InterleavedEncoder(ours.handle, replace(ours.how, merge="max_sim")).fingerprint)
    assert len(names) == 3  # the merge is no matter of the sections' vectors


def test_models_of_other_kinds(tmp_path, caplog):
    from fixtures_vlm import tokenizer
    from gnomon.core.models.tiny import tiny_causal

    with pytest.raises(ModelMismatch, match="no part that makes hidden states without logits"):
        InterleavedEncoder(vlm("blip2"), Retrieving(ends={})).encode_sections(small_documents(1))
    tiny_causal("llama", tokenizer(), tmp_path / "text")
    text = InterleavedEncoder.new(ModelHandle.load(tmp_path / "text", device="cpu"))
    assert text.how.form.images == "captions" and text.encode_sections(small_documents(2)).vectors.shape == (
        6,
        32,
    )
    plain = open_encoder(saved_vlm("llava"))
    assert "is no retriever" in caplog.text and plain.encode_queries(small_queries(1)).shape == (1, 32)
    assert new_handle().kind == "vlm"
