"""How well a ranking of phrases finds those that the reference says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnomon.core.metrics.ranking import auc
from gnomon.methods.sigext.selection import ranking

KS = (5, 10, 20)
"""Where precision and recall are measured."""


@dataclass(frozen=True)
class Ranks:
    """Means over the documents that have a positive phrase; NaN where there is none."""

    precision: dict[int, float]
    """K -> share of the K best that are positive; of all, where there are fewer than K."""
    recall: dict[int, float]
    """K -> share of the positives among the K best."""
    r_precision: float
    """Share of positives among as many of the best as there are positives."""
    auc: float | None
    """Chance that a positive phrase scores above a negative one, over all documents together; None with one class only."""
    positive_rate: float
    """Share of all phrases that are positive."""
    documents: int
    """Documents measured."""
    skipped: int
    """Documents without a positive phrase, left out."""
    unscored: int
    """Phrases without a score, beyond the encoder's reach: never found."""

    def figures(self) -> dict[str, float | int | None]:
        """Everything under the names that reports use."""
        at = {f"precision@{k}": value for k, value in self.precision.items()}
        at |= {f"recall@{k}": value for k, value in self.recall.items()}
        return at | {
            "R-precision": self.r_precision,
            "AUC": self.auc,
            "positive rate": self.positive_rate,
            "documents": self.documents,
            "skipped": self.skipped,
            "unscored": self.unscored,
        }


def measure(
    labels: Sequence[Sequence[bool]], scores: Sequence[Sequence[float]], ks: Sequence[int] = KS
) -> Ranks:
    """Ranking metrics over documents.

    Args:
        labels: whether each phrase is positive, one list per document.
        scores: its score, NaN for none, in the same shape.
        ks: where precision and recall are measured.

    >>> found = measure([[True, False, True], [False]], [[0.9, 0.8, 0.1], [0.5]], ks=(2,))
    >>> found.precision[2], found.recall[2], found.r_precision, found.skipped
    (0.5, 0.5, 0.5, 1)
    """
    rows: list[list[float]] = []
    for wanted, values in zip(labels, scores, strict=True):
        n_positive = sum(wanted)
        if not n_positive:
            continue
        found = np.cumsum([int(wanted[i]) for i in ranking(values)] or [0])
        hits = [int(found[min(k, len(found)) - 1]) for k in (*ks, n_positive)]
        row = [hit / min(k, len(wanted)) for hit, k in zip(hits, ks, strict=False)]
        rows.append([*row, *(hit / n_positive for hit in hits)])
    means = np.mean(rows, axis=0) if rows else np.full(2 * len(ks) + 1, math.nan)
    pairs = [
        (y, s)
        for wanted, values in zip(labels, scores, strict=True)
        for y, s in zip(wanted, values, strict=True)
    ]
    known = [(y, s) for y, s in pairs if not math.isnan(s)]
    return Ranks(
        dict(zip(ks, map(float, means), strict=False)),
        dict(zip(ks, map(float, means[len(ks) :]), strict=False)),
        float(means[-1]),
        auc([y for y, _ in known], [s for _, s in known]) if known else None,
        sum(y for y, _ in pairs) / len(pairs) if pairs else math.nan,
        len(rows),
        len(labels) - len(rows),
        len(pairs) - len(known),
    )
