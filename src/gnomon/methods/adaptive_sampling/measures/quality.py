"""How good c is: whether it orders the samples of a prompt, and whether it is the probability that it claims to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.ranking import auc
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.building.labels import label

Array = NDArray[np.float64]


def within_auc(rewards: Array, values: Array, epsilon: float = 0.0) -> float | None:
    """Mean over prompts of the chance that a better sample has the higher value, ties counting half; None where no prompt has two.

    With 0/1 rewards it is the mean AUC of prompts with both outcomes. This, and not the pooled AUC, is what choosing needs.

    Args:
        rewards: [M, N].
        values: [M, N].
        epsilon: rewards no further apart tie.

    >>> within_auc(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.7, 0.2], [0.5, 0.6]]))
    1.0
    """
    areas = []
    for r, v in zip(rewards, values, strict=True):
        better = r[:, None] > r[None, :] + epsilon
        if better.any():
            higher = (v[:, None] > v[None, :]) + 0.5 * (v[:, None] == v[None, :])
            areas.append(float(higher[better].mean()))
    return float(np.mean(areas)) if areas else None


def pooled_auc(rewards: Array, values: Array) -> float | None:
    """AUC over all samples of all prompts of rewards above their mean: hopeless prompts have a high c, so it says little."""
    return auc((rewards > rewards.mean()).ravel().astype(int), values.ravel())


def true_c(rewards: Array, fresh: Array | None = None, epsilon: float = 0.0) -> Array:
    """The empirical chance of win or tie, [M, N].

    Args:
        rewards: [M, N] of the samples.
        fresh: [M, K] of further samples, drawn as restarts; None: the other samples of the prompt.
        epsilon: rewards no further apart tie.
    """
    if fresh is None:
        return np.array([label(row.tolist(), epsilon=epsilon) for row in rewards])
    shares: Array = (rewards[:, :, None] >= fresh[:, None, :] - epsilon - 1e-12).mean(-1)
    return shares


def calibration_error(values: Array, truth: Array, bins: int = 10) -> float:
    """Expected calibration error: mean over bins of equal width of |mean c - mean truth|, weighted by their counts.

    >>> calibration_error(np.array([0.2, 0.4]), np.array([0.0, 0.4]))
    0.1
    """
    v, t = np.ravel(values), np.ravel(truth)
    places = np.minimum((v * bins).astype(int), bins - 1)
    gaps = [abs(float(v[places == b].sum() - t[places == b].sum())) for b in range(bins)]
    return round(sum(gaps) / len(v), 12)


def fit_tau(values: Array, truth: Array, tau: float = 1.0) -> float:
    """The temperature of the two logits that makes c likeliest, [0.05, 20]; it changes no order.

    Args:
        values: c as it is now.
        truth: empirical chances of win or tie.
        tau: the temperature that `values` have already.
    """
    from scipy.optimize import minimize_scalar

    v, t = np.clip(np.ravel(values), 1e-9, 1 - 1e-9), np.ravel(truth)
    logit = np.log(v / (1 - v)) * tau

    def cost(log_tau: float) -> float:
        z = logit / np.exp(log_tau)
        return float(np.mean(np.logaddexp(0, z) - t * z))

    return float(np.exp(minimize_scalar(cost, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


@dataclass(frozen=True)
class Quality:
    """c in numbers."""

    within: float | None
    """Within-prompt AUC."""
    pooled: float | None
    """Pooled AUC, which is beside the point in both directions."""
    ece: float
    """Calibration error against win or tie."""
    mean_c: float
    mean_truth: float


def quality(rewards: Array, values: Array, truth: Array, epsilon: float = 0.0) -> Quality:
    """All of it.

    Raises:
        BadInput: there is nothing to measure.
    """
    if not rewards.size:
        raise BadInput("There are no samples to measure c on.")
    return Quality(
        within_auc(rewards, values, epsilon), pooled_auc(rewards, values), calibration_error(values, truth),
        float(values.mean()), float(np.mean(truth)),
    )  # fmt: skip
