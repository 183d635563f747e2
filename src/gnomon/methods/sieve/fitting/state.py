"""State of a fit after each round, from which a killed one goes on: a small JSON file and the round's student.

rounds/03.json     where reading stopped, which scores were labelled, what the round took
rounds/03/         the student trained on all labels up to round 3

Training on the labels so far, and cross-fitted scores of labels, stand below; then `Progress`, all that a running fit holds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.errors import LLMFailure
from gnomon.methods.sieve.choosing.intervals import Design
from gnomon.methods.sieve.choosing.rounds import Pick, Round
from gnomon.methods.sieve.choosing.strategies import Reservoir, plan
from gnomon.methods.sieve.choosing.stream import Cursor, Feed, Passes
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.fitting.calibration import on_scale_of
from gnomon.methods.sieve.judging.judges import Judge
from gnomon.methods.sieve.judging.labels import Label, LabelStore
from gnomon.methods.sieve.students.base import Fitted, Student

RESERVOIR = 4096
"""Recent scores that ranks refer to, and snippets on which the threshold is placed."""


@dataclass
class RoundState:
    """One finished round."""

    number: int
    """0 is the seed round."""
    cursor: Cursor
    """Where the next round reads on."""
    design: Design
    """Which scores were labelled, of how many snippets."""
    fitted: Fitted | None
    """What training on all labels up to this round took. None: no student was trained at its end (async only)."""
    student: int
    """Number of the round whose student is the newest at its end."""
    base_rate: float
    """Estimate from the uniform labels up to this round."""
    labels: int
    """Labels of this round, failed ones included."""
    passes: int
    """Of those, how many the judge passed."""
    failed: int
    """Of those, how many have no verdict."""
    lacking: list[str] = field(default_factory=list)
    """Which: a repeated run asks about them again."""
    widths: list[float] = field(default_factory=list)
    """Rank mass of the interval after each chunk of labels."""
    read: int = 0
    """Snippets scored."""
    scoring_s: float = 0.0
    """Seconds of scoring."""
    judging_s: float = 0.0
    """Seconds of waiting for the judge."""
    scored_while_training: int = 0
    """Snippets scored while this round's student was being trained (async)."""
    chosen: list[str] = field(default_factory=list)
    """The snippets in the order in which they were chosen. Other labels of the round are those that an interrupted run had chosen
    and the finished one had not: learned from, without weight."""
    is_provisional: bool = False
    """True when a budget cut the round short: it is written nowhere, and a repeated run goes through it again."""

    @property
    def minority_share(self) -> float:
        """Share of the rarer class among the round's verdicts."""
        answered = self.labels - self.failed
        return min(self.passes, answered - self.passes) / answered if answered else 0.0

    @property
    def pass_share(self) -> float:
        """Share of passes among the round's verdicts."""
        answered = self.labels - self.failed
        return self.passes / answered if answered else 0.0


class RoundFolder:
    """The `rounds` folder of a fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def student(self, number: int) -> Path:
        """Folder of the student of a round."""
        return self.folder / f"{number:02d}"

    def save(self, state: RoundState) -> None:
        """Mark a round as finished; its student must lie in its folder already. Students of earlier rounds are deleted."""
        raw = asdict(state) | {"design": state.design.to_plain()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{state.number:02d}.json", raw)
        for number in range(state.student):
            shutil.rmtree(self.student(number), ignore_errors=True)

    def load(self) -> list[RoundState]:
        """All finished rounds in order."""
        states: list[RoundState] = []
        while (path := self.folder / f"{len(states):02d}.json").exists():
            raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
            raw["cursor"] = Cursor(**raw["cursor"])
            raw["fitted"] = Fitted(**raw["fitted"]) if raw["fitted"] else None
            raw["design"] = Design.from_plain(raw["design"])
            states.append(RoundState(**raw))
        return states


# Training, and cross-fitted scores.


def base_rate(labels: Sequence[Label]) -> float:
    """Share of passes among the uniformly drawn labels, kept away from 0 and 1 by half a label.

    Labels that were chosen say nothing about it: with them it would come out near 1/2.
    """
    uniform = [row.label for row in labels if row.label is not None and row.is_uniform]
    if not uniform:
        return 0.5
    # Half a label of margin: a rate of 0 or 1 would give one class no weight.
    margin = 0.5 / len(uniform)
    return float(np.clip(np.mean(uniform), margin, 1 - margin))


def focal_alphas(labels: Sequence[int], rate: float) -> list[float]:
    """The focal loss's alpha of each label: the share of the *other* class in the stream.

    Source: SIEVE (arXiv 2410.02755): alpha from the imbalance ratio.

    >>> focal_alphas([1, 0], 0.04)
    [0.96, 0.04]
    """
    return [1 - rate if label else rate for label in labels]


def train(student: Student, rows: Sequence[Label], rate: float, rng: Rng) -> Fitted:
    """Train the student from its starting weights on all rows that have a label."""
    labelled = [row for row in rows if row.label is not None]
    labels = [int(row.label or 0) for row in labelled]
    return student.fit(
        [row.text for row in labelled],
        labels,
        focal_alphas(labels, rate),
        rng,
        groups=[row.doc_id for row in labelled],
    )


def cross_scores(
    student: Student,
    rows: Sequence[Label],
    rate: float,
    stream: tuple[Sequence[str], NDArray[np.float64]],
    folds: int,
    rng: Rng,
) -> NDArray[np.float64]:
    """Score of each row by a student trained without the row's document, on the scale of the student trained on all of them.

    Args:
        student: trained once per fold; what it knew before is lost.
        rows: rows with a label.
        rate: base rate.
        stream: texts without a label, and their scores by the student trained on all rows: there the scales are compared.
        folds: parts of the rows; documents stay whole.
        rng: where the parts come from.

    Returns:
        [N]; NaN where a fold's training rows held one class only.
    """
    texts, final = stream
    scores = np.full(len(rows), np.nan)
    for fold, inside in enumerate(_folds(rows, folds, rng.child("folds"))):
        rest = [row for i, row in enumerate(rows) if i not in inside]
        if len({row.label for row in rest}) < 2:
            continue
        train(student, rest, rate, rng.child("fold", fold))
        where = sorted(inside)
        own = student.predict(texts) if len(texts) else final
        scores[where] = on_scale_of(student.predict([rows[i].text for i in where]), own, final)
    return scores


def _folds(rows: Sequence[Label], folds: int, rng: Rng) -> list[set[int]]:
    """Indices of the rows in each part: passes and fails spread evenly, a document in one part only."""
    documents: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        documents.setdefault(row.doc_id, []).append(i)
    keys = sorted(documents)
    rng.python().shuffle(keys)
    keys.sort(key=lambda key: -sum(int(rows[i].label or 0) for i in documents[key]))
    parts: list[set[int]] = [set() for _ in range(folds)]
    for i, key in enumerate(keys):
        parts[i % folds].update(documents[key])
    return [part for part in parts if part]


# A running fit.


class Progress:
    """Labels, rounds and students of a fit so far.

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
        # A choice without a verdict in a round that was not finished is void: that round is gone through again, and may choose
        # otherwise.
        lacking = {name for state in self.rounds for name in state.lacking}
        self.store.forget(
            [r.snippet_id for r in self.store.rows if r.label is None and r.snippet_id not in lacking]
        )
        self._order: dict[str, int] = {}
        for state in self.rounds:
            self._note_order(state.chosen)
        self.labelled = {row.snippet_id for row in self.store.rows if row.round < len(self.rounds)}
        cursor = self.rounds[-1].cursor if self.rounds else None
        self.feed = Feed(passes, self.labelled, cursor)
        self.scorer = student

    @property
    def left(self) -> int:
        """Labels that the budget still allows; below 0 when it was lowered."""
        return self.settings.budget - len(self.store)

    @property
    def chunk(self) -> int:
        """Labels between two changes of the interval."""
        return self.settings.chunk or max(self.settings.batch // 10, 1)

    def new_round(self, number: int) -> Round:
        """A round under the newest student. It plans for a whole batch, so that a larger budget finds it the same."""
        labels = self.settings.batch
        uniform = round(self.settings.uniform_fraction * labels)
        return Round(number, self.plan, labels, uniform, Reservoir(RESERVOIR), self.rounds[-1].base_rate)

    def within_budget(self, picks: Sequence[Pick]) -> list[Pick]:
        """The first of the picks, as many as the budget allows; what an interrupted run has labelled costs nothing."""
        room, allowed = self.left, list[Pick]()
        for pick in picks:
            is_new = pick.snippet.snippet_id not in self.store
            if is_new and room <= 0:
                break
            room -= is_new
            allowed.append(pick)
        return allowed

    def state_of(self, current: Round, **times: Any) -> RoundState:
        """The state of a round with the labels that it has; from here on none of them is chosen again."""
        mine = [row for row in self.store.rows if row.round == current.number]
        nearest = [name for name, reason in current.picked.items() if reason == "nearest"]
        if nearest:
            current.design.band_share = sum(name in self.store for name in nearest) / len(nearest)
        self.labelled.update(row.snippet_id for row in self.store.rows)
        self._note_order(current.picked)
        return RoundState(
            number=current.number,
            cursor=self.feed.cursor,
            design=current.design,
            fitted=None,
            student=self.rounds[-1].student if self.rounds else current.number,
            base_rate=base_rate(self.store.rows),
            widths=current.widths,
            chosen=list(current.picked),
            **counts_of(mine),
            **times,
        )

    def check_verdicts(self, number: int) -> None:
        """Raise where most of a round's snippets got no verdict: labels would be spent on nothing.

        Raises:
            LLMFailure: the judge gives no usable verdicts; a repeated run asks it again.
        """
        rows = [row for row in self.store.rows if row.round == number]
        failed = [row for row in rows if row.label is None]
        if len(failed) > len(rows) / 2:
            raise LLMFailure(
                f"{self.judge.name}: {len(failed)} of the {'last' if number else 'first'} {len(rows)} snippets got no verdict; the "
                f'first answer was "{failed[0].verdict_text[:200]}". Check the judge, its key and the filter\'s output style, then '
                "repeat the command."
            )

    def train(self, number: int) -> Fitted:
        """Train the student on all labels, and save it to the folder of round `number`."""
        rows = self.rows()
        fitted = train(self.student, rows, base_rate(rows), self.rng.child("train", number))
        self.student.save(self.saved.student(number))
        return fitted

    def add(self, state: RoundState, student: Student) -> None:
        """A round is finished and `student` is the newest: write it down, unless it is provisional."""
        self.rounds.append(state)
        if not state.is_provisional:
            self.saved.save(state)
            self.on_round(state, student)

    def rows(self) -> list[Label]:
        """All labels in the order in which they were chosen: training depends on it, and verdicts come in any other."""
        return sorted(self.store.rows, key=lambda row: self._order.get(row.snippet_id, len(self._order)))

    def _note_order(self, chosen: Iterable[str]) -> None:
        for name in chosen:
            self._order.setdefault(name, len(self._order))

    def weighted(self) -> tuple[list[Label], NDArray[np.float64]]:
        """All rows that have a label, and the share of the stream that each represents."""
        rows: list[Label] = []
        weights: list[NDArray[np.float64]] = []
        for state in self.rounds:
            mine = [row for row in self.rows() if row.round == state.number and row.label is not None]
            chosen = set(state.chosen)
            scores = np.array([0.0 if row.score_at_query is None else row.score_at_query for row in mine])
            is_chosen = np.array([row.snippet_id in chosen for row in mine], dtype=bool)
            weights.append(np.zeros(len(mine)))
            weights[-1][is_chosen] = state.design.weights(scores[is_chosen])
            rows += mine
        return rows, np.concatenate(weights)


def counts_of(rows: Sequence[Label]) -> dict[str, Any]:
    """`labels`, `passes`, `failed` and `lacking` of a round's rows."""
    return {
        "lacking": [row.snippet_id for row in rows if row.label is None],
        "labels": len(rows),
        "passes": sum(row.label == 1 for row in rows),
        "failed": sum(row.label is None for row in rows),
    }
