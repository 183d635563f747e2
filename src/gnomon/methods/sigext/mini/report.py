"""The miniature's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.methods.sigext.mini.measures import DIAL, KS
from gnomon.methods.sigext.summaries import colours
from gnomon.methods.sigext.summaries.evaluation import Evaluation
from gnomon.methods.sigext.summaries.summaries import pair_up

if TYPE_CHECKING:
    from gnomon.methods.sigext.mini.study import Findings

SHOWN = ("none", "random", "sigext", "oracle")
"""Arms among the key figures."""

METRICS = (
    "ROUGE-1 recall", "ROUGE-1 precision", "ROUGE-1 F", "ROUGE-L F", "words", "hints", "hint uptake",
    "added recall per hint", "copy rate",
)  # fmt: skip


def rows_of(found: Evaluation, seed: int) -> list[dict[str, Any]]:
    """One row per arm."""
    return [
        {"seed": seed, "arm": name, **{metric: arm.mean(metric) for metric in (*METRICS, found.faithfulness)}}
        for name, arm in found.arms.items()
    ]


def write(page: Page, found: Findings) -> None:
    """Everything."""
    for writer, rows in found.arms.items():
        page.section(f"Summaries by the {writer} writer")
        if writer == "trained":
            page.text(
                "A T5 of half a million parameters, trained on documents with policies drawn anew each time: it follows hints "
                "and cannot know the policy of the test documents."
            )
        else:
            page.text("A simulator: it tells 80% of the facts whose names are hinted and 33% of the others.")
        page.table(_means(rows), caption="means over seeds, in points", best={"ROUGE-1 F": "max"})
        _curve(page, found, writer)
    if found.ranks:
        page.section("The extractor")
        page.table(found.ranks, caption="how well each order finds the phrases that references say")
        page.table(found.tuned, caption="what tune-k would choose on the validation documents")
    if found.docstrings:
        page.section("Real text")
        page.text(
            "Bodies of documentation strings, with their first paragraph as the reference. Shown to prove that nothing but text "
            "is needed; no claim rests on it."
        )
        page.table(found.docstrings, caption="loss per labelled token and recall on held-out documents")
    for writer, (world, made, evaluation) in found.shown.items():
        page.section(f"Reading along: the {writer} writer, first seed")
        arms = pair_up(world.rows, [one for one in made if one.arm in ("none", "sigext")])
        colours.show_summaries(page, world.rows[:4], arms, evaluation.invented)
    _figures(page, found)


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = []
    for name in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == name]
        known = {m: [row[m] for row in own if row[m] is not None] for m in own[0] if m not in ("seed", "arm")}
        table.append({"arm": name, **{m: float(np.mean(v)) if v else None for m, v in known.items()}})
    return table


def _curve(page: Page, found: Findings, writer: str) -> None:
    """ROUGE-1 against K, without the threshold, with bands over seeds and documents."""
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for what in ("precision", "recall", "F"):
        points = []
        for k in KS:
            values = found.scores[writer][f"sigext, K={k}"][f"ROUGE-1 {what}"]
            band = mean_interval(values, n_resamples=2000)
            points.append((float(k), band.estimate, band.low, band.high))
        lines[what] = points
    page.lines(lines, x_label="K", y_label="ROUGE-1", caption=f"{DIAL}: the number of phrases as a dial")


def _figures(page: Page, found: Findings) -> None:
    writer = next(iter(found.arms), None)
    if writer is None:
        return
    means = {row["arm"]: row for row in _means(found.arms[writer])}
    chosen = {arm: next(name for name in means if name.split(",")[0] == arm) for arm in SHOWN}
    page.figures({f"ROUGE-1 F, {arm}": means[name]["ROUGE-1 F"] for arm, name in chosen.items()})
