"""One comparison of the miniature: a corpus, a student, and the measurements of each arm."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.classify import (
    agreement,
    average_precision,
    balanced_accuracy,
    best_f1,
    cohen_kappa,
    f1,
)
from gnomon.core.rng import Rng
from gnomon.methods.sieve.choosing.intervals import EVERYTHING
from gnomon.methods.sieve.choosing.rounds import Pick
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.fitting.calibration import StreamScores, calibrate
from gnomon.methods.sieve.fitting.fit import Fitting, Outcome
from gnomon.methods.sieve.fitting.state import RoundState, cross_scores, train
from gnomon.methods.sieve.judging.judges import LocalJudge, Verdict
from gnomon.methods.sieve.judging.labels import as_label
from gnomon.methods.sieve.mini.world import Corpus
from gnomon.methods.sieve.students.base import Student

ARMS: dict[str, dict[str, Any]] = {
    "random": {"strategy": "random"},
    "uncertainty": {"strategy": "uncertainty"},
    "margin-quantile": {"strategy": "margin-quantile"},
    "trm": {"strategy": "trm", "shrink": "bound", "bound_scale": 0.3},
    "trm, c = 1": {"strategy": "trm", "shrink": "bound", "bound_scale": 1.0},
    "trm, halving": {"strategy": "trm", "shrink": "halving"},
}
"""How an arm chooses its labels."""

ALL_LABELS = "all labels"
"""The arm that labels the whole stream."""


@dataclass(frozen=True)
class Trial:
    """What the arms of one comparison share under one seed."""

    corpus: Corpus
    """Stream, test and verdicts."""
    student: Student
    """Adapted to the unlabelled stream, fitted to nothing; each arm gets a copy."""
    selection: Selection
    """Budget, batch and window; the arm adds its strategy."""
    rng: Rng
    """Of this comparison and seed; all arms begin with the same uniform labels."""
    reopen: Callable[[Path], Student]
    """Opens a saved student."""

    def run(self, arm: str, folder: Path) -> dict[str, Any]:
        """Measurements of one arm. `folder` is for scratch files and is gone afterwards."""
        student = copy.deepcopy(self.student)
        began = time.perf_counter()
        if arm == ALL_LABELS:
            measured = self._label_all(student)
        else:
            measured = self._fit(student, replace(self.selection, **ARMS[arm]), folder)
            shutil.rmtree(folder, ignore_errors=True)
        return measured | {"seconds": time.perf_counter() - began}

    def _fit(self, student: Student, selection: Selection, folder: Path) -> dict[str, Any]:
        curve: list[dict[str, float]] = []
        labels = 0

        def measure(state: RoundState, current: Student) -> None:
            nonlocal labels
            labels += state.labels
            width = state.widths[-1] if state.widths else 1.0
            curve.append(
                {
                    "labels": labels,
                    "width": width,
                    "pass share": state.pass_share,
                    "minority share": state.minority_share,
                }
                | self._ranking(current)
            )

        judge = LocalJudge(lambda snippet: self.corpus.verdicts[snippet.snippet_id], "the corpus's judge")
        fitting = Fitting(
            student,
            judge,
            self.corpus,
            folder,
            reopen=self.reopen,
            settings=selection,
            rng=self.rng,
            on_round=measure,
        )
        outcome = fitting.run()
        return {"curve": curve, **self._cost(outcome), **self._verdicts(outcome.student, outcome.threshold)}

    def _label_all(self, student: Student) -> dict[str, Any]:
        stream = self.corpus.stream
        judged = self.corpus.labels(stream)
        rate = float(judged.mean())
        picks = [Pick(snippet, 0.0, 0.5, EVERYTHING, "seed") for snippet in stream]
        verdicts = [Verdict(int(label)) for label in judged]
        rows = [as_label(pick, verdict, 0) for pick, verdict in zip(picks, verdicts, strict=True)]
        nothing: tuple[list[str], NDArray[np.float64]] = ([], np.empty(0))  # no snippet is without a label
        rng = self.rng.child("all folds")
        scores = cross_scores(student, rows, rate, nothing, self.selection.folds, rng)
        scale = StreamScores([], scores, 1.0)
        calibration = calibrate(
            scale.spans(scores), judged, np.ones(len(rows)), objective=self.selection.objective
        )
        fitted = train(student, rows, rate, self.rng.child("all"))
        point = {"labels": float(len(rows)), "pass share": rate} | self._ranking(student)
        return {
            "curve": [point],
            "labels": len(rows),
            "pass share": rate,
            "training_s": fitted.seconds,
            "scoring_s": 0.0,
            "scored": 0,
            **self._verdicts(student, scale.cut_at(calibration.rank)),
        }

    def _ranking(self, student: Student) -> dict[str, float]:
        """Measures that need no threshold, on the test."""
        scores = student.predict([s.text for s in self.corpus.test])
        judged, true = self.corpus.labels(self.corpus.test), self.corpus.true(self.corpus.test)
        return {
            "AP": average_precision(judged, scores),
            "AP (truth)": average_precision(true, scores),
            "best F1": best_f1(judged, scores)[0],
        }

    def _verdicts(self, student: Student, threshold: float) -> dict[str, float]:
        """Measures of the finished filter, on the test."""
        scores = student.predict([s.text for s in self.corpus.test])
        judged, true = self.corpus.labels(self.corpus.test), self.corpus.true(self.corpus.test)
        passes = scores >= threshold
        cuts = np.quantile(scores, np.linspace(0.5, 1, 201))
        same = passes == judged
        return {
            "balanced accuracy": balanced_accuracy(judged, passes),
            "balanced accuracy (truth)": balanced_accuracy(true, passes),
            "balanced accuracy at 0.5": balanced_accuracy(judged, scores >= 0.5),
            "balanced accuracy at the best cut": max(balanced_accuracy(judged, scores >= c) for c in cuts),
            "F1": f1(judged, passes),
            "agreement": agreement(judged, passes),
            "kappa": cohen_kappa(judged, passes),
            "error where both agree": float(np.mean(judged[same] != true[same])),
            "base rate": float(self.corpus.labels(self.corpus.stream).mean()),
        }

    @staticmethod
    def _cost(outcome: Outcome) -> dict[str, float]:
        rounds = outcome.rounds
        chosen = [state for state in rounds if state.number > 0]
        answered = sum(state.labels - state.failed for state in chosen)
        return {
            "labels": sum(state.labels for state in rounds),
            "pass share": sum(state.passes for state in chosen) / max(answered, 1),
            "scored": sum(state.read for state in rounds),
            "scoring_s": sum(state.scoring_s for state in rounds),
            "training_s": sum(state.fitted.seconds for state in rounds if state.fitted),
        }
