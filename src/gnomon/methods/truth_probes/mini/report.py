"""The miniature's page: AUC by token, heat map, transfer, kinds of errors and answer choice, with and without cues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.truth_probes import report
from gnomon.methods.truth_probes.errors.choice import STRATEGIES, by_type
from gnomon.methods.truth_probes.mini.measures import Findings

Rows = Sequence[Mapping[str, Any]]

TITLES = {
    "world": "The world with cues",
    "control": "The same world without cues",
    "arithmetic": "Sums of two numbers",
}

WORDS = {
    "world": "Every subject has a true answer and a popular wrong one, and for many subjects most documents are wrong. Behind "
    "the answer a cue often confirms or doubts that very answer: to predict it, the model must judge the answer at the answer's "
    "token. Greedy decoding does not use that judgement. **This world is constructed so that there is something to find**; the "
    "control takes the construction away.",
    "control": "Subjects, answers and training are the same, and no cue ever stands behind an answer. Nothing asks the model to "
    "judge what it has written. What is left to a probe is what the answer's own probability says too; a probe that kept its lead "
    "here would have read the subjects, and not the truth.",
    "arithmetic": "Real questions: a small model that has learned to add, asked sums that it has not seen. Numbers are of several "
    "tokens. No claim is made.",
}


def write(page: Page, results: Results) -> None:
    """The whole page, part by part."""
    detectors, choices, others = (results.rows.get(name, []) for name in ("detectors", "choices", "others"))
    shown: Mapping[str, Findings] = results.shown
    for part, findings in shown.items():
        page.section(TITLES[part])
        page.text(WORDS[part])
        _detectors(page, [row for row in detectors if row["part"] == part])
        report.draw_grid(
            page, findings.grid, f"AUC on greedy answers by layer and token, first seed ({part})"
        )
        if findings.transfer is not None:
            page.text(
                "Tasks t0 and t2 share their cues, as do t1 and t3. Between skills the sign of the direction is arbitrary, "
                "so the raw AUC counts."
            )
            report.draw_transfer(page, findings.transfer, "logits-min-exact")
        report.draw_choice(page, findings.choice, by_type(findings.choice, findings.typed))
        _choices(page, [row for row in choices if row["part"] == part])
        page.table([_without_part(row) for row in others if row["part"] == part], caption="per seed")
    if "world" in shown:
        findings = shown["world"]
        page.figures(
            {
                "AUC at the exact answer": findings.greedy["exact_last"],
                "right by probe": findings.choice.accuracy("probe"),
            }
        )


def _detectors(page: Page, rows: Rows) -> None:
    table = []
    for name in dict.fromkeys(row["detector"] for row in rows):
        mine = [row for row in rows if row["detector"] == name]
        table.append(
            {
                "detector": name,
                **{side: _interval([row[side] for row in mine]) for side in ("greedy", "sampled")},
            }
        )
    page.table(
        table,
        caption="AUC on greedy and on sampled answers, means over seeds",
        best={"greedy": "max", "sampled": "max"},
    )


def _choices(page: Page, rows: Rows) -> None:
    table = []
    for group in dict.fromkeys(row["questions"] for row in rows):
        mine = [row for row in rows if row["questions"] == group]
        shares = {name: _interval([row[name] for row in mine]) for name in STRATEGIES}
        table.append({"questions": group, "n": int(np.sum([row["n"] for row in mine])), **shares})
    page.table(table, caption="share answered right, means over seeds")


def _interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    defined = [value for value in values if np.isfinite(value)]
    if not defined:
        return None
    interval = mean_interval(defined)
    return interval.estimate, interval.low, interval.high


def _without_part(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "part"}
