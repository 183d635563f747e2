"""The threshold that turns scores into verdicts.

Labels that were chosen have an artificial mix of classes: a threshold read off them would be too low, and their base rate means
nothing. So the labels are weighted by the inverse of their chance to be labelled, their scores come from students that have not
seen them, and P(pass | rank) is fitted as a rising step function (isotonic regression). Because a snippet's rank is uniform in 0..1
over the stream, every objective is then an integral over ranks, and the best cut is found on all of them.

The base rate, too, is the mean of that curve. A run of 800 labels at a base rate of 4% has seven passes among its uniform labels,
whose share says little; the curve also knows from all the chosen ones where passes begin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.config import check
from gnomon.errors import BadConfig, BadInput, nearest

OBJECTIVES = ("balanced-accuracy", "f1", "pass-rate", "precision")
"""What a threshold can aim at: `pass-rate` keeps as large a share as the judge passes; `precision` keeps as much as it can while at
least the wished share of what is kept passes."""

GRID = 2000
"""Ranks at which the objectives are evaluated."""

TRIM = 3.0
"""Weights above this many medians are cut: a single heavy label would otherwise decide where the curve rises."""


KEPT = np.geomspace(1 / 4096, 1, 241)
"""Shares of the stream for which a model knows the threshold that keeps them, ascending; 3.5% apart."""


@dataclass(frozen=True)
class Calibration:
    """A cut, and what it is expected to do on the stream."""

    rank: float
    """Snippets of this rank and above pass."""
    expected: dict[str, float]
    """`balanced accuracy`, `f1`, `precision`, `recall`, `pass rate` of the cut, as the fitted curve expects them."""
    curve: NDArray[np.float64]
    """P(pass | rank) at the middles of `GRID` equal steps of rank."""


class StreamScores:
    """Scores of the whole stream by the final student, as it would give them had it learned from none of it.

    On its own training labels a student is too sure: a threshold placed among those scores would lie where no new text comes.
    Without them it would lie too low, since labels were chosen and most passes may be among them. So the snippets without a label
    stand with their scores, and the labels, for their share of the stream, with the scores by students that have not seen them.

    Args:
        unseen: scores of snippets without a label, [M].
        labelled: scores of labels by students without them, on the final student's scale, [N].
        share: of the stream that has labels, 0..1.
    """

    def __init__(self, unseen: ArrayLike, labelled: ArrayLike, share: float) -> None:
        parts = [np.asarray(values, float) for values in (unseen, labelled)]
        masses = (1 - share, share)
        weights = [
            np.full(len(part), mass / max(len(part), 1)) for part, mass in zip(parts, masses, strict=True)
        ]
        values = np.concatenate(parts)
        order = np.argsort(values, kind="stable")
        self._values, cumulated = values[order], np.cumsum(np.concatenate(weights)[order])
        self._below = np.concatenate([[0.0], cumulated / cumulated[-1]])

    def spans(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Share of the stream below each score, and share not above it, [N, 2]; they differ where scores are equal.

        >>> StreamScores([0.1, 0.2, 0.2, 0.9], [], 0).spans([0.2]).tolist()
        [[0.25, 0.75]]
        >>> StreamScores([0.1, 0.3], [0.2, 0.9], 0.5).spans([0.2, 0.5]).tolist()
        [[0.25, 0.5], [0.75, 0.75]]
        """
        ends = [np.searchsorted(self._values, np.asarray(scores, float), side) for side in ("left", "right")]
        return np.stack([self._below[end] for end in ends], axis=-1)

    def cut_at(self, rank: float) -> float:
        """The threshold that a share `rank` of the stream misses: midway between the scores on its two sides.

        >>> StreamScores([0.1, 0.3], [0.2, 0.9], 0.5).cut_at(0.75)
        0.6
        """
        at = int(np.argmin(np.abs(self._below - rank)))
        if at in (0, len(self._values)):
            return float(self._values[0]) if at == 0 else float(np.nextafter(self._values[-1], np.inf))
        return float(self._values[at - 1] + self._values[at]) / 2


def on_scale_of(scores: ArrayLike, own: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Scores of one student as another would give them: their logits moved and stretched as on texts that both have scored.

    Students that were trained on nearly the same labels rank alike, but one may be surer than the other.

    Args:
        scores: of one student, [N].
        own: its scores of the texts that both have scored, [M].
        other: the other student's, [M].
    """
    x, mine, theirs = (_logits(values) for values in (scores, own, other))
    if len(mine) < 2 or mine.std() == 0 or theirs.std() == 0:
        return np.asarray(scores, float)
    moved = theirs.mean() + (x - mine.mean()) * theirs.std() / mine.std()
    return np.asarray(np.exp(-np.logaddexp(0.0, -moved)))


def _logits(scores: ArrayLike) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(scores, float), 1e-12, 1 - 1e-12)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def passing_curve(ranks: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """P(pass | rank) at the middles of `GRID` equal steps of rank, never falling.

    Args:
        ranks: rank of each label's score among the stream's, 0..1, [N]; or its lowest and highest rank, [N, 2], which differ where
            scores are equal: the label then speaks for all ranks between.
        labels: 0 or 1.
        weights: how much of the stream each label stands for.

    Raises:
        BadInput: the labels that count are all of one class.
    """
    from sklearn.isotonic import IsotonicRegression

    x, y, w = (np.asarray(values, float) for values in (ranks, labels, weights))
    x, y, w = x.reshape(len(w), -1)[w > 0], y[w > 0], w[w > 0]
    ends = x.shape[1]
    if ends == 2:  # blocks that touch stay apart
        inset = np.minimum(1e-9, (x[:, 1] - x[:, 0]) / 2)
        x = x + np.stack([inset, -inset], axis=1)
    x, y, w = x.ravel(), np.repeat(y, ends), np.repeat(w / ends, ends)
    if len(set(y.tolist())) < 2:
        raise BadInput(
            "A threshold needs labels of both classes. Label more snippets with a larger --budget."
        )
    middles = (np.arange(GRID) + 0.5) / GRID
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y, sample_weight=w)
    return np.asarray(fitted.predict(middles), float)


def calibrate(
    ranks: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    *,
    objective: str = "balanced-accuracy",
    base_rate: float | None = None,
    precision: float = 0.9,
) -> Calibration:
    """The best cut for an objective.

    Args:
        ranks: as for `passing_curve`; of scores by students that did not train on the label.
        labels: 0 or 1.
        weights: inverse-inclusion weights; those above `TRIM` times their median are cut to that.
        objective: one of `OBJECTIVES`.
        base_rate: share of the stream that the judge passes, for `pass-rate`; None: what the curve says.
        precision: share of the kept that must pass, for the objective `precision`.

    Raises:
        BadConfig: there is no such objective, or the precision is out of range.
        BadInput: labels of one class only.
    """
    if objective not in OBJECTIVES:
        raise BadConfig(f'There is no objective "{objective}". {nearest(objective, OBJECTIVES)}')
    check(0 < precision <= 1, "precision", "above 0 and at most 1", precision)
    curve = passing_curve(ranks, labels, trimmed(weights))
    passing = curve.mean()
    # What a cut before step m keeps: steps m .. GRID, for m = 0 .. GRID.
    kept = np.concatenate([np.cumsum(curve[::-1])[::-1], [0.0]]) / GRID
    share = 1 - np.arange(GRID + 1) / GRID
    recall = kept / passing
    exactness = np.divide(kept, share, out=np.ones(GRID + 1), where=share > 0)
    specificity = 1 - (share - kept) / max(1 - passing, 1e-12)
    balanced = (recall + specificity) / 2
    f1 = 2 * kept / (share + passing)
    if objective == "balanced-accuracy":
        at = _middle_of_best(balanced)
    elif objective == "f1":
        at = _middle_of_best(f1)
    elif objective == "pass-rate":
        at = int(np.argmin(np.abs(share - (passing if base_rate is None else base_rate))))
    else:
        fits = np.flatnonzero((exactness >= precision) & (share > 0))
        if not len(fits):
            raise BadInput(
                f"No threshold reaches a precision of {precision:g}; the best is expected to reach {exactness[:-1].max():.3f}. "
                "Lower --precision, or label more."
            )
        at = int(fits[0])
    expected = {
        "balanced accuracy": float(balanced[at]),
        "f1": float(f1[at]),
        "precision": float(exactness[at]),
        "recall": float(recall[at]),
        "pass rate": float(share[at]),
    }
    return Calibration(at / GRID, expected, curve)


def trimmed(weights: ArrayLike) -> NDArray[np.float64]:
    """Weights, the heavy ones cut to `TRIM` times the median of those above 0.

    >>> trimmed([0, 1, 1, 2, 50]).tolist()
    [0.0, 1.0, 1.0, 2.0, 4.5]
    """
    w = np.asarray(weights, float)
    return np.minimum(w, TRIM * np.median(w[w > 0])) if (w > 0).any() else w


def _middle_of_best(values: NDArray[np.float64]) -> int:
    """Index in the middle of the plateau around the first best value."""
    best = np.flatnonzero(values >= values.max() - 1e-9)
    run = best[: int(np.argmax(np.diff(best, append=math.inf) > 1)) + 1]
    return int(run[len(run) // 2])
