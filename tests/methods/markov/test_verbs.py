"""The verbs as a user types them."""

import csv
import json

import pytest
from scipy.sparse import load_npz

from gnomon.core.models import tiny_causal, train_bpe
from gnomon.errors import UserError
from gnomon.registry import method
from gnomon.verbs import run_verb

MARKOV = method("markov")


def markov(verb, *words):
    return run_verb(MARKOV, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_causal("llama", train_bpe(["abc"], 259), folder, max_position_embeddings=256)
    return folder


def test_chain_leaves_matrix_states_and_analysis(model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("0110100 and 1001")
    out = tmp_path / "run"
    words = [
        "--model",
        model,
        "--tokens",
        "0,1",
        "--window",
        3,
        "--temperature",
        0.2,
        1,
        2,
        "--bos",
        "yes",
        "--text",
        text,
    ]
    assert markov("chain", *words, "--steps", 20, "--out", out) == 0
    assert load_npz(out / "chain" / "Q.npz").shape == (14, 14)
    told = json.loads((out / "chain" / "states.json").read_text())
    assert (told["names"], len(told["prefix"]), told["labels"][2]) == (["0", "1"], 1, "00")
    rows = json.loads((out / "chain" / "analysis.json").read_text())["temperatures"]
    assert [row["temperature"] for row in rows] == [0.2, 1.0, 2.0]
    assert all(0 < row["mass on training states"] <= 1 for row in rows)
    found = report(out)
    assert found["status"] == "done"
    assert found["figures"]["bound violations"] == 0
    assert all((out / path).exists() for path in found["artifacts"].values())
    assert "begin-of-text" in (out / "report.html").read_text()


def test_a_large_matrix_is_drawn_in_groups(model, tmp_path):
    assert markov("chain", "--model", model, "--tokens", "0,1", "--window", 7, "--out", tmp_path / "run") == 0
    assert "groups of neighbours" in (tmp_path / "run" / "report.html").read_text()


def test_greedy_decoding_as_a_chain_tells_its_classes(model, tmp_path):
    words = ["--model", model, "--tokens", "0,1", "--window", 4, "--temperature", 1, "--top-k", 1]
    assert markov("chain", *words, "--out", tmp_path / "run") == 0
    (row,) = json.loads((tmp_path / "run" / "chain" / "analysis.json").read_text())["temperatures"]
    assert row["closed classes"] >= 1
    assert row["log10 eps"] is None


def test_states_without_end_are_refused_before_anything_is_scored(model, tmp_path):
    with pytest.raises(UserError, match="smaller window"):
        markov("chain", "--model", model, "--window", 4, "--out", tmp_path / "run")


def test_forget_writes_curves(model, tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(f"the prompt {name}\n")
    out = tmp_path / "run"
    words = [
        tmp_path / "a",
        tmp_path / "b",
        "--model",
        model,
        "--samples",
        4,
        "--steps",
        3,
        "--temperature",
        1,
    ]
    assert markov("forget", *words, "--out", out) == 0
    rows = list(csv.DictReader((out / "curves.csv").read_text().splitlines()))
    assert [int(row["n"]) for row in rows] == [0, 1, 2, 3]
    assert list(report(out)["figures"]) == ["forgotten after, tau 1"]


def test_a_prompt_that_is_not_there_is_told(model, tmp_path):
    with pytest.raises(UserError, match="cannot be read as text"):
        markov("forget", tmp_path / "no", tmp_path / "no", "--model", model, "--out", tmp_path / "run")


def test_bound_gives_the_headline_value(tmp_path):
    assert (
        markov(
            "bound",
            "pretrain",
            "--vocab",
            32000,
            "--width",
            4096,
            "--n-train",
            "1e12",
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    (row,) = json.loads((tmp_path / "run" / "bound.json").read_text())["rows"]
    assert row["B_bar"] == pytest.approx(4047.72, abs=0.005)
    assert row["L1 error e"] == pytest.approx(0.015548, abs=5e-7)


def test_bound_reads_a_checkpoint_and_says_vacuous(model, tmp_path):
    assert (
        markov("bound", "icl", "--model", model, "--states", 3, "--length", 100, "--out", tmp_path / "run")
        == 0
    )
    rows = json.loads((tmp_path / "run" / "bound.json").read_text())["rows"]
    assert len(rows) == 2
    assert all("vacuous" in row["says"] for row in rows)


def test_icl_writes_risks_beside_counting(model, tmp_path):
    out = tmp_path / "run"
    words = ["--model", model, "--kind", "random", "--states", 3, "--length", 40, "--runs", 2]
    assert markov("icl", *words, "--out", out) == 0
    rows = list(csv.DictReader((out / "risks.csv").read_text().splitlines()))
    assert {row["arm"] for row in rows} >= {"model", "counting", "add-1"}
    assert len(rows) == 6 * 40
    assert report(out)["figures"]["series"] == 2


@pytest.mark.parametrize(
    ("verb", "words", "told"),
    [
        ("chain", ["--model", "x", "--temperature", "0"], "temperature must be"),
        ("chain", ["--model", "x", "--window", "0"], "window must be"),
        ("bound", ["pretrain", "--delta", "1"], "delta must be"),
        ("icl", ["--model", "x", "--kind", "browniam"], "Did you mean"),
        ("mini", ["--parts", "chains"], "parts must be"),
    ],
)
def test_requests_that_are_wrong(verb, words, told, tmp_path):
    with pytest.raises(UserError, match=told):
        markov(verb, *words, "--out", tmp_path / "run")
