"""Stationary distributions: exact elimination, eigenvector, averaged power iteration, sparse LU, and the paper's bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csc_array, eye_array
from scipy.sparse.linalg import ArpackError, eigs, splu

from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.markov.chain.chain import Chain, Floats

Method = Literal["auto", "elimination", "eigen", "power", "lu"]

DENSE = 1024
"""Recurrent states up to which `auto` eliminates densely."""

TOLERANCE = 1e-12
"""L1 residual at which power iteration stops."""


@dataclass(frozen=True)
class Stationary:
    """A stationary distribution and how it was found."""

    pi: Floats
    """Probabilities of all states, `[S]`; zero on transient ones."""
    method: str
    """What found it."""
    residual: float
    """L1 length of pi Q - pi."""
    steps: int
    """Iterations; 0 for direct methods."""


def stationary(
    chain: Chain, method: Method = "auto", *, tolerance: float = TOLERANCE, max_steps: int = 100_000
) -> Stationary:
    """The stationary distribution of a chain with one closed class.

    Args:
        chain: the chain.
        method: `elimination` subtracts nothing, so every entry is right to a few digits of its own size however slowly the
            chain mixes; `eigen` is the dense left eigenvector; `power` iterates on the average of the chain and the
            identity, which cannot oscillate; `lu` solves the sparse linear system. `auto`: elimination up to 1,024
            recurrent states, else power, and lu where that is too slow.
        tolerance: L1 residual at which `power` stops.
        max_steps: iterations that `power` may take.

    Raises:
        BadInput: the chain has several closed classes, so there is no unique distribution; or `power` did not converge.
        BadConfig: there is no such method.
    """
    if method not in ("auto", *_SOLVERS):
        raise BadConfig(
            f'There is no method "{method}" for a stationary distribution. {nearest(method, _SOLVERS)}'
        )
    groups = chain.classes.recurrent
    if len(groups) > 1:
        raise BadInput(
            f"The chain has {len(groups)} closed classes, so where it ends depends on where it begins: there is no unique "
            "stationary distribution. Decode without top_k and top_p, or look at chain.classes."
        )
    members = groups[0]
    block = chain.Q[members][:, members]
    chosen = method if method != "auto" else "elimination" if len(members) <= DENSE else "power"
    solved, steps = _SOLVERS[chosen](block, tolerance, max_steps)
    if method == "auto" and chosen == "power" and steps > max_steps:
        chosen, (solved, steps) = "lu", _lu(block, tolerance, max_steps)
    pi = np.zeros(len(chain.space))
    pi[members] = solved / solved.sum()
    residual = float(np.abs(chain.next_token(pi) - pi).sum())
    if steps > max_steps:
        raise BadInput(
            f"Power iteration stands at a residual of {residual:.2g} after {max_steps:,} steps. Allow more, or use "
            'method="elimination" (up to a few thousand states) or "lu".'
        )
    return Stationary(pi, chosen, residual, steps)


def _elimination(block: csc_array, tolerance: float, max_steps: int) -> tuple[Floats, int]:
    """Grassmann-Taksar-Heyman elimination: states are removed one by one, then substituted back.

    Source: Grassmann, Taksar and Heyman, "Regenerative analysis and steady state distributions" (1985).
    """
    a = block.toarray()
    for n in range(len(a) - 1, 0, -1):
        out = a[n, :n].sum()
        if out == 0:
            raise BadInput(
                "Some transitions are too unlikely for a float, and the chain falls apart without them. Raise the temperature."
            )
        a[:n, n] /= out
        a[:n, :n] += np.outer(a[:n, n], a[n, :n])
    pi = np.zeros(len(a))
    pi[0] = 1.0
    for n in range(1, len(a)):
        pi[n] = pi[:n] @ a[:n, n]
        if pi[n] > 1e200:  # scale, before a chain with a very unlikely first state overflows
            pi /= pi[n]
    return pi, 0


def _eigen(block: csc_array, tolerance: float, max_steps: int) -> tuple[Floats, int]:
    values, vectors = np.linalg.eig(block.toarray().T)
    return np.abs(np.real(vectors[:, np.argmin(np.abs(values - 1))])), 0


def _power(block: csc_array, tolerance: float, max_steps: int) -> tuple[Floats, int]:
    """Iterate on (I + Q) / 2; `max_steps + 1` tells that the residual stayed above the tolerance."""
    back = block.T.tocsr()
    pi = np.full(back.shape[0], 1 / back.shape[0])
    for step in range(1, max_steps + 1):
        moved = back @ pi
        if np.abs(moved - pi).sum() <= tolerance:
            return moved, step
        pi = (pi + moved) / 2
        pi /= pi.sum()
    return pi, max_steps + 1


def _lu(block: csc_array, tolerance: float, max_steps: int) -> tuple[Floats, int]:
    """Fix the entry of one well-visited state at 1 and solve for the others."""
    size = block.shape[0]
    if size == 1:
        return np.ones(1), 0
    rough, _ = _power(block, 1e-3, 200)
    anchor = int(rough.argmax())
    rest = np.delete(np.arange(size), anchor)
    system = (eye_array(size, format="csr") - block.T.tocsr()).tocsr()[rest]
    pi = np.ones(size)
    pi[rest] = splu(system[:, rest].tocsc()).solve(-system[:, [anchor]].toarray().ravel())
    return np.maximum(pi, 0), 0


_SOLVERS = {"elimination": _elimination, "eigen": _eigen, "power": _power, "lu": _lu}


def second_eigenvalue(chain: Chain) -> float:
    """Modulus of the second largest eigenvalue of the closed class.

    Eigenvalues that are truly 0 come out as about 1e-16^(1/K): a window of K tokens makes nilpotent blocks of that size.

    Raises:
        BadInput: the chain has several closed classes.
    """
    if len(chain.classes.recurrent) > 1:
        raise BadInput("With several closed classes the second eigenvalue is 1, and tells nothing of mixing.")
    members = chain.classes.recurrent[0]
    if len(members) == 1:
        return 0.0
    block = chain.Q[members][:, members]
    if len(members) <= DENSE:
        eigenvalues = np.linalg.eigvals(block.toarray())
    else:
        try:
            start = np.random.default_rng(0).random(len(members))
            # Two values wanted and a wide subspace: asked for more, it would wait for some of a crowd near zero.
            eigenvalues = eigs(
                block.T.tocsr(),
                k=2,
                ncv=24,
                which="LM",
                tol=1e-10,
                v0=start,
                return_eigenvectors=False,
                maxiter=1000,
            )
        except ArpackError as error:
            raise BadInput("The second eigenvalue did not converge. Use a smaller window.") from error
    return float(np.sort(np.abs(eigenvalues))[-2])
