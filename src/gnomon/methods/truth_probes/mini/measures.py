"""Measurements on one model: AUC by token, transfer, kinds of errors, and answer choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.ranking import Auc, auc
from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.methods.truth_probes.answers.answers import Answer, Answering, collect
from gnomon.methods.truth_probes.answers.data import Question
from gnomon.methods.truth_probes.answers.extraction import Extraction, drop_report, extract
from gnomon.methods.truth_probes.answers.labels import label
from gnomon.methods.truth_probes.errors.choice import Choice, choose
from gnomon.methods.truth_probes.errors.clusters import Typed, taxonomy
from gnomon.methods.truth_probes.errors.types import type_scores
from gnomon.methods.truth_probes.mini.world import SKILLS
from gnomon.methods.truth_probes.probes.grid import (
    Grid,
    TaskStates,
    Transfer,
    fit_cells,
    generalise,
    mean_cells,
    score_cells,
)
from gnomon.methods.truth_probes.states.positions import REFERENCE, baselines
from gnomon.methods.truth_probes.states.states import Capture, RepStore, Rows, folds, represent, split, usable

POSITIONS = ("last_q", "first_answer", "exact_before_first", "exact_last", "exact_after_last", "-2", "-1")
"""Tokens that are looked at."""

OTHERS = ("last_q", "exact_before_first", "-1")
"""Those that the exact answer must beat: the question's end, before the answer, the text's end."""

LOG_PROBABILITY = "probas-min-exact"
"""The answer's probability; where the answer is one token, all pools over it agree."""

KNOWS = ("C2", "D", "E2")
"""Kinds of errors where the right answer is among the samples and not the most frequent."""


@dataclass(frozen=True)
class Findings:
    """Measurements on one model. Every question is scored by probes that have not seen it."""

    greedy: dict[str, float]
    """Detector -> AUC on greedy answers: tokens by name, and baselines."""
    sampled: dict[str, float]
    """The same on sampled answers."""
    grid: Grid
    """AUC on greedy answers by layer and token."""
    figures: dict[str, float | int]
    """Share right, dropped answers and the like."""
    types: Mapping[str, Auc]
    choice: Choice
    typed: list[Typed]
    transfer: Transfer | None
    """None where there is one task only."""

    @property
    def lead(self) -> float:
        """AUC of the probe at the exact answer, less that of the answer's log-probability, on greedy answers."""
        return self.greedy["exact_last"] - self.greedy[LOG_PROBABILITY]

    def skills(self) -> tuple[float | None, float | None]:
        """Mean AUC between tasks of one skill, and of different skills; never of a task with itself."""
        if self.transfer is None:
            return None, None
        pairs = [(i, j) for i, j in product(range(len(SKILLS)), repeat=2) if i != j]
        same = mean_cells(self.transfer.auc, [(i, j) for i, j in pairs if SKILLS[i] == SKILLS[j]])
        other = mean_cells(self.transfer.auc, [(i, j) for i, j in pairs if SKILLS[i] != SKILLS[j]])
        return same, other

    def hidden_knowledge(self) -> list[int]:
        """Rows of the questions of a kind in `KNOWS`."""
        return [i for i, question in enumerate(self.typed) if set(question.types) & set(KNOWS)]


def measure(
    handle: ModelHandle,
    questions: Sequence[Question],
    *,
    samples: int,
    max_new_tokens: int,
    how: Extraction,
    seed: int,
    tasks: Sequence[str] | None = None,
) -> Findings:
    """Collect answers and samples, fit probes by cross-validation, and measure everything.

    Args:
        handle: the model.
        questions: what it is asked.
        samples: K.
        max_new_tokens: longest answer.
        how: how exact answers are found.
        seed: of samples and folds.
        tasks: task of each question, for transfer; None for one task.
    """

    def answers(samples: int) -> list[Answer]:
        answering = Answering(samples, max_new_tokens=max_new_tokens, batch_size=256)
        draw = Rng(seed).child("samples")
        return extract(label(collect(handle, None, questions, answering, rng=draw)), how)

    greedy, drawn = answers(0), answers(samples)
    drawn = [replace(answer, seed=seed) for answer in drawn]
    everything = [*greedy, *drawn]
    kept = [everything[i] for i in usable(everything)]
    store = represent(handle, None, kept, Capture(positions=POSITIONS))
    z = np.array([answer.z for answer in kept])
    ids = [answer.id for answer in kept]
    is_greedy = np.array([answer.draw == 0 for answer in kept])
    names = sorted({question.id for question in questions})
    ways = [_rows_of(ids, names, way) for way in folds(names, 3, seed)]
    probes = _by_fold(store, z, is_greedy, ways, ids, seed)
    scores = baselines(kept, handle.processor)
    chances = np.zeros(len(everything))
    chances[usable(everything)] = probes.chances
    typed = taxonomy(drawn)
    layer = probes.layers["exact_last"]
    states = store.at(layer, "exact_last")
    kinds = dict(zip((question.id for question in typed), typed, strict=True))
    rows = np.flatnonzero(is_greedy)
    return Findings(
        greedy=probes.greedy | _baseline_auc(scores, z, is_greedy, ways),
        sampled=probes.sampled | _baseline_auc(scores, z, ~is_greedy, ways),
        grid=probes.grid,
        figures={
            "greedy right": float(np.mean([answer.z for answer in greedy])),
            "samples right": float(np.mean([answer.z for answer in drawn])),
            "layer": layer,
            **{f"samples, {name}": value for name, value in drop_report(drawn).items()},
        },
        types=type_scores(
            states[rows],
            [kinds[ids[i]] for i in rows],
            ways=[tuple(np.flatnonzero(np.isin(rows, side)) for side in way) for way in ways],  # type: ignore[misc]
        ),
        choice=choose(drawn, typed, chances[len(greedy) :], greedy),
        typed=typed,
        transfer=_transfer(
            store, z, ids, scores, ways, dict(zip((q.id for q in questions), tasks, strict=True))
        )
        if tasks is not None
        else None,
    )


def _rows_of(ids: Sequence[str], names: Sequence[str], way: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    """A division of the questions, as rows of their answers."""
    test = {names[i] for i in way[1]}
    inside = np.array([name in test for name in ids])
    return np.flatnonzero(~inside), np.flatnonzero(inside)


@dataclass(frozen=True)
class _Probes:
    greedy: dict[str, float]
    sampled: dict[str, float]
    grid: Grid
    chances: NDArray[np.float64]
    """P(right) at the exact answer, each by the probe that has not seen the question."""
    layers: dict[str, int]
    """Token -> the layer that most folds chose."""


def _by_fold(
    store: RepStore,
    z: NDArray[np.int64],
    is_greedy: NDArray[np.bool_],
    ways: Sequence[tuple[Rows, Rows]],
    ids: Sequence[str],
    seed: int,
) -> _Probes:
    """Probes on greedy and sampled answers of two thirds of the questions, the layer chosen on a fifth of those."""
    tables, chances = [], np.zeros(len(z))
    aucs: dict[str, dict[str, list[float]]] = {"greedy": {}, "sampled": {}}
    chosen: dict[str, list[int]] = {position: [] for position in POSITIONS}
    for learn, test in ways:
        fit_on, choose_on = split([ids[i] for i in learn], seed)
        probes = fit_cells(store, z, learn[fit_on])
        valid = score_cells(probes, store, z, learn[choose_on])
        sides = {"greedy": test[is_greedy[test]], "sampled": test[~is_greedy[test]]}
        scored = {name: score_cells(probes, store, z, rows) for name, rows in sides.items()}
        tables.append(scored["greedy"])
        for j, position in enumerate(POSITIONS):
            best = int(np.where(np.isnan(valid[:, j]), -1.0, valid[:, j]).argmax())
            chosen[position].append(store.layers[best])
            for name, table in scored.items():
                aucs[name].setdefault(position, []).append(table[best, j])
        layer = chosen["exact_last"][-1]
        chances[test] = probes[layer, "exact_last"].predict(store.at(layer, "exact_last")[test])
    means = {side: {name: _mean(values) for name, values in table.items()} for side, table in aucs.items()}
    grid = Grid(store.layers, store.positions, _cell_means(tables), np.std(tables, 0), int(is_greedy.sum()))
    often = {name: max(set(layers), key=layers.count) for name, layers in chosen.items()}
    return _Probes(means["greedy"], means["sampled"], grid, chances, often)


def _baseline_auc(
    scores: Mapping[str, NDArray[np.float64]], z: NDArray[np.int64], which: NDArray[np.bool_], ways: Sequence[tuple[Rows, Rows]]
) -> dict[str, float]:  # fmt: skip
    """AUC of each baseline on the same test questions as the probes."""
    sides = [test[which[test]] for _, test in ways]
    return {name: _mean([auc(z[rows], values[rows]) for rows in sides]) for name, values in scores.items()}


def _transfer(
    store: RepStore,
    z: NDArray[np.int64],
    ids: Sequence[str],
    scores: Mapping[str, NDArray[np.float64]],
    ways: Sequence[tuple[Rows, Rows]],
    task_of: Mapping[str, str],
) -> Transfer | None:
    """The matrix at the exact answer, averaged over layers and folds; tested on greedy and sampled answers.

    Between skills the sign of the direction is arbitrary, in every layer anew, and all layers do equally well on their own task:
    the mean over layers says more than a layer that a tie has chosen. Folds in which a task has right or wrong answers only are
    left out, None where no fold is left.
    """
    names = tuple(dict.fromkeys(task_of.values()))
    where = {
        name: np.array([i for i, name_of_question in enumerate(ids) if task_of[name_of_question] == name])
        for name in names
    }
    transfers = []
    for layer in store.layers:
        at = replace(
            store,
            states=store.at(layer)[:, None, None].astype(np.float16),
            layers=(layer,),
            positions=("exact_last",),
        )
        tasks = {
            name: TaskStates(at.take(rows.tolist()), z[rows], scores[REFERENCE][rows])
            for name, rows in where.items()
        }
        for learn, test in ways:
            sides = {
                name: (np.flatnonzero(np.isin(rows, learn)), np.flatnonzero(np.isin(rows, test)))
                for name, rows in where.items()
            }
            if all(len(np.unique(tasks[name].z[side])) == 2 for name, (side, _) in sides.items()):
                transfers.append(generalise(tasks, splits=sides, fewest=1))
    if not transfers:
        return None
    return replace(
        transfers[0],
        auc=_cell_means([name_of_question.auc for name_of_question in transfers]),
        baseline=_cell_means([name_of_question.baseline for name_of_question in transfers]),
    )


def _mean(values: Sequence[float | None]) -> float:
    defined = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _cell_means(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean of each cell over the tables that have it; NaN where none has."""
    stack = np.stack(tables)
    is_defined = ~np.isnan(stack)
    count = is_defined.sum(0)
    total = np.where(is_defined, stack, 0).sum(0)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))
