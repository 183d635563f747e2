"""How far predictions are from the truth, step by step, and how fast that shrinks.

Estimators that only count: what a learner without a prior knows after n states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov.chain.chain import Floats
from gnomon.methods.markov.chain.states import Ints
from gnomon.methods.markov.icl.reading import Prediction, predict
from gnomon.methods.markov.icl.series import Series

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Estimators that only count: what a learner without a prior knows after n states.

BASELINES = ("counting", "add-1", "add-1/d", "back-off", "uniform")
"""Relative frequencies (uniform where a state was never left); with 1 or 1/d added to every count; relative frequencies of pairs,
of single states where a state was never left; and no learning at all."""


def count(x: Ints, states: int) -> dict[str, Floats]:
    """Each baseline's distribution of the next state after x_1..x_n, for every n, `[N, d]`.

    `add-1` is the Bayes posterior mean for chains whose rows are Dirichlet(1): on average over those nothing beats it.

    Args:
        x: states 0..d-1, `[N]`.
        states: d.
    """
    rows = np.zeros((len(x), states))  # counts of what followed x_n before time n
    singles = np.zeros((len(x), states))
    pairs, single = np.zeros((states, states)), np.zeros(states)
    for n, state in enumerate(x.tolist()):
        if n:
            pairs[x[n - 1], state] += 1
        single[state] += 1
        rows[n], singles[n] = pairs[state], single
    seen = rows.sum(1, keepdims=True)
    is_new = seen == 0
    frequencies = rows / np.where(is_new, 1, seen)
    return {
        "counting": np.where(is_new, 1 / states, frequencies),
        "add-1": (rows + 1) / (seen + states),
        "add-1/d": (rows + 1 / states) / (seen + 1),
        "back-off": np.where(is_new, singles / singles.sum(1, keepdims=True), frequencies),
        "uniform": np.full_like(rows, 1 / states),
    }


# How far predictions are from the truth, step by step, and how fast that shrinks.

FIRST = 10
"""States after which the slope is fitted."""


def total_variation(p: Floats, q: Floats) -> Floats:
    """Half the L1 distance over the last axis."""
    tv: Floats = np.abs(p - q).sum(-1) / 2
    return tv


def kl(p: Floats, q: Floats) -> Floats:
    """KL(p || q) in nats over the last axis; infinite where q misses what p has."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence: Floats = np.where(p > 0, p * np.log(p / q), 0.0).sum(-1)
    return divergence


def bhattacharyya(p: Floats, q: Floats) -> Floats:
    """-log of the sum of sqrt(p q) over the last axis."""
    with np.errstate(divide="ignore"):
        distances: Floats = -np.log(np.minimum(np.sqrt(p * q).sum(-1), 1))
    return distances


def hellinger(p: Floats, q: Floats) -> Floats:
    """sqrt(1 - sum of sqrt(p q)), 0..1, over the last axis."""
    distances: Floats = np.sqrt(np.maximum(1 - np.sqrt(p * q).sum(-1), 0))
    return distances


DISTANCES: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "tv": total_variation,
    "kl": kl,
    "bhattacharyya": bhattacharyya,
    "hellinger": hellinger,
}
"""Name -> distance of the truth and a prediction."""


@dataclass(frozen=True)
class Slope:
    """A line through log risk against log n."""

    slope: float
    """Theory: -1/2."""
    error: float
    """Its standard error: from leaving out one series at a time, or from the residuals where there is one series."""
    intercept: float
    """log risk at n = 1 on the line."""
    first: int
    """The smallest n that was used."""


@dataclass(frozen=True)
class Comparison:
    """Risks of a model and of the counting baselines, on the same series."""

    at: Ints
    """n, states read, `[M]`."""
    risks: Mapping[str, Floats]
    """Arm -> distance to the truth, `[R, M]`; the model's arm is called `model`."""
    lost: Floats
    """Probability that the model gave to other tokens, `[R, M]`."""

    def mean(self, arm: str) -> list[tuple[int, float, float, float]]:
        """An arm's risk: n, mean over series, and the ends of its 95 % interval."""
        rows = []
        for column, n in enumerate(self.at.tolist()):
            interval = mean_interval(self.risks[arm][:, column].tolist(), n_resamples=1000)
            rows.append((n, interval.estimate, interval.low, interval.high))
        return rows

    def last(self, arm: str, n: int = 1) -> Floats:
        """An arm's mean risk over its last `n` predictions, per series, `[R]`."""
        risk: Floats = self.risks[arm][:, -n:].mean(1)
        return risk

    def slope(self, arm: str, first: int = FIRST) -> Slope:
        """How fast an arm's mean risk falls; see `fit_slope`."""
        return fit_slope(self.at, self.risks[arm], first)

    def rows(self, last: int = 1, first: int = FIRST) -> list[dict[str, Any]]:
        """A table: per arm the mean risk over the last predictions with its interval, the slope and its standard error."""
        rows = []
        for arm in self.risks:
            interval = mean_interval(self.last(arm, last).tolist())
            line = self.slope(arm, first)
            row = {"arm": arm, "risk": (interval.estimate, interval.low, interval.high)}
            rows.append(row | {"slope": line.slope, "standard error": line.error})
        return rows


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chains: Sequence[Series],
    *,
    distance: str = "tv",
    **options: Any,
) -> Comparison:
    """Compare a model with counting on series of known law.

    Args:
        model: a causal model.
        tokenizer: its tokenizer.
        chains: series of equal length and number of states.
        distance: a key of `DISTANCES`.
        options: more for `predict`.
    """
    return compare(chains, predict(model, tokenizer, chains, **options), distance=distance)


def compare(
    chains: Sequence[Series], predictions: Sequence[Prediction], *, distance: str = "tv"
) -> Comparison:
    """Compare predictions from any source with the true law and with counting baselines.

    Args:
        chains: series of equal length.
        predictions: one per series, all at the same places; `Prediction.from_logits` makes one from stored logits.
        distance: a key of `DISTANCES`.

    Raises:
        BadInput: predictions do not fit the series.
        BadConfig: there is no such distance.
    """
    if distance not in DISTANCES:
        raise BadConfig(f'There is no distance "{distance}". Known: {", ".join(DISTANCES)}.')
    measure = DISTANCES[distance]
    risks: dict[str, list[Floats]] = {}
    for i, (chain, prediction) in enumerate(zip(chains, predictions, strict=True)):
        fits = prediction.p.shape == (len(prediction.at), chain.states)
        if not fits or prediction.at.max() > len(chain.x) or prediction.at.min() < 1:
            raise BadInput(
                f"Prediction {i} is {list(prediction.p.shape)} at n up to {prediction.at.max()}; "
                f"the series has {len(chain.x)} states of {chain.states}."
            )
        here = prediction.at - 1
        truth = chain.P[chain.x[here]]
        arms = {"model": prediction.p} | {name: p[here] for name, p in count(chain.x, chain.states).items()}
        for arm, p in arms.items():
            risks.setdefault(arm, []).append(measure(truth, p))
    if any(not np.array_equal(prediction.at, predictions[0].at) for prediction in predictions):
        raise BadInput("Predictions that are compared together must be at the same n.")
    lost = np.stack([prediction.lost for prediction in predictions])
    return Comparison(predictions[0].at, {arm: np.stack(rows) for arm, rows in risks.items()}, lost)


def fit_slope(at: Ints, risk: Floats, first: int = FIRST) -> Slope:
    """The line through log of the mean risk against log n, for n >= first, by least squares.

    Args:
        at: n, `[M]`.
        risk: `[R, M]`.
        first: smallest n used.

    Raises:
        BadInput: fewer than three places are left, or a mean risk there is zero or infinite.
    """
    used = np.asarray(at) >= first
    if used.sum() < 3:
        raise BadInput(
            f"A slope needs predictions at three n of {first} or more; there are {int(used.sum())}."
        )
    chosen, log_n = risk[:, used], np.log(np.asarray(at)[used])
    mean = chosen.mean(0)
    if not (np.isfinite(mean).all() and (mean > 0).all()):
        raise BadInput(
            "A mean risk is zero or infinite; its logarithm has no slope. Use another distance or a larger first n."
        )
    slope, intercept = np.polyfit(log_n, np.log(mean), 1)
    runs = len(chosen)
    if runs > 1:
        without = (chosen.sum(0) - chosen) / (runs - 1)
        with np.errstate(divide="ignore"):
            each = np.polyfit(log_n, np.log(np.maximum(without, 1e-300)).T, 1)[0]
        error = math.sqrt((runs - 1) / runs * float(((each - each.mean()) ** 2).sum()))
    else:
        rest = np.log(mean) - slope * log_n - intercept
        spread = float(((log_n - log_n.mean()) ** 2).sum())
        error = math.sqrt(float((rest**2).sum()) / max(len(rest) - 2, 1) / spread)
    return Slope(float(slope), error, float(intercept), first)
