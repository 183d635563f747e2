"""The fit as a whole: reproducible, resumable, honest about what it cannot learn."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from fixtures_sieve import CONFIG, documents, fitting, is_about_the_sea
from gnomon.core.data.documents import Document
from gnomon.core.files import write_json
from gnomon.errors import BadInput, BudgetSpent, LLMFailure
from gnomon.methods.sieve import Label, LocalJudge, Verdict
from gnomon.methods.sieve.fitting import background, base_rate, cross_scores, focal_alphas
from gnomon.methods.sieve.judging import JudgingStopped
from gnomon.methods.sieve.students import Fitted, HashedLinear, open_student

TEXTS = [d.text for d in documents(200, seed=9)]


def rows_of(fit):
    """The labels without their times."""
    return [
        (r.snippet_id, r.label, r.score_at_query, r.rank_at_query, r.round, r.reason) for r in fit.store.rows
    ]


def is_usable(outcome):
    """Whether the filter tells the two kinds of text apart."""
    passes = outcome.student.predict(TEXTS) >= outcome.threshold
    truth = np.array([is_about_the_sea(t) for t in TEXTS])
    return (passes[truth].mean() + (~passes[~truth]).mean()) / 2 > 0.8


class Limited:
    """A judge that may answer only so often, as a model with a budget; of the last snippets, those at the end are answered."""

    name, is_simulated = "limited", False

    def __init__(self, most):
        self.left = most

    async def ajudge(self, snippets):
        verdicts = [Verdict(int(is_about_the_sea(s.text))) for s in snippets]
        short = max(len(snippets) - self.left, 0)
        self.left -= len(snippets) - short
        if short:
            raise JudgingStopped("The budget of 50 calls is spent.", [*[None] * short, *verdicts[short:]])
        return verdicts


class TestSync:
    @pytest.mark.parametrize("strategy", ["trm", "uncertainty", "random", "margin-quantile"])
    def test_every_strategy_learns_the_filter(self, tmp_path, strategy):
        outcome = fitting(tmp_path, strategy=strategy).run()
        passes = outcome.student.predict(TEXTS) >= outcome.threshold
        truth = [is_about_the_sea(t) for t in TEXTS]
        assert np.mean(passes == truth) > 0.85
        assert sum(s.labels for s in outcome.rounds) == 120

    def test_the_same_seed_gives_the_same_bits(self, tmp_path):
        one, other = fitting(tmp_path / "a"), fitting(tmp_path / "b")
        first, second = one.run(), other.run()
        assert rows_of(one) == rows_of(other)
        assert first.threshold == second.threshold
        assert (first.student.predict(TEXTS) == second.student.predict(TEXTS)).all()

    @pytest.mark.parametrize("shrink", ["bound", "halving"])
    def test_a_fit_stopped_at_any_label_goes_on_to_the_same_result(self, tmp_path, shrink):
        whole = fitting(tmp_path / "whole", shrink=shrink)
        expected = whole.run()
        for stop_after in (10, 31, 62, 119):
            asked = []

            def judge(text, asked=asked, stop_after=stop_after):
                if len(asked) == stop_after:
                    raise RuntimeError("stopped")
                asked.append(text)
                return is_about_the_sea(text)

            folder = tmp_path / str(stop_after)
            with pytest.raises(BadInput, match="stopped"):
                fitting(folder, judge=judge, shrink=shrink).run()
            known = len(fitting(folder, shrink=shrink).store)
            again = []
            rest = fitting(
                folder, judge=lambda t, again=again: again.append(t) or is_about_the_sea(t), shrink=shrink
            )
            outcome = rest.run()
            assert rows_of(rest) == rows_of(whole)
            assert outcome.threshold == expected.threshold
            assert len(again) == 120 - known, "only what was missing is asked for"

    @pytest.mark.parametrize("strategy", ["trm", "uncertainty"])
    def test_a_spending_limit_ends_in_a_usable_filter_and_a_higher_one_goes_on(self, tmp_path, strategy):
        whole = fitting(tmp_path / "whole", strategy=strategy)
        expected = whole.run()
        for most in (30, 50, 97):
            folder = tmp_path / str(most)
            early = fitting(folder, judge=Limited(most), strategy=strategy).run()
            assert early.stopped == "The budget of 50 calls is spent."
            assert sum(s.labels for s in early.rounds) == most  # all that was paid for is learned from
            assert is_usable(early)
            rest = Limited(120 - most)
            fit = fitting(folder, judge=rest, strategy=strategy)
            outcome = fit.run()
            assert rest.left == 0
            assert not outcome.stopped
            assert sorted(rows_of(fit)) == sorted(rows_of(whole))  # as if nothing had stopped it
            assert (outcome.student.predict(TEXTS) == expected.student.predict(TEXTS)).all()
            assert not rest.left
            assert outcome.threshold == expected.threshold

    def test_a_limit_that_comes_before_both_classes_keeps_the_labels(self, tmp_path):
        with pytest.raises(
            BudgetSpent,
            match=r"2 labels are kept in .*too few to learn from: repeat the command, with a higher",
        ):
            fitting(tmp_path, judge=Limited(2)).run()
        rest = Limited(118)
        assert sum(s.labels for s in fitting(tmp_path, judge=rest).run().rounds) == 120
        assert rest.left == 0

    @pytest.mark.parametrize("strategy", ["trm", "uncertainty"])
    def test_a_budget_that_is_raised_or_lowered_gives_what_it_would_have_given_at_once(
        self, tmp_path, strategy
    ):
        whole = fitting(tmp_path / "whole", strategy=strategy)
        expected = whole.run()
        for budgets in ((60, 120), (47, 70, 120), (120, 75, 120)):
            folder, judged = tmp_path / "-".join(map(str, budgets)), []

            def judge(text, judged=judged):
                judged.append(text)
                return is_about_the_sea(text)

            for budget in budgets:
                fit = fitting(folder, judge=judge, strategy=strategy, budget=budget)
                outcome = fit.run()
                assert len(fit.store) == max(budget, len(judged))
                assert is_usable(outcome)
            assert len(judged) == len(set(judged)) == 120
            assert rows_of(fit) == rows_of(whole)
            assert outcome.threshold == expected.threshold

    def test_verdicts_that_failed_are_asked_for_again_by_a_repeated_run(self, tmp_path):
        """A judge that is away for a while, in the middle of a round and in one that was finished."""
        down, seen = set(), []

        def judge(text):
            seen.append(text)
            return None if text in down else is_about_the_sea(text)

        whole = fitting(tmp_path / "whole")
        whole.run()
        down |= {row.text for row in whole.store.rows[35:45] if row.label == 0}
        first = fitting(tmp_path / "run", judge=judge, budget=75)
        first.run()
        failed = {row.text for row in first.store.rows if row.label is None}
        assert 0 < len(failed) == sum(state.failed for state in first.rounds)
        seen.clear()
        again = fitting(tmp_path / "run", judge=judge, budget=75)
        again.run()
        assert set(seen) == failed  # still away: asked once, and for nothing else
        seen.clear()
        down.clear()
        last = fitting(tmp_path / "run", judge=judge)
        outcome = last.run()
        assert failed <= set(seen)
        assert len(seen) == len(failed) + 45
        assert all(row.label == is_about_the_sea(row.text) for row in last.store.rows)
        assert len(last.store) == 120 == sum(state.labels for state in outcome.rounds)
        assert sum(state.failed for state in outcome.rounds) == 0
        assert sum(state.passes for state in outcome.rounds) == sum(row.label for row in last.store.rows)
        assert is_usable(outcome)

    def test_a_judge_that_goes_away_for_good_stops_the_fit_and_a_repeated_one_goes_on(self, tmp_path):
        judged = []

        def judge(text, most=70):
            judged.append(text)
            return is_about_the_sea(text) if len(judged) <= most else None

        with pytest.raises(LLMFailure, match=r"of the last 30 snippets got no verdict.*repeat the command"):
            fitting(tmp_path, judge=judge).run()
        fit = fitting(tmp_path)
        fit.run()
        whole = fitting(tmp_path / "whole")
        whole.run()
        assert rows_of(fit) == rows_of(whole)

    def test_pitfall_7_a_missing_verdict_is_never_a_fail(self, tmp_path):
        def judge(text):
            return None if "oak" in text else is_about_the_sea(text)

        fit = fitting(tmp_path, judge=judge)
        outcome = fit.run()
        failed = [row for row in fit.store.rows if row.label is None]
        assert failed
        assert all("oak" in row.text for row in failed)
        assert sum(s.failed for s in outcome.rounds) == len(failed)
        assert sum(s.labels for s in outcome.rounds) == 120

    def test_labels_come_from_snippets_that_nobody_asked_about_before(self, tmp_path):
        fit = fitting(tmp_path)
        fit.run()
        ids = [row.snippet_id for row in fit.store.rows]
        assert len(ids) == len(set(ids)) == 120

    def test_a_stream_smaller_than_the_budget_ends_early_and_says_so(self, tmp_path, caplog):
        outcome = fitting(tmp_path, rows=list(documents(80, 0.3))).run()
        assert sum(s.labels for s in outcome.rounds) == 80
        assert "ends 40 labels before its budget" in caplog.text

    def test_adapts_once_and_remembers(self, tmp_path):
        from functools import partial

        from gnomon.methods.sieve.students import StudentConfig, open_student

        config = StudentConfig(hash_bits=12, ngrams=1, idf=True)

        def adapted(folder):
            fit = fitting(folder, adapt=100)
            fit.student = fit.scorer = open_student("hashed-linear", config)
            fit.reopen = partial(open_student, config=config)
            return fit

        whole = adapted(tmp_path / "whole")
        expected = whole.run()
        stopped = adapted(tmp_path / "two")
        stopped.judge = Limited(50)
        assert stopped.run().stopped
        outcome = adapted(tmp_path / "two").run()
        assert (outcome.student.predict(TEXTS) == expected.student.predict(TEXTS)).all()


class Remembers(HashedLinear):
    """A student that knows its training texts by heart: what it scores them at says nothing about new ones."""

    def fit(self, texts, labels, weights, rng, *, groups=None):
        fitted = super().fit(texts, labels, weights, rng, groups=groups)
        self.by_heart = dict(zip(texts, labels, strict=True))
        return fitted

    def predict(self, texts):
        scores = super().predict(texts)
        known = [self.by_heart.get(text) for text in texts]
        return np.array([s if y is None else 0.999 * y + 0.0005 for s, y in zip(scores, known, strict=True)])

    def save(self, folder):
        super().save(folder)
        write_json(folder / "heart.json", self.by_heart)


def reopen_remembering(folder):
    student = open_student(folder, CONFIG)
    student.__class__ = Remembers
    student.by_heart = json.loads((folder / "heart.json").read_text())
    return student


@pytest.mark.parametrize("strategy", ["trm", "random"])
def test_snippets_that_were_learned_by_heart_do_not_move_the_threshold(tmp_path, strategy):
    """Half of the stream has labels. On new texts of its kind the filter passes what the judge would."""
    ratios = []
    for seed in range(3):
        rows = list(documents(600, seed=seed))
        fit = fitting(tmp_path / str(seed), rows=rows, strategy=strategy, objective="pass-rate", budget=300)
        fit.student = fit.scorer = Remembers(CONFIG)
        fit.reopen = reopen_remembering
        outcome = fit.run()
        new = [document.text for document in documents(3000, seed=seed + 50)]
        truth = np.mean([is_about_the_sea(text) for text in new])
        ratios.append(np.mean(outcome.student.predict(new) >= outcome.threshold) / truth)
        assert outcome.calibration.expected["pass rate"] == pytest.approx(truth, rel=0.3)
    assert all(0.8 < ratio < 1.25 for ratio in ratios), ratios


class TestRefusals:
    @pytest.mark.parametrize(("answer", "what"), [(False, "passes"), (True, "fails")])
    def test_pitfall_9_a_filter_of_one_class_cannot_be_learned(self, tmp_path, answer, what):
        with pytest.raises(
            BadInput, match=rf"filter {what} less than 1 in 90 snippets.*--selection.max-seed-labels"
        ):
            fitting(tmp_path, judge=lambda text: answer).run()

    def test_pitfall_9_an_empty_stream(self, tmp_path):
        with pytest.raises(BadInput, match="holds no text"):
            fitting(tmp_path, rows=[Document("d", "  ")]).run()

    def test_pitfall_9_a_batch_larger_than_the_stream(self, tmp_path):
        with pytest.raises(BadInput, match=r"holds 20 snippets and a round labels 30.*--selection.batch"):
            fitting(tmp_path, rows=list(documents(20, 0.5))).run()

    def test_a_judge_that_is_never_understood(self, tmp_path):
        class Mumbles:
            name, is_simulated = "mumbles", False

            async def ajudge(self, snippets):
                return [Verdict(None, "hm", problem="no verdict") for _ in snippets]

        with pytest.raises(
            LLMFailure, match=r'mumbles: 30 of the first 30 snippets got no verdict.*"no verdict: hm"'
        ):
            fitting(tmp_path, judge=Mumbles()).run()


class Recorder:
    """A student that remembers what it was trained with."""

    name = "recorder"

    def __init__(self):
        self.seen = []

    def fit(self, texts, labels, weights, rng, *, groups=None):
        self.seen.append((list(texts), list(labels), list(weights), list(groups)))
        return Fitted(1, 0.0, 1, 0)

    def predict(self, texts):
        return np.array([len(t) / 100 for t in texts])


def label(number, value, reason, doc=None, score=0.5):
    return Label(f"s{number}", doc or f"d{number}", "", f"text {number}", value, "", score, 0.5, [0, 1], 1, reason,
                 None, 0, 0, "", 0.0)  # fmt: skip


class TestTraining:
    def test_pitfall_11_alpha_comes_from_uniform_labels_only(self):
        uniform = [label(i, int(i < 5), "uniform") for i in range(100)]
        chosen = [label(100 + i, 1, "interval") for i in range(300)]
        assert base_rate(uniform + chosen) == pytest.approx(0.05)
        assert focal_alphas([1, 0], base_rate(uniform + chosen)) == pytest.approx([0.95, 0.05])

    def test_the_base_rate_stays_away_from_0_and_1(self):
        assert base_rate([label(i, 0, "seed") for i in range(10)]) == pytest.approx(0.05)
        assert base_rate([label(i, 1, "seed") for i in range(10)]) == pytest.approx(0.95)
        assert base_rate([]) == 0.5

    def test_scores_for_the_threshold_come_from_students_that_have_not_seen_the_document(self):
        rows = [label(i, i % 2, "uniform", doc=f"doc{i // 3}") for i in range(30)]
        student = Recorder()
        from gnomon.core.rng import Rng

        stream = ["a" * n for n in range(10)]
        scores = cross_scores(student, rows, 0.5, (stream, student.predict(stream)), 5, Rng(0))
        assert scores.shape == (30,)
        assert scores == pytest.approx(
            student.predict([row.text for row in rows])
        )  # all students score alike
        assert len(student.seen) == 5
        for _, _, _, groups in student.seen:
            left_out = {row.doc_id for row in rows} - set(groups)
            assert left_out
            assert len(groups) == sum(row.doc_id not in left_out for row in rows)


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from fixtures_sieve import fitting, is_about_the_sea

def slow(text):
    time.sleep(0.02)
    return is_about_the_sea(text)

fitting(Path({folder!r}), judge=slow, chunk=5).run()
"""


@pytest.mark.slow
def test_a_fit_killed_with_sigkill_resumes_without_a_lost_or_doubled_label(tmp_path):
    whole = fitting(tmp_path / "whole", chunk=5)
    whole.run()
    folder = tmp_path / "killed"
    root = Path(__file__).resolve().parents[3]
    code = textwrap.dedent(KILLED).format(tests=str(root / "tests"), folder=str(folder))
    for kill_at in (12, 47, 95):
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(root / "src")}
        )
        store = folder / "labels.jsonl"
        for _ in range(1500):
            if store.exists() and store.read_bytes().count(b"\n") >= kill_at:
                break
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
    rest = fitting(folder, chunk=5)
    rest.run()
    assert rows_of(rest) == rows_of(whole)
    lines = (folder / "labels.jsonl").read_bytes().count(b"\n")
    assert lines == 120


@pytest.mark.slow
class TestAsync:
    def test_learns_with_judge_and_trainer_in_the_background(self, tmp_path):
        fit = fitting(tmp_path, window=5000)
        outcome = background.run(fit)
        passes = outcome.student.predict(TEXTS) >= outcome.threshold
        assert np.mean(passes == [is_about_the_sea(t) for t in TEXTS]) > 0.85
        assert len(fit.store) == 120

    def test_scoring_goes_on_while_a_student_is_trained(self, tmp_path):
        fit = fitting(tmp_path, rows=list(documents(20_000)), window=20_000)
        outcome = background.run(fit)
        assert sum(state.scored_while_training for state in outcome.rounds) > 0

    def test_many_requests_to_a_slow_judge_are_under_way_at_once(self, tmp_path):
        class Slow:
            name, is_simulated = "slow", False
            busy = most_busy = 0

            async def ajudge(self, snippets):
                import asyncio

                self.busy += 1
                self.most_busy = max(self.busy, self.most_busy)
                await asyncio.sleep(0.2)
                self.busy -= 1
                return [Verdict(int(is_about_the_sea(s.text))) for s in snippets]

        fit = fitting(tmp_path, judge=Slow(), window=5000)
        background.run(fit)
        assert len(fit.store) == 120
        assert fit.judge.most_busy > 1

    def test_a_spending_limit_ends_in_a_usable_filter_and_a_higher_one_goes_on(self, tmp_path):
        early = background.run(fitting(tmp_path, judge=Limited(50)))
        assert early.stopped == "The budget of 50 calls is spent."
        assert sum(state.labels for state in early.rounds) == 50
        assert is_usable(early)
        before = {row.snippet_id for row in fitting(tmp_path).store.rows}
        assert len(before) == 50
        rest = fitting(tmp_path, judge=Limited(70))
        outcome = background.run(rest)
        assert not outcome.stopped
        assert len(rest.store) == 120
        assert before <= {row.snippet_id for row in rest.store.rows}
        assert sum(state.labels for state in outcome.rounds) == 120
        assert is_usable(outcome)

    def test_a_rule_that_fails_stops_the_fit_with_its_reason(self, tmp_path):
        def judge(text):
            raise ValueError("no idea")

        with pytest.raises(BadInput, match="ValueError: no idea"):
            background.run(fitting(tmp_path, judge=LocalJudge(judge, "rule")))
