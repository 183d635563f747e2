"""What a student is: a light classifier that learns the judge's verdicts and then scores millions of snippets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng

Span = tuple[int, int]
"""Start and end of a token in its text, in characters."""


@dataclass(frozen=True)
class Fitted:
    """What one training of a student took."""

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
        """Where the student's tokens lie in the text: the unit in which snippets are measured and cut."""
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
