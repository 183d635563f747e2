"""The binary focal loss: easy labels count little, so that the rare hard ones shape the student.

    FL = -alpha_y (1 - p_y)^gamma log p_y,   p_1 = sigmoid(z), p_0 = 1 - p_1

Source: Lin et al. 2017, "Focal loss for dense object detection", equation 5. Everything is computed from the margin
m = z for a pass and -z for a fail, with log p_y = -softplus(-m): no logit is too large for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]


def focal_loss(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Focal loss of each label, [B]: -alpha (1 - p)^gamma log p, with p the probability of the label.

    Args:
        logits: log-odds of a pass, [B].
        labels: 1 for pass, 0 for fail, [B].
        weights: alpha of each label, [B].
        gamma: focusing exponent, >= 0; 0 is weighted cross entropy.
    """
    import torch

    margins = torch.where(labels > 0, logits, -logits).float()
    log_p = torch.nn.functional.logsigmoid(margins)
    # (1 - p)^gamma through logarithms: its gradient stays finite where 1 - p rounds to 0.
    return -weights * torch.exp(gamma * torch.nn.functional.logsigmoid(-margins)) * log_p


def focal_parts(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike, gamma: float
) -> tuple[Floats, Floats, Floats]:
    """Loss, its slope and a safe curvature for each label, in NumPy; all [N].

    The true curvature is negative where a label is far on the wrong side and gamma > 0, which would lead Newton's method
    astray. There `alpha p q^(gamma + 1)` stands in for it; where the true one is larger, as it is everywhere for
    gamma = 0, it is exact. Slope and curvature are with respect to the logit.

    Args:
        logits: log-odds of a pass, [N].
        labels: 1 for pass, 0 for fail, [N].
        weights: alpha of each label, [N].
        gamma: focusing exponent, >= 0.
    """
    signs = np.where(np.asarray(labels) > 0, 1.0, -1.0)
    alphas = np.asarray(weights, np.float64)
    margins = signs * np.asarray(logits, np.float64)
    log_p, log_q = -np.logaddexp(0.0, -margins), -np.logaddexp(0.0, margins)
    p, q = np.exp(log_p), np.exp(log_q)
    focus = np.exp(gamma * log_q)
    loss = -alphas * focus * log_p
    pull = gamma * p * log_p - q
    slope = signs * alphas * focus * pull
    # d/dm of q^gamma (gamma p log p - q): dq = -pq, dp = pq, dlog_p = q.
    true = focus * (-gamma * p * pull + gamma * p * q * (log_p + 1) + p * q)
    return loss, slope, alphas * np.maximum(true, focus * p * q)
