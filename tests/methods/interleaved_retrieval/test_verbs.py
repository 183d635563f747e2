"""Every verb on files, through the command line: what it writes, what it leaves out, and what a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures_interleaved import small_documents, write_documents, write_judged
from fixtures_vlm import picture, saved_vlm
from gnomon import cli
from gnomon.core.retrieval.judged import read_run
from gnomon.methods.interleaved_retrieval import DocumentIndex, read_documents

ROOM = "interleaved-retrieval"
TRAIN = [
    "--train.lora-rank",
    "None",
    "--train.max-steps",
    "3",
    "--train.batch-size",
    "4",
    "--train.max-length",
    "300",
]


def gnomon(*words):
    return cli.main([ROOM, *map(str, words)])


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """Documents, queries, and a retriever and a reranker that were trained for three steps."""
    folder = tmp_path_factory.mktemp("rooms")
    source = write_documents(folder / "docs", small_documents(6))
    queries, qrels = write_judged(folder, 6)
    words = [source, "--queries", queries, "--qrels", qrels, "--model", saved_vlm("llava"), *TRAIN]
    assert gnomon("train", *words, "--out", folder / "retriever") == 0
    more = ["--part", "reranker", "--retriever", folder / "retriever", "--num-negatives", "2"]
    assert gnomon("train", *words, *more, "--train.lora-rank", "2", "--out", folder / "reranker") == 0
    assert gnomon("index", source, "--model", folder / "retriever", "--out", folder / "index") == 0
    return folder


def vectors(run):
    index = DocumentIndex.open(run / "index")
    files = index._generations.current()
    return {name: (files / name).read_bytes() for name in ("docs.f32", "sections.f32")}


def test_import_writes_documents_and_counts_what_is_missing(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    picture(1).save(tmp_path / "in" / "a.png")
    page = "# One\ntext\n\n![seen](../a.png) ![gone](../b.png)\n\n## Two\n\n| a |\n|---|\n| 1 |"
    (tmp_path / "in" / "sub" / "page.md").write_text(page)
    (tmp_path / "in" / "bad.md").write_bytes(b"\xff")
    assert gnomon("import", tmp_path / "in", "--out", tmp_path / "run") == 1  # one file of two is too much
    assert gnomon("import", tmp_path / "in" / "sub" / "page.md", "--out", tmp_path / "single") == 0
    page = report(tmp_path / "run")
    assert (
        page["figures"]["documents"] == 1
        and page["figures"]["images"] == 1
        and page["figures"]["images left out"] == 1
    )
    reasons = [
        json.loads(line)["reason"] for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()
    ]
    assert any("not UTF-8" in r for r in reasons) and any('no file "' in r and "b.png" in r for r in reasons)
    outside = [
        json.loads(line)["reason"]
        for line in (tmp_path / "single" / "rejected.jsonl").read_text().splitlines()
    ]
    assert any("leads out of" in reason for reason in outside)


def test_an_update_reads_what_changed_and_equals_a_rebuild(at, tmp_path):
    documents = small_documents(6)
    documents[2] = small_documents(9)[8]
    changed = write_documents(tmp_path / "docs", documents)
    words = ["--model", at / "retriever"]
    assert gnomon("index", changed, *words, "--update", at / "index", "--out", tmp_path / "updated") == 0
    figures = report(tmp_path / "updated")["figures"]
    assert (figures["sections encoded"], figures["sections taken over"]) == (3, 15)
    assert gnomon("index", changed, *words, "--shard-rows", 2, "--out", tmp_path / "rebuilt") == 0
    assert vectors(tmp_path / "updated") == vectors(tmp_path / "rebuilt")
    assert gnomon("index", changed, *words, "--no-exact", "--out", tmp_path / "batches") == 0
    a, b = (
        np.frombuffer(vectors(tmp_path / run)["sections.f32"], np.float32) for run in ("batches", "rebuilt")
    )
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).mean())


def test_a_killed_index_goes_on_with_nothing_lost_or_doubled(at, tmp_path):
    source = write_documents(tmp_path / "docs", small_documents(10))
    many = [json.loads(line) for line in source.read_text().splitlines()]
    rows = [{**row, "id": f"{row['id']} {k}"} for k in range(4) for row in many]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["index", source, "--model", at / "retriever", "--shard-rows", 2]
    command = [sys.executable, "-m", "gnomon", ROOM, *map(str, words), "--out", str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = tmp_path / "killed" / "sections" / "_done"
    for _ in range(1200):
        if len(list(done.glob("part-*.json"))) >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "report.json").exists() and len(list(done.glob("part-*.json"))) < 20
    assert gnomon(*words, "--out", tmp_path / "killed") == 0
    assert gnomon(*words, "--out", tmp_path / "whole") == 0
    assert vectors(tmp_path / "killed") == vectors(tmp_path / "whole")
    assert len(DocumentIndex.open(tmp_path / "killed" / "index")) == 40


@pytest.mark.scale
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_encodes_what_one_process_encodes(at, tmp_path):
    pytest.importorskip("ray")
    words = ["index", at / "docs" / "documents.jsonl", "--model", at / "retriever", "--shard-rows", 3]
    assert gnomon(*words, "--engine", "ray", "--workers", 2, "--out", tmp_path / "ray") == 0
    assert vectors(tmp_path / "ray") == vectors(at / "index")


def test_one_missing_picture_costs_itself_and_strict_its_document(at, tmp_path):
    """RAG-Anything#63."""
    source = write_documents(tmp_path / "docs", small_documents(6))
    (tmp_path / "docs" / "doc%202-1-1.png").unlink()
    words = ["index", source, "--model", at / "retriever"]
    assert gnomon(*words, "--out", tmp_path / "run") == 0
    page = report(tmp_path / "run")
    assert (
        page["figures"]["documents"] == 6
        and page["figures"]["images left out"] == 1
        and not page["shortfalls"]
    )
    (reason,) = (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()
    assert "doc%202#1, block 1" in reason and "no file" in reason
    assert gnomon(*words, "--strict", "--out", tmp_path / "strict") == 0
    page = report(tmp_path / "strict")
    assert page["figures"]["documents"] == 5 and page["shortfalls"][0]["failed"] == 1
    for name in range(3):
        (tmp_path / "docs" / f"doc%20{name}-1-1.png").unlink(missing_ok=True)
    assert gnomon(*words, "--strict", "--out", tmp_path / "mostly") == 1


def test_search_names_documents_sections_blocks_and_pictures(at, tmp_path):
    words = [
        at / "index",
        "--model",
        at / "retriever",
        "--text",
        "a dog",
        "--image",
        at / "docs" / "doc%201-1-1.png",
    ]
    more = [
        "--reranker",
        at / "reranker",
        "--source",
        at / "docs" / "documents.jsonl",
        "--explain",
        1,
        "-k",
        3,
    ]
    assert gnomon("search", *words, *more, "--out", tmp_path / "run") == 0
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "hits.jsonl").read_text().splitlines()]
    assert len(row["documents"]) == len(row["sections"]) == 3
    files = [b["file"] for s in row["sections"] for b in s["blocks"] if b["type"] == "image"]
    assert all(Path(file).is_file() for file in files)
    run = read_run(tmp_path / "run" / "sections.trec")["q0"]
    assert [h.id for h in run] == [s["id"] for s in row["sections"]]
    assert "<img" in (tmp_path / "run" / "report.html").read_text()
    assert gnomon("search", at / "index", "--model", at / "retriever", "--out", tmp_path / "no") == 2
    assert (
        gnomon(
            "search", at / "index", "--model", saved_vlm("llava"), "--text", "x", "--out", tmp_path / "other"
        )
        == 2
    )


def test_eval_shows_every_arm_and_control(at, tmp_path):
    source, queries, qrels = at / "docs" / "documents.jsonl", at / "queries.jsonl", at / "qrels.txt"
    words = [source, "--queries", queries, "--qrels", qrels, "--model", at / "retriever"]
    more = ["--reranker", at / "reranker", "--rivals", f"a rival={at / 'retriever'}", "--pools", 2, 4]
    assert gnomon("eval", *words, *more, "--out", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    arms = {row["arm"]: row for row in metrics["arms"]}
    assert set(arms) == {
        "all", "all, norm_mean", "all, token_weighted_mean", "all, max_sim", "without images", "without tables", "text alone",
        "captions in place of images", "grouped", "four images in a picture", "images swapped", "a rival", "BM25",
        "all and BM25 fused",
    }  # fmt: skip
    assert arms["a rival"]["success@10"] == arms["all"]["success@10"]
    gains = {row["left out"]: row for row in metrics["gain of each modality"]}
    images = 6 * 9  # nine tokens a picture
    assert gains["without images"]["tokens more"] >= images and arms["all"]["image_tokens"] == images
    assert [row["arm"] for row in metrics["sections"]] == [
        "sections directly", "documents, then sections", "documents + reranker", "sections + reranker", "BM25 over sections",
    ]  # fmt: skip
    assert [row["pool"] for row in metrics["by size of the pool"]] == [2, 4, 6]
    alarm = metrics["alarm"]
    assert (
        alarm["right"] == arms["all"]["success@1"][0]
        and alarm["swapped"] == arms["images swapped"]["success@1"][0]
    )


def test_an_index_goes_to_a_store_and_to_sentence_transformers(at, tmp_path):
    from gnomon.core.retrieval import open_index

    words = [
        "index",
        at / "docs" / "documents.jsonl",
        "--model",
        at / "retriever",
        "--store",
        "f16",
        "--export",
    ]
    assert gnomon(*words, "--publish", tmp_path / "published", "--out", tmp_path / "run") == 0
    store = open_index(tmp_path / "published")
    assert len(store) == 18 and store.matching({"document": "doc 1"}) == [f"doc%201#{i}.0" for i in range(3)]
    assert (tmp_path / "run" / "sentence-transformers" / "modules.json").is_file()


def test_a_plain_encoder_of_text_indexes_captions(tmp_path):
    pytest.importorskip("gguf")
    from gnomon.errors import UserError

    source = write_documents(tmp_path / "docs", small_documents(3))
    try:
        code = gnomon("index", source, "--model", "embedded:minilm", "--out", tmp_path / "run")
    except UserError as error:
        pytest.skip(str(error))
    if code == 2:
        pytest.skip("the embedded model is not installed")
    assert code == 0 and report(tmp_path / "run")["figures"]["documents"] == 3


def test_requests_that_are_wrong(at, tmp_path, capsys):
    source = at / "docs" / "documents.jsonl"
    (tmp_path / "none.txt").write_text("q9 0 nowhere 1\n")
    base = [source, "--queries", at / "queries.jsonl", "--model", saved_vlm("llava")]
    assert gnomon("train", *base, "--qrels", tmp_path / "none.txt", "--out", tmp_path / "a") == 2
    assert "no relevant document" in capsys.readouterr().err
    assert (
        gnomon("search", at / "index", "--model", at / "reranker", "--text", "x", "--out", tmp_path / "c")
        == 2
    )
    assert gnomon("eval", *base, "--qrels", at / "qrels.txt", "--pools", 0, "--out", tmp_path / "d") == 2
    assert (
        gnomon(
            "search",
            at / "index",
            "--model",
            at / "retriever",
            "--text",
            "x",
            "--explain",
            1,
            "--out",
            tmp_path / "e",
        )
        == 2
    )
    assert "--source" in capsys.readouterr().err


def test_pictures_are_where_the_rows_say_also_when_the_run_is_named_from_where_one_stands(
    tmp_path, monkeypatch
):
    (tmp_path / "docs" / "img").mkdir(parents=True)
    picture(0).save(tmp_path / "docs" / "img" / "rim.png")
    (tmp_path / "docs" / "a.md").write_text("# Rims\n\nLight ones. ![a rim](img/rim.png)\n")
    monkeypatch.chdir(tmp_path)
    assert gnomon("import", "docs", "--out", "imported") == 0
    (document,) = read_documents(Path("imported"))
    (image,) = [block for block in document.sections[0].blocks if block.type == "image"]
    assert np.array_equal(np.asarray(Image.open(image.file)), np.asarray(picture(0)))
    row = (tmp_path / "imported" / "documents" / "part-00000.jsonl").read_text()
    assert '"path": "images/' in row
