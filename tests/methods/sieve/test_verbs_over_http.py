"""The verbs with a judge behind a real server: faults, kills, budgets, keys, and simulators that say so."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import gnomon
from fixtures_llm import calls_of
from fixtures_server import CompletionServer
from fixtures_sieve import is_about_the_sea
from fixtures_sieve_verbs import (
    answer_as_the_rule,
    fit_words,
    judged_by,
    labels_of,
    read_rows,
    report,
    sieve,
    table,
    world,
)

KEY = "a-key-that-nobody-may-read"
ASK = ["--llm.concurrency", 4, "--llm.timeout-s", 20]
SIMULATOR = "verdict?words=harbour|captain&http_429=0.05&http_500=0.05&refused=0.05"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Documents, filter and rule, and what the rule labels when nothing disturbs it."""
    folder = world(tmp_path_factory.mktemp("world"))
    assert sieve(*fit_words(folder), "--out", folder / "by-rule") == 0
    return folder


def judge(**options):
    """A server that judges as the rule does."""
    return CompletionServer(chat_answer=answer_as_the_rule, **options)


def every_tenth(number, asked):
    """A tenth of the requests meets a fault, one kind after the other."""
    return "fine" if number % 10 else (429, 500, "proxy", "garbled")[number // 10 % 4]


def texts_asked(server):
    return [asked["messages"][-1]["content"] for asked in server.requests]


@pytest.mark.slow
def test_faults_change_no_label_and_are_counted(root, tmp_path, monkeypatch):
    """The same labels and the same student as with the rule itself, behind a server that fails at every tenth request."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with judge(script=every_tenth) as server:
        prices = ["--llm.price-in", 2, "--llm.price-out", 4]
        key = [
            "--llm.api-key-env",
            "OPENAI_API_KEY@127.0.0.1",
            "--llm.cache",
            "run",
        ]  # a key travels to its own host only
        words = [*fit_words(root, server.endpoint), *ASK, *prices, *key, "--out", tmp_path / "run"]
        assert sieve(*words) == 0
        n_asked = len(server.requests)
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        assert server.most_busy <= 4
    happened = Counter(every_tenth(n, None) for n in range(n_asked))
    assert happened["fine"] == 120
    calls = calls_of(tmp_path / "run")["judge"]
    assert calls["faults"] == {"rate_limit": happened[429], "server": happened[500] + happened["proxy"],
                               "malformed": happened["garbled"]}  # fmt: skip
    # An answer that breaks off was probably charged: it is booked, with the estimated length of its prompt.
    assert (calls["calls"], calls.get("failed", 0)) == (120 + happened["garbled"], 0)
    assert calls["tokens in"] > 120 * 11
    assert calls["cost in USD"] == pytest.approx((calls["tokens in"] * 2 + calls["tokens out"] * 4) / 1e6)
    assert calls["tokens out"] == 120 * 7
    assert not report(tmp_path / "run")["simulated"]
    assert labels_of(tmp_path / "run") == labels_of(root / "by-rule")
    student = Path("model", "student.safetensors")
    assert (tmp_path / "run" / student).read_bytes() == (root / "by-rule" / student).read_bytes()
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holding == []
    assert len(list((tmp_path / "run").rglob("*.sqlite"))) == 1  # the replies were among what was searched


@pytest.mark.slow
@pytest.mark.scale
def test_a_killed_fit_that_is_repeated_asks_only_for_what_is_missing(root, tmp_path):
    with judge(delay_s=0.03) as server:
        words = [*fit_words(root, server.endpoint), *ASK, "--out", tmp_path / "run"]
        env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
        command = [sys.executable, "-m", "gnomon", "sieve", *map(str, words), "--quiet"]
        job = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while len(server.requests) < 50 and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(job.pid, signal.SIGKILL)
        job.communicate()
        assert job.returncode == -signal.SIGKILL
        n_before = len(server.requests)
        assert 50 <= n_before < 120
        assert sieve(*words) == 0
        asked = texts_asked(server)
    assert len(set(asked)) == 120
    assert len(asked) - 120 <= 4  # only what was under way when it was killed is asked again
    assert labels_of(tmp_path / "run") == labels_of(root / "by-rule")


@pytest.mark.slow
def test_a_budget_ends_a_fit_in_a_usable_filter_and_a_higher_one_continues_it(root, tmp_path, capsys):
    with judge() as server:
        words = [*fit_words(root, server.endpoint), *ASK, "--out", tmp_path / "run"]
        assert sieve(*words, "--llm.budget-calls", 2) == 1  # too few for anything to be learned
        assert "2 labels are kept" in capsys.readouterr().err
        for limit in (50, 40):  # a lower one than was spent already asks nothing, and gives the same filter
            assert sieve(*words, "--llm.budget-calls", limit) == 0
            line = next(
                line for line in capsys.readouterr().out.splitlines() if line.startswith("stopped early")
            )
            assert f"50 of {limit} calls" in line
            assert len(server.requests) == 50
            assert len(read_rows(tmp_path / "run" / "labels.jsonl")) == 50
            summary = report(tmp_path / "run")
            assert summary["status"] == "incomplete"
            assert "stopped early" in summary["title"]
            assert summary["figures"]["labels"] == 50
            applied = tmp_path / f"applied-{limit}"
            assert sieve("apply", root / "docs.jsonl", "--model", tmp_path / "run", "--out", applied) == 0
            passed = {row["text"]: row["sieve_pass"] for row in read_rows(applied / "filtered")}
            of = {
                kind: [ok for text, ok in passed.items() if is_about_the_sea(text) == kind]
                for kind in (True, False)
            }
            assert sum(of[True]) / len(of[True]) > 2 * sum(of[False]) / len(of[False])
            assert "was stopped early" in (applied / "report.html").read_text()
        assert sieve(*words, "--llm.budget-calls", 500) == 0
        assert "stopped early" not in capsys.readouterr().out
        assert report(tmp_path / "run")["status"] == "done"
        assert len(server.requests) == 120
        assert sieve(*words) == 0  # finished: nothing is asked
        assert len(server.requests) == 120
    order = lambda folder: sorted(labels_of(folder), key=lambda row: row["snippet_id"])  # noqa: E731
    assert order(tmp_path / "run") == order(root / "by-rule")
    student = Path("model", "student.safetensors")
    assert (tmp_path / "run" / student).read_bytes() == (root / "by-rule" / student).read_bytes()


def test_a_budget_stops_labelling_and_a_higher_one_continues_it(root, tmp_path, capsys):
    with judge() as server:
        words = ["label", root / "docs.jsonl", *judged_by(root, server.endpoint), "-n", 30, *ASK]
        words += ["--out", tmp_path / "run"]
        assert sieve(*words, "--llm.budget-calls", 10) == 1
        assert "10 labels are kept" in capsys.readouterr().err
        assert sieve(*words) == 0
        assert len(server.requests) == 30
    rows = read_rows(tmp_path / "run" / "labels.jsonl")
    assert [row["label"] for row in rows] == [is_about_the_sea(row["text"]) for row in rows]
    assert report(tmp_path / "run")["figures"]["labels"] == 30


def test_failed_verdicts_are_asked_for_again_when_the_command_is_repeated(root, tmp_path):
    """The server goes down after six of ten: what it answered is kept, and only the rest is asked when it is back."""
    state = {"up": True}

    def script(number, asked):
        return "fine" if state["up"] and not (state.get("flaky") and number >= 6) else 503

    with judge(script=script) as server:
        words = [
            "label",
            root / "docs.jsonl",
            *judged_by(root, server.endpoint),
            "-n",
            10,
            "--out",
            tmp_path / "run",
        ]
        words += ["--llm.concurrency", 1, "--llm.retries", 0]
        state["flaky"] = True
        sieve(*words)
        rows = {row["snippet_id"]: row for row in read_rows(tmp_path / "run" / "labels.jsonl")}
        assert sum(row["label"] is not None for row in rows.values()) == 6
        before = len(server.requests)
        state["flaky"] = False
        assert sieve(*words) == 0
        assert len(server.requests) == before + 4
        assert sieve(*words) == 0  # finished now
        assert len(server.requests) == before + 4
    rows = {row["snippet_id"]: row for row in read_rows(tmp_path / "run" / "labels.jsonl")}
    assert len(rows) == 10
    assert all(row["label"] == is_about_the_sea(row["text"]) for row in rows.values())
    assert report(tmp_path / "run")["figures"]["without verdict"] == 0


def test_answers_without_a_verdict_are_counted_and_asked_for_again(root, tmp_path, capsys):
    """They came and are in the cache, but nobody can use them: a repeated command tries again and does not find them there."""
    state = {"is_vague": True}

    def vague(messages, seed=None):
        is_vague = state["is_vague"] and sum(map(ord, messages[-1]["content"])) % 3 == 0
        return "I would rather not say." if is_vague else answer_as_the_rule(messages)

    with CompletionServer(chat_answer=vague) as server:
        words = ["label", root / "docs.jsonl", *judged_by(root, server.endpoint), "-n", 30]
        words += ["--out", tmp_path / "run", *ASK]
        assert sieve(*words) == 1  # more than --llm.max-failed
        missing = report(tmp_path / "run")["figures"]["without verdict"]
        assert missing > 6
        sentence = f"{missing} of 30 labels failed"
        found = report(tmp_path / "run")
        assert (found["status"], sentence in found["title"]) == ("failed", True)
        assert found["shortfalls"][0]["reason"] == "the answer holds no verdict"
        assert sentence in capsys.readouterr().out
        assert len(server.requests) == 30 + 2 * missing
        state["is_vague"] = False
        assert sieve(*words) == 0
        assert len(server.requests) == 30 + 3 * missing
        assert sieve(*words) == 0  # finished now
        assert len(server.requests) == 30 + 3 * missing
    rows = {row["snippet_id"]: row for row in read_rows(tmp_path / "run" / "labels.jsonl")}
    assert all(row["label"] == is_about_the_sea(row["text"]) for row in rows.values())
    assert report(tmp_path / "run")["status"] == "done"


@pytest.mark.parametrize("n", [2, 10])
def test_labels_from_a_dead_port_are_not_finished(root, tmp_path, n):
    with judge() as server:
        endpoint = server.endpoint
    words = ["label", root / "docs.jsonl", *judged_by(root, endpoint), "-n", n, "--out", tmp_path / "run"]
    for _ in range(2):
        sieve(*words, "--llm.retries", 0)
        summary = tmp_path / "run" / "report.json"
        assert not summary.exists() or report(tmp_path / "run")["status"] != "done"
    rows = read_rows(tmp_path / "run" / "labels.jsonl")
    assert all(row["label"] is None for row in rows)
    assert len(rows) in (0, 2 * n)  # asked again


@pytest.mark.slow
def test_labels_of_several_draws_are_opinions_of_their_own(root, tmp_path):
    """A judge that changes its mind on every third text when asked again; it is sent no seed that nobody chose."""
    times = {}

    def wavering(messages, seed=None):
        text = messages[-1]["content"]
        times[text] = times.get(text, 0) + 1
        passes = "PASS" in answer_as_the_rule(messages)
        if times[text] > 1 and list(times).index(text) % 3 == 0:
            passes = not passes
        return f"Verdict: {'PASS' if passes else 'FAIL'}"

    with CompletionServer(chat_answer=wavering) as server:
        words = ["label", root / "docs.jsonl", *judged_by(root, server.endpoint), "-n", 30, "--repeat", 2]
        assert sieve(*words, "--temperature", 1, "--out", tmp_path / "run") == 0
        assert len(server.requests) == 60
        assert not any("seed" in request for request in server.requests)
    (row,) = table(tmp_path / "run", "draws")
    assert (row["snippets"], row["agreement"]) == (30, 2 / 3)
    assert calls_of(tmp_path / "run")["judge"]["calls"] == 60


@pytest.mark.slow
def test_cost_of_what_a_judge_over_http_took(root, tmp_path):
    with judge() as server:
        words = [*fit_words(root, server.endpoint, budget=30), *ASK, "--out", tmp_path / "run"]
        assert sieve(*words) == 0
    assert (
        sieve("cost", 1000, "--run", tmp_path / "run", "--usd-per-hour", 0, "--out", tmp_path / "cost") == 0
    )
    figures = report(tmp_path / "cost")["figures"]
    call = (11 * 2.5 + 7 * 10) / 1e6  # the server counts 11 tokens and 7
    assert figures["total, USD"] == pytest.approx(30 * call)
    assert figures["judge on everything, USD"] == pytest.approx(1000 * call)
    assert figures["break-even, snippets"] == 30


def test_a_dry_run_says_what_a_judge_costs_rather_more_than_less(root, tmp_path, capsys):
    with judge() as server:
        words = ["label", root / "docs.jsonl", *judged_by(root, server.endpoint), "-n", 30, "--repeat", 2]
        words += ["--temperature", 1, "--llm.price-in", 2.5, "--llm.price-out", 10]
        assert sieve(*words, "--dry-run", "--json") == 0
        plan = json.loads(capsys.readouterr().out)["plan"]
        assert sieve(*words, "--out", tmp_path / "run") == 0
        assert plan["calls"] == plan["judge_calls"] == len(server.requests) == 60
        sent = sum(len(turn["content"]) for asked in server.requests for turn in asked["messages"])
        assert sent / 5 < plan["tokens_in"] < 60 * 2000
        limits = {asked["max_tokens"] for asked in server.requests}
    assert plan["tokens_out_at_most"] == 60 * limits.pop() and not limits
    money = (2.5 * plan["tokens_in"] + 10 * plan["tokens_out_at_most"]) / 1e6
    assert plan["usd_at_most"] == pytest.approx(money)


def test_a_dry_run_asks_nobody(root, tmp_path):
    with judge() as server:
        for words in (
            fit_words(root, server.endpoint),
            ["label", root / "docs.jsonl", *judged_by(root, server.endpoint)],
        ):
            assert sieve(*words, "--dry-run", "--out", tmp_path / "run") == 0
        assert server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_judge_that_never_answers_is_named(root, tmp_path, capsys):
    with CompletionServer(script=lambda number, asked: 401) as server:
        words = [*fit_words(root, server.endpoint), "--out", tmp_path / "run"]
        assert sieve(*words) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"gnomon: {server.endpoint} does not answer. ")
    assert said.count("\n") == 1
    assert len(said) < 500


@pytest.fixture(scope="module")
def simulator():
    """`gnomon sim serve` in a process of its own: the reference that it prints."""
    env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    job = subprocess.Popen(
        [sys.executable, "-m", "gnomon", "sim", "serve", SIMULATOR], stdout=subprocess.PIPE, env=env, text=True
    )  # fmt: skip
    yield job.stdout.readline().strip()
    job.kill()
    job.communicate()


@pytest.mark.slow
def test_what_a_simulator_judged_is_called_simulated(root, simulator, tmp_path):
    assert sieve(*fit_words(root, simulator), *ASK, "--out", tmp_path / "fit") == 0
    words = ["label", root / "docs.jsonl", *judged_by(root, simulator), "-n", 100]
    assert sieve(*words, *ASK, "--out", tmp_path / "label") == 0
    assert sieve("apply", root / "docs.jsonl", "--model", tmp_path / "fit", "--out", tmp_path / "apply") == 0
    assert sieve("eval", tmp_path / "label", "--model", tmp_path / "fit", "--out", tmp_path / "eval") == 0
    for verb in ("fit", "label", "apply", "eval"):
        told = report(tmp_path / verb)
        assert told["simulated"]
        assert told["title"].startswith("SIMULATED: ")
        assert "SIMULATED" in (tmp_path / verb / "report.html").read_text().split("</h1>")[0]
    assert json.loads((tmp_path / "fit" / "model" / "sieve.json").read_text())["is_simulated"]
    rows = read_rows(tmp_path / "label" / "labels.jsonl")
    for row in rows:
        holds = "harbour" in row["text"] or "captain" in row["text"]
        assert row["label"] in (holds, None)
    # A refusal repeats with the request, and each snippet is asked up to three times with other seeds.
    for verb, n in (("label", 100), ("fit", 120)):
        calls = calls_of(tmp_path / verb)["judge"]
        faults = calls["faults"]
        assert calls["SIMULATED"]
        assert set(faults) == {"rate_limit", "server", "refusal"}
        assert 0 < faults["rate_limit"] < 0.2 * n
        assert 0 < faults["server"] < 0.2 * n
