"""The miniature's page: tables, pass@k curves, what a solved task costs, and an edit path to walk through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.lintseq.models.evaluation import Evaluation

KS = (1, 5, 10, 20)
"""Samples per task at which pass@k is measured."""


def write(page: Page, results: Results) -> None:
    """Write the sections of the page."""
    if "states" in results.shown:
        example(page, results.shown["states"])
    if "data" in results.rows:
        data_part(page, results.rows["data"])
    if "learning" in results.rows:
        learning: dict[str, list[Evaluation]] = {}
        extras: dict[str, list[Mapping[str, float]]] = {}
        for row in results.rows["learning"]:
            learning.setdefault(row["arm"], []).append(row["evaluation"])
            extras.setdefault(row["arm"], []).append(row["extra"])
        learning_part(page, learning, extras, KS, results.shown["parameters"])


def example(page: Page, states: Sequence[str]) -> None:
    """One edit sequence of a standard-library function."""
    page.section("An edit sequence")
    page.text("Every state between the empty file and the function passes the linter. Walk through it.")
    page.edit_path(states)


def data_part(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """Section of the data: audits of both arms."""
    page.section("Data: edits of standard-library functions")
    table = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        table.append(
            {
                "arm": arm,
                "programs": sum(row["n_paths"] for row in mine),
                "states": sum(row["n_states"] for row in mine),
                "lint-clean states": float(np.mean([row["share_clean"] for row in mine])),
                "exact round trips": float(np.mean([row["share_exact"] for row in mine])),
                "edits per program": float(np.mean([row["edits_per_path"] for row in mine])),
                "target / program tokens": float(np.mean([row["overhead"] for row in mine])),
            }
        )
    page.table(table, caption="means over seeds")


def learning_part(
    page: Page,
    learning: Mapping[str, Sequence[Evaluation]],
    extras: Mapping[str, Sequence[Mapping[str, float]]],
    ks: Sequence[int],
    parameters: int,
) -> None:
    """Section of the trained models: pass@k, cost per solved task, diversity."""
    page.section("Learning: programs for unseen compositions")
    n_seeds = len(next(iter(learning.values())))
    page.text(
        f"One Llama of {parameters / 1e6:.2f}M parameters per arm and seed, {n_seeds} seed{'s' * (n_seeds > 1)}; intervals are "
        "95% bootstrap intervals over tasks within seeds."
    )
    curves, costs, table = {}, {}, []
    for arm, evaluations in learning.items():
        points = []
        for k in ks:
            interval = mean_interval([list(evaluation.pass_at(k)) for evaluation in evaluations])
            points.append((float(k), interval.estimate, interval.low, interval.high))
        curves[arm] = points
        costs[arm] = [
            (float(np.mean([evaluation.cost(parameters, int(k)) for evaluation in evaluations])), mean)
            for k, mean, *_ in points
        ]
        means = {
            name: _mean([evaluation.summary(ks)[name] for evaluation in evaluations])
            for name in evaluations[0].summary(ks)
        }
        means |= {name: _mean([extra[name] for extra in extras[arm]]) for name in extras[arm][0]}
        table.append(
            {"arm": arm} | {f"pass@{int(k)}": (mid, low, high) for k, mid, low, high in points} | _rest(means)
        )
    page.table(table, caption="means over seeds", best={f"pass@{k}": "max" for k in ks})
    page.lines(curves, x_label="k (samples per task)", y_label="pass@k", log_x=True)
    page.lines(costs, x_label="FLOPs per task", y_label="pass@k", log_x=True, caption="test-time cost")
    solved = {
        arm: {
            "tokens per solved task": _mean(
                [evaluation.summary(())["tokens per solved task"] for evaluation in evaluations]
            )
        }
        for arm, evaluations in learning.items()
    }
    if any(np.isfinite(bars["tokens per solved task"]) for bars in solved.values()):
        page.bars(solved, y_label="generated tokens per solved task")
    page.figures({f"pass@{ks[-2]}, {arm}": points[-2][1] for arm, points in curves.items()})


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _rest(means: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in means.items() if not name.startswith("pass@")}
