"""The miniature's page: the toy's matrix and curves, temperatures, and the scaling law in context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.markov import report
from gnomon.methods.markov.icl.evaluation import FIRST
from gnomon.methods.markov.mini.world import ORBITS

Rows = Sequence[Mapping[str, Any]]


def write(page: Page, results: Results) -> None:
    """Write the sections of the page."""
    chains, learning = results.rows.get("chains", []), results.rows.get("learning", [])
    if chains:
        _chains(page, chains, results.shown)
    if learning:
        _learning(page, learning, results.shown)
    figures = {"bound violations": sum(row["bound violations"] for row in chains)} if chains else {}
    for task in ("d=3", "many states"):
        metric = f"risk over best counting's, {task}"
        if "icl" in results.by_part:
            figures[metric] = results.mean("model", metric)
    page.figures(figures)


def _chains(page: Page, rows: Rows, shown: Mapping[str, Any]) -> None:
    page.section("Exact chains")
    page.text(
        "The rule (0 after an even sum of three bits, else 1) is a shift register with four orbits: a text of 40 bits sees one of "
        "them. A model is trained on each. eps and the bound speed up with temperature for every one; whether the chain itself "
        "does depends on the orbit. A model that has learned a cycle forgets faster when it is hot; one that has learned a fixed "
        "point may return to it fastest when it is cold."
    )
    table = []
    for chain in dict.fromkeys(row["chain"] for row in rows):
        for tau in dict.fromkeys(row["temperature"] for row in rows):
            mine = [row for row in rows if row["chain"] == chain and row["temperature"] == tau]
            table.append(
                {
                    "chain": chain,
                    "temperature": tau,
                    **{
                        name: _mean(mine, name)
                        for name in ("log10 eps", "|lambda_2|", "t_mix(1/4)", "mass on training states")
                    },
                    "bound violations": sum(row["bound violations"] for row in mine),
                }
            )
    page.table(table, caption="means over seeds; times in tokens")
    for name in ORBITS:
        if name in shown:
            lm, analyses = shown[name]
            page.section(f"Orbit {name}, first seed")
            report.matrix(page, lm, 1.0)
            report.curves(page, analyses, lm.space.window)
            report.loops(
                page, lm, next(analysis for analysis in analyses if analysis.row["temperature"] == 1)
            )
    for value, label in (("log10 eps", "log10 eps"), ("|lambda_2|", "second eigenvalue, modulus")):
        series = {
            chain: [
                (row["temperature"], row[value])
                for row in table
                if row["chain"] == chain and row[value] is not None
            ]
            for chain in dict.fromkeys(row["chain"] for row in table)
        }
        page.lines(
            series,
            x_label="temperature",
            y_label=label,
            caption=f"{label} over temperature, means over seeds",
        )


def _mean(rows: Rows, name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def _learning(page: Page, rows: Rows, shown: Mapping[str, Any]) -> None:
    page.section("Chains learned in context")
    page.text(
        "Small models trained from nothing on chains drawn anew for every step, and tested on chains they have not seen. The "
        "paper's models were trained on text and not on chains; what carries over is the comparison with counting."
    )
    for task in dict.fromkeys(row["task"] for row in rows):
        table = []
        for arm in dict.fromkeys(row["arm"] for row in rows):
            mine = [row for row in rows if row["task"] == task and row["arm"] == arm]
            risk, slope = (mean_interval([row[name] for row in mine]) for name in ("risk", "slope"))
            table.append(
                {
                    "arm": arm,
                    "risk": (risk.estimate, risk.low, risk.high),
                    "slope": (slope.estimate, slope.low, slope.high),
                }
            )
        page.table(
            table,
            caption=f"{task}: total variation after the last state, and the slope of its logarithm",
            best={"risk": "min"},
        )
        if task in shown:
            report.scaling(page, shown[task], FIRST, caption=f"{task}, first seed")
