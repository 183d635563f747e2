"""Probes over layers and positions: the heat map, and the generalisation matrix from task to task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.ranking import auc
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.truth_probes.probes.probe import FitOptions, LinearProbe, fit_along
from gnomon.methods.truth_probes.states.states import RepStore, Rows, require_both, split


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
    options: FitOptions | None = None,
) -> dict[tuple[int, str], LinearProbe]:
    """A probe for every layer and position, fitted to some rows; each starts from that of the layer before."""
    probes: dict[tuple[int, str], LinearProbe] = {}
    for position in store.positions:
        along = fit_along(
            (store.at(layer, position)[rows] for layer in store.layers),
            z[rows],
            options,
        )
        probes |= {(layer, position): probe for layer, probe in zip(store.layers, along, strict=True)}
    return probes


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
    options: FitOptions | None = None,
    *,
    seeds: Sequence[int] = (0,),
    jobs: int = 1,
) -> Grid:
    """AUC of a probe at every layer and position, trained on 80% of the questions and tested on the others.

    Args:
        store: states of answers.
        z: their labels.
        options: of the probes.
        seeds: one split each.
        jobs: processes side by side.

    Raises:
        BadInput: a class is missing on the training side.
    """
    from joblib import Parallel, delayed

    labels = np.asarray(z, np.int64)
    ids = [key[0] for key in store.keys]
    of_seed = delayed(_one_seed)
    tables = np.stack(
        Parallel(n_jobs=jobs)(of_seed(store, labels, *split(ids, seed), options) for seed in seeds)
    )
    return Grid(store.layers, store.positions, tables.mean(0), tables.std(0), len(labels))


def _one_seed(
    store: RepStore, z: NDArray[np.int64], train: Rows, test: Rows, options: FitOptions | None
) -> NDArray[np.float64]:
    return score_cells(fit_cells(store, z, train, options), store, z, test)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


# The generalisation matrix.

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class TaskStates:
    """One task: states, labels and the baseline's scores of the same answers."""

    store: RepStore
    z: NDArray[np.int64]
    baseline: NDArray[np.float64]
    """Scores of the model's own probabilities, higher for more likely right, [N]."""


@dataclass(frozen=True)
class Transfer:
    """AUC of probes over pairs of tasks, rows trained on, columns tested on."""

    tasks: tuple[str, ...]
    auc: Matrix
    baseline: Matrix
    """AUC of the model's own probabilities on each task, [tasks]."""
    chosen: Mapping[tuple[str, str], tuple[int, str]]
    """Layer and position, chosen for the tested task."""

    @property
    def either_way(self) -> Matrix:
        """max(AUC, 1 - AUC), as the paper shows it: a detector that is always wrong is one too."""
        return np.maximum(self.auc, 1 - self.auc)

    @property
    def gain(self) -> Matrix:
        """AUC less that of the model's own probabilities on the tested task: above 0 is transfer worth having."""
        return self.auc - self.baseline[None]

    def rows(self) -> list[dict[str, object]]:
        """One row per pair."""
        return [
            {
                "trained on": a,
                "tested on": b,
                "layer": self.chosen[a, b][0],
                "position": self.chosen[a, b][1],
                "AUC": _number(self.auc[i, j]),
                "|AUC|": _number(self.either_way[i, j]),
                "over baseline": _number(self.gain[i, j]),
            }
            for i, a in enumerate(self.tasks)
            for j, b in enumerate(self.tasks)
        ]


def generalise(
    tasks: Mapping[str, TaskStates],
    options: FitOptions | None = None,
    *,
    seed: int = 0,
    share: float = 0.2,
    splits: Mapping[str, tuple[Rows, Rows]] | None = None,
    fewest: int = 20,
) -> Transfer:
    """AUC of a probe trained on each task and tested on each.

    Of every task a share of the questions is set aside for testing, also on the diagonal. Layer and position are chosen for the
    tested task, by probes of its own on questions of its training side: the trained task does not see them.

    Args:
        tasks: name -> states and labels, all of one model, site, layers and positions.
        options: of the probes.
        seed: of the splits.
        share: of the questions, for testing.
        splits: rows to train on and rows to test on, in place of drawn ones.
        fewest: answers that each class needs.

    Raises:
        BadInput: there are fewer than two tasks, or a task has too few answers of a class.
        ModelMismatch: the states do not belong together.

    Source: the paper (arXiv 2410.02707), section on generalisation between tasks.
    """
    if len(tasks) < 2:
        raise BadInput(f"A generalisation matrix needs at least two tasks; got {', '.join(tasks) or 'none'}.")
    names = tuple(tasks)
    first = tasks[names[0]].store
    for name, task in tasks.items():
        own, other = _kind(first), _kind(task.store)
        if own != other:
            raise ModelMismatch(
                f'The states of "{name}" are of another model, site, layers or positions than those of "{names[0]}".'
            )
        require_both(task.z, f'Task "{name}"', fewest)
    drawn = {name: split([key[0] for key in task.store.keys], seed, share) for name, task in tasks.items()}
    sides = dict(drawn if splits is None else splits)
    probes = {name: fit_cells(task.store, task.z, sides[name][0], options) for name, task in tasks.items()}
    best = {name: _best_cell(task, sides[name][0], seed, options) for name, task in tasks.items()}
    table = np.full((len(names), len(names)), np.nan)
    for j, b in enumerate(names):
        layer, position = best[b]
        test = sides[b][1]
        states = tasks[b].store.at(layer, position)[test]
        for i, a in enumerate(names):
            value = auc(tasks[b].z[test], probes[a][layer, position].logits(states))
            table[i, j] = np.nan if value is None else value
    own_scores = [auc(tasks[b].z[sides[b][1]], tasks[b].baseline[sides[b][1]]) for b in names]
    # The same tested questions as the probes, or the gain would compare two sets.
    baseline = np.array([np.nan if value is None else value for value in own_scores])
    return Transfer(names, table, baseline, {(a, b): best[b] for a in names for b in names})


def _best_cell(task: TaskStates, rows: Rows, seed: int, options: FitOptions | None) -> tuple[int, str]:
    """Layer and position at which a probe does best on a fifth of the training side, set aside."""
    store = task.store
    if len(store.layers) == len(store.positions) == 1:
        return store.layers[0], store.positions[0]
    # Another seed than that of the split into training side and tested questions.
    train, valid = split([store.keys[i][0] for i in rows], seed + 1, 0.2)
    table = score_cells(fit_cells(store, task.z, rows[train], options), store, task.z, rows[valid])
    table = np.where(np.isnan(table), -1.0, table)
    i, j = np.unravel_index(int(table.argmax()), table.shape)
    return store.layers[int(i)], store.positions[int(j)]


def _kind(store: RepStore) -> tuple[object, ...]:
    return store.model_key, store.site, store.layers, store.positions


def mean_cells(matrix: Matrix, pairs: Sequence[tuple[int, int]]) -> float | None:
    """Mean of some cells, None where all are undefined."""
    values = np.array([matrix[i, j] for i, j in pairs])
    return None if np.isnan(values).all() else float(np.nanmean(values))
