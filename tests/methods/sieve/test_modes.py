"""What is labelled, and why, in both modes: reasons, share of passes, gain over uniform labels; over HTTP, and after a kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import gnomon
from fixtures_server import CompletionServer
from fixtures_sieve import CONFIG, LAND, SEA, fitting
from fixtures_sieve_verbs import SELECTION, judged_by, read_rows, sieve, world, write_rows
from gnomon.core.data.documents import Document
from gnomon.core.llm.parse import tagged
from gnomon.core.metrics.classify import average_precision
from gnomon.core.rng import Rng
from gnomon.methods.sieve import SieveModel, Verdict, open_student
from gnomon.methods.sieve.fitting import background, loop
from gnomon.methods.sieve.students.linear import HashedLinear

RARE = {
    kind: [*words.split(), *(f"{kind}{i}" for i in range(100))]
    for kind, words in (("sea", SEA), ("land", LAND))
}
"""A vocabulary so large that 200 uniform labels show a student only a part of it."""

BUDGET = {"budget": 200, "batch": 40, "max_seed_labels": 200, "window": 3000}
MODES = ("sync", "async")


def passes(text):
    return sum(word in RARE["sea"] for word in text.split()) >= 4


def rare(count, seed):
    """Texts of nine words of which 6% pass."""
    draw = Rng(seed).child("rare").python()
    for i in range(count):
        own, other = ("sea", "land") if draw.random() < 0.03 else ("land", "sea")
        words = [draw.choice(RARE[own if draw.random() < 0.85 else other]) for _ in range(9)]
        yield Document(f"d{i}", " ".join(words))


STREAM = {seed: list(rare(5000, seed)) for seed in range(3)}
TEST = [document.text for document in rare(4000, 100)]
TRUTH = np.array([passes(text) for text in TEST])
BASE_RATE = TRUTH.mean()


def fitted(folder, mode, seed=0, **changes):
    fit = fitting(folder, rows=STREAM[seed], **({"judge": passes} | BUDGET | changes))
    return fit, background.run(fit) if mode == "async" else fit.run()


def precision(student):
    return average_precision(TRUTH, student.predict(TEST))


def check_chosen(rows):
    """The labels behind the seed round: most are chosen by the interval, and hold many more passes than the stream."""
    later = [row for row in rows if row["reason"] != "seed"]
    reasons = Counter(row["reason"] for row in later)
    assert reasons["interval"] > 0.6 * len(later)
    # A tenth of each round is uniform at least; the interval needs some more of them before it narrows for the first time.
    assert 0.1 * len(later) <= reasons["uniform"] <= 0.35 * len(later)
    of = {
        reason: np.mean([row["label"] for row in later if row["reason"] == reason])
        for reason in ("interval", "uniform")
    }
    assert of["interval"] > 1.5 * BASE_RATE
    assert of["uniform"] < 2 * BASE_RATE
    for row in (
        later
    ):  # a chosen label lies in the interval of its moment, and a uniform one was drawn from everything
        low, high = row["interval"]
        assert low <= row["score_at_query"] <= high
        assert (low, high) == (0, 1) if row["reason"] == "uniform" else high - low < 1


def plain(fit):
    return [vars(row) for row in fit.store.rows]


@pytest.fixture(scope="module")
def by_chance(tmp_path_factory):
    """AP of students from 200 uniform labels, for each stream."""
    folder = tmp_path_factory.mktemp("random")
    return {
        seed: precision(fitted(folder / str(seed), "sync", seed, strategy="random")[1].student)
        for seed in STREAM
    }


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_both_modes_choose_and_gain(mode, by_chance, tmp_path):
    gains, shares = [], []
    for seed in STREAM:
        fit, outcome = fitted(tmp_path / str(seed), mode, seed)
        check_chosen(plain(fit))
        gains.append(precision(outcome.student) - by_chance[seed])
        shares.append(np.mean([row.label for row in fit.store.rows if row.reason == "interval"]))
    assert min(gains) > 0.04  # 0.27, 0.08 and 0.16 in either mode
    assert np.mean(gains) > 0.1
    assert np.mean(shares) > 2 * BASE_RATE


@pytest.mark.slow
def test_a_judge_that_answers_late_narrows_the_interval_all_the_same(by_chance, tmp_path):
    """The loop scores ahead while verdicts are under way, and none of that is looked at before they are in."""

    class Late:
        name, is_simulated = "late", False

        async def ajudge(self, snippets):
            await asyncio.sleep(0.05)
            return [Verdict(int(passes(s.text))) for s in snippets]

    fit, outcome = fitted(tmp_path, "async", judge=Late())
    check_chosen(plain(fit))
    assert precision(outcome.student) > by_chance[0] + 0.1


class Slow(HashedLinear):
    """A student whose training takes its time."""

    def fit(self, *data, **more):
        time.sleep(1.0)
        return super().fit(*data, **more)


def reopen_slow(folder):
    student = open_student(folder, CONFIG)
    student.__class__ = Slow
    return student


@pytest.mark.slow
def test_labels_spent_while_a_student_is_trained_are_chosen_too(tmp_path, monkeypatch):
    """Training takes longer than is waited for: the next round goes on under the student before."""
    monkeypatch.setattr(loop, "GRACE_S", 0.1)
    fit = fitting(tmp_path, rows=STREAM[0], judge=passes, **BUDGET)
    fit.reopen = reopen_slow
    outcome = background.run(fit)
    assert len(fit.store) == 200
    assert any(state.fitted is None for state in outcome.rounds)  # such rounds there were
    check_chosen(plain(fit))


# Over HTTP.


def verdict(messages, seed=None):
    """What a model answers that judges by the rule."""
    return (
        f"I have read it.\nVerdict: {'PASS' if passes(tagged(messages[-1]['content'], 'text')) else 'FAIL'}"
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = world(tmp_path_factory.mktemp("world"))
    write_rows(folder / "docs.jsonl", [{"id": d.doc_id, "text": d.text} for d in STREAM[0]])
    return folder


def words_of(root, endpoint, mode, out):
    selection = {**SELECTION, **{name.replace("_", "-"): value for name, value in BUDGET.items()}}
    options = [word for name, value in selection.items() for word in (f"--selection.{name}", value)]
    return [
        "fit", root / "docs.jsonl", *judged_by(root, endpoint), "--model", "hashed-linear", "--student.hash-bits", 12,
        "--student.ngrams", 1, *options, "--id-field", "id", "--mode", mode, "--llm.concurrency", 4, "--llm.timeout-s", 20,
        "--out", out,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.parametrize("mode", MODES)
def test_a_model_behind_http_is_asked_about_what_was_chosen_also_after_a_kill(
    mode, root, by_chance, tmp_path
):
    """Killed twice with SIGKILL, in the seed round and in a later one: nothing is lost or doubled, and the choice is as good."""
    with CompletionServer(chat_answer=verdict, delay_s=0.01) as server:
        words = words_of(root, server.endpoint, mode, tmp_path / "run")
        env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
        command = [sys.executable, "-m", "gnomon", "sieve", *map(str, words), "--quiet"]
        for kill_at in (25, 110):
            job = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            until = time.monotonic() + 120
            while len(server.requests) < kill_at and time.monotonic() < until:
                time.sleep(0.005)
            os.kill(job.pid, signal.SIGKILL)
            job.communicate()
            assert job.returncode == -signal.SIGKILL
        assert sieve(*words) == 0
        texts = [tagged(asked["messages"][-1]["content"], "text") for asked in server.requests]
    rows = read_rows(tmp_path / "run" / "labels.jsonl")
    assert len(rows) == len({row["snippet_id"] for row in rows}) == 200  # nothing is doubled
    assert {row["text"] for row in rows} == set(texts)  # nothing is lost: what was asked has its label
    assert len(texts) - 200 <= 2 * 4  # only what was under way at a kill is asked again
    assert all(row["label"] == passes(row["text"]) for row in rows)
    check_chosen(rows)
    assert precision(SieveModel.load(tmp_path / "run").student) > by_chance[0] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_spending_limit_over_http_leaves_a_filter_and_a_higher_one_goes_on(
    mode, root, by_chance, tmp_path, capsys
):
    with CompletionServer(chat_answer=verdict) as server:
        words = words_of(root, server.endpoint, mode, tmp_path / "run")
        capsys.readouterr()
        assert sieve(*words, "--llm.budget-calls", 110) == 0
        assert "110 of 110 calls" in capsys.readouterr().out
        assert len(read_rows(tmp_path / "run" / "labels.jsonl")) == 110
        page = (tmp_path / "run" / "report.html").read_text()
        assert "stopped early" in page.split("</h1>")[0]
        assert SieveModel.load(tmp_path / "run").card.stopped
        assert precision(SieveModel.load(tmp_path / "run").student) > 4 * BASE_RATE
        assert sieve(*words) == 0  # the limit is gone
        assert len(server.requests) == 200
    rows = read_rows(tmp_path / "run" / "labels.jsonl")
    check_chosen(rows)
    model = SieveModel.load(tmp_path / "run")
    assert not model.card.stopped
    assert "stopped early" not in (tmp_path / "run" / "report.html").read_text().split("</h1>")[0]
    assert precision(model.student) > by_chance[0] + 0.1
