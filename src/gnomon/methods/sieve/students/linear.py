"""`hashed-linear`: hashed word n-grams under logistic regression, for corpora of billions of words on a laptop.

The focal loss has one deterministic minimum here, without step size or random order. Latent semantic analysis gives students with
few labels a few dimensions along which unlabelled text varies.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sieve.students.base import Description, Fitted, Span, check_labels, write_description
from gnomon.methods.sieve.students.config import StudentConfig
from gnomon.methods.sieve.students.losses import focal_parts
from gnomon.methods.sieve.students.ngrams import count_ngrams

# The minimum.

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
    optimum = minimize(value, start, jac=True, hessp=bend, method="Newton-CG", options=options)
    return Solution(optimum.x[:-1], float(optimum.x[-1]), int(optimum.nit))


# Latent semantic analysis.

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


# `hashed-linear`: hashed word n-grams under logistic regression, for corpora of billions of words on a laptop.

NAME = "hashed-linear"
WEIGHTS = "student.safetensors"
WORD = re.compile(r"\w+")


class HashedLinear:
    """A student that reads words and runs of words.

    A text's features are `1 + log(count)` of its n-grams, times their rarity with `idf`, scaled to length 1. `adapt` counts
    the rarity and, with `lsa_dim`, finds the dimensions that `fit` then works on. Whatever it was fitted on, scoring is one
    weight per n-gram.

    Args:
        config: sizes, penalty and loss; see the fields of `StudentConfig` that name this student.
    """

    def __init__(self, config: StudentConfig | None = None):
        self.name = NAME
        self.config = config or StudentConfig()
        self._idf: NDArray[np.float32] | None = None
        self._lsa: Lsa | None = None
        self._weights: NDArray[np.float32] | None = None
        self._bias = 0.0

    def token_spans(self, text: str) -> list[Span]:
        """Where the words lie."""
        return [match.span() for match in WORD.finditer(text)]

    def adapt(self, texts: Sequence[str], rng: Rng) -> None:
        """Count how rare n-grams are and find the strongest dimensions, where the settings ask for it.

        Raises:
            BadInput: the texts are too few for `lsa_dim`.
        """
        if not (self.config.idf or self.config.lsa_dim):
            return
        self._idf = _rarity(texts, self.config)
        if self.config.lsa_dim:
            self._lsa = fit_lsa(self._features(texts), self.config.lsa_dim, rng.child("lsa"))

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[int],
        weights: Sequence[float],
        rng: Rng,
        *,
        groups: Sequence[str] | None = None,
    ) -> Fitted:
        """Train on all labels; nothing is kept back, and nothing is drawn from `rng`.

        Raises:
            BadInput: the labels are unusable, or `adapt` has to come first.
        """
        began = time.perf_counter()
        targets, alphas = check_labels(texts, labels, weights, groups)
        if self.config.lsa_dim and self._lsa is None:
            raise BadInput(
                "student.lsa_dim needs unlabelled text to learn from. Call adapt before fit, or set it to 0."
            )
        features = self._features(texts)
        if self._lsa:
            buckets, inputs = self._lsa.buckets, self._lsa.project(features)
        else:
            buckets = np.unique(features.indices).astype(np.int64)
            inputs = features[:, buckets]
        coefficients = solve(inputs, targets, alphas, gamma=self.config.gamma, l2=self.config.l2)
        values, bias = coefficients.weights, coefficients.bias
        if self._lsa:
            values, bias = self._lsa.unfold(values, bias)
        self._weights = np.zeros(1 << self.config.hash_bits, np.float32)
        self._weights[buckets], self._bias = values, bias
        return Fitted(
            coefficients.iterations,
            time.perf_counter() - began,
            best_step=coefficients.iterations,
            held_out=0,
        )

    def predict(self, texts: Sequence[str]) -> Floats:
        """Scores in 0..1, [N].

        Raises:
            BadInput: the student has not been fitted.
        """
        if self._weights is None:
            raise BadInput(
                "This student has learned nothing yet. Call fit, or open the folder of a saved one."
            )
        logits = np.empty(len(texts))
        for piece in count_ngrams(texts, self.config.hash_bits, self.config.ngrams):
            values = _values(piece.buckets, piece.counts, self._idf)
            # bincount adds in order: a text's sum does not depend on the texts around it.
            squares = np.bincount(piece.rows, values * values, minlength=piece.n_texts)
            sums = np.bincount(piece.rows, values * self._weights[piece.buckets], minlength=piece.n_texts)
            lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
            logits[piece.first : piece.first + piece.n_texts] = sums / lengths + self._bias
        return np.exp(-np.logaddexp(0.0, -logits))

    def save(self, folder: Path) -> None:
        """Write weights and description; what was adapted and not fitted is kept as well."""
        from safetensors.numpy import save_file

        arrays: dict[str, NDArray[Any]] = {} if self._weights is None else {"weights": self._weights}
        if self._idf is not None:
            arrays["idf"] = self._idf
        if self._lsa is not None:
            arrays |= {f"lsa.{name}": getattr(self._lsa, name) for name in Lsa.__dataclass_fields__}
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(arrays, folder / WEIGHTS)
        write_description(folder, Description(NAME, self.name, self.config, {"bias": self._bias}))

    @classmethod
    def load(cls, folder: Path, about: Description, config: StudentConfig) -> HashedLinear:
        """The student that `save` wrote.

        Args:
            folder: where it was saved.
            about: its description.
            config: its settings.

        Raises:
            BadInput: the weights are missing.
        """
        from safetensors.numpy import load_file

        try:
            arrays = load_file(folder / WEIGHTS)
        except OSError:
            raise BadInput(
                f"{folder / WEIGHTS} cannot be read. Copy the whole folder of the student."
            ) from None
        student = cls(config)
        student._weights, student._bias = arrays.get("weights"), float(about.more["bias"])
        student._idf = arrays.get("idf")
        if "lsa.mean" in arrays:
            student._lsa = Lsa(**{name: arrays[f"lsa.{name}"] for name in Lsa.__dataclass_fields__})
        return student

    def _features(self, texts: Sequence[str]) -> Any:
        """Sparse features, [N, buckets], rows of length 1."""
        from scipy.sparse import csr_array

        rows, columns, entries = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
        for piece in count_ngrams(texts, self.config.hash_bits, self.config.ngrams):
            values = _values(piece.buckets, piece.counts, self._idf)
            squares = np.bincount(piece.rows, values * values, minlength=piece.n_texts)
            rows.append(piece.rows + piece.first)
            columns.append(piece.buckets)
            entries.append(values / np.sqrt(squares)[piece.rows])
        places = (np.concatenate(rows), np.concatenate(columns))
        return csr_array((np.concatenate(entries), places), shape=(len(texts), 1 << self.config.hash_bits))


def _values(buckets: NDArray[np.int64], counts: NDArray[np.int64], idf: NDArray[np.float32] | None) -> Floats:
    """Weight of each n-gram in its text before scaling."""
    values = 1 + np.log(counts)
    return values if idf is None else values * idf[buckets]


def _rarity(texts: Sequence[str], config: StudentConfig) -> NDArray[np.float32]:
    """`log((1 + N) / (1 + n)) + 1` for an n-gram in n of N texts."""
    counts = np.zeros(1 << config.hash_bits, np.int64)
    for piece in count_ngrams(texts, config.hash_bits, config.ngrams):
        counts += np.bincount(piece.buckets, minlength=len(counts))
    return (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)
