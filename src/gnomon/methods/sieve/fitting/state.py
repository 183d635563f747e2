"""State of a fit after each round, from which a killed one goes on: a small JSON file and the round's student.

rounds/03.json     where reading stopped, which scores were labelled, what the round took
rounds/03/         the student trained on all labels up to round 3

Training on the labels so far, and cross-fitted ranks of labels, stand below.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.methods.sieve.choosing.intervals import Design
from gnomon.methods.sieve.choosing.strategies import Reservoir
from gnomon.methods.sieve.choosing.stream import Cursor
from gnomon.methods.sieve.students.base import Fitted, Student

if TYPE_CHECKING:
    from gnomon.methods.sieve.judging.labels import Label


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


# Training, and cross-fitted ranks.


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


def cross_ranks(
    student: Student, rows: Sequence[Label], rate: float, stream: Sequence[str], folds: int, rng: Rng
) -> NDArray[np.float64]:
    """Ranks of each row's score, among the scores of `stream`, by a student trained without the row's document.

    Args:
        student: trained once per fold; what it knew before is lost.
        rows: rows with a label.
        rate: base rate.
        stream: texts that stand for the stream.
        folds: parts of the rows; documents stay whole.
        rng: where the parts come from.

    Returns:
        Lowest and highest rank of each row, [N, 2]; they differ where scores are equal. NaN where a fold's training rows held one
        class only.
    """
    ranks = np.full((len(rows), 2), np.nan)
    for fold, inside in enumerate(_folds(rows, folds, rng.child("folds"))):
        rest = [row for i, row in enumerate(rows) if i not in inside]
        if len({row.label for row in rest}) < 2:
            continue
        train(student, rest, rate, rng.child("fold", fold))
        reservoir = Reservoir(len(stream))
        reservoir.add(student.predict(stream))
        where = sorted(inside)
        ranks[where] = reservoir.spans(student.predict([rows[i].text for i in where]))
    return ranks


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
