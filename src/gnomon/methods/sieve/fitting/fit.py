"""The fit: rounds of choosing, judging and training, then a calibrated threshold. Bit-reproducible, and resumable after any kill.

`Fitting` is the synchronous form: each step waits for the one before, so that the same stream, judge and seed give the same labels
and the same student. `gnomon.methods.sieve.fitting.background` runs the same rounds with judge and trainer beside the scoring.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput, BudgetSpent, LLMFailure
from gnomon.methods.sieve.choosing.rounds import Pick, Round
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.strategies import Reservoir, plan
from gnomon.methods.sieve.choosing.stream import Feed, Passes
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.fitting.calibration import Calibration, calibrate
from gnomon.methods.sieve.fitting.state import RoundFolder, RoundState, base_rate, cross_ranks, train
from gnomon.methods.sieve.judging.judges import Judge, JudgingStopped, Verdict, judge_all
from gnomon.methods.sieve.judging.labels import Label, LabelStore, as_label
from gnomon.methods.sieve.students.base import Fitted, Student

log = logging.getLogger(__name__)

BLOCK = 512
"""Snippets scored at a time."""

RESERVOIR = 4096
"""Recent scores that ranks refer to, and snippets on which the threshold is placed."""


@dataclass(frozen=True)
class Outcome:
    """Result of a fit."""

    student: Student
    """Trained on all labels."""
    threshold: float
    """Snippets with this score and above pass."""
    calibration: Calibration
    """How the threshold was chosen."""
    base_rate: float
    """Share of the stream that the judge passes."""
    score_range: tuple[float, float]
    """1% and 99% quantile of the student's scores on the stream."""
    rounds: list[RoundState]
    """The rounds, in order."""
    cross: list[tuple[float, int, float]]
    """Rank by a student that had not seen it, label, and weight of each label: what the threshold rests on."""


class Fitting:
    """Fits a student to a judge with few labels.

    Args:
        student: trained anew each round, always from its starting weights.
        judge: gives the labels.
        passes: the stream.
        folder: for labels and the state of each round; labels that are there already are not asked for again.
        reopen: opens a saved student.
        settings: how to choose.
        rng: where all random choices come from.
        on_round: called after each round with its state and student.
    """

    def __init__(
        self,
        student: Student,
        judge: Judge,
        passes: Passes,
        folder: Path,
        *,
        reopen: Callable[[Path], Student],
        settings: Selection,
        rng: Rng,
        on_round: Callable[[RoundState, Student], None] | None = None,
    ) -> None:
        self.student, self.judge, self.passes = student, judge, passes
        self.store = LabelStore(folder / "labels.jsonl")
        self.settings, self.rng, self.reopen, self.folder = settings, rng, reopen, folder
        self.on_round = on_round or (lambda state, student: None)
        self.plan = plan(
            settings.strategy, shrink=settings.shrink, delta=settings.delta, scale=settings.bound_scale
        )
        self.saved = RoundFolder(folder / "rounds")
        self.rounds = self.saved.load()
        self.labelled = {row.snippet_id for row in self.store.rows if row.round < len(self.rounds)}
        cursor = self.rounds[-1].cursor if self.rounds else None
        self.feed = Feed(passes, self.labelled, cursor)
        self.scorer = student

    def run(self) -> Outcome:
        """All rounds that are still to do, and the threshold.

        Raises:
            BadInput: the stream is empty or too short, or the filter passes (or fails) so rarely that nothing can be learned.
            LLMFailure: the judge gives no usable verdicts.
            BudgetSpent: the judge's spending limit is reached; the labels are kept and a repeated run goes on.
        """
        self.prepare()
        while self.left > 0:
            if not self._round(min(self.left, self.settings.batch)):
                self.say_exhausted()
                break
        return self.conclude()

    @property
    def left(self) -> int:
        """Labels that the budget still allows."""
        return self.settings.budget - sum(state.labels for state in self.rounds)

    def say_exhausted(self) -> None:
        """Warn that the stream is too short for the budget."""
        log.warning(
            "Every snippet of the stream has a label: the fit ends %d labels before its budget.", self.left
        )

    def prepare(self) -> None:
        """Everything before the next round: adapting to unlabelled text, the seed round, or the student of an earlier run."""
        start = self.folder / "start"
        if self.settings.adapt:
            if not (start / "done").exists():
                texts = [s.text for s in self._sample(self.settings.adapt)]
                self.student.adapt(texts, self.rng.child("adapt"))
                self.student.save(start)
                (start / "done").touch()
            else:
                self.student = self.scorer = self.reopen(start)
        if self.rounds:
            self.scorer = self.reopen(self.saved.student(self.rounds[-1].student))
        else:
            self._seed_round()

    def conclude(self) -> Outcome:
        """The threshold, from labels weighted by their chance to be labelled."""
        rows, weights = self._weighted()
        rate = self.rounds[-1].base_rate
        stream = [s.text for s in self._sample(RESERVOIR)]
        if self.settings.folds:
            rng = self.rng.child("calibration")
            ranks = cross_ranks(self.student, rows, rate, stream, self.settings.folds, rng)
            final = self.reopen(self.saved.student(self.rounds[-1].student))  # the folds left another behind
        else:
            final = self.scorer
            ranks_at_query = [np.nan if row.rank_at_query is None else row.rank_at_query for row in rows]
            ranks = np.array(ranks_at_query)[:, None]
        usable = ~np.isnan(ranks[:, 0])
        labels = np.array([row.label for row in rows], dtype=np.int64)
        calibration = calibrate(
            ranks[usable],
            labels[usable],
            weights[usable],
            objective=self.settings.objective,
            base_rate=rate,
            precision=self.settings.precision,
        )
        reservoir = Reservoir(RESERVOIR)
        reservoir.add(final.predict(stream))
        low, high = reservoir.score_at(0.01), reservoir.score_at(0.99)
        cross = list(
            zip(
                ranks[usable].mean(axis=1).tolist(),
                labels[usable].tolist(),
                weights[usable].tolist(),
                strict=True,
            )
        )
        return Outcome(
            final, reservoir.cut_at(calibration.rank), calibration, rate, (low, high), self.rounds, cross
        )

    def _seed_round(self) -> None:
        """Uniform labels until both classes are there."""
        settings = self.settings
        number_wanted = min(settings.batch, settings.budget)
        first = Round(
            0, plan("random"), settings.max_seed_labels, settings.max_seed_labels, Reservoir(1), 0.5
        )
        self.feed.begin_round()
        labels: list[int | None] = []
        judging = 0.0
        while number_wanted > 0:
            snippets = self.feed.take(number_wanted)
            picks, _ = first.look(snippets, np.zeros(len(snippets)))
            began = time.perf_counter()
            labels += self._ask(picks, 0)
            judging += time.perf_counter() - began
            self._check_seed(labels, len(snippets) < number_wanted)
            is_mixed = {0, 1} <= set(labels)
            number_wanted = 0 if is_mixed else min(self.chunk, settings.max_seed_labels - len(labels))
            if not is_mixed and number_wanted <= 0:
                raise _one_class(labels)
        self._finish(first, labels, judging_s=judging)

    def _check_seed(self, labels: Sequence[int | None], is_over: bool) -> None:
        if is_over and len(labels) < self.settings.batch:
            raise BadInput(
                f"The stream holds {len(labels)} snippets and a round labels {self.settings.batch}. "
                "Give more text, or set a smaller --selection.batch."
            )
        if is_over and not {0, 1} <= set(labels):
            raise _one_class(labels)
        failed = sum(label is None for label in labels)
        if failed > len(labels) / 2:
            problem = next(row.verdict_text for row in self.store.rows if row.label is None)
            raise LLMFailure(
                f"{self.judge.name}: {failed} of the first {len(labels)} snippets got no verdict; the first answer was "
                f'"{problem[:200]}". Check the judge, its key and the filter\'s output style.'
            )

    @property
    def chunk(self) -> int:
        """Labels between two changes of the interval."""
        return self.settings.chunk or max(self.settings.batch // 10, 1)

    def _round(self, labels: int) -> bool:
        """One round after the seed round. False when there was nothing left to label."""
        number = len(self.rounds)
        current = self.new_round(number, labels)
        self.feed.begin_round()
        labels_so_far: list[int | None] = []
        pending: list[Pick] = []
        scoring = judging = 0.0

        def judge_pending() -> None:
            nonlocal judging
            began = time.perf_counter()
            verdicts = self._ask(pending, number)
            judging += time.perf_counter() - began
            current.learn(pending, verdicts)
            labels_so_far.extend(verdicts)
            pending.clear()

        read = 0
        while self.reads_on(current, read) and (block := self.feed.take(BLOCK)):
            began = time.perf_counter()
            scores = self.scorer.predict([s.text for s in block])
            scoring += time.perf_counter() - began
            current.reservoir.add(scores)
            at = 0
            while at < len(block) and (current.wanted_from_stream or current.plan.stream_share < 1):
                room = max(self.chunk, current.until_shrink) - len(pending)
                picks, taken = current.look(block[at:], scores[at:], most=room)
                at += taken
                pending += picks
                if pending and (len(pending) >= self.chunk or not current.wanted_from_stream):
                    judge_pending()
            self.feed.give_back(block[at:])
            read += at
        if pending:
            judge_pending()
        if rest := current.rest():
            pending += rest
            judge_pending()
        if not labels_so_far:
            return False
        self._finish(current, labels_so_far, read=read, scoring_s=scoring, judging_s=judging)
        return True

    def new_round(self, number: int, labels: int) -> Round:
        """A round under the newest student."""
        uniform = round(self.settings.uniform_fraction * labels)
        return Round(number, self.plan, labels, uniform, Reservoir(RESERVOIR), self.rounds[-1].base_rate)

    def reads_on(self, current: Round, read: int) -> bool:
        """A round reads until it has its labels, and at most the window; plans with a target read the whole window."""
        wants = current.wanted_from_stream > 0 or current.plan.stream_share < 1
        return wants and read < self.settings.window

    def _ask(self, picks: Sequence[Pick], number: int) -> list[int | None]:
        """The judge's labels, from the store where an interrupted run has asked already."""
        fresh = [pick for pick in picks if pick.snippet.snippet_id not in self.store]
        keep_verdicts(
            self.store, fresh, partial(judge_all, self.judge, [pick.snippet for pick in fresh]), number
        )
        return [self.store[pick.snippet.snippet_id].label for pick in picks]

    def _finish(self, current: Round, labels: Sequence[int | None], **times: float) -> None:
        """Train on everything, write the round down."""
        self.labelled.update(row.snippet_id for row in self.store.rows)
        fitted = self._train(current.number)
        self.scorer = self.student
        self.student.save(self.saved.student(current.number))
        state = RoundState(
            number=current.number,
            cursor=self.feed.cursor,
            design=current.design,
            fitted=fitted,
            student=current.number,
            base_rate=base_rate(self.store.rows),
            labels=len(labels),
            passes=sum(label == 1 for label in labels),
            failed=sum(label is None for label in labels),
            widths=current.widths,
            **times,  # type: ignore[arg-type]
        )
        self.saved.save(state)
        self.rounds.append(state)
        self.on_round(state, self.student)

    def _train(self, number: int) -> Fitted:
        rows = self.store.rows
        return train(self.student, rows, base_rate(rows), self.rng.child("train", number))

    def _sample(self, count: int) -> list[Snippet]:
        """A sample of the stream: the first snippets of a pass of its own."""
        return list(itertools.islice(self.passes.pass_(-1), count))

    def _weighted(self) -> tuple[list[Label], NDArray[np.float64]]:
        """All rows that have a label, and the share of the stream that each represents."""
        rows: list[Label] = []
        weights: list[NDArray[np.float64]] = []
        for state in self.rounds:
            mine = [row for row in self.store.rows if row.round == state.number and row.label is not None]
            scores = [0.0 if row.score_at_query is None else row.score_at_query for row in mine]
            rows += mine
            weights.append(state.design.weights(scores))
        return rows, np.concatenate(weights)


def keep_verdicts(
    store: LabelStore, picks: Sequence[Pick], judging: Callable[[], Sequence[Verdict]], number: int
) -> list[int | None]:
    """The labels of a round's picks, kept in the store; None where the judge gave no verdict.

    Args:
        store: keeps every verdict that came, also when the judge stopped halfway.
        picks: what is asked about.
        judging: brings the verdicts, in the order of the picks.
        number: of the round.

    Raises:
        BudgetSpent: the judge may spend no more.
    """
    stopped = None
    try:
        verdicts: list[Verdict | None] = [*judging()]
    except JudgingStopped as error:
        verdicts, stopped = error.verdicts, error
    answered = [(pick, v) for pick, v in zip(picks, verdicts, strict=True) if v is not None]
    store.append([as_label(pick, verdict, number) for pick, verdict in answered])
    if stopped is not None:
        raise BudgetSpent(
            f"{stopped} {len(store)} labels are kept in {store.path}: repeat the command with a higher limit to go on."
        )
    return [None if v is None else v.label for v in verdicts]


def _one_class(labels: Sequence[int | None]) -> BadInput:
    answered = [label for label in labels if label is not None]
    what = "passes" if not any(answered) else "fails"
    return BadInput(
        f"The filter {what} less than 1 in {len(answered)} snippets (none did so far), so nothing can be learned from them. "
        "Check the filter's wording, raise --selection.max-seed-labels, or give a stream in which both are more frequent."
    )
