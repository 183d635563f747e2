"""Topics from several matrices over the same words (SPLIT), topics within topics (HNMFk), groups in relations (RESCALk)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.smart_slic.factors.multiplicative import (
    EPS,
    FLOOR_EVERY,
    Floats,
    Matrix,
    Options,
    checked_matrix,
    nnsvd,
    perturbed,
    regress,
    singular,
)
from gnomon.methods.smart_slic.factors.nmfk import Fit, NMFk, NMFkResult, choose
from gnomon.methods.smart_slic.factors.stability import aligned, match, silhouettes


@dataclass(frozen=True)
class SplitResult:
    """Common topics of several matrices."""

    single: tuple[NMFkResult, ...]
    """Of each matrix by itself."""
    common: NMFkResult
    """Of their factors side by side: `common.W` [m, k] are the common topics, `common.H` how the single ones mix into them."""
    weights: tuple[Floats, ...]
    """Each matrix regressed on the common topics, [k, n_i]: topics of documents, of words."""

    @property
    def k(self) -> int:
        """The number of common topics."""
        return self.common.k


class SPLIT:
    """Topics that several matrices over the same rows share: TF-IDF and word co-occurrence, as a rule.

    Args:
        options: of every factorisation.
        rng: each factorisation draws from a child of its own.
        workers: threads.

    Source: arXiv 2410.02721; Eren et al., "SeNMFk-SPLIT" (2022).
    """

    def __init__(self, options: Options | None = None, *, rng: Rng | None = None, workers: int = 1):
        self.options, self.rng, self.workers = options or Options(), rng or Rng(0), workers

    def _nmfk(self, *name: str | int) -> NMFk:
        return NMFk(self.options, rng=self.rng.child(*name), workers=self.workers)

    def fit(
        self, matrices: Sequence[Matrix], ks: Iterable[int], common: Iterable[int] | None = None
    ) -> SplitResult:
        """The common topics.

        Args:
            matrices: [m, n_i] each, over the same m rows.
            ks: numbers of topics to try, for each matrix.
            common: numbers of common topics to try. None: those of `ks` up to the largest that a matrix chose by itself: the
                factors side by side are few columns, on which more topics look stable than there are.

        Raises:
            BadInput: there are not two, or they have not as many rows; a matrix cannot be factorised.
            BadConfig: as in `NMFk.fit`.
        """
        if len(matrices) < 2 or len({X.shape[0] for X in matrices}) > 1:
            raise BadInput(
                f"SPLIT needs two matrices over the same rows; got {', '.join(str(X.shape) for X in matrices)}."
            )
        ks = sorted(set(ks))
        single = tuple(self._nmfk("single", i).fit(X, ks) for i, X in enumerate(matrices))
        beside = np.hstack([result.W for result in single])
        # Each row of the joint matrix is a word, each column a topic of one matrix: k stays below their number.
        largest = max(result.k for result in single)
        together = self._nmfk("common").fit(
            beside, [k for k in ks if k <= largest] if common is None else common
        )
        weights = tuple(regress(checked_matrix(X), together.W) for X in matrices)
        return SplitResult(single, together, weights)


@dataclass(frozen=True)
class Topic:
    """A topic in a hierarchy."""

    id: str
    """Numbers from the root, from 0: `3`, and its second child `3_1`."""
    parent: str | None
    """Id of the topic above; None at the top."""
    words: Floats
    """Weight of each row, [m], of sum 1."""
    columns: NDArray[np.int64]
    """Documents whose largest weight it has: every document below the parent is in exactly one child."""
    weights: Floats
    """Their weight on it, [n_topic], as a share of their weights on the topic and its siblings."""


class HNMFk:
    """Topics within topics: each topic's documents are factorised again.

    Args:
        options: of every factorisation.
        depth: levels at most.
        sample_thresh: topics with fewer documents are not divided.
        rng: each topic draws from a child of its own, named by its id.
        workers: threads.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        depth: int = 2,
        sample_thresh: int = 30,
        rng: Rng | None = None,
        workers: int = 1,
    ):
        if depth < 1 or sample_thresh < 2:
            raise BadConfig(f"depth must be >= 1 and sample_thresh >= 2; got {depth} and {sample_thresh}.")
        self.options, self.depth, self.sample_thresh = options or Options(), depth, sample_thresh
        self.rng, self.workers = rng or Rng(0), workers
        self.results: dict[str, NMFkResult] = {}
        """Id of the topic that was divided (empty: the whole) -> what its factorisation chose."""

    def fit(self, X: Matrix, ks: Iterable[int]) -> list[Topic]:
        """All topics, each before its children.

        A topic stays whole at `depth`, with fewer than `sample_thresh` documents, where its division has one topic or is not
        stable, or where it is too small for any of the ks.

        Raises:
            BadInput, BadConfig: as in `NMFk.fit`, of the whole.
        """
        matrix = checked_matrix(X)
        self.results = {}
        columns = np.flatnonzero(np.asarray(matrix.sum(0)).ravel() > 0)
        return self._divided(matrix, columns, sorted(set(ks)), None, 0)

    def _divided(
        self, X: Matrix, columns: NDArray[np.int64], ks: Sequence[int], parent: str | None, level: int
    ) -> list[Topic]:
        part = X[:, columns]
        if parent is not None:
            n_words = int((np.asarray(part.sum(1)).ravel() > 0).sum())
            ks = [k for k in ks if k < min(n_words, part.shape[1])]
            if level >= self.depth or len(columns) < self.sample_thresh or not ks:
                return []
        result = NMFk(self.options, rng=self.rng.child("topic", parent or ""), workers=self.workers).fit(
            part, ks
        )
        self.results[parent or ""] = result
        # The whole is shown as it is; a topic is not cut along a line that the copies do not agree on.
        if parent is not None and (result.k == 1 or result.fit.stability < self.options.threshold):
            return []
        shares = result.H / np.maximum(result.H.sum(0), EPS)
        topics: list[Topic] = []
        for c in range(result.k):
            mine = np.flatnonzero(result.topics == c)
            name = str(c) if parent is None else f"{parent}_{c}"
            topics.append(Topic(name, parent, result.W[:, c], columns[mine], shares[c, mine]))
            if result.k > 1:
                topics += self._divided(X, columns[mine], ks, name, level + 1)
        return topics


@dataclass(frozen=True)
class RescalResult:
    """Groups of entities, and how groups relate in each slice."""

    A: Floats
    """[n, k], columns of sum 1."""
    R: Floats
    """[T, k, k]: how much of group i goes to group j in slice t."""
    table: tuple[dict[str, float], ...]
    """A row for each k."""
    warning: str
    """As in `NMFkResult`."""

    @property
    def k(self) -> int:
        """The number of groups."""
        return int(self.A.shape[1])


class RESCALk:
    """Groups in a tensor of relations, X_t ~ A R_t A', with automatic rank; copies are compared by A alone.

    Args:
        options: `loss` is not read, the error is the squared one.
        rng: each copy draws from a child of its own.

    Source: Nickel et al. (2011), with multiplicative updates.
    """

    def __init__(self, options: Options | None = None, *, rng: Rng | None = None):
        self.options, self.rng = options or Options(), rng or Rng(0)

    def fit(self, slices: Sequence[Matrix], ks: Iterable[int]) -> RescalResult:
        """The groups at the largest stable k.

        Args:
            slices: T matrices [n, n], dense or sparse, not negative: citations or common papers of each year.
            ks: numbers of groups to try.

        Raises:
            BadInput: there is no slice, they are not square and of one size, or one cannot be factorised.
            BadConfig: a k is not within 1..n - 1.
        """
        shapes = {X.shape for X in slices}
        if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
            raise BadInput(f"RESCALk needs square slices of one size; got {sorted(shapes)}.")
        tensor = [
            checked_matrix(X) if X.sum() else sp.csr_matrix(X.shape) if sp.issparse(X) else np.zeros(X.shape)
            for X in slices
        ]
        n, wanted = tensor[0].shape[0], sorted(set(ks))
        if not wanted or wanted[0] < 1 or wanted[-1] >= n:
            raise BadConfig(f"k must be within 1..{n - 1}; got {wanted}.")
        checked_matrix(_sum(tensor))  # not all zeros
        copies = []
        for p in range(self.options.copies):
            draw = self.rng.child("copy", p).numpy()
            copies.append([perturbed(X, self.options, draw) for X in tensor])
        fits, factors = [], {}
        for k in wanted:
            fit, factors[k] = self._fit_at(tensor, copies, k)
            fits.append(fit)
        chosen, warning = choose(fits, self.options)
        table = tuple({n: v for n, v in f.row().items() if not n.endswith("H")} for f in fits)
        return RescalResult(chosen.W, factors[chosen.k], table, warning)

    def _start(self, copy: Sequence[Matrix], k: int, p: int) -> Floats:
        draw = self.rng.child("start", k, p).numpy()
        if self.options.init == "random":
            return draw.random((copy[0].shape[0], k))
        return nnsvd(*singular(_sum(copy), k, draw))[0]

    def _fit_at(
        self, tensor: Sequence[Matrix], copies: Sequence[Sequence[Matrix]], k: int
    ) -> tuple[Fit, Floats]:
        As = np.stack(
            [
                rescal(copy, self._start(copy, k, p), self.options.iterations)[0]
                for p, copy in enumerate(copies)
            ]
        )
        clusters = match(As)
        sil = silhouettes(aligned(np.swapaxes(As, 1, 2), clusters.order))
        A = clusters.centroids / np.maximum(clusters.centroids.sum(0), EPS)
        R = rescal(tensor, A, self.options.iterations, fixed=True)[1]
        squares = [
            np.asarray(X.toarray() if sp.issparse(X) else X) - A @ R[t] @ A.T for t, X in enumerate(tensor)
        ]
        errors = np.sum([(d * d).sum(0) for d in squares], axis=0)
        norm = sum(float((X.multiply(X) if sp.issparse(X) else X * X).sum()) for X in tensor)
        fit = Fit(k, A, np.zeros((k, 0)), sil, sil, float(np.sqrt(errors.sum() / norm)), errors)
        return fit, R


def rescal(
    slices: Sequence[Matrix], A: Floats, iterations: int, *, fixed: bool = False
) -> tuple[Floats, Floats]:
    """A [n, k] with columns of sum 1, and R [T, k, k], by multiplicative updates.

    A *= sum(X A R' + X' A R) / A sum(R A'A R' + R' A'A R);  R *= A'XA / A'A R A'A.

    Args:
        slices: T matrices [n, n].
        A: where to start.
        iterations: updates.
        fixed: A stays.
    """
    A = np.maximum(A, EPS)
    R = np.ones((len(slices), A.shape[1], A.shape[1]))
    for step in range(1, iterations + 1):
        gram = A.T @ A
        for t, X in enumerate(slices):
            R[t] *= (A.T @ (X @ A)) / (gram @ R[t] @ gram + EPS)
        if not fixed:
            above = sum(X @ A @ R[t].T + X.T @ A @ R[t] for t, X in enumerate(slices))
            below = A @ sum(R[t] @ gram @ R[t].T + R[t].T @ gram @ R[t] for t in range(len(slices)))
            A = A * (above / (below + EPS))
        if step % FLOOR_EVERY == 0:
            A, R = np.maximum(A, EPS), np.maximum(R, EPS)
    sums = np.maximum(A.sum(0), EPS)
    return A / sums, R * sums[:, None] * sums[None, :]


def _sum(slices: Sequence[Matrix]) -> Matrix:
    """All slices and their transposes added up."""
    total = slices[0] + slices[0].T
    for X in slices[1:]:
        total = total + X + X.T
    return total
