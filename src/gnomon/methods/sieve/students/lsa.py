"""Latent semantic analysis: a few dimensions along which unlabelled text varies, for students with few labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Lsa:
    """A linear map from n-gram features to standardised dimensions: mean 0 and spread 1 on the unlabelled text."""

    buckets: NDArray[np.int64]
    """The n-gram buckets that it reads, ascending, [K]; others have no part in it."""
    components: Array
    """Right singular vectors, [D, K]."""
    mean: Array
    """Mean of the unlabelled text in each dimension, [D]."""
    spread: Array
    """Standard deviation there, [D]."""

    def project(self, features: Any) -> NDArray[np.float64]:
        """Standardised dimensions of texts, [N, D].

        Args:
            features: sparse n-gram features, [N, buckets], all buckets.
        """
        raw = features[:, self.buckets] @ self.components.T.astype(np.float64)
        return np.asarray((raw - self.mean) / self.spread)

    def unfold(self, weights: NDArray[np.float64], bias: float) -> tuple[NDArray[np.float64], float]:
        """The weights on `buckets`, [K], and the bias that score as `weights`, [D], and `bias` do on the dimensions."""
        scaled = weights / self.spread
        return scaled @ self.components, bias - float(scaled @ self.mean)


def fit_lsa(features: Any, dim: int, generator: Rng) -> Lsa:
    """The `dim` strongest dimensions of unlabelled text.

    Args:
        features: sparse tf-idf features of the texts, [N, buckets].
        dim: dimensions wanted.
        generator: starts the randomised decomposition.

    Raises:
        BadInput: the text has fewer than `dim` dimensions.
    """
    from sklearn.decomposition import TruncatedSVD

    # An n-gram of a single text says nothing about how texts vary together.
    seen = np.bincount(features.indices, minlength=features.shape[1])
    buckets = np.flatnonzero(seen >= 2)
    if min(len(buckets), features.shape[0]) <= dim:
        raise BadInput(
            f"{features.shape[0]} unlabelled texts share {len(buckets)} n-grams, too few for student.lsa_dim {dim}. "
            "Adapt on more text or lower it."
        )
    svd = TruncatedSVD(dim, random_state=generator.key & 0xFFFFFFFF)
    raw = svd.fit_transform(features[:, buckets])
    spread = raw.std(axis=0)
    spread[spread == 0] = 1.0
    # In C order, the only one that safetensors writes right.
    parts = (svd.components_, raw.mean(axis=0), spread)
    as_stored = [np.ascontiguousarray(part, np.float32) for part in parts]
    return Lsa(buckets, *as_stored)
