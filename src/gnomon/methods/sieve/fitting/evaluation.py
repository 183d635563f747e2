"""How good a model is: against the judge, against the truth where it is known, and against the judge's own consistency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.classify import Confusion, average_precision, best_f1, confusion
from gnomon.core.rng import Rng
from gnomon.errors import BadInput

LEVEL = 0.95
"""Share of the resampled values that an interval holds."""

FROM_TABLE: dict[str, Callable[[Confusion], Any]] = {
    "balanced_accuracy": Confusion.balanced_accuracy,
    "f1": Confusion.f1,
    "agreement": Confusion.agreement,
    "kappa": Confusion.kappa,
}
"""Metrics of decisions."""

Floats = NDArray[np.float64]


def evaluate(
    scores: Sequence[float] | Floats,
    labels: Sequence[int | None],
    threshold: float,
    truth: Sequence[int | None] | None = None,
    *,
    documents: Sequence[str] | None = None,
    n_resamples: int = 1000,
    rng: Rng | None = None,
) -> dict[str, Any]:
    """The model's decisions compared with the judge's labels, and with the truth where it is given.

    Args:
        scores: of the snippets, by the student, [N].
        labels: by the judge; None where it gave no verdict.
        threshold: scores of this and above pass.
        truth: what is right; None where it is not known.
        documents: document of each snippet. Intervals resample documents, since the snippets of one are alike. None: every snippet
            is a document of its own.
        n_resamples: resamples behind the intervals.
        rng: where they come from; the same default every time, so that a report repeats.

    Returns:
        `n`, `unlabelled`, `threshold`, `pass_share` of the model, and `judge`: see below; with truth also `truth`, `judge_truth`
        (the judge against the truth, in the place of the model), and `where_agreed`: `n` snippets on which judge and model agree,
        and the share of `errors` among them with its `interval`.

        A comparison holds `n`, `base_rate`, `balanced_accuracy`, `f1`, `agreement`, `kappa`, `average_precision`, `best_f1`,
        `best_threshold`, the counts `tp, fp, fn, tn`, and `intervals`: metric -> [low, high]. Numbers that are not defined, as when
        a class is absent, are NaN.

    Raises:
        BadInput: lengths differ, nothing has a label, or a score is not finite.
    """
    values = np.asarray(scores, np.float64)
    judged, real = _labels(labels), _labels(truth if truth is not None else [None] * len(values))
    groups = _groups(documents, len(values))
    if len({len(values), len(judged), len(real), len(groups)}) > 1:
        sizes = f"{len(values)} scores, {len(judged)} labels, {len(real)} truths, {len(groups)} documents"
        raise BadInput(f"Evaluation needs one of each per snippet; got {sizes}.")
    if not (~np.isnan(judged)).any():
        raise BadInput("None of the snippets has a label. Judge them first with `gnomon sieve label`.")
    resample = _Resamples(groups, n_resamples, rng or Rng(0))
    decided = values >= threshold
    result: dict[str, Any] = {
        "n": len(values),
        "unlabelled": int(np.isnan(judged).sum()),
        "threshold": float(threshold),
        "pass_share": float(decided.mean()),
        "judge": _compared(judged, decided, resample, values),
    }
    if truth is not None and (~np.isnan(real)).any():
        result["truth"] = _compared(real, decided, resample, values)
        result["judge_truth"] = _compared(real, judged, resample)
        result["where_agreed"] = _errors_where_agreed(real, judged, decided, resample)
    return result


def self_consistency(a: Sequence[int | None], b: Sequence[int | None]) -> dict[str, float]:
    """How far two opinions of the same judge agree: the ceiling for any student of it.

    Args:
        a: labels of the first time; None where there was no verdict.
        b: labels of the second time.

    Returns:
        `n` snippets with both, `agreement`, and `kappa` (NaN when both say the same one thing throughout).

    Raises:
        BadInput: lengths differ, or no snippet has both.
    """
    first, second = _labels(a), _labels(b)
    if len(first) != len(second):
        raise BadInput(f"Two opinions need one label each per snippet; got {len(first)} and {len(second)}.")
    both = ~np.isnan(first) & ~np.isnan(second)
    if not both.any():
        raise BadInput("No snippet has a verdict in both opinions.")
    table = confusion(first[both], second[both])
    return {"n": int(both.sum()), "agreement": float(table.agreement()), "kappa": float(table.kappa())}


class _Resamples:
    """How often each document comes in each resample."""

    def __init__(self, groups: NDArray[np.int64], count: int, rng: Rng) -> None:
        self.groups, self.n_groups = groups, int(groups.max(initial=-1)) + 1
        draws = rng.child("bootstrap").numpy()
        even = np.full(self.n_groups, 1 / self.n_groups)
        self.times = draws.multinomial(self.n_groups, even, size=count)  # [R, documents]

    def table(self, truth: Floats, decided: Floats) -> Confusion:
        """The confusion of every resample at once."""
        cells = ((1, 1), (0, 1), (1, 0), (0, 0))
        masks = ((truth == y) & (decided == p) for y, p in cells)
        return Confusion(
            *(
                self.times @ np.bincount(self.groups[mask], minlength=self.n_groups).astype(float)
                for mask in masks
            )
        )

    def weights(self) -> Iterator[NDArray[np.int64]]:
        """Weight of each snippet, [N], resample by resample."""
        return (times[self.groups] for times in self.times)


def _compared(
    truth: Floats, decided: NDArray[Any], resample: _Resamples, scores: Floats | None = None
) -> dict[str, Any]:
    decided = decided.astype(np.float64)
    is_defined = ~np.isnan(truth) & ~np.isnan(decided)
    if not is_defined.any():
        raise BadInput("No snippet has both a label and a truth.")
    y = truth[is_defined]
    table, many = confusion(y, decided[is_defined]), resample.table(truth, decided)
    result: dict[str, Any] = {"n": int(is_defined.sum()), "base_rate": float(y.mean())}
    result |= {name: float(metric(table)) for name, metric in FROM_TABLE.items()}
    result["intervals"] = {name: _interval(metric(many)) for name, metric in FROM_TABLE.items()}
    if scores is not None:
        mine = scores[is_defined]
        result["average_precision"] = average_precision(y, mine)
        drawn = [
            average_precision(y, mine, times[is_defined])
            for times in resample.weights()
            if times[is_defined].any()
        ]
        result["intervals"]["average_precision"] = _interval(np.array(drawn))
        result["best_f1"], result["best_threshold"] = best_f1(y, mine)
    return result | {name: int(count) for name, count in zip(table._fields, table, strict=True)}


def _errors_where_agreed(
    truth: Floats, judged: Floats, decided: NDArray[np.bool_], resample: _Resamples
) -> dict[str, Any]:
    agreed = (judged == decided) & ~np.isnan(truth)
    if not agreed.any():
        return {"n": 0, "errors": float("nan"), "interval": [float("nan")] * 2}
    wrong = np.bincount(resample.groups[agreed & (truth != decided)], minlength=resample.n_groups)
    every = np.bincount(resample.groups[agreed], minlength=resample.n_groups)
    errors, sizes = (resample.times @ counts.astype(float) for counts in (wrong, every))
    shares = np.divide(errors, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    return {
        "n": int(agreed.sum()),
        "errors": float(wrong.sum() / every.sum()),
        "interval": _interval(shares),
    }


def _interval(values: Floats) -> list[float]:
    """Ends of the central part of the resampled values that are defined."""
    values = values[~np.isnan(values)]
    if not values.size:
        return [float("nan"), float("nan")]
    tail = 50 * (1 - LEVEL)
    return [float(end) for end in np.percentile(values, (tail, 100 - tail))]


def _labels(values: Sequence[int | None]) -> Floats:
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    if not np.isin(numbers[~np.isnan(numbers)], (0, 1)).all():
        raise BadInput("Labels must be 1, 0 or None.")
    return numbers


def _groups(documents: Sequence[str] | None, n: int) -> NDArray[np.int64]:
    if documents is None:
        return np.arange(n)
    return np.unique(np.asarray(documents), return_inverse=True)[1].astype(np.int64)
