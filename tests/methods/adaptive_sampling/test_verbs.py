"""The verbs on a user's model and questions: files that hold what they say, bad rows, a killed job, a fresh process."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import fixtures_process
from gnomon import cli
from gnomon.core import records

ROOT = Path(__file__).resolve().parents[3]
DRAWN = ["--anneal", "constant", "--gen.max-new-tokens", "4", "--gen.batch-size", "64"]


def command(verb, *words, fails=0):
    assert cli.main(["adaptive-sampling", verb, *map(str, words), "--quiet"]) == fails


def rows_of(path):
    return [raw for _, raw in records.read_raw(path)]


@pytest.fixture(scope="module")
def built(tmp_path_factory, policy_folder, questions):
    out = tmp_path_factory.mktemp("build") / "run"
    command(
        "build",
        questions,
        "--model",
        policy_folder,
        "--k",
        6,
        "--shard-rows",
        8,
        "--limit",
        28,
        *DRAWN,
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="module", params=[None, 4])
def trained(request, tmp_path_factory, policy_folder, built):
    out = tmp_path_factory.mktemp("train") / "run"
    words = [] if request.param is None else ["--train.lora-rank", request.param]
    command("train", built, "--model", policy_folder, "--train.epochs", 6, "--train.lr", 5e-3,
            *(words or ["--train.lora-rank", "None"]), "--out", out)  # fmt: skip
    return out


def test_labels_are_counts_over_the_samples_and_know_their_policy(built, policy_folder):
    rows = rows_of(built)
    assert {row["reward"] for row in rows} == {0.0, 1.0} and all(
        row["label"] == 1 for row in rows if row["reward"] == 1
    )
    by_id = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    for of in by_id.values():
        n, right = sum(row["weight"] for row in of), sum(row["weight"] for row in of if row["reward"] == 1)
        assert n == 6
        for row in of:
            if row["reward"] == 0:
                assert row["label"] == pytest.approx((n - 1 - right) / (n - 1))
            assert row["prefix_tokens"][-1] == len(row["response_ids"])
    about = json.loads((built / "data.json").read_text())
    assert about["restart"] == {"anneal": "constant", "temperature": 1.0, "top_p": 1.0, "top_k": None}
    assert json.loads((built / "report.json").read_text())["status"] == "done"


def test_a_trained_evaluator_says_the_same_in_a_fresh_process(trained, tmp_path, questions):
    source = tmp_path / "rows.jsonl"
    records.write(source, [{"id": str(i), "prompt": f"{i} + 2 =", "response": f"so {i + 2}"} for i in range(5)]
                  + [{"id": "part", "prompt": "1 + 2 =", "response": "so 3", "prefix_tokens": 1},
                     {"id": "bad", "prompt": "1 + 1 ="}])  # fmt: skip
    command("score", trained, source, "--out", tmp_path / "here")
    words = [
        sys.executable,
        "-m",
        "gnomon",
        "adaptive-sampling",
        "score",
        trained,
        source,
        "--out",
        tmp_path / "there",
        "--quiet",
    ]
    done = fixtures_process.run([*map(str, words)], env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0 and "not those that were trained" not in done.stderr, done.stderr
    here, there = (rows_of(tmp_path / name / "scored.jsonl") for name in ("here", "there"))
    assert here == there and len(here) == 6 and len({row["c"] for row in here}) == 6
    (refused,) = rows_of(tmp_path / "here" / "rejected.jsonl")
    assert 'Row 6 (id "bad"): it needs prompt' in refused["reason"]
    stored = json.loads((trained / "model" / "selfeval.json").read_text())
    assert (
        stored["carrier"]["kind"] == "token" and stored["labels"] == "soft" and len(stored["prompts"]) == 28
    )
    assert (
        trained
        / "model"
        / ("adapter_config.json" if (trained / "model" / "adapter_config.json").exists() else "config.json")
    ).exists()


@pytest.mark.parametrize("policy", ["adaptive", "best-of-n", "prune"])
def test_answers_are_those_of_the_policy_and_show_their_trace(trained, questions, tmp_path, policy):
    words = ["--policy", policy, "--gamma", 0.8, "--n-max", 4, "--cuts", 1, "--keep", 2]
    command("apply", trained, questions, *words, *DRAWN, "--shard-rows", 16, "--out", tmp_path / "a")
    rows = rows_of(tmp_path / "a")
    assert len(rows) == 40 and [row["id"] for row in rows[:2]] == ["0-0", "0-1"]
    for row in rows:
        assert (
            row["text"] == row["all_samples"][row["chosen"]]["text"]
            and row["c"] == row["all_samples"][row["chosen"]]["c"]
        )
        assert row["tokens_generated"] == sum(len(s["tokens"]) for s in row["all_samples"])
        gone = [s for s in row["all_samples"] if s["given_up"] is not None]
        assert len(row["all_samples"]) == row["k_used"] and (
            len(gone) == 2 if policy == "prune" else not gone
        )
    page = (tmp_path / "a" / "report.html").read_text()
    assert "chosen" in page and ("given up at 1" in page) == (policy == "prune")
    # Other shards, the same answers.
    command("apply", trained, questions, *words, *DRAWN, "--shard-rows", 7, "--out", tmp_path / "b")
    again = rows_of(tmp_path / "b")
    assert [(r["text"], r["k_used"]) for r in again] == [(r["text"], r["k_used"]) for r in rows]


def test_eval_judges_on_unseen_questions_alone(trained, questions, tmp_path, capsys):
    command("eval", trained, questions, *DRAWN, "--n-max", 4, "--out", tmp_path / "no", fails=2)
    assert "28 of 40 prompts were trained on" in capsys.readouterr().err
    command("eval", trained, questions, *DRAWN, "--n-max", 4, "--seen", "drop", "--calibrate", "--target-mean-samples", 2,
            "--cuts", 1, "--out", tmp_path / "yes")  # fmt: skip
    summary = json.loads((tmp_path / "yes" / "summary.json").read_text())
    arms = {row["arm"]: row["reward"] for row in summary["verdict"]["rows"]}
    assert arms["oracle, best of 4"] >= max(arms.values()) - 1e-9 and summary["prompts"] == 12
    assert summary["verdict"]["beats"] == ("gamma" in summary)
    assert json.loads((tmp_path / "yes" / "selfeval.json").read_text())["tau"] == pytest.approx(
        summary["tau"]
    )
    assert all(row["mean_samples"] <= 4 for row in summary["sweep"])


def test_samples_drawn_otherwise_and_foreign_folders_are_refused(
    trained, questions, tmp_path, capsys, policy_folder
):
    command("apply", trained, questions, "--gen.max-new-tokens", 4, "--out", tmp_path / "x", fails=2)
    assert "c was trained for fresh samples at temperature 1" in capsys.readouterr().err
    command("apply", policy_folder, questions, *DRAWN, "--out", tmp_path / "y", fails=2)
    assert "has no selfeval.json" in capsys.readouterr().err


def test_other_weights_than_those_of_the_samples_are_warned_about(built, policy_folder, tmp_path, capsys):
    from gnomon.core.models import load_model, load_tokenizer

    model = load_model(policy_folder, device="cpu")
    next(model.parameters()).data += 0.1
    model.save_pretrained(tmp_path / "other")
    load_tokenizer(policy_folder).save_pretrained(tmp_path / "other")
    words = [built, "--model", tmp_path / "other", "--train.max-steps", 1, "--out", tmp_path / "run"]
    assert cli.main(["adaptive-sampling", "train", *map(str, words)]) == 0
    assert "drawn from other weights" in capsys.readouterr().err


def test_one_bad_row_is_listed_and_nothing_but_bad_rows_fails(policy_folder, tmp_path, capsys):
    source = tmp_path / "q.jsonl"
    good = [{"id": f"g{i}", "prompt": f"{i} + 3 =", "reference": str(i + 3)} for i in range(12)]
    records.write(
        source,
        [
            *good,
            {"id": "no-reference", "prompt": "1 + 1 ="},
            {"id": "long", "prompt": "1 + " * 30, "reference": "9"},
        ],
    )
    command("build", source, "--model", policy_folder, "--k", 4, *DRAWN, "--out", tmp_path / "a")
    reasons = " ".join(row["reason"] for row in rows_of(tmp_path / "a" / "rejected.jsonl"))
    assert 'Task "no-reference" has no reference' in reasons and 'Task "long": its prompt has' in reasons
    records.write(source, [{"id": "a", "prompt": "1 + 1 ="}])
    command("build", source, "--model", policy_folder, *DRAWN, "--out", tmp_path / "b", fails=2)
    assert 'Task "a" has no reference' in capsys.readouterr().err


def test_a_killed_build_goes_on_and_writes_what_an_unbroken_one_does(policy_folder, questions, tmp_path):
    words = [
        "build",
        questions,
        "--model",
        policy_folder,
        "--k",
        4,
        "--shard-rows",
        2,
        *DRAWN,
        "--quiet",
        "--out",
    ]
    line = [sys.executable, "-m", "gnomon", "adaptive-sampling", *map(str, words), str(tmp_path / "killed")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = fixtures_process.start(line, env=environment)
    marks = tmp_path / "killed" / "samples" / "_done"
    while process.poll() is None and len(list(marks.glob("part-*"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in marks.glob("part-*")}
    assert len(before) >= 3
    command(*words, tmp_path / "killed")
    after = {path.name: path.stat().st_mtime_ns for path in marks.glob("part-*")}
    assert len(after) == 20 and all(after[name] == stamp for name, stamp in before.items())
    command(*words, tmp_path / "whole")
    assert (tmp_path / "killed" / "data.jsonl").read_bytes() == (
        tmp_path / "whole" / "data.jsonl"
    ).read_bytes()


def completions(folder, *, fails=()):
    """A server with `prompt_logprobs` whose numbers are the trained model's own; some requests are refused."""
    import torch

    from gnomon.core.models import load_model

    model = load_model(folder, device="cpu")

    def answer(request):
        body = request.body
        if "prompt_logprobs" not in body:
            return 200, {"choices": [{"index": 0, "text": "x"}]}
        if tuple(body["prompt"][:-1]) in fails:
            return 400, {"error": {"message": "no such prompt", "type": "invalid_request_error"}}
        with torch.no_grad():
            table = model(torch.tensor([body["prompt"]])).logits[0].double().log_softmax(-1)
        rows = [
            None,
            *(
                {str(token): {"logprob": float(table[i, token])}}
                for i, token in enumerate(body["prompt"][1:])
            ),
        ]
        return 200, {
            "object": "text_completion",
            "choices": [{"index": 0, "text": "x", "prompt_logprobs": rows}],
        }

    return answer


def test_a_server_with_the_trained_model_gives_the_same_c(trained, tmp_path):
    from fixtures_vendors import VendorServer
    from gnomon.methods.adaptive_sampling import open_evaluator

    source = tmp_path / "rows.jsonl"
    rows = [{"id": str(i), "prompt": f"{i} + 2 =", "response": f"so {i + 2}"} for i in range(5)]
    records.write(
        source, [*rows, {"id": "part", "prompt": "1 + 2 =", "response": "so 3", "prefix_tokens": 1}]
    )
    command("score", trained, source, "--out", tmp_path / "here")
    evaluator, _ = open_evaluator(str(trained))
    refused = evaluator.row("3 + 2 =", "so 5")
    with VendorServer(completions(trained, fails=[refused])) as server:
        command("score", trained, source, "--server", server.endpoint, "--out", tmp_path / "served")
    here = {row["id"]: row["c"] for row in rows_of(tmp_path / "here" / "scored.jsonl")}
    served = {row["id"]: row["c"] for row in rows_of(tmp_path / "served" / "scored.jsonl")}
    assert set(here) - set(served) == {"3"} and len(served) == 5
    assert served == pytest.approx({name: here[name] for name in served}, abs=1e-5)
    (lost,) = rows_of(tmp_path / "served" / "rejected.jsonl")
    assert 'Row 3 (id "3")' in lost["reason"] and "no such prompt" in lost["reason"]


def test_a_served_model_cannot_be_looked_into(questions, tmp_path, capsys):
    for verb in ("apply", "eval"):
        command(verb, "http://127.0.0.1:9/v1#m", questions, "--out", tmp_path / verb, fails=2)
        assert "score --server" in capsys.readouterr().err


def test_real_runs_on_a_user_s_model(policy_folder, tmp_path, monkeypatch):
    from gnomon.core.rollout import Task
    from gnomon.methods.adaptive_sampling.measures import real

    def sums(products, countries, rng):
        tasks = [Task(f"{a}-{b}", f"{a} + {b} =", reference=str(a + b), meta={"kind": kind})
                 for a, kind in ((1, "products"), (2, "capitals"), (3, "products")) for b in range(6)]  # fmt: skip
        return tasks[:9], tasks[9:]

    monkeypatch.setattr(real, "questions", sums)
    command("real", policy_folder, "--scale", "smoke", "--seeds", 1, "--out", tmp_path / "r")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    signals = {row["signal"]: row for row in summary["signals"] if row["questions"] == "all"}
    assert set(signals) == {"c", "shuffled labels", "question only", "untrained Yes/No", "log-probability"}
    assert signals["question only"]["AUC within"] == 0.5  # one value a question orders nothing
    arms = {row["arm"]: row["all"] for row in summary["arms"]}
    assert arms["oracle of 4"] >= max(
        arms["best of 4 by c"], arms["log-probability, best of 4"], arms["vote of 4"]
    )
