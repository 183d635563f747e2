"""The fit with judge and trainer in the background: scoring never waits for a training.

    stream -> scorer -> round -> judge (many requests at once) -> label store
                ^                                                     |
                +------- new student <- trainer (own process) <-------+

As soon as a round has its labels, a process trains the next student on all labels so far, and a new round begins at once under
the student at hand. When the training is done, the scorer takes the new student, the running round is closed with the labels it
has, and a fresh one begins. A round that is full while the trainer works asks for nothing more; scoring goes on. Which snippets
are labelled depends on how fast judge and trainer answer, so two runs differ; `Fitting.run` is the reproducible form.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from gnomon.core.data.engines import settle
from gnomon.core.llm.stack.loop import submit
from gnomon.core.rng import Rng
from gnomon.errors import BudgetSpent, WorkLost
from gnomon.methods.sieve.choosing.intervals import Design
from gnomon.methods.sieve.choosing.rounds import Pick
from gnomon.methods.sieve.fitting.fit import BLOCK, Fitting, Outcome, keep_verdicts
from gnomon.methods.sieve.fitting.state import RoundState, base_rate, train
from gnomon.methods.sieve.judging.judges import Verdict
from gnomon.methods.sieve.judging.labels import Label
from gnomon.methods.sieve.students.base import Fitted, Student

TOGETHER = 8
"""Snippets sent to the judge in one piece."""

WAIT_S = 0.05
"""How long to rest when there is nothing to score and answers are awaited."""


def run(fitting: Fitting) -> Outcome:
    """Run a prepared fit with judge and trainer in the background.

    Raises:
        WorkLost: the trainer process died; repeating the run continues.
    """
    fitting.prepare()
    _adopt_orphans(fitting)
    with _JudgePool(fitting) as judges, _Trainer(fitting) as trainer:
        _Background(fitting, judges, trainer).run()
    return fitting.conclude()


class _Background:
    """The loop that ties stream, round, judge and trainer together."""

    def __init__(self, fitting: Fitting, judges: _JudgePool, trainer: _Trainer) -> None:
        self.fitting, self.judges, self.trainer = fitting, judges, trainer
        self.spare: list[RoundState] = []  # closed rounds, until a student was trained on their labels
        self.while_training = 0
        self._open()

    def _open(self) -> None:
        fitting = self.fitting
        number = len(fitting.rounds) + len(self.spare)
        self.current = fitting.new_round(number, max(min(fitting.settings.batch, self._left()), 0))
        self.labels: list[int | None] = []
        self.read, self.scoring_s = 0, 0.0
        fitting.feed.begin_round()

    def _left(self) -> int:
        return self.fitting.left - sum(state.labels for state in self.spare)

    def run(self) -> None:
        """Until the budget is spent (or the stream is) and the last student is trained."""
        while True:
            is_idle = not self._score()
            self._collect(wait=is_idle)
            is_full = len(self.labels) >= self.current.labels or (is_idle and not self.judges.waiting)
            if is_idle and self.trainer.is_busy and not self.judges.waiting:
                time.sleep(WAIT_S)
            if self.trainer.is_done:
                self._swap()
            elif is_full and not self.trainer.is_busy:
                if not self.labels and not self.spare:
                    if self._left() > 0:
                        self.fitting.say_exhausted()
                    return
                self._close()
                self.trainer.start(self.spare[-1].number)
                self._open()

    def _score(self) -> bool:
        """Score the next block and send what deserves a label to the judge. False when there is nothing to score."""
        block = self.fitting.feed.take(BLOCK)
        wants_rest = not self.fitting.reads_on(self.current, self.read) or not block
        if block:
            began = time.perf_counter()
            scores = self.fitting.scorer.predict([s.text for s in block])
            self.scoring_s += time.perf_counter() - began
            self.read += len(block)
            self.while_training += len(block) * self.trainer.is_busy
            self.current.reservoir.add(scores)
            if not wants_rest:
                picks, _ = self.current.look(block, scores)
                self.judges.ask(picks, self.current.number)
        if wants_rest and not self.judges.waiting and self.current.wanted:
            self.judges.ask(self.current.rest(), self.current.number)
        return bool(block)

    def _collect(self, *, wait: bool) -> None:
        """Take in what the judge has answered, and let the interval narrow."""
        for picks, labels in self.judges.answers(wait=wait):
            self.current.learn(picks, labels)
            self.labels.extend(labels)

    def _close(self, fitted: Fitted | None = None) -> None:
        """The running round is over, with the labels it has."""
        fitting = self.fitting
        self.spare.append(
            RoundState(
                number=self.current.number,
                cursor=fitting.feed.cursor,
                design=self.current.design,
                fitted=fitted,
                student=fitting.rounds[-1].student,
                base_rate=base_rate(fitting.store.rows),
                labels=len(self.labels),
                passes=sum(label == 1 for label in self.labels),
                failed=sum(label is None for label in self.labels),
                widths=self.current.widths,
                read=self.read,
                scoring_s=self.scoring_s,
            )
        )
        fitting.labelled.update(row.snippet_id for row in fitting.store.rows)

    def _swap(self) -> None:
        """A new student is there: write down the rounds it learned from, and go on with a fresh round."""
        fitting, number = self.fitting, self.trainer.number
        fitted = self.trainer.take()
        fitting.scorer = fitting.reopen(fitting.saved.student(number))
        while self.judges.waiting:
            self._collect(wait=True)
        if self.labels:
            self._close()
        trained = [state for state in self.spare if state.number <= number]
        self.spare = [state for state in self.spare if state.number > number]
        trained[-1].fitted, trained[-1].scored_while_training = fitted, self.while_training
        for state in trained:
            state.student = number if state is trained[-1] else state.student
            fitting.saved.save(state)
            fitting.rounds.append(state)
            fitting.on_round(state, fitting.scorer)
        for state in self.spare:
            state.student = number
        self.while_training = 0
        self._open()


def _adopt_orphans(fitting: Fitting) -> None:
    """Adopt labels of a round that was killed: training uses them, but their chance to be chosen is no longer known."""
    number = len(fitting.rounds)
    rows = [row for row in fitting.store.rows if row.round >= number]
    if not rows:
        return
    last = fitting.rounds[-1]
    for at in sorted({row.round for row in rows}):
        mine = [row for row in rows if row.round == at]
        state = RoundState(
            number=len(fitting.rounds),
            cursor=last.cursor,
            design=Design(),
            fitted=None,
            student=last.student,
            base_rate=base_rate(fitting.store.rows),
            labels=len(mine),
            passes=sum(row.label == 1 for row in mine),
            failed=sum(row.label is None for row in mine),
        )
        fitting.saved.save(state)
        fitting.rounds.append(state)
    fitting.labelled.update(row.snippet_id for row in rows)


class _JudgePool:
    """Asks the judge while scoring goes on."""

    def __init__(self, fitting: Fitting) -> None:
        self._judge, self._store = fitting.judge, fitting.store
        self._asked: list[tuple[list[Pick], int, Future[list[Verdict]]]] = []

    def __enter__(self) -> _JudgePool:
        return self

    def __exit__(self, *_: object) -> None:
        for item in self._asked:
            item[2].cancel()

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return len(self._asked)

    def ask(self, picks: Sequence[Pick], number: int) -> None:
        """Send picks off, a few at a time, so that the first verdicts come before the last."""
        for start in range(0, len(picks), TOGETHER):
            some = list(picks[start : start + TOGETHER])
            self._asked.append((some, number, submit(self._judge.ajudge([pick.snippet for pick in some]))))

    def answers(self, *, wait: bool) -> list[tuple[list[Pick], list[int | None]]]:
        """What has come back since the last call, already in the store.

        Raises:
            BudgetSpent: the judge's limit is reached; what it has answered is in the store.
        """
        if wait and self._asked and not any(future.done() for _, _, future in self._asked):
            time.sleep(WAIT_S)
        done = [item for item in self._asked if item[2].done()]
        self._asked = [item for item in self._asked if not item[2].done()]
        answers: list[tuple[list[Pick], list[int | None]]] = []
        stopped = None
        for picks, number, future in done:
            try:
                answers.append((picks, keep_verdicts(self._store, picks, future.result, number)))
            except BudgetSpent as error:
                stopped = error
        if stopped is not None:
            raise stopped
        return answers


class _Trainer:
    """Trains students in a process of its own."""

    def __init__(self, fitting: Fitting) -> None:
        self._fitting = fitting
        self._start = fitting.folder / "start"
        if not (self._start / "done").exists():
            fitting.student.save(self._start)
            (self._start / "done").touch()
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=settle)
        self._job: Future[Fitted] | None = None
        self.number = -1

    def __enter__(self) -> _Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def is_busy(self) -> bool:
        """Whether a training is under way, or done and not yet taken."""
        return self._job is not None

    @property
    def is_done(self) -> bool:
        """Whether a student is ready to be taken."""
        return self._job is not None and self._job.done()

    def start(self, number: int) -> None:
        """Train on all labels so far; the student goes to the folder of round `number`."""
        fitting, self.number = self._fitting, number
        rows = list(fitting.store.rows)
        self._job = self._pool.submit(
            _train_and_save,
            fitting.reopen,
            self._start,
            fitting.saved.student(number),
            rows,
            base_rate(rows),
            fitting.rng.child("train", number),
        )

    def take(self) -> Fitted:
        """What the finished training took."""
        assert self._job is not None
        job, self._job = self._job, None
        try:
            return job.result()
        except BrokenProcessPool:
            raise WorkLost(
                "The trainer process died (killed, or out of memory). Labels are kept: repeat the command to continue."
            ) from None


def _train_and_save(
    reopen: Callable[[Path], Student], start: Path, to: Path, rows: list[Label], rate: float, rng: Rng
) -> Fitted:
    student = reopen(start)
    fitted = train(student, rows, rate, rng)
    student.save(to)
    return fitted
