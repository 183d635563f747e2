"""The fit with judge and trainer in the background: scoring never waits for a training.

The rounds are those of `gnomon.methods.sieve.fitting.loop`. Here verdicts come while the loop scores ahead, and students are
trained in a process of their own. Which snippets are labelled depends on how fast judge and trainer answer, so two runs differ;
`Fitting.run` is the reproducible form.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from gnomon.core.data.engines import settle
from gnomon.core.llm.stack.loop import submit
from gnomon.core.rng import Rng
from gnomon.errors import WorkLost
from gnomon.methods.sieve.choosing.intervals import Design
from gnomon.methods.sieve.choosing.rounds import Pick
from gnomon.methods.sieve.fitting.fit import Fitting, Outcome
from gnomon.methods.sieve.fitting.loop import WAIT_S, Answers
from gnomon.methods.sieve.fitting.state import RoundState, base_rate, counts_of, train
from gnomon.methods.sieve.judging.judges import JudgingStopped, Verdict
from gnomon.methods.sieve.judging.labels import Label, keep_verdicts
from gnomon.methods.sieve.students.base import Fitted, Student

TOGETHER = 8
"""Most snippets sent to the judge in one piece; those sent at a time are at least four pieces."""


def run(fitting: Fitting) -> Outcome:
    """Run a fit with judge and trainer in the background.

    Raises:
        UserError: as in `Fitting.run`.
        WorkLost: the trainer process died; repeating the run continues.
    """
    if fitting.rounds:
        _adopt_orphans(fitting)
    stopped = fitting.prepare()
    with _JudgePool(fitting) as judges, _Trainer(fitting) as trainer:
        return fitting.finish(judges, trainer, stopped)


def _adopt_orphans(fitting: Fitting) -> None:
    """Adopt labels of a round that was killed: training uses them, but their chance to be chosen is no longer known."""
    number = len(fitting.rounds)
    rows = [row for row in fitting.store.rows if row.round >= number]
    if not rows:
        return
    last = fitting.rounds[-1]
    for at in sorted({row.round for row in rows}):
        state = RoundState(
            number=len(fitting.rounds),
            cursor=last.cursor,
            design=Design(),
            fitted=None,
            student=last.student,
            base_rate=base_rate(fitting.store.rows),
            **counts_of([row for row in rows if row.round == at]),
        )
        fitting.saved.save(state)
        fitting.rounds.append(state)
    fitting.labelled.update(row.snippet_id for row in rows)


class _JudgePool:
    """Asks the judge while scoring goes on."""

    def __init__(self, fitting: Fitting) -> None:
        self._judge, self._store = fitting.judge, fitting.store
        self._under_way: list[tuple[list[Pick], int, Future[list[Verdict]]]] = []
        self.stopped: JudgingStopped | None = None

    def __enter__(self) -> _JudgePool:
        return self

    def __exit__(self, *_: object) -> None:
        for item in self._under_way:
            item[2].cancel()

    @property
    def is_waiting(self) -> bool:
        """Whether requests are under way."""
        return bool(self._under_way)

    def ask(self, picks: Sequence[Pick], number: int) -> None:
        """Send picks off, a few at a time, so that the first verdicts are kept before the last ones come."""
        size = min(TOGETHER, -(-len(picks) // 4))
        for start in range(0, len(picks), max(size, 1)):
            some = list(picks[start : start + size])
            verdicts = submit(self._judge.ajudge([pick.snippet for pick in some]))
            self._under_way.append((some, number, verdicts))

    def answers(self, *, wait: bool) -> Answers:
        """What has come back since the last call, already in the store."""
        if wait and self._under_way:
            futures.wait([item[2] for item in self._under_way], WAIT_S, futures.FIRST_COMPLETED)
        under_way, self._under_way = self._under_way, []
        answers: Answers = []
        for picks, number, verdicts in under_way:
            if not verdicts.done():
                self._under_way.append((picks, number, verdicts))
                continue
            answered, stopped = keep_verdicts(self._store, picks, verdicts.result, number)
            answers += answered
            self.stopped = self.stopped or stopped
        return answers


class _Trainer:
    """Trains students in a process of its own."""

    is_repeatable = False

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
        rows = fitting.rows()
        self._job = self._pool.submit(
            _train_and_save,
            fitting.reopen,
            self._start,
            fitting.saved.student(number),
            rows,
            base_rate(rows),
            fitting.rng.child("train", number),
        )

    def take(self) -> tuple[Fitted, Student]:
        """What the finished training took, and its student."""
        assert self._job is not None
        job, self._job = self._job, None
        try:
            return job.result(), self._fitting.reopen(self._fitting.saved.student(self.number))
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
