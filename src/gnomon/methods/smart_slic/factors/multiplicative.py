"""Non-negative factors of one matrix: starting values, multiplicative updates, regression on fixed factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnomon.core.config import check
from gnomon.errors import BadInput

Floats = NDArray[np.float64]
Matrix = Any
"""A NumPy array or a SciPy sparse matrix."""

EPS = float(np.finfo(np.float64).eps)
"""Floor of the factors: NNSVD gives exact zeros, and a multiplicative update keeps them for ever."""
FLOOR_EVERY = 10

Init = Literal["nnsvd", "random"]
Loss = Literal["frobenius", "kl"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a factorisation is computed, and how its number of topics is chosen."""

    copies: int = 20
    """Perturbed copies of the matrix (P)."""
    iterations: int = 1000
    """Multiplicative updates of each."""
    init: Init = "nnsvd"
    """Starting values: nnsvd of each copy, or random ones, uniform in [0, 1)."""
    noise: float = 0.3
    """Each entry is multiplied by a number uniform in [1 - noise, 1 + noise]. 0.3 for text; the reference library has 0.015."""
    perturb: Literal["uniform", "poisson"] = "uniform"
    """poisson: counts are drawn again around each entry, and noise is not used."""
    loss: Loss = "frobenius"
    """What is made small: squared error, or the Kullback-Leibler divergence."""
    threshold: float = 0.8
    """Smallest silhouette of W and H from which a number of topics is stable."""
    choice: Literal["silhouette", "pvalue"] = "silhouette"
    """silhouette: the largest stable k. pvalue: the last stable one that lowers the errors of the columns (Wilcoxon, p < 0.05)."""
    search: Literal["linear", "binary"] = "linear"
    """linear: every k. binary: fewer, and wrong where stability dips between two stable numbers, as it does on real text."""
    collapse: float = 0.4
    """binary: silhouette of H below which larger k are not looked at."""

    def __post_init__(self) -> None:
        check(self.copies >= 2, "copies", ">= 2, since stability is what copies agree on", self.copies)
        check(self.iterations >= 1, "iterations", ">= 1", self.iterations)
        check(0 < self.noise < 1, "noise", "within (0, 1)", self.noise)
        check(-1 <= self.threshold <= 1, "threshold", "in -1..1", self.threshold)
        check(self.collapse <= self.threshold, "collapse", "<= threshold", self.collapse)


def checked_matrix(X: Matrix) -> Matrix:
    """A matrix as floats, CSR where it is sparse.

    Raises:
        BadInput: it is empty, not of two dimensions, or holds a number that is negative or not finite.
    """
    if sp.issparse(X):
        matrix = sp.csr_matrix(X, dtype=np.float64, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        values = matrix.data
    else:
        matrix = np.array(X, np.float64)
        values = matrix
    if matrix.ndim != 2 or not min(matrix.shape):
        raise BadInput(f"A factorisation needs a matrix with rows and columns; got shape {matrix.shape}.")
    if not np.isfinite(values).all() or (values < 0).any():
        raise BadInput("The matrix holds a number that is negative or not finite; factors are non-negative.")
    if not values.any():
        raise BadInput("The matrix holds nothing but zeros.")
    return matrix


def singular(X: Matrix, k: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """The k largest singular values, with vectors: U [m, k], s [k], V' [k, n]; the start of the iteration is drawn."""
    if sp.issparse(X) and k < min(X.shape) - 1:
        from scipy.sparse.linalg import svds

        U, s, Vt = svds(X, k=k, v0=rng.standard_normal(min(X.shape)))
    else:
        U, s, Vt = np.linalg.svd(X.toarray() if sp.issparse(X) else X, full_matrices=False)
    order = np.argsort(-s, kind="stable")[:k]
    return U[:, order], s[order], Vt[order]


def nnsvd(U: Floats, s: Floats, Vt: Floats) -> tuple[Floats, Floats]:
    """Non-negative starting values: of each pair of singular vectors the signed parts that carry more.

    Args:
        U: [m, k].
        s: [k].
        Vt: [k, n].

    Returns:
        W [m, k] with columns of sum 1, and H [k, n] with their scale. Exact zeros are left to the caller.
    Source: Boutsidis and Gallopoulos (2008).
    """
    W, H = np.zeros_like(U), np.zeros_like(Vt)
    for i in range(len(s)):
        parts = []
        for sign in (1, -1):
            u, v = np.maximum(sign * U[:, i], 0), np.maximum(sign * Vt[i], 0)
            parts.append((float(np.sqrt(np.linalg.norm(u) * np.linalg.norm(v) * s[i])), u, v))
        size, u, v = max(parts, key=lambda part: part[0])  # of equal ones the positive part
        if size > 0:
            W[:, i], H[i] = size * u / np.linalg.norm(u), size * v / np.linalg.norm(v)
    return scaled(W, H)


def scaled(W: Floats, H: Floats) -> tuple[Floats, Floats]:
    """Columns of W with sum 1, their scale moved into H; a column of zeros stays."""
    sums = W.sum(0)
    safe = np.where(sums > 0, sums, 1.0)
    return W / safe, H * safe[:, None]


def factorise(
    X: Matrix, W: Floats, H: Floats, iterations: int, loss: Loss = "frobenius"
) -> tuple[Floats, Floats]:
    """Multiplicative updates: H *= W'X / W'WH, W *= XH' / WHH' for the squared error.

    Args:
        X: [m, n], dense or CSR.
        W: [m, k], where to start.
        H: [k, n].
        iterations: updates of each.
        loss: what is made small.

    Source: Lee and Seung (2001).
    """
    W, H = np.maximum(W, EPS), np.maximum(H, EPS)
    Xt = X.T.tocsr() if sp.issparse(X) else X.T
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)) if sp.issparse(X) else None
    for step in range(1, iterations + 1):
        if loss == "frobenius":
            H *= (Xt @ W).T / ((W.T @ W) @ H + EPS)
            W *= (X @ H.T) / (W @ (H @ H.T) + EPS)
        else:
            H *= (_ratio(X, W, H, rows).T @ W).T / (W.sum(0)[:, None] + EPS)
            W *= (_ratio(X, W, H, rows) @ H.T) / (H.sum(1) + EPS)
        if step % FLOOR_EVERY == 0:
            np.maximum(W, EPS, out=W)
            np.maximum(H, EPS, out=H)
    return scaled(W, H)


def _ratio(X: Matrix, W: Floats, H: Floats, rows: Any) -> Matrix:
    """X / WH where X is not zero."""
    if rows is None:
        return X / (W @ H + EPS)
    near = np.einsum("ij,ij->i", W[rows], H.T[X.indices])
    return sp.csr_matrix((X.data / (near + EPS), X.indices, X.indptr), X.shape)


def regress(X: Matrix, W: Floats, iterations: int = 200) -> Floats:
    """Non-negative weights H [k, n] of fixed columns W [m, k], by coordinate descent to a fixed point (HALS).

    Args:
        X: [m, n].
        W: [m, k].
        iterations: sweeps at most.
    """
    gram = W.T @ W
    against = np.asarray((X.T @ W).T, np.float64)
    H = np.maximum(against / (np.diag(gram)[:, None] + EPS), 0) / max(1, len(gram))
    for _ in range(iterations):
        before = H.copy()
        for i in range(len(gram)):
            if gram[i, i] > 0:
                H[i] = np.maximum(H[i] + (against[i] - gram[i] @ H) / gram[i, i], 0)
        if np.abs(H - before).max(initial=0) <= 1e-10 * (1 + np.abs(H).max(initial=0)):
            break
    return H


def column_errors(X: Matrix, W: Floats, H: Floats) -> Floats:
    """Squared error of each column, [n], without making WH of a sparse matrix.

    ||x - Wh||^2 = ||x||^2 - 2 h'(W'x) + h'(W'W)h; rounding can make it a little less than zero, and it is cut there.
    """
    squares = np.asarray(X.multiply(X).sum(0)).ravel() if sp.issparse(X) else (X * X).sum(0)
    cross = (H * np.asarray((X.T @ W).T)).sum(0)
    errors = np.maximum(squares - 2 * cross + (H * ((W.T @ W) @ H)).sum(0), 0)
    return cast("Floats", errors)


def relative_error(X: Matrix, W: Floats, H: Floats) -> float:
    """||X - WH|| / ||X||, Frobenius."""
    norm = sp.linalg.norm(X) if sp.issparse(X) else np.linalg.norm(X)
    return float(np.sqrt(column_errors(X, W, H).sum()) / norm)


def perturbed(X: Matrix, options: Options, rng: np.random.Generator) -> Matrix:
    """A copy of X whose entries are off by chance; zeros stay zero."""

    def drawn(values: Floats) -> Floats:
        if options.perturb == "poisson":
            return rng.poisson(values).astype(np.float64)
        return values * rng.uniform(1 - options.noise, 1 + options.noise, values.shape)

    if not sp.issparse(X):
        return drawn(X)
    # The places of the entries are shared by all copies; only the values are new.
    return sp.csr_matrix((drawn(X.data), X.indices, X.indptr), X.shape)
