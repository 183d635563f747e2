"""The miniature's page: every training, the trade-off, the control without a gate, and what the blocks do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.neutral_residues import report
from gnomon.methods.neutral_residues.evaluation import Point

Row = Mapping[str, Any]


def write(page: Page, results: Results) -> None:
    """Write the sections of the page."""
    about, alpha, rows = results.shown["about"], results.shown["alpha"], results.rows["arms"]
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    page.text(
        f"{about} alpha is **{alpha:g}** and not the paper's 0.01: entries of so small a model's residuals are small "
        "and training is short, so that 0.01 changes nothing here."
    )
    means = [
        Point(arm, lr, _mean(rows, arm, lr, "learning"), _mean(rows, arm, lr, "forgetting"))
        for arm in arms
        for lr in dict.fromkeys(row["lr"] for row in rows if row["arm"] == arm)
    ]
    report.tradeoff(page, means, "learning against forgetting, means of the seeds: low and right is better")
    names = (
        "original",
        "new",
        "learning",
        "forgetting",
        "drift",
        "residual ratio",
        "open, original",
        "open, new",
    )
    page.table(
        [
            {
                "arm": point.arm,
                "learning rate": f"{point.lr:g}",
                **{name: _mean(rows, point.arm, point.lr, name) for name in names},
                "weights": _mean(rows, point.arm, point.lr, "trained weights"),
            }
            for point in means
        ],
        caption=f"means over {len(seeds)} seed{'s' * (len(seeds) > 1)}; original and new: bits per byte after training",
    )
    page.table(
        report.equal_learning(means, arms),
        caption="forgetting at equal learning: as much as the best learner of each column",
    )
    ours = [row for row in rows if row["arm"] == "neutral" and row["seed"] == seeds[0]]
    if ours:
        page.section("What the blocks do")
        best = max(ours, key=lambda row: row["learning"])
        report.activities(page, best["layers"], ("original", "new"))
    page.text(
        "**The control.** `no gate + l1` is the same block with the same local loss and no gate. Where it stands beside "
        "`neutral`, the local loss does the work and the gate adds little; the paper sees both matter at a billion weights."
    )


def _mean(rows: Sequence[Row], arm: str, lr: float, name: str) -> Any:
    """Mean over seeds; None where an arm has no such number."""
    values = [
        row[name] for row in rows if row["arm"] == arm and row["lr"] == lr and row.get(name) is not None
    ]
    return float(np.mean(values)) if values else None
