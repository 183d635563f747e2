"""How far copies agree: columns of W matched one to one, rows of H moved with them, silhouettes by angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
ROUNDS = 100


@dataclass(frozen=True)
class Clusters:
    """Columns of all copies, matched."""

    order: NDArray[np.int64]
    """[P, k]: the column of copy p that belongs to cluster c."""
    centroids: Floats
    """[m, k], of unit length."""


def _unit(columns: Floats) -> Floats:
    """Vectors along the second to last axis, of length 1; zeros stay."""
    norms = np.linalg.norm(columns, axis=-2, keepdims=True)
    result: Floats = columns / np.where(norms > 0, norms, 1.0)
    return result


def match(W: Floats) -> Clusters:
    """Cluster the columns of copies so that each cluster has exactly one of every copy.

    Args:
        W: [P, m, k].

    Repeats: match every copy to the centroids by cosine (Hungarian method), take the normalised means, until nothing moves.
    """
    unit = _unit(W)
    order = np.tile(np.arange(W.shape[2]), (len(W), 1))
    centroids = unit[0]
    for _ in range(ROUNDS):
        similarity = np.einsum("mc,pmk->pck", centroids, unit)
        new = np.stack([linear_sum_assignment(-s)[1] for s in similarity])
        centroids = _unit(np.stack([unit[p][:, new[p]] for p in range(len(W))]).mean(0))
        if (new == order).all():
            break
        order = new
    return Clusters(order, centroids)


def silhouettes(vectors: Floats) -> Floats:
    """Mean silhouette of each cluster, by the angle between vectors, from one Gram matrix.

    Args:
        vectors: [P, k, d]; vector c of copy p belongs to cluster c.

    Returns:
        [k]. One cluster alone has nothing to be told from and gets 1.

    a = mean angle to the other P - 1 members of the own cluster, b = smallest mean angle to the members of another,
    s = (b - a) / max(a, b).
    """
    copies, k, _ = vectors.shape
    if k == 1:
        return np.ones(1)
    unit = np.swapaxes(_unit(np.swapaxes(vectors, 1, 2)), 1, 2).reshape(copies * k, -1)
    angles = np.arccos(np.clip(unit @ unit.T, -1, 1))
    np.fill_diagonal(angles, 0)  # the arc cosine of 1 - 1e-16 is 1e-8 and not 0
    # [copy, cluster, cluster]: summed over the copies of the other end.
    sums = angles.reshape(copies, k, copies, k).sum(2)
    own = sums[:, np.arange(k), np.arange(k)] / (copies - 1)
    sums = sums / copies
    sums[:, np.arange(k), np.arange(k)] = np.inf
    other = sums.min(2)
    largest = np.maximum(own, other)
    values = np.where(largest > 0, (other - own) / np.where(largest > 0, largest, 1.0), 0.0)
    means: Floats = values.mean(0)
    return means


def aligned(H: Floats, order: NDArray[np.int64]) -> Floats:
    """Rows of H [P, k, n] in the order of the clusters of W. Without this, silhouettes of H mean nothing."""
    return np.take_along_axis(H, order[:, :, None], axis=1)
