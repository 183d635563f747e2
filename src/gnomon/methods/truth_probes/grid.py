"""Probes over layers and positions: the heat map, and the layer that does best on questions set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.ranking import auc
from gnomon.methods.truth_probes.linear import LinearProbe, fit_along
from gnomon.methods.truth_probes.splits import Rows, split
from gnomon.methods.truth_probes.states import RepStore


@dataclass(frozen=True)
class Grid:
    """AUC of a probe at each layer and position."""

    layers: tuple[int, ...]
    positions: tuple[str, ...]
    auc: NDArray[np.float64]
    """Means over seeds, [layers, positions]; NaN where it is undefined."""
    std: NDArray[np.float64]
    """Standard deviation over seeds."""
    n: int
    """Answers."""

    def best(self, position: str | None = None) -> tuple[int, str, float]:
        """Layer, position and AUC of the best cell, of one position or of all; the lowest layer of equals."""
        table = np.where(np.isnan(self.auc), -1.0, self.auc)
        if position is not None:
            column = self.positions.index(position)
            row = int(table[:, column].argmax())
        else:
            column, row = divmod(int(table.T.argmax()), len(self.layers))
        return self.layers[row], self.positions[column], float(self.auc[row, column])

    def rows(self) -> list[dict[str, float | int | str | None]]:
        """One row per cell."""
        return [
            {
                "layer": layer,
                "position": position,
                "auc": _number(self.auc[i, j]),
                "std": _number(self.std[i, j]),
            }
            for i, layer in enumerate(self.layers)
            for j, position in enumerate(self.positions)
        ]


def fit_cells(
    store: RepStore,
    z: NDArray[np.int64],
    rows: Rows,
    *,
    C: float = 1.0,
    scale: bool = True,
    max_iter: int = 1000,
) -> dict[tuple[int, str], LinearProbe]:
    """A probe for every layer and position, fitted to some rows; each starts from that of the layer before."""
    found: dict[tuple[int, str], LinearProbe] = {}
    for position in store.positions:
        along = fit_along(
            (store.at(layer, position)[rows] for layer in store.layers),
            z[rows],
            C=C,
            standardise=scale,
            max_iter=max_iter,
        )
        found |= {(layer, position): probe for layer, probe in zip(store.layers, along, strict=True)}
    return found


def score_cells(
    probes: Mapping[tuple[int, str], LinearProbe], store: RepStore, z: NDArray[np.int64], rows: Rows
) -> NDArray[np.float64]:
    """AUC of each probe on some rows, [layers, positions]."""
    table = np.full((len(store.layers), len(store.positions)), np.nan)
    for i, layer in enumerate(store.layers):
        for j, position in enumerate(store.positions):
            value = auc(z[rows], probes[layer, position].logits(store.at(layer, position)[rows]))
            table[i, j] = np.nan if value is None else value
    return table


def heatmap(
    store: RepStore,
    z: Sequence[int] | NDArray[np.int64],
    *,
    seeds: Sequence[int] = (0,),
    jobs: int = 1,
    C: float = 1.0,
    scale: bool = True,
    max_iter: int = 1000,
) -> Grid:
    """AUC of a probe at every layer and position, trained on 80% of the questions and tested on the others.

    Args:
        store: states of answers.
        z: their labels.
        seeds: one split each.
        jobs: processes side by side.
        C: inverse strength of the L2 penalty.
        scale: standardise every feature first.
        max_iter: steps of the solver.

    Raises:
        BadInput: a class is missing on the training side.
    """
    from joblib import Parallel, delayed

    labels = np.asarray(z, np.int64)
    ids = [key[0] for key in store.keys]
    one = delayed(_one_seed)
    options = {"C": C, "scale": scale, "max_iter": max_iter}
    tables = np.stack(Parallel(n_jobs=jobs)(one(store, labels, *split(ids, seed), options) for seed in seeds))
    return Grid(store.layers, store.positions, tables.mean(0), tables.std(0), len(labels))


def _one_seed(
    store: RepStore, z: NDArray[np.int64], train: Rows, test: Rows, options: Mapping[str, float]
) -> NDArray[np.float64]:
    return score_cells(fit_cells(store, z, train, **options), store, z, test)  # type: ignore[arg-type]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
