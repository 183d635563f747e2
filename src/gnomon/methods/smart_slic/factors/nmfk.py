"""NMFk: non-negative factorisation at every k, and the largest k on which perturbed copies agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.smart_slic.factors.multiplicative import (
    Floats,
    Matrix,
    Options,
    checked_matrix,
    column_errors,
    factorise,
    nnsvd,
    perturbed,
    regress,
    relative_error,
    scaled,
    singular,
)
from gnomon.methods.smart_slic.factors.stability import aligned, match, silhouettes

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Fit:
    """The factors at one k, and how far the copies agree on them."""

    k: int
    W: Floats
    """[m, k], columns of sum 1; a row of X without an entry has zeros."""
    H: Floats
    """[k, n]."""
    sil_w: Floats
    """Mean silhouette of each topic's words, [k]."""
    sil_h: Floats
    """Of each topic's documents, [k]."""
    error: float
    """||X - WH|| / ||X||."""
    errors: Floats
    """Squared error of each column of X that has an entry."""

    @property
    def stability(self) -> float:
        """The smallest silhouette of W and of H."""
        return float(min(self.sil_w.min(), self.sil_h.min()))

    def row(self) -> dict[str, float]:
        """As a row of the table of k."""
        return {
            "k": self.k,
            "min sil W": float(self.sil_w.min()),
            "mean sil W": float(self.sil_w.mean()),
            "min sil H": float(self.sil_h.min()),
            "mean sil H": float(self.sil_h.mean()),
            "error": self.error,
        }


@dataclass(frozen=True)
class NMFkResult:
    """What was chosen, and the curve it was chosen from."""

    fit: Fit
    """At the chosen k."""
    table: tuple[dict[str, float], ...]
    """A row for each k that was tried, rising."""
    warning: str
    """Why the choice is not to be trusted; empty where it is."""

    @property
    def k(self) -> int:
        """The number of topics."""
        return self.fit.k

    @property
    def W(self) -> Floats:
        """[m, k]."""
        return self.fit.W

    @property
    def H(self) -> Floats:
        """[k, n]."""
        return self.fit.H

    @property
    def topics(self) -> NDArray[np.int64]:
        """Topic of each column of X: its largest weight; of equal ones, and of an empty column, the first."""
        return np.asarray(self.H.argmax(0), np.int64)


class NMFk:
    """Non-negative factorisation with automatic rank.

    Args:
        options: how it is computed and chosen.
        rng: each copy of each k draws from a child of its own, so that the number of workers changes nothing.
        workers: threads; each fits one copy.

    Source: arXiv 2410.02721, section on T-ELF; Alexandrov et al., "Nonnegative tensor factorization with custom clustering".
    Differs: the rows of H are moved with the clusters of W; noise for text is 0.3.
    """

    def __init__(self, options: Options | None = None, *, rng: Rng | None = None, workers: int = 1):
        self.options, self.rng, self.workers = options or Options(), rng or Rng(0), workers

    def fit(self, X: Matrix, ks: Iterable[int]) -> NMFkResult:
        """The factors at the largest stable k.

        Args:
            X: [m, n], words by documents; dense or sparse, not negative. Empty rows and columns come back as zeros.
            ks: numbers of topics to try.

        Raises:
            BadInput: the matrix cannot be factorised, see `checked_matrix`.
            BadConfig: there is no k, or one is below 1 or not below the smaller side of what is left of X.
        """
        matrix, rows, columns = pruned(checked_matrix(X))
        wanted = sorted(set(ks))
        if not wanted or wanted[0] < 1 or wanted[-1] >= min(matrix.shape):
            raise BadConfig(
                f"k must be within 1..{min(matrix.shape) - 1} (a matrix of {matrix.shape[0]} x {matrix.shape[1]} without empty "
                f"rows and columns); got {wanted}."
            )
        copies = [
            perturbed(matrix, self.options, self.rng.child("copy", p).numpy())
            for p in range(self.options.copies)
        ]
        starts: list[Any] = [None] * len(copies)
        if (
            self.options.init == "nnsvd"
        ):  # once a copy, at the largest k; smaller ones take the leading vectors
            starts = self._map(
                lambda p: singular(copies[p], wanted[-1], self.rng.child("svd", p).numpy()), len(copies)
            )

        def fit_at(k: int) -> Fit:
            return self._fit_at(matrix, copies, starts, k)

        fits = _all(fit_at, wanted) if self.options.search == "linear" else self._binary(fit_at, wanted)
        chosen, warning = choose(fits, self.options)
        W = np.zeros((X.shape[0], chosen.k))
        H = np.zeros((chosen.k, X.shape[1]))
        W[rows], H[:, columns] = chosen.W, chosen.H
        return NMFkResult(replace(chosen, W=W, H=H), tuple(f.row() for f in fits), warning)

    def _map(self, work: Callable[[int], Any], n: int) -> list[Any]:
        if self.workers == 1:
            return [work(p) for p in range(n)]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(work, range(n)))

    def _fit_at(self, X: Matrix, copies: Sequence[Matrix], starts: Sequence[Any], k: int) -> Fit:
        def of_copy(p: int) -> tuple[Floats, Floats]:
            if starts[p] is None:
                draw = self.rng.child("start", k, p).numpy()
                W, H = scaled(draw.random((X.shape[0], k)), draw.random((k, X.shape[1])))
            else:
                U, s, Vt = starts[p]
                W, H = nnsvd(U[:, :k], s[:k], Vt[:k])
            return factorise(copies[p], W, H, self.options.iterations, self.options.loss)

        factors = self._map(of_copy, len(copies))
        stacked_w, stacked_h = np.stack([W for W, _ in factors]), np.stack([H for _, H in factors])
        clusters = match(stacked_w)
        in_order = aligned(np.swapaxes(stacked_w, 1, 2), clusters.order)
        W = clusters.centroids / clusters.centroids.sum(0)
        H = regress(X, W)
        return Fit(
            k,
            W,
            H,
            silhouettes(in_order),
            silhouettes(aligned(stacked_h, clusters.order)),
            relative_error(X, W, H),
            column_errors(X, W, H),
        )

    def _binary(self, fit_at: Callable[[int], Fit], ks: Sequence[int]) -> list[Fit]:
        """Fits at the ks that bisection looks at."""
        fits: list[Fit] = []
        low, high = 0, len(ks) - 1
        while low <= high:
            middle = (low + high) // 2
            fits.append(fit_at(ks[middle]))
            if fits[-1].stability >= self.options.threshold or fits[-1].sil_h.min() >= self.options.collapse:
                low = middle + 1
            else:
                high = middle - 1
        return sorted(fits, key=lambda fit: fit.k)


def _all(fit_at: Callable[[int], Fit], ks: Sequence[int]) -> list[Fit]:
    return [fit_at(k) for k in ks]


def choose(fits: Sequence[Fit], options: Options) -> tuple[Fit, str]:
    """The largest k that is stable; where none is, the most stable one and a warning.

    k = 1 is always stable and is taken only where it is the largest.
    """
    stable = [fit for fit in fits if fit.stability >= options.threshold]
    if not stable:
        best = max(fits, key=lambda fit: (fit.stability, -fit.k))
        return best, (
            f"No number of topics among {[fit.k for fit in fits]} is stable: the smallest silhouette is at most "
            f"{best.stability:.2f} (k = {best.k}), and {options.threshold} is wanted."
        )
    if options.choice == "silhouette":
        return stable[-1], _edge_warning(stable[-1], fits)
    from scipy.stats import wilcoxon

    chosen = stable[0]
    for fit in stable[1:]:
        differences = chosen.errors - fit.errors
        if not differences.any() or wilcoxon(differences, alternative="greater").pvalue >= SIGNIFICANT:
            break
        chosen = fit
    return chosen, _edge_warning(chosen, fits)


def _edge_warning(chosen: Fit, fits: Sequence[Fit]) -> str:
    if chosen.k == fits[-1].k and len(fits) > 1:
        return f"k = {chosen.k} is the largest that was tried, and stable: there may be more topics. Try larger ones."
    return ""


def pruned(X: Matrix) -> tuple[Matrix, NDArray[np.int64], NDArray[np.int64]]:
    """A matrix without its empty rows and columns, and the places of those that are left."""
    rows = np.flatnonzero(np.asarray(X.sum(1)).ravel() > 0)
    columns = np.flatnonzero(np.asarray(X.sum(0)).ravel() > 0)
    if sp.issparse(X):
        return X[rows][:, columns].tocsr(), rows, columns
    return X[np.ix_(rows, columns)], rows, columns
