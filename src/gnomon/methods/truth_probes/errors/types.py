"""Probes of the kind of error, from one hidden state of the greedy answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.metrics.ranking import Auc, auc_interval
from gnomon.methods.truth_probes.errors.clusters import Typed
from gnomon.methods.truth_probes.probes.probe import FitOptions, LinearProbe, fit_probe
from gnomon.methods.truth_probes.states.states import Rows, folds

MERGED = ("A", "B", "C", "D", "E")
"""Types, each against all other questions."""

WITHIN = (("B1", "B2"), ("C1", "C2"), ("E1", "E2"))
"""Types against each other: right always or mostly, wrong always or sometimes."""

FEWEST = 10
"""Questions of a type, and others, below which no probe is trained."""


@dataclass(frozen=True)
class ErrorTypeProbe:
    """One linear probe per type: probability that the model errs in this way on the question."""

    probes: Mapping[str, LinearProbe]

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        typed: Sequence[Typed],
        *,
        kinds: Sequence[str] = MERGED,
        fewest: int = FEWEST,
        options: FitOptions | None = None,
    ) -> ErrorTypeProbe:
        """A probe for every type that enough questions have, and enough have not.

        Args:
            X: states of the greedy answers, [N, D].
            typed: the same questions with their types, in the same order.
            kinds: types, or their first letters.
            fewest: questions of each side.
            options: of the probes.
        """
        states = np.asarray(X)
        probes = {}
        for kind in kinds:
            z = labels_of(typed, kind)
            if min(int(z.sum()), int((1 - z).sum())) >= fewest:
                probes[kind] = fit_probe(states, z, options)
        return cls(probes)

    def predict_proba(self, X: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Type -> probability for each state, [N]."""
        return {kind: probe.predict(X) for kind, probe in self.probes.items()}


def labels_of(typed: Sequence[Typed], kind: str) -> NDArray[np.int64]:
    """1 for questions of a type."""
    return np.array([question.is_of(kind) for question in typed], np.int64)


def type_scores(
    X: ArrayLike,
    typed: Sequence[Typed],
    options: FitOptions | None = None,
    *,
    ways: Sequence[tuple[Rows, Rows]] | None = None,
    seed: int = 0,
    fewest: int = FEWEST,
) -> dict[str, Auc]:
    """AUC for each type against all others, and within B, C and E, every question scored by a probe that has not seen it.

    Args:
        X: states of the greedy answers, [N, D].
        typed: the same questions with their types. State and type stay together through every fold and resample.
        options: of the probes.
        ways: rows to train on and to test on; None: five folds.
        seed: of the folds.
        fewest: questions of each side; a type with fewer is not among the results.

    Source: the paper (arXiv 2410.02707), section on predicting error types.
    """
    states = np.asarray(X)
    every = np.arange(len(typed))
    aucs: dict[str, Auc] = {}
    ways = ways or folds([question.id for question in typed], 5, seed)
    for kind in MERGED:
        if (value := _held_out(states, labels_of(typed, kind), every, ways, fewest, options)) is not None:
            aucs[kind] = value
    for kind, other in WITHIN:
        rows = np.flatnonzero(labels_of(typed, kind) | labels_of(typed, other))
        if (
            len(rows)
            and (value := _held_out(states, labels_of(typed, kind), rows, ways, fewest, options)) is not None
        ):
            aucs[f"{kind} against {other}"] = value
    return aucs


def _held_out(
    X: NDArray[Any],
    z: NDArray[np.int64],
    rows: Rows,
    ways: Sequence[tuple[Rows, Rows]],
    fewest: int,
    options: FitOptions | None,
) -> Auc | None:
    if min(int(z[rows].sum()), int((1 - z[rows]).sum())) < fewest:
        return None
    scores = np.full(len(z), np.nan)
    for train, test in ways:
        mine, others = np.intersect1d(train, rows), np.intersect1d(test, rows)
        if len(others) and len(np.unique(z[mine])) == 2:
            scores[others] = fit_probe(X[mine], z[mine], options).predict(X[others])
    # Folds whose training side held one class scored nothing and are left out.
    scored = rows[~np.isnan(scores[rows])]
    return auc_interval(z[scored], scores[scored]) if len(scored) else None
