"""The verbs as a user types them, from questions to scores."""

import io
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fixtures_process
from fixtures_server import CompletionServer
from gnomon.errors import BadConfig, BadInput, LLMFailure, ModelMismatch
from gnomon.methods.truth_probes import ErrorProbe
from gnomon.registry import method
from gnomon.verbs import run_verb

TRUTH = method("truth-probes")
SHORT = ("--max-new-tokens", 6)


def truth(verb, *words):
    return run_verb(TRUTH, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


def rows(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture(scope="module")
def stages(truth_model, truth_questions, tmp_path_factory):
    """Every stage, one after another."""
    at, model = tmp_path_factory.mktemp("stages"), ("--model", truth_model)
    assert truth("answer", truth_questions, *model, *SHORT, "--out", at / "answers") == 0
    assert truth("extract", at / "answers", "--out", at / "exact") == 0
    assert truth("represent", at / "exact", *model, "--out", at / "states") == 0
    assert truth("train", at / "states", *model, "--out", at / "probe") == 0
    for seed in (0, 1):
        words = ("--k", 4, "--seed", seed, "--out", at / f"samples-{seed}")
        assert truth("resample", truth_questions, *model, *SHORT, *words) == 0
    assert truth("taxonomy", at / "samples-0", "--more", at / "samples-1", "--out", at / "kinds") == 0
    return at


@pytest.mark.slow
def test_each_stage_leaves_what_the_next_one_takes(stages):
    answers = rows(stages / "answers" / "answers.jsonl")
    assert len(answers) == 120
    assert sum(row["correct"] for row in answers) == 60
    assert report(stages / "exact")["figures"]["dropped of right"] == 0
    found = report(stages / "states")
    assert set(found["artifacts"]) == {"answers", "records", "states"}
    probe = ErrorProbe.load(stages / "probe")
    assert (probe.position, probe.extract, probe.linear.width) == ("exact_last", "line", 32)
    assert probe.metrics["splits"] == [0, 5, 26, 42, 63]
    names = {row["detector"] for row in json.loads((stages / "probe" / "detectors.json").read_text())}
    assert {"probe", "logits-min-exact", "p(True)", "p(True)-exact-swapped"} <= names
    assert report(stages / "kinds")["figures"]["samples"] == 8
    assert report(stages / "kinds")["figures"]["samples not located"] < 0.05  # outputs that begin with "("


@pytest.mark.slow
def test_one_command_from_questions_to_the_same_detector(stages, truth_model, truth_questions, tmp_path):
    assert truth("train", truth_questions, "--model", truth_model, *SHORT, "--out", tmp_path / "run") == 0
    one, other = ErrorProbe.load(tmp_path / "run"), ErrorProbe.load(stages / "probe")
    assert one.layer == other.layer
    np.testing.assert_allclose(one.linear.coef, other.linear.coef, atol=1e-5)


@pytest.mark.slow
def test_heat_map_types_choice_and_evaluation(stages, truth_model, tmp_path):
    model = ("--model", truth_model)
    assert truth("heatmap", stages / "states", "--seeds", 0, 5, "--out", tmp_path / "heat") == 0
    cells = json.loads((tmp_path / "heat" / "heatmap.json").read_text())["cells"]
    assert len(cells) == 2 * 15
    assert truth("types", stages / "states", stages / "kinds", "--out", tmp_path / "types") == 0
    words = (
        stages / "probe",
        stages / "samples-0",
        stages / "answers",
        *model,
        "--more",
        stages / "samples-1",
    )
    assert truth("choose", *words, "--out", tmp_path / "choice") == 0
    figures = report(tmp_path / "choice")["figures"]
    assert figures["oracle"] >= max(figures["probe"], figures["majority"])
    assert (
        truth(
            "eval",
            stages / "probe",
            stages / "samples-1",
            *model,
            "--no-ask-p-true",
            "--out",
            tmp_path / "eval",
        )
        == 0
    )
    assert report(tmp_path / "eval")["figures"]["answers"] == 480
    for name in ("heat", "types", "choice", "eval"):
        assert "<script" in (tmp_path / name / "report.html").read_text()


@pytest.mark.slow
def test_transfer_names_tasks_by_their_folders(stages, truth_model, tmp_path):
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(reversed((stages / "exact" / "answers.jsonl").read_text().splitlines())))
    for name, source in (("one", stages / "exact"), ("other", turned)):
        words = ("represent", source, "--model", truth_model, "--positions", "exact_last", "-1")
        assert truth(*words, "--out", tmp_path / name) == 0
    tasks = ("--tasks", tmp_path / "one", tmp_path / "other")
    assert truth("generalise", *tasks, "--out", tmp_path / "matrix") == 0
    pairs = json.loads((tmp_path / "matrix" / "matrix.json").read_text())["pairs"]
    assert [(row["trained on"], row["tested on"]) for row in pairs[:2]] == [("one", "one"), ("one", "other")]
    with pytest.raises(BadConfig, match=r'no baseline "logits-min-exct".*"logits-min-exact"'):
        truth("generalise", "--baseline", "logits-min-exct", "--out", tmp_path / "x")
    with pytest.raises(BadInput, match="at least two tasks"):
        truth("generalise", "--tasks", tmp_path / "one", "--out", tmp_path / "y")


@pytest.mark.slow
def test_scores_of_a_file(stages, truth_model, tmp_path):
    (tmp_path / "in.jsonl").write_text(
        '{"question": "what is 1?", "user": 7}\n{"question": "what is 2?", "completion": "It is Rome (Italy)"}\n'
    )
    words = (stages / "probe", tmp_path / "in.jsonl", "--model", truth_model)
    assert truth("score", *words, "--out", tmp_path / "run") == 0
    first, second = rows(tmp_path / "run" / "scores.jsonl")
    assert first["user"] == 7
    assert 0 <= first["p_right"] <= 1
    a, b = second["span"]
    assert (second["exact_answer"], second["completion"][a:b]) == ("It is Rome", "It is Rome")


@pytest.mark.slow
def test_a_stream_is_answered_line_by_line_and_may_be_repeated(
    stages, truth_model, tmp_path, monkeypatch, capsys
):
    written = []

    def lines():
        yield '{"question": "what is 1?"}\n'
        written.append(capsys.readouterr().out)  # the first answer is out before the second question is read
        yield "\n"
        yield '{"question": "what is 2?"}\n'

    words = ("score", stages / "probe", "--model", truth_model, "--out", tmp_path / "run")
    monkeypatch.setattr(sys, "stdin", lines())
    assert truth(*words) == 0
    written.append(capsys.readouterr().out)
    questions = [json.loads(text)["question"] for text in written]
    assert questions == ["what is 1?", "what is 2?"]
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"question": "what is 3?"}\n'))
    assert truth(*words) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "what is 3?"
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"question": \n'))
    with pytest.raises(BadInput, match="stdin, line 1: not valid JSON"):
        truth(*words)


@pytest.mark.slow
def test_a_probe_is_refused_by_another_model(stages, checkpoint, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"question": "what is 1?"}\n')
    with pytest.raises(ModelMismatch, match="Train a probe for this model"):
        truth(
            "score",
            stages / "probe",
            tmp_path / "in.jsonl",
            "--model",
            checkpoint("llama"),
            "--out",
            tmp_path / "run",
        )


def test_questions_that_are_all_wrong_are_refused_with_their_counts(truth_model, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(
        "".join(
            json.dumps({"question": f"what is {i}?", "answer": "no such thing"}) + "\n" for i in range(30)
        )
    )
    with pytest.raises(BadInput, match=r"0 right and \d+ wrong answers; a probe needs at least 20 of each"):
        truth("train", path, "--model", truth_model, *SHORT, "--out", tmp_path / "run")


def test_a_judge_that_gives_no_label_is_not_a_model_that_is_always_wrong(
    truth_model, truth_questions, tmp_path, capsys
):
    state = {"is_vague": True}
    words = ["answer", truth_questions, "--model", truth_model, "--limit", 12, "--out", tmp_path / "run"]
    vague = lambda messages, seed=None: "Perhaps." if state["is_vague"] else "1"  # noqa: E731
    with CompletionServer(chat_answer=vague) as server:
        words += ["--label", server.endpoint]
        with pytest.raises(LLMFailure, match=r"neither 1 nor 0.* repeat the command"):
            truth(*words)
        assert "12 of 12 labels failed" in capsys.readouterr().out
        found = json.loads((tmp_path / "run" / "report.json").read_text())
        assert found["status"] == "failed" and "12 of 12 labels failed" in found["title"]
        state["is_vague"] = False
        assert truth(*words) == 0
        n = len(server.requests)
        assert truth(*words) == 0 and len(server.requests) == n
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (found["status"], found["figures"]["right"]) == ("done", 1.0)  # the share of right answers


def test_a_dry_run_counts_what_language_models_will_be_asked(truth_model, truth_questions, tmp_path, capsys):
    judged = ["--label", "http://127.0.0.1:9/v1#judge", "--llm.price-in", 2, "--llm.price-out", 8]
    copied = ["--extract", "http://127.0.0.1:9/v1#copy"]
    n = len(truth_questions.read_text().splitlines())
    for words, calls, tokens_out in (
        (["answer", truth_questions, "--model", truth_model, *judged], n, 8 * n),
        (
            ["resample", truth_questions, "--model", truth_model, *judged, *copied, "--k", 3],
            6 * n,
            3 * 72 * n,
        ),
        (["train", truth_questions, "--model", truth_model, *judged, *copied], 2 * n, 72 * n),
    ):
        assert truth(*words, "--dry-run", "--json", "--out", tmp_path / "run") == 0
        plan = json.loads(capsys.readouterr().out)["plan"]
        assert (plan["calls"], plan["tokens_out_at_most"]) == (calls, tokens_out)
        assert plan["usd_at_most"] == pytest.approx((2 * plan["tokens_in"] + 8 * tokens_out) / 1e6)
        assert plan["tokens_in"] > 130 * calls
    assert truth("answer", truth_questions, "--model", truth_model, "--dry-run", "--json") == 0
    assert "calls" not in json.loads(capsys.readouterr().out)["plan"]  # match asks nobody


def test_a_dry_run_tells_the_stage(truth_model, truth_questions, tmp_path, capsys):
    assert (
        truth("train", truth_questions, "--model", truth_model, "--dry-run", "--out", tmp_path / "run") == 0
    )
    assert "questions" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_answers_must_be_judged_and_looked_into(tmp_path):
    row = {
        "id": "a", "question": "q", "gold": ["x"], "wrong": [], "task": "open", "prompt": "p", "prompt_ids": [1], "answer": "x",
        "output_ids": [1], "logprobs": [0.0], "logits": [0.0], "finish": "eos",
    }  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row | {"correct": 1}) + "\n")
    with pytest.raises(BadInput, match="Run `gnomon truth-probes extract` first"):
        truth("represent", path, "--model", "x", "--out", tmp_path / "run")
    path.write_text(json.dumps(row | {"correct": 1}) + "\n" + json.dumps(row | {"correct": 1}) + "\n")
    with pytest.raises(BadInput, match="line 2: the same answer is there twice"):
        truth("extract", path, "--out", tmp_path / "run2")


def judged_answers(path, n=4):
    """A file of judged answers."""
    row = {
        "question": "q", "gold": ["Rome"], "wrong": [], "task": "open", "prompt": "p", "prompt_ids": [1], "output_ids": [1],
        "logprobs": [0.0], "logits": [0.0], "finish": "eos", "correct": 0,
    }  # fmt: skip
    lines = [json.dumps(row | {"id": f"q{i}", "answer": f"It is Paris {i}"}) for i in range(n)]
    path.write_text("\n".join(lines) + "\n")
    return path


def copier(folder, says='request.messages[-1].content and "Paris"'):
    """A model in a file, as a reference."""
    path = folder / "copier.py"
    path.write_text(f"def copy(request):\n    return {says}\n")
    return f"script:{path}:copy"


def calls(folder):
    return next(
        one["rows"]
        for one in report(folder)["tables"]
        if one["caption"].startswith("calls of language models")
    )


def test_the_report_says_what_the_model_that_copies_was_asked(tmp_path):
    ref, source = copier(tmp_path), judged_answers(tmp_path / "a.jsonl")
    assert truth("extract", source, "--extract", ref, "--out", tmp_path / "run") == 0
    (row,) = calls(tmp_path / "run")
    assert (row["role"], row["model"], row["calls"], row["cached"]) == ("extract", ref, 4, 0)
    assert row["tokens in"] > 0 and row["tokens out"] > 0 and row["faults"] == "none"
    assert "What was asked" in (tmp_path / "run" / "report.html").read_text()
    assert not report(tmp_path / "run")["simulated"]
    assert (tmp_path / "run" / "replies" / "extract" / "replies.sqlite").exists()


def test_the_report_says_what_the_judge_was_asked(tmp_path):
    source = judged_answers(tmp_path / "a.jsonl")
    lines = [{name: v for name, v in row.items() if name != "correct"} for row in rows(source)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("--label", copier(tmp_path, "'0'"), "--extract", "line")
    assert truth("extract", source, *words, "--out", tmp_path / "run") == 0
    (row,) = calls(tmp_path / "run")
    assert (row["role"], row["calls"]) == ("judge", 4)
    assert (tmp_path / "run" / "replies" / "judge" / "replies.sqlite").exists()


def judge_that_fails(answers, fails):
    """A judge over HTTP that refuses the questions of which `fails` holds, and calls every second other answer right."""
    numbers = {row["question"]: number for number, row in enumerate(answers)}

    def judge(messages, seed=None):
        (number,) = [n for question, n in numbers.items() if f"{question}\n" in messages[-1]["content"]]
        return "" if fails(number) else str(number % 2)

    return judge


def test_a_few_failed_labels_leave_their_rows_out_and_are_asked_for_again(
    truth_model, truth_questions, tmp_path, capsys
):
    """120 questions: the judge is silent about 3, and calls the odd ones right."""
    questions = rows(truth_questions)
    silent = {7, 20, 33}
    state = {"fails": lambda number: number in silent}
    words = ["train", truth_questions, "--model", truth_model, *SHORT, "--out", tmp_path / "run"]
    judge = judge_that_fails(questions, lambda number: state["fails"](number))
    with CompletionServer(chat_answer=judge) as server:
        words += ["--label", server.endpoint, "--llm.retries", 0, "--seeds", 0]
        assert truth(*words) == 0
        shown, page = capsys.readouterr().out, report(tmp_path / "run")
        assert "3 of 120 replies of judge failed" in shown and "3 of 120 replies" in page["title"]
        assert (page["status"], page["shortfalls"][0]["failed"]) == ("incomplete", 3)
        kept = rows(tmp_path / "run" / "answers.jsonl")
        by_id = {answer["id"]: answer["correct"] for answer in kept}
        names = [row.get("id") for row in questions]
        expected = {name: n % 2 for n, name in enumerate(names) if n not in silent}
        assert by_id == expected
        n = len(server.requests)
        state["fails"] = lambda number: False
        assert truth(*words) == 0
        assert len(server.requests) == n + 3  # those three and no other
    assert report(tmp_path / "run")["status"] == "done"
    by_id = {answer["id"]: answer["correct"] for answer in rows(tmp_path / "run" / "answers.jsonl")}
    assert by_id == {name: n % 2 for n, name in enumerate(names)}


def test_what_a_failing_run_has_asked_is_in_its_metrics(tmp_path):
    source = judged_answers(tmp_path / "a.jsonl")
    ref = copier(tmp_path, "'Paris' if 'Paris 0' in request.messages[-1].content else 1 / 0")
    assert truth("extract", source, "--extract", ref, "--out", tmp_path / "run") == 1
    assert [answer["exact_answer"] for answer in rows(tmp_path / "run" / "answers.jsonl")] == ["Paris"]
    assert report(tmp_path / "run")["figures"].get("not located", 0) == 0
    row = rows(tmp_path / "run" / "metrics.jsonl")[0]
    assert (row["role"], row["calls_fresh"], row["calls_failed"]) == ("extract", 1, 3)


@pytest.mark.scale
@pytest.mark.slow
def test_killed_while_answering_nothing_is_lost_or_doubled(truth_model, truth_questions, tmp_path):
    words = [
        "answer", str(truth_questions), "--model", str(truth_model), "--max-new-tokens", "6", "--shard-rows", "4",
        "--out", str(tmp_path / "run"), "--quiet",
    ]  # fmt: skip
    code = (
        "import sys; from gnomon.verbs import run_verb; from gnomon.registry import method\n"
        "sys.exit(run_verb(method('truth-probes'), sys.argv[1], sys.argv[2:]))"
    )
    started = fixtures_process.start([sys.executable, "-c", code, *words])
    done = tmp_path / "run" / "work" / "answers" / "_done"
    deadline = time.monotonic() + 120
    while len(list(done.glob("part-*.json"))) < 2 and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    kept = len(list(done.glob("part-*.json")))
    assert 2 <= kept < 30
    assert truth(*words[:-1]) == 0
    whole = tmp_path / "whole"
    assert truth(*words[:-2], whole) == 0
    assert rows(tmp_path / "run" / "answers.jsonl") == rows(whole / "answers.jsonl")


@pytest.mark.slow
def test_a_table_of_the_family_says_where_states_are(stages, truth_model, tmp_path):
    from safetensors.numpy import load_file

    table = {"blocks": "model.layers", "final_norm": "model.norm", "attn_out": "self_attn", "mlp_out": "mlp"}
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(json.dumps(table))
    wrong.write_text(json.dumps({**table, "blocks": "model.blocks"}))
    # A table that swaps attention and MLP is followed: the option reaches the handle.
    swapped = tmp_path / "swapped.json"
    swapped.write_text(json.dumps({**table, "attn_out": "mlp", "mlp_out": "self_attn"}))

    def states(*words):
        out = tmp_path / f"states-{len(list(tmp_path.iterdir()))}"
        words = ("represent", stages / "exact", "--model", truth_model, "--positions", "exact_last", *words)
        assert truth(*words, "--out", out) == 0
        (file,) = (out / "states").glob("*.safetensors")
        return load_file(file)["states"]

    plain = states("--site", "mlp")
    assert (states("--site", "mlp", "--family", right) == plain).all()
    assert (states("--site", "attention", "--family", swapped) == plain).all()
    with pytest.raises(ModelMismatch, match="blocks"):
        states("--family", wrong)
