"""Logistic regression with the focal loss: one deterministic minimum, no step size and no random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.methods.sieve.losses import focal_parts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """The weights at the minimum."""

    weights: Floats
    """One per feature, [D]."""
    bias: float
    """Added to every logit; not penalised."""
    iterations: int
    """Newton steps."""


def solve(
    features: Any,
    labels: NDArray[np.int64],
    weights: Floats,
    *,
    gamma: float,
    l2: float,
    max_steps: int = 200,
) -> Solution:
    """Minimise `sum_i w_i FL_i + l2/2 |weights|^2`, with the label weights w scaled to a mean of 1.

    Newton's method with the safe curvature of the focal loss. Conjugate gradients solve each step, so that the matrix of
    curvatures is never built. It begins at zero weights and the weighted share of passes.

    Args:
        features: dense or sparse matrix, [N, D].
        labels: 0 or 1, [N], both present.
        weights: alpha of each label, [N], > 0.
        gamma: focusing exponent of the focal loss.
        l2: strength of the penalty, > 0.
        max_steps: Newton steps, at most.
    """
    from scipy.optimize import minimize

    weights = weights / weights.mean()
    transposed = features.T.tocsr() if hasattr(features, "tocsr") else features.T

    def back(values: Floats, point: Floats) -> Floats:
        """From one number per label to one per weight and the bias, with the penalty's share."""
        return np.append(transposed @ values + l2 * point[:-1], values.sum())

    def value(point: Floats) -> tuple[float, Floats]:
        loss, slope, _ = focal_parts(features @ point[:-1] + point[-1], labels, weights, gamma)
        return float(loss.sum() + l2 / 2 * (point[:-1] @ point[:-1])), back(slope, point)

    bent_at: dict[bytes, Floats] = {}

    def bend(point: Floats, direction: Floats) -> Floats:
        """Curvature times a direction; one Newton step asks for many directions at one point."""
        key = point.tobytes()
        if key not in bent_at:
            bent_at.clear()
            bent_at[key] = focal_parts(features @ point[:-1] + point[-1], labels, weights, gamma)[2]
        return back(bent_at[key] * (features @ direction[:-1] + direction[-1]), direction)

    start = np.zeros(features.shape[1] + 1)
    passes = weights[labels == 1].sum() / weights.sum()
    start[-1] = np.log(passes / (1 - passes))
    options = {"maxiter": max_steps, "xtol": 1e-6}
    found = minimize(value, start, jac=True, hessp=bend, method="Newton-CG", options=options)
    return Solution(found.x[:-1], float(found.x[-1]), int(found.nit))
