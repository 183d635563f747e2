"""The verbs as a user types them."""

import json

import pytest
import torch

from gnomon.core import records
from gnomon.core.models import load_model, tiny_causal, train_bpe
from gnomon.core.rng import Rng
from gnomon.errors import UserError
from gnomon.registry import method
from gnomon.verbs import run_verb

ROOM = method("neutral-residues")
FAST = [
    "--train.batch-size",
    4,
    "--train.max-steps",
    3,
    "--train.max-length",
    16,
    "--train.lr",
    3e-3,
    "--extra",
    1,
]


def neutral(verb, *words):
    return run_verb(ROOM, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model and texts of two domains."""
    folder = tmp_path_factory.mktemp("world")
    tiny_causal(
        "llama", train_bpe(["The old domain is made of words."], 259), folder / "model", generator=Rng(1)
    )
    words = [{"text": f"The old domain is made of words, number {i}."} for i in range(40)]
    code = [{"text": f"x_{i} = [{i} + y for y in range({i})]"} for i in range(40)]
    records.write(folder / "old.jsonl", words)
    records.write(folder / "new.jsonl", code)
    (folder / "held.txt").write_text(
        "Other words of the old domain, from another source, are measured on. " * 3
    )
    return folder


@pytest.fixture(scope="module")
def trained(world):
    out = world / "trained"
    texts = ["--new", world / "new.jsonl", "--original", world / "old.jsonl", "--held-out", 0.3]
    assert (
        neutral(
            "train",
            "--model",
            world / "model",
            *texts,
            "--original-held",
            world / "held.txt",
            *FAST,
            "--out",
            out,
        )
        == 0
    )
    return out


def test_train_leaves_an_extension_and_what_it_costs_the_old_domain(trained):
    assert {p.name for p in (trained / "model").iterdir()} >= {
        "extension.safetensors",
        "extension_config.json",
        "tokenizer.json",
    }
    row = json.loads((trained / "summary.json").read_text())
    assert row["learning"] > 0
    assert row["forgetting"] == pytest.approx(row["original"] - row["original before"])
    assert report(trained)["figures"]["trained weights"] == row["trained weights"]


def test_eval_and_inspect_read_the_run(world, trained, tmp_path):
    texts = ["--original", world / "held.txt", "--new", world / "new.jsonl", "--length", 16]
    assert neutral("eval", trained, *texts, "--out", tmp_path / "eval") == 0
    row = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert row["original before"] == pytest.approx(
        json.loads((trained / "summary.json").read_text())["original before"], rel=1e-5
    )
    assert row["learning"] > 0
    assert neutral("inspect", trained, *texts, "--text", "x = words", "--out", tmp_path / "inspect") == 0
    layers = json.loads((tmp_path / "inspect" / "layers.json").read_text())
    assert [r["layer"] for r in layers] == [0, 1]
    assert all(r["residual, original"] > 0 and 0 <= r["open, new"] <= 1 for r in layers)
    assert "words" in (tmp_path / "inspect" / "report.html").read_text()


def test_export_merges_what_has_no_gate_and_refuses_what_has(world, trained, tmp_path):
    with pytest.raises(UserError, match="gated block cannot be merged"):
        neutral("export", trained, "--merge", "--out", tmp_path / "no")
    assert neutral("export", trained, "--out", tmp_path / "alone") == 0
    assert (tmp_path / "alone" / "model" / "extension.safetensors").exists()
    texts = ["--new", world / "new.jsonl", "--original", world / "old.jsonl"]
    words = ["--model", world / "model", *texts, *FAST, "--held-out", 0.3]
    assert neutral("train", *words, "--method", "adapter", "--out", tmp_path / "adapter") == 0
    assert neutral("export", tmp_path / "adapter", "--merge", "--out", tmp_path / "merged") == 0
    plain = load_model(tmp_path / "merged", device="cpu")  # the run stands for its model
    from gnomon.methods.neutral_residues import open_extended

    ids = torch.tensor([[5, 9, 40, 3]])
    assert torch.allclose(
        plain(ids, use_cache=False).logits,
        open_extended(tmp_path / "adapter" / "model")(ids).logits,
        atol=1e-5,
    )


@pytest.mark.parametrize("method", ["lora", "full"])
def test_rivals_are_trained_and_evaluated_alike(world, tmp_path, method):
    texts = ["--new", world / "new.jsonl", "--original", world / "old.jsonl", "--held-out", 0.3]
    assert (
        neutral(
            "train", "--model", world / "model", *texts, *FAST, "--method", method, "--out", tmp_path / "run"
        )
        == 0
    )
    row = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (
        neutral(
            "eval",
            tmp_path / "run",
            "--original",
            world / "held.txt",
            "--new",
            world / "new.jsonl",
            "--out",
            tmp_path / "e",
        )
        == 0
    )
    found = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert found["drift"] > 0 and row["drift"] > 0
    with pytest.raises(UserError, match=f"trained with {method}: there are no blocks"):
        neutral(
            "inspect",
            tmp_path / "run",
            "--original",
            world / "held.txt",
            "--new",
            world / "new.jsonl",
            "--out",
            tmp_path / "i",
        )


@pytest.mark.slow
def test_sweep_draws_every_point(world, tmp_path):
    texts = ["--new", world / "new.jsonl", "--original", world / "old.jsonl", "--held-out", 0.3]
    words = ["--model", world / "model", *texts, *FAST, "--lr", 1e-3, 1e-2, "--out", tmp_path / "sweep"]
    assert neutral("sweep", *words) == 0
    rows = json.loads((tmp_path / "sweep" / "points.json").read_text())
    assert {(r["method"], r["lr"]) for r in rows} == {
        (m, lr) for m in ("neutral", "adapter", "lora", "full") for lr in (1e-3, 1e-2)
    }
    tables = report(tmp_path / "sweep")["tables"]
    assert any("hypervolume" in row for table in tables for row in table["rows"])


def test_a_dry_run_tells_the_cost(world, tmp_path, capsys):
    texts = ["--new", world / "new.jsonl", "--original", world / "old.jsonl", "--held-out", 0.3]
    assert (
        neutral("train", "--model", world / "model", *texts, *FAST, "--dry-run", "--out", tmp_path / "dry")
        == 0
    )
    said = capsys.readouterr().out
    assert "block width" in said and "optimiser steps" in said
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--p", 1.5], r"p must be in 0\.\.1; got 1\.5"),
        (["--extra", 0], "extra must be > 0"),
        (["--extra", 1e-6], "narrowest is 8"),
        (["--gate", "swish"], "gate"),
        (["--original", "missing.jsonl"], "missing.jsonl"),
        (["--train.max-length", 100_000], "fewer than a row of 100000"),
    ],
)
def test_bad_requests_are_answered_in_one_sentence(world, tmp_path, changes, message):
    words = {
        "--model": world / "model", "--new": world / "new.jsonl", "--original": world / "old.jsonl", "--held-out": 0.3,
        "--train.max-steps": 2, "--train.max-length": 16, "--train.batch-size": 2,
    }  # fmt: skip
    words |= {changes[0]: changes[1]}
    with pytest.raises((UserError, SystemExit)) as caught:
        neutral("train", *[w for pair in words.items() for w in pair], "--out", tmp_path / "run")
    import re

    assert isinstance(caught.value, SystemExit) or re.search(message, str(caught.value))


def test_text_of_the_old_domain_is_needed_unless_p_is_zero(world, tmp_path):
    words = ["--model", world / "model", "--new", world / "new.jsonl", *FAST, "--held-out", 0.3]
    with pytest.raises(UserError, match="original must be text of the old domain unless p is 0"):
        neutral("train", *words, "--out", tmp_path / "a")
    with pytest.raises(UserError, match="--original-held"):
        neutral("train", *words, "--p", 0, "--out", tmp_path / "b")
    assert (
        neutral("train", *words, "--p", 0, "--original-held", world / "held.txt", "--out", tmp_path / "c")
        == 0
    )
