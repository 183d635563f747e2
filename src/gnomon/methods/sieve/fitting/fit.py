"""The fit: rounds of choosing, judging and training, then a calibrated threshold. Bit-reproducible, and resumable after any kill.

`Fitting.run` waits at each step for the one before, so that the same stream, judge and seed give the same labels and the same
student. `gnomon.methods.sieve.fitting.background` runs the same rounds with judge and trainer beside the scoring.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gnomon.errors import BadInput, BudgetSpent
from gnomon.methods.sieve.choosing.intervals import EVERYTHING
from gnomon.methods.sieve.choosing.rounds import Pick, Round
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.strategies import Reservoir, plan
from gnomon.methods.sieve.fitting.calibration import KEPT, Calibration, StreamScores, calibrate
from gnomon.methods.sieve.fitting.loop import AtOnce, Judging, Loop, Training
from gnomon.methods.sieve.fitting.state import (
    RESERVOIR,
    Progress,
    RoundState,
    base_rate,
    counts_of,
    cross_scores,
)
from gnomon.methods.sieve.judging.judges import GO_ON, JudgingStopped, judge_all
from gnomon.methods.sieve.judging.labels import Label, keep_verdicts
from gnomon.methods.sieve.students.base import Student

log = logging.getLogger(__name__)


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
    """Share of the stream that the judge passes: the mean of the fitted curve."""
    score_range: tuple[float, float]
    """1% and 99% quantile of the student's scores on the stream."""
    cuts: list[float]
    """Thresholds that keep the shares `calibration.KEPT` of the stream."""
    rounds: list[RoundState]
    """The rounds, in order."""
    cross: list[tuple[float, int, float]]
    """Rank by a student that had not seen it, label, and weight of each label: what the threshold rests on."""
    stopped: str = ""
    """Why the judge stopped before the budget of labels was spent; empty when it did not."""


class Fitting(Progress):
    """Fits a student to a judge with few labels. Made as `Progress` is."""

    def run(self) -> Outcome:
        """All rounds that are still to do, and the threshold.

        Where a limit of the judge, or the budget of labels, ends a round early, the fit ends with what it has. A repeated run with
        a higher one goes through that round again from its labels, and comes out as if nothing had stopped it.

        Raises:
            BadInput: the stream is empty or too short, or the filter passes (or fails) so rarely that nothing can be learned.
            LLMFailure: the judge gives no usable verdicts.
            BudgetSpent: the judge's limit is reached before anything could be learned; the labels are kept, a repeated run goes on.
        """
        stopped = self.prepare()
        at_once = AtOnce(self)
        return self.finish(at_once, at_once, stopped)

    def finish(self, judges: Judging, trainer: Training, stopped: JudgingStopped | None) -> Outcome:
        """The rounds with this judge and trainer, unless it has stopped already, and the threshold."""
        if stopped is None:
            Loop(self, judges, trainer).run()
            stopped = judges.stopped
            if stopped is None and self.left > 0:
                log.warning(
                    "Every snippet of the stream has a label: the fit ends %d labels before its budget.",
                    self.left,
                )
        return self.conclude(str(stopped or ""))

    def prepare(self) -> JudgingStopped | None:
        """Everything before the next round: adapting to unlabelled text, the seed round, or the student of an earlier run.

        Returns:
            Why the judge stopped, if it did.
        """
        start = self.folder / "start"
        if self.settings.adapt:
            if not (start / "done").exists():
                texts = [s.text for s in self._sample(self.settings.adapt)]
                self.student.adapt(texts, self.rng.child("adapt"))
                self.student.save(start)
                (start / "done").touch()
            else:
                self.student = self.scorer = self.reopen(start)
        if not self.rounds:
            return self._seed_round()
        self.scorer = self.reopen(self.saved.student(self.rounds[-1].student))
        return self._ask_again()

    def conclude(self, stopped: str = "") -> Outcome:
        """The threshold, from labels weighted by their chance to be labelled."""
        if (
            self.rounds[-1].student != self.rounds[-1].number
        ):  # labels of a killed round were adopted, and nothing came after
            self._train_anew()
        rows, weights = self.weighted()
        texts, share = self._unseen()
        unseen = self.scorer.predict(texts) if texts else np.empty(0)
        if self.settings.folds:
            rng, rate = self.rng.child("calibration"), self.rounds[-1].base_rate
            scores = cross_scores(self.student, rows, rate, (texts, unseen), self.settings.folds, rng)
            final = self.reopen(self.saved.student(self.rounds[-1].student))  # the folds left another behind
            usable = ~np.isnan(scores)
            stream = StreamScores(unseen, scores[usable], share)
            ranks = stream.spans(scores[usable])
        else:
            final, stream = self.scorer, StreamScores(unseen, [], 0.0)
            ranks = np.array([np.nan if row.rank_at_query is None else row.rank_at_query for row in rows])
            usable = ~np.isnan(ranks)
            ranks = ranks[usable][:, None]
        labels = np.array([row.label for row in rows], dtype=np.int64)[usable]
        weights = weights[usable]
        aim = {"objective": self.settings.objective, "precision": self.settings.precision}
        calibration = calibrate(ranks, labels, weights, **aim)  # type: ignore[arg-type]
        return Outcome(
            final,
            stream.cut_at(calibration.rank),
            calibration,
            float(calibration.curve.mean()),
            (stream.cut_at(0.01), stream.cut_at(0.99)),
            [stream.cut_at(1 - share) for share in KEPT.tolist()],
            self.rounds,
            list(zip(ranks.mean(axis=1).tolist(), labels.tolist(), weights.tolist(), strict=True)),
            stopped,
        )

    def _unseen(self) -> tuple[list[str], float]:
        """Texts of a sample of the stream that have no label, and the share of the sample that has one."""
        sample = self._sample(RESERVOIR)
        unseen = [s.text for s in sample if s.snippet_id not in self.store]
        return unseen, 1 - len(unseen) / len(sample)

    def _seed_round(self) -> JudgingStopped | None:
        """Uniform labels until both classes are there."""
        settings = self.settings
        most = max(settings.max_seed_labels, settings.batch)
        first = Round(0, plan("random"), most, most, Reservoir(1), 0.5)
        self.feed.begin_round()
        labels: list[int | None] = []
        judging, number_wanted = 0.0, settings.batch
        while number_wanted > 0:
            snippets = self.feed.take(number_wanted)
            picks, _ = first.look(snippets, np.zeros(len(snippets)))
            began = time.perf_counter()
            at_once = AtOnce(self)
            at_once.ask(picks, 0)
            labels += [label for _, label in at_once.answers(wait=True)]
            judging += time.perf_counter() - began
            is_mixed = {0, 1} <= set(labels)
            if at_once.stopped is not None:
                if not is_mixed:
                    raise BudgetSpent(
                        f"{at_once.stopped} {self.store.n_labelled} labels are kept in {self.store.path}, too few to learn from: "
                        f"{GO_ON}"
                    )
                break
            self._check_seed(labels, len(snippets) < number_wanted)
            self.check_verdicts(0)
            number_wanted = 0 if is_mixed else min(self.chunk, settings.max_seed_labels - len(labels))
            if not is_mixed and number_wanted <= 0:
                raise _one_class(labels)
        state = self.state_of(first, judging_s=judging)
        state.is_provisional = at_once.stopped is not None
        state.fitted = self.train(0)
        self.scorer = self.student
        self.add(state, self.student)
        return at_once.stopped

    def _check_seed(self, labels: Sequence[int | None], is_over: bool) -> None:
        if is_over and len(labels) < self.settings.batch:
            raise BadInput(
                f"The stream holds {len(labels)} snippets and a round labels {self.settings.batch}. "
                "Give more text, or set a smaller --selection.batch."
            )
        if is_over and not {0, 1} <= set(labels):
            raise _one_class(labels)

    def _ask_again(self) -> JudgingStopped | None:
        """Ask once more for the verdicts that finished rounds lack, and train anew if some came."""
        done = {state.number: state for state in self.rounds}
        lacking = [row for row in self.store.rows if row.round in done and self.store.lacks(row.snippet_id)]
        stopped, n_came = None, 0
        for number in sorted({row.round for row in lacking}):
            if stopped is None:
                picks = [_pick_of(row) for row in lacking if row.round == number]
                judging = partial(judge_all, self.judge, [pick.snippet for pick in picks])
                answered, stopped = keep_verdicts(self.store, picks, judging, number)
                n_came += sum(label is not None for _, label in answered)
        if n_came:
            log.info("%d verdicts came that an earlier run had not got.", n_came)
            for number, state in done.items():
                for name, count in counts_of([r for r in self.store.rows if r.round == number]).items():
                    setattr(state, name, count)
            self._train_anew()
        return stopped

    def _train_anew(self) -> None:
        """The newest student, trained again because there are labels that it did not have."""
        last = self.rounds[-1]
        last.fitted, last.student, last.base_rate = (
            self.train(last.number),
            last.number,
            base_rate(self.store.rows),
        )
        self.scorer = self.student
        for state in self.rounds:
            self.saved.save(state)

    def _sample(self, count: int) -> list[Snippet]:
        """A sample of the stream: the first snippets of a pass of its own."""
        return list(itertools.islice(self.passes.pass_(-1), count))


def _pick_of(row: Label) -> Pick:
    """The choice behind a row, to be judged again."""
    ends: Any = EVERYTHING if row.interval is None else row.interval
    snippet = Snippet(row.snippet_id, row.doc_id, row.text, 0, len(row.text))
    return Pick(snippet, row.score_at_query or 0.0, row.rank_at_query or 0.0, (ends[0], ends[1]), row.reason)


def _one_class(labels: Sequence[int | None]) -> BadInput:
    answered = [label for label in labels if label is not None]
    what = "passes" if not any(answered) else "fails"
    return BadInput(
        f"The filter {what} less than 1 in {len(answered)} snippets (none did so far), so nothing can be learned from them. "
        "Check the filter's wording, raise --selection.max-seed-labels, or give a stream in which both are more frequent."
    )
