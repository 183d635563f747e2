"""The miniature's page: every arm's points, what leaks layer by layer, relearning, and what models write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.elm import report
from gnomon.methods.elm.mini.arms import best

Row = Mapping[str, Any]

COLUMNS = (
    "forget", "forget, expert prefix", "forget, held-out wording", "true option", "retain", "R-PPL", "perplexity, forget",
    "perplexity, retain", "perplexity, generic", "KL, retain", "distinct-2", "repeated 4-grams",
)  # fmt: skip


def write(page: Page, results: Results) -> None:
    """Write the sections of the page."""
    rows: Sequence[Row] = results.rows["arms"]
    personas, chance = results.kept["KL of the personas"], median(results.kept["chance of the probe"])
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    page.text(
        "A small model has read documents about two domains of made-up facts: plain ones and an expert's tell them right, a "
        "novice's at random. One domain is erased, by ELM and by six rivals over the same batches; the other is kept. "
        "Questions have four options: **0.25 is chance**, and far below it is an anti-answer. R-PPL is judged by a model that "
        "has read the same language with every value drawn at random. The base model tells novice and expert apart by a KL of "
        f"{np.mean(personas):.2f} nats per token; where that is 0 there is nothing for ELM to work with."
    )
    points = list(dict.fromkeys((row["arm"], row["step"]) for row in rows))
    table = [
        {"arm": arm, "steps": step} | {name: _median(rows, arm, step, name) for name in COLUMNS}
        for arm, step in points
    ]
    page.table(
        [{k: v for k, v in row.items() if v is not None} for row in table],
        caption=f"medians over {len(seeds)} seed{'s' * (len(seeds) > 1)}",
    )
    page.section("The best point of each rival")
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    page.table(
        [
            {
                "arm": arm,
                "steps": best["steps"],
                **{name: best.get(name) for name in ("forget", "retain", "R-PPL")},
            }
            for arm in arms
            for best in [_best(table, arm)]
        ],
        caption="nearest to chance, the more fluent of equals; whichever way it comes out",
    )
    page.section("What leaks")
    layers: dict[str, list[float]] = {}
    for arm in arms:
        last = _last(rows, arm)
        kept = [row["layers"] for row in rows if (row["arm"], row["step"]) == (arm, last) and row["layers"]]
        if kept:
            layers[arm] = np.mean(kept, axis=0).tolist()
    if layers:
        report.leak(page, layers, chance)
        page.text(
            "A probe is trained on some entities and asked about others: it reads the value that the state carries. What it still "
            "finds, questions only hide. The embedding is the control."
        )
    curves = {}
    for arm in arms:
        mine = [row["relearning"] for row in rows if row["arm"] == arm and row.get("relearning")]
        if mine:
            curves[arm] = [
                (point["steps"], float(np.mean([curve[i]["accuracy"] for curve in mine])))
                for i, point in enumerate(mine[0])
            ]
    if curves:
        page.lines(
            curves,
            x_label="steps of fine-tuning on other entities of the domain",
            y_label="accuracy",
            caption="relearning: half of the entities are asked and in none of the texts",
        )
    page.section("What the models write")
    first = [row for row in rows if row["seed"] == seeds[0]]
    page.table(
        [
            {"arm": row["arm"], "steps": row["step"], "text": row["answers"][0].strip()}
            for row in first
            if row["step"] == _last(first, row["arm"])
        ],
        caption="behind the same words about the erased domain",
    )
    page.text(report.NO_GUARANTEE)


def _best(table: Sequence[dict[str, Any]], arm: str) -> dict[str, Any]:
    return best([row for row in table if row["arm"] == arm])


def _last(rows: Sequence[Row], arm: str) -> int:
    return max(int(row["step"]) for row in rows if row["arm"] == arm)


def _median(rows: Sequence[Row], arm: str, step: int, name: str) -> Any:
    values = [
        row[name] for row in rows if (row["arm"], row["step"]) == (arm, step) and row.get(name) is not None
    ]
    return float(np.median(values)) if values else None
