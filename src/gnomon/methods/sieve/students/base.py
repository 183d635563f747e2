"""The protocol of students: light classifiers that learn the judge's verdicts and then score millions of snippets.

With it the checks of what a student learns from, and the description beside a saved student's weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sieve.students.config import StudentConfig

Span = tuple[int, int]
"""Start and end of a token in its text, in characters."""


@dataclass(frozen=True)
class Fitted:
    """Steps, seconds and losses of one training."""

    steps: int
    """Optimiser steps, or iterations of the solver."""
    seconds: float
    """Wall time."""
    best_step: int
    """The step whose weights were kept."""
    held_out: int
    """Labels kept back for early stopping; they are part of the training labels and never of a test."""
    held_out_loss: float | None = None
    """Weighted loss on those, of the weights kept. None: there were none."""


class Student(Protocol):
    """A light classifier. Every `fit` begins from the same starting weights, whatever was fitted before."""

    name: str
    """The reference it was opened with: `hashed-linear`, `t5-encoder`, or a model folder or id."""

    def token_spans(self, text: str) -> list[Span]:
        """Spans of the student's tokens in the text, the unit in which snippets are measured and cut."""
        ...

    def adapt(self, texts: Sequence[str], rng: Rng) -> None:
        """Learn from unlabelled text what later fits begin from. May do nothing."""
        ...

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[int],
        weights: Sequence[float],
        rng: Rng,
        *,
        groups: Sequence[str] | None = None,
    ) -> Fitted:
        """Train from the starting weights on all labels.

        Args:
            texts: the snippets.
            labels: 1 for pass, 0 for fail.
            weights: the focal loss's alpha for each label.
            rng: where the random choices come from.
            groups: document of each snippet; snippets of one document stay on one side of the early-stopping split.
        """
        ...

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Scores in 0..1, [N], in the order of the texts; they do not depend on the batch size or on the other texts."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that `open_student(folder)` needs."""
        ...


# Checks of labels.


def check_labels(
    texts: Sequence[str], labels: Sequence[int], weights: Sequence[float], groups: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and weights as arrays, [N] each.

    Raises:
        BadInput: the lengths differ, a label is neither 0 nor 1, a weight is not a positive number, or all labels are equal.
    """
    for name, values in (("labels", labels), ("weights", weights), ("groups", groups)):
        if values is not None and len(values) != len(texts):
            raise BadInput(f"{len(texts)} texts came with {len(values)} {name}. Give every text one.")
    for i, label in enumerate(labels):
        if label not in (0, 1):
            raise BadInput(f"Label {i} is {label!r}. A label is 1 for pass or 0 for fail.")
    for i, weight in enumerate(weights):
        if not 0 < weight < float("inf"):
            raise BadInput(f"Weight {i} is {weight!r}. A weight is a number above 0.")
    if len(set(labels)) < 2:
        classes = f'only the label "{"pass" if labels[0] else "fail"}"' if len(labels) else "no label"
        raise BadInput(f"A student learns from both verdicts, and there is {classes}. Label more texts.")
    return np.asarray(labels, np.int64), np.asarray(weights, np.float64)


def split_held_out(
    labels: NDArray[np.int64], groups: Sequence[str] | None, share: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and indices to keep back, each ascending.

    About `share` of each verdict is kept back, in whole groups. Both sides hold both verdicts; where the labels do not
    allow it (a single pass, all passes in one document), nothing is kept back.

    Args:
        labels: 0 or 1, [N], both present.
        groups: group of each label; None: each is its own.
        share: of the labels to keep back, 0..1.
        generator: draws the order in which groups are kept back.
    """
    everything = np.arange(len(labels))
    nothing = everything[:0]
    if share == 0:
        return everything, nothing
    names = [str(i) for i in everything] if groups is None else list(groups)
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name, []).append(i)
    ordered = [members[name] for name in members]
    ordered = [ordered[i] for i in generator.permutation(len(ordered))]
    # The rarer verdict first: its groups bring labels of the other along.
    rare = int(labels.mean() < 0.5)
    totals = np.bincount(labels, minlength=2)
    wanted = np.maximum(1, np.round(share * totals))
    kept, taken = np.zeros(2, np.int64), np.zeros(len(labels), bool)
    for verdict in (rare, 1 - rare):
        for group in ordered:
            if kept[verdict] >= wanted[verdict]:
                break
            inside = np.bincount(labels[group], minlength=2)
            leaves_both = (kept + inside < totals).all()
            if inside[verdict] and not taken[group[0]] and leaves_both:
                taken[group] = True
                kept += inside
    if not kept.all():
        return everything, nothing
    return np.flatnonzero(~taken), np.flatnonzero(taken)


# The description of a saved student.

DESCRIPTION = "student.json"
FORMAT = 1


@dataclass(frozen=True)
class Description:
    """Content of `student.json`."""

    student: str
    """Kind of student: `hashed-linear`, `t5-encoder` or `sequence-classifier`."""
    name: str
    """The reference it was opened with."""
    config: StudentConfig
    """Its settings."""
    more: dict[str, Any] = field(default_factory=dict)
    """What else its kind keeps."""


def is_saved(folder: Path) -> bool:
    """Whether a student was saved in the folder."""
    return (folder / DESCRIPTION).is_file()


def write_description(folder: Path, about: Description) -> None:
    """Write `student.json`, the last file of a saved student: without it the folder is none."""
    plain = {"student": about.student, "name": about.name, "format": FORMAT, "config": asdict(about.config)}
    write_json(folder / DESCRIPTION, plain | {"more": about.more})


def read_description(folder: Path) -> Description:
    """What was saved in the folder. Settings that this version does not have are left out.

    Raises:
        BadInput: it is damaged, or of a later format.
    """
    names = {field.name for field in fields(StudentConfig)}
    try:
        plain = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        version = plain["format"]
        if version == FORMAT:
            config = StudentConfig(**{k: v for k, v in plain["config"].items() if k in names})
            return Description(plain["student"], plain["name"], config, plain["more"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{folder / DESCRIPTION}: not the description of a student. Save it again.") from None
    raise BadInput(
        f"{folder}: the student is of format {version} and this version reads {FORMAT}. Update gnomon."
    )
