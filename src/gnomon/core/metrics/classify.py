"""Metrics of yes-or-no decisions: from decisions, from scores, and between two raters. All take sample weights.

Labels and decisions are arrays of 0 and 1. A metric that has nothing to divide by is NaN, never a made-up 0 or 1; the docstrings
say when.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.errors import BadInput

Array = NDArray[np.float64]


class Confusion(NamedTuple):
    """Weight of each kind of decision; numbers, or arrays of them to compute a metric many times at once."""

    tp: Array
    """Positive and decided so."""
    fp: Array
    """Negative but decided positive."""
    fn: Array
    """Positive but decided negative."""
    tn: Array
    """Negative and decided so."""

    def balanced_accuracy(self) -> Array:
        """Mean of the share of positives and the share of negatives that were found."""
        return (_ratio(self.tp, self.tp + self.fn) + _ratio(self.tn, self.tn + self.fp)) / 2

    def f1(self) -> Array:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def agreement(self) -> Array:
        """Share decided as labelled."""
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    def kappa(self) -> Array:
        """Agreement beyond what two independent raters with these shares would reach, 1 when perfect."""
        total = self.tp + self.fp + self.fn + self.tn
        both = (self.tp + self.fn) * (self.tp + self.fp) + (self.tn + self.fp) * (self.tn + self.fn)
        chance = _ratio(both, total**2)
        return _ratio(self.agreement() - chance, 1 - chance)


def confusion(labels: ArrayLike, decided: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """The four sums of weight.

    Args:
        labels: 0 or 1, [N].
        decided: 0 or 1, [N].
        weights: >= 0, [N]. None: 1 each.

    Raises:
        BadInput: there are no labels, lengths differ, or a value is not as described.
    """
    y, p, w = _binary(labels, "labels"), _binary(decided, "decisions"), _weights(weights, labels)
    _same_length(labels=y, decisions=p, weights=w)
    return Confusion(
        *(np.float64(w[(y == a) & (p == b)].sum()) for a, b in ((1, 1), (0, 1), (1, 0), (0, 0)))  # type: ignore[arg-type]
    )


def balanced_accuracy(labels: ArrayLike, decided: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean of the shares of positives and of negatives decided rightly; NaN when a class is absent. Arguments as in `confusion`.

    >>> balanced_accuracy([1, 1, 0, 0], [1, 0, 0, 0])
    0.75
    """
    return float(confusion(labels, decided, weights).balanced_accuracy())


def f1(labels: ArrayLike, decided: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Harmonic mean of precision and recall; NaN when nothing is positive on either side. Arguments as in `confusion`.

    >>> f1([1, 1, 0, 0, 0], [1, 0, 1, 0, 0])
    0.5
    """
    return float(confusion(labels, decided, weights).f1())


def agreement(a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Share of items on which two raters say the same. Arguments as in `confusion`.

    >>> agreement([1, 0, 0, 1], [1, 0, 1, 1])
    0.75
    """
    return float(confusion(a, b, weights).agreement())


def cohen_kappa(a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Agreement of two raters beyond chance; NaN when both say the same one thing throughout. Arguments as in `confusion`.

    Source: Cohen, "A coefficient of agreement for nominal scales" (1960).

    >>> cohen_kappa([1, 1, 0, 0], [1, 0, 0, 0])
    0.5
    """
    return float(confusion(a, b, weights).kappa())


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Precision averaged over the positives in the order of their scores, ties as one block; NaN without positives.

    Args:
        labels: 0 or 1, [N].
        scores: higher means more likely positive, [N].
        weights: >= 0, [N]. None: 1 each.

    Raises:
        BadInput: as in `confusion`, or a score is not finite.

    >>> round(average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]), 4)
    0.8333
    """
    from sklearn.metrics import average_precision_score

    y, s, w = _scored(labels, scores, weights)
    if not (w * y).sum():  # scikit-learn would give 0 and a warning
        return float("nan")
    return float(average_precision_score(y, s, sample_weight=w))


def best_f1(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """The highest F1 that any threshold reaches, and the threshold: scores at or above it are decided positive.

    Of thresholds that tie the highest is given. Both are NaN without positives. Arguments and errors as in `average_precision`.

    >>> best_f1([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    (0.8, 0.7)
    """
    y, s, w = _scored(labels, scores, weights)
    hits, decided, thresholds = _along(y, s, w)
    if not hits.size or hits[-1] == 0:
        return float("nan"), float("nan")
    at_each = 2 * hits / (decided + hits[-1])
    # Equal values may differ in their last digit.
    best = int(np.flatnonzero(at_each >= at_each.max() - 1e-12)[0])
    return float(at_each[best]), float(thresholds[best])


def _along(labels: Array, scores: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Weight of the positives and of all items at or above each distinct score, and those scores, falling."""
    counted = weights > 0
    order = np.argsort(-scores[counted], kind="stable")
    s, w = scores[counted][order], weights[counted][order]
    ends = np.flatnonzero(np.diff(s, append=-np.inf))  # equal scores are one block
    return np.cumsum(w * labels[counted][order])[ends], np.cumsum(w)[ends], s[ends]


def _ratio(part: Array, whole: Array) -> Array:
    """`part / whole`, NaN where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def _scored(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array]:
    y, w = _binary(labels, "labels"), _weights(weights, labels)
    s = np.asarray(scores, np.float64)
    _same_length(labels=y, scores=s, weights=w)
    if not np.isfinite(s).all():
        raise BadInput(f"Scores must be finite; got {s[~np.isfinite(s)][0]}.")
    return y, s, w


def _binary(values: ArrayLike, what: str) -> Array:
    labels = np.asarray(values)
    if labels.ndim != 1 or labels.size == 0:
        raise BadInput(
            f"Metrics need one label per item and at least one; got {what} of shape {labels.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        odd = labels[~np.isin(labels, (0, 1))][0]
        raise BadInput(f"{what.capitalize()} must be 0 or 1; got {odd!s}. Leave out what has no label.")
    return labels.astype(np.float64)


def _weights(weights: ArrayLike | None, labels: ArrayLike) -> Array:
    array = np.ones(np.shape(labels)) if weights is None else np.asarray(weights, np.float64)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise BadInput("Weights must be finite and >= 0.")
    return array


def _same_length(**arrays: Array) -> None:
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise BadInput(f"Metrics need arrays of one length; got {shapes}.")
