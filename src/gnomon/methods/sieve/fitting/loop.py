"""The rounds of a fit: one loop for both modes, over a judge and a trainer that work at once or in the background.

    stream -> scorer -> round -> judge -> label store
                ^                             |
                +---- student <- trainer <----+

The interval of the moment decides about every scored snippet, so a snippet is looked at only when all verdicts on those before it
are in. While verdicts are awaited the loop scores ahead, and what it has scored waits in a pool. As soon as a round has its labels
the trainer begins, and a new round under the student at hand; when the training is done the scorer takes the new student, the
running round is closed with the labels it has, and a fresh one begins.

With `AtOnce` nothing is ever awaited, and the loop is the plain sequence of choosing, judging and training: the same stream, judge
and seed give the same labels and the same student. `gnomon.methods.sieve.fitting.background` has the other judge and trainer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.methods.sieve.choosing.rounds import Pick
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.fitting.state import RESERVOIR, Progress, RoundState
from gnomon.methods.sieve.judging.judges import JudgingStopped, judge_all
from gnomon.methods.sieve.judging.labels import keep_verdicts
from gnomon.methods.sieve.students.base import Fitted, Student

log = logging.getLogger(__name__)

BLOCK = 512
"""Snippets scored at a time."""

AHEAD = RESERVOIR
"""Most snippets that are scored before their turn: a new student will score them again."""

GRACE_S = 5.0
"""A training of less than this is waited for before labels are spent under the student before: a round that is closed after a few
seconds would hold little but its uniform labels."""

WAIT_S = 0.05
"""How long to rest when there is nothing to score and answers are awaited."""

Answers = list[tuple[Pick, int | None]]


class Judging(Protocol):
    """Brings verdicts into the label store."""

    stopped: JudgingStopped | None
    """Why the judge answers no more; None while it does."""

    @property
    def is_waiting(self) -> bool:
        """Whether verdicts are still to be taken in."""
        ...

    def ask(self, picks: Sequence[Pick], number: int) -> None:
        """Have picks of round `number` judged."""
        ...

    def answers(self, *, wait: bool) -> Answers:
        """What has come back since the last call, already in the store."""
        ...


class Training(Protocol):
    """Trains students on all labels so far."""

    number: int
    """The round whose student is trained."""
    is_repeatable: bool
    """Whether an interrupted round can be gone through again from its stored labels, with the same choices."""

    @property
    def is_busy(self) -> bool:
        """Whether a training is under way, or done and not yet taken."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether a student is ready to be taken."""
        ...

    def start(self, number: int) -> None:
        """Train the student of round `number`."""
        ...

    def take(self) -> tuple[Fitted, Student]:
        """The finished training, and its student."""
        ...


class AtOnce:
    """Judge and trainer that work while the loop stands still."""

    is_repeatable = True

    def __init__(self, fitting: Progress) -> None:
        self._fitting = fitting
        self._answers: Answers = []
        self._fitted: Fitted | None = None
        self.stopped: JudgingStopped | None = None
        self.number = -1

    @property
    def is_waiting(self) -> bool:
        """Whether answers were not taken yet."""
        return bool(self._answers)

    def ask(self, picks: Sequence[Pick], number: int) -> None:
        """Ask, and wait for all verdicts; those of an interrupted run are there already."""
        store = self._fitting.store
        missing = [pick for pick in picks if store.lacks(pick.snippet.snippet_id)]
        if missing:
            judging = partial(judge_all, self._fitting.judge, [pick.snippet for pick in missing])
            _, self.stopped = keep_verdicts(store, missing, judging, number)
        ids = [(pick, pick.snippet.snippet_id) for pick in picks]
        self._answers += [(pick, store[name].label) for pick, name in ids if not store.lacks(name)]

    def answers(self, *, wait: bool) -> Answers:
        """All answers of the last call of `ask`."""
        answers, self._answers = self._answers, []
        return answers

    @property
    def is_busy(self) -> bool:
        """Whether a student was trained and not taken yet."""
        return self._fitted is not None

    @property
    def is_done(self) -> bool:
        """Whether a student was trained and not taken yet."""
        return self._fitted is not None

    def start(self, number: int) -> None:
        """Train, and save the student to the folder of round `number`."""
        self.number, self._fitted = number, self._fitting.train(number)

    def take(self) -> tuple[Fitted, Student]:
        """What training took, and the student itself."""
        assert self._fitted is not None
        fitted, self._fitted = self._fitted, None
        return fitted, self._fitting.student


class Loop:
    """Stream, round, judge and trainer, tied together.

    Args:
        fitting: prepared; its seed round is done.
        judges: who judges.
        trainer: who trains.
    """

    def __init__(self, fitting: Progress, judges: Judging, trainer: Training) -> None:
        self.fitting, self.judges, self.trainer = fitting, judges, trainer
        self.spare: list[RoundState] = []  # closed rounds, until a student was trained on their labels
        self.while_training = 0
        self.started = 0.0
        self._open()

    def run(self) -> None:
        """Until the budget is spent (or the stream, or the judge stops) and the last student is trained."""
        while True:
            if self.trainer.is_done:
                self._swap()
            self._choose()
            self._collect(wait=False)
            if not self._score():
                self._collect(wait=True)
            if self.judges.is_waiting or self.trainer.is_done:
                continue
            if self.trainer.is_busy:
                if self.is_over or self.is_held:
                    time.sleep(WAIT_S)
            elif not self.is_over:
                continue
            elif self.n_labels or self.spare:
                self._close()
                self.trainer.start(self.spare[-1].number)
                self.started = time.perf_counter()
                self._open()
            else:
                return

    def _open(self) -> None:
        """Begin a round under the newest student."""
        fitting = self.fitting
        self.current = fitting.new_round(len(fitting.rounds) + len(self.spare))
        self.pool: list[Snippet] = []  # scored, to be looked at in turn
        self.pool_scores: NDArray[np.float64] = np.empty(0)
        self.pending: list[Pick] = []
        self.n_labels = self.read = 0
        self.scoring_s = self.judging_s = 0.0
        self.is_dry = self.is_rested = False
        # Nothing can be labelled any more, unless an interrupted run has left labels of this very round.
        may_ask = fitting.left > 0 and self.judges.stopped is None
        self.is_cut = not may_ask and not any(row.round == self.current.number for row in fitting.store.rows)
        fitting.feed.begin_round()

    @property
    def is_over(self) -> bool:
        """Whether the round has all the labels that it can get."""
        return self.is_cut or self.is_rested

    @property
    def is_held(self) -> bool:
        """Whether labels wait for a training that may be over in a moment."""
        return self.trainer.is_busy and time.perf_counter() - self.started < GRACE_S

    @property
    def wants_more(self) -> bool:
        """Whether snippets are still looked at: until the round has its labels; plans with a target look at the whole window."""
        return self.current.wanted_from_stream > 0 or self.current.plan.stream_share < 1

    @property
    def reads_on(self) -> bool:
        """Whether the round reads more than it has in its pool: at most the window."""
        n_read = self.read + len(self.pool)
        return self.wants_more and not self.is_dry and n_read < self.fitting.settings.window

    def _score(self) -> bool:
        """Score the next block: in its turn, or ahead while something is awaited. False when there is nothing to do."""
        is_awaiting = self.judges.is_waiting or self.trainer.is_busy
        is_enough = len(self.pool) >= AHEAD if is_awaiting else bool(self.pool)
        if self.is_over or is_enough or not self.reads_on:
            return False
        block = self.fitting.feed.take(BLOCK)
        if not block:
            self.is_dry = True
            return False
        began = time.perf_counter()
        scores = self.fitting.scorer.predict([s.text for s in block])
        self.scoring_s += time.perf_counter() - began
        self.while_training += len(block) * self.trainer.is_busy
        self.current.reservoir.add(scores)
        self.pool += block
        self.pool_scores = np.concatenate([self.pool_scores, scores])
        return True

    def _choose(self) -> None:
        """Look at the pool in the order of the stream, until enough is chosen that a verdict may change the interval."""
        current, chunk = self.current, self.fitting.chunk
        if self.judges.is_waiting or self.is_over or self.is_held:
            return
        while self.pool and self.wants_more:
            most = max(chunk, current.until_shrink) - len(self.pending)
            picks, taken = current.look(self.pool, self.pool_scores, most=most)
            self.pool, self.pool_scores = self.pool[taken:], self.pool_scores[taken:]
            self.read += taken
            self.pending += picks
            if self.pending and (len(self.pending) >= chunk or not current.wanted_from_stream):
                self._send()
                return
        if self.reads_on:
            return
        if not self.pending:
            self.is_rested = True
            self.pending = current.rest()
        self._send()

    def _send(self) -> None:
        """Have the chosen judged, as far as the budget of labels goes."""
        sent = self.fitting.within_budget(self.pending)
        self.is_cut = self.is_cut or len(sent) < len(self.pending)
        self.pending = []
        began = time.perf_counter()
        if sent and self.judges.stopped is None:
            self.judges.ask(sent, self.current.number)
        self.judging_s += time.perf_counter() - began

    def _collect(self, *, wait: bool) -> None:
        """Take in what the judge has answered; when nothing more is awaited, the interval may narrow."""
        began = time.perf_counter()
        answers = self.judges.answers(wait=wait)
        if wait:
            self.judging_s += time.perf_counter() - began
        self.n_labels += len(answers)
        self.is_cut = self.is_cut or self.judges.stopped is not None
        if answers:
            picks, labels = [pick for pick, _ in answers], [label for _, label in answers]
            self.current.learn(picks, labels, shrink=not self.judges.is_waiting)

    def _close(self) -> None:
        """The running round is over, with the labels it has."""
        fitting = self.fitting
        fitting.feed.give_back(self.pool)
        if self.n_labels:
            times = {"read": self.read, "scoring_s": self.scoring_s, "judging_s": self.judging_s}
            state = fitting.state_of(self.current, **times)
            fitting.check_verdicts(state.number)
            # A round that a budget cut short is gone through again by a repeated run, and then has all its labels.
            state.is_provisional = self.is_cut and self.trainer.is_repeatable
            self.spare.append(state)

    def _swap(self) -> None:
        """A new student is there: write down the rounds it learned from, and go on with a fresh round."""
        fitting, number = self.fitting, self.trainer.number
        fitted, fitting.scorer = self.trainer.take()
        if self.pending:
            self._send()
        while self.judges.is_waiting:
            self._collect(wait=True)
        self._close()
        trained = [state for state in self.spare if state.number <= number]
        self.spare = [state for state in self.spare if state.number > number]
        trained[-1].fitted, trained[-1].scored_while_training = fitted, self.while_training
        trained[-1].student = number
        for state in trained:
            fitting.add(state, fitting.scorer)
        for state in self.spare:
            state.student = number
        self.while_training = 0
        self._open()
