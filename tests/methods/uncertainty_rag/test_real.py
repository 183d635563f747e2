"""The parts of the real run on tiny models and made-up files: they run, go on, and score what their claims need."""

import json

import numpy as np
import pytest

import fixtures_uncertainty_rag as made
from gnomon import registry
from gnomon.errors import BadConfig
from gnomon.verbs import run_verb


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Models with room for long pairs, a file of abstracts, a BEIR folder."""
    at = tmp_path_factory.mktemp("real")
    lm, encoder = made.save_models(at, positions=600)
    documents = made.made_documents(40, sentences=30)
    fields = ("bread", "ships")
    rows = [{"abstract": d["text"], "field": fields[i % 2]} for i, d in enumerate(documents)]
    made.write_rows(at / "papers.jsonl", rows)
    beir = at / "beir"
    beir.mkdir()
    texts = made.made_documents(30, sentences=4, seed=1)
    made.write_rows(
        beir / "corpus.jsonl", [{"_id": d["id"], "title": d["id"], "text": d["text"]} for d in texts]
    )
    made.write_rows(
        beir / "queries.jsonl", [{"_id": f"q{i}", "text": d["text"][:50]} for i, d in enumerate(texts[:6])]
    )
    lines = [f"q{i}\t{d['id']}\t1" for i, d in enumerate(texts[:6])]
    (beir / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    words = ["--model", lm, "--encoder", encoder, "--papers", at / "papers.jsonl", "--beir", beir]
    return [*map(str, words), "--seeds", "1", "--scale", "smoke", "--quiet"]


def run(words, part, out):
    return run_verb(registry.method("uncertainty-rag"), "mini", ["--parts", part, *words, "--out", str(out)])


@pytest.mark.parametrize(
    "part", ["gap", "papers", "retriever", "reranker", pytest.param("docstrings", marks=pytest.mark.slow)]
)
def test_a_part_runs_and_repeats_from_what_is_kept(real, part, tmp_path):
    assert run(real, part, tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    table = {"retriever": "retrievers, real", "reranker": "rerankers"}.get(part, part)
    rows = summary[table]
    key = {"retriever": "arm", "reranker": "arm"}.get(part, "score")
    names = {row[key] for row in rows}
    assert "/" not in summary["command"]  # no path of this machine
    if part in ("gap", "papers"):
        assert {"span", "span, w 20, above", "span, w 8, below", "span, centred", "nll_all", "nll_all, centred", "nll_cond", "gain",
                "gain_centred", "bm25", "cosine"} <= names  # fmt: skip
        scores = {row["score"]: row for row in rows}
        value = scores["bm25"].get("AUC", scores["bm25"].get("AUC, same field"))
        assert 0.4 < value <= 1 and np.isfinite(value)
    elif part == "retriever":
        assert names == {
            "bm25",
            *(f"MiniLM, {s}" for s in ("untouched", "span", "gain", "nll_cond", "nll_all", "bm25", "random")),
        }
        assert summary["hubness"]
    elif part == "reranker":
        assert names == {"bm25", "gain", "span", "MiniLM", "rrf of bm25 and gain"}
    (tmp_path / "run" / "report.json").unlink()  # as if it had been killed before its end
    assert run(real, part, tmp_path / "run") == 0
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert again[table] == rows


def test_a_part_without_its_data_is_refused(tmp_path):
    for part, message in (
        ("gap", "papers must be given"),
        ("reranker", "beir must be given"),
        ("moon", "parts must be some of"),
    ):
        with pytest.raises(BadConfig, match=message):
            run([], part, tmp_path / part)
