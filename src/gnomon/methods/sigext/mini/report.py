"""The miniature's page."""

from __future__ import annotations

from typing import Any

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.methods.sigext.mini.measures import DIAL, KS
from gnomon.methods.sigext.summaries import colours
from gnomon.methods.sigext.summaries.evaluation import Evaluation
from gnomon.methods.sigext.summaries.summaries import pair_up

SHOWN = ("none", "random", "sigext", "oracle")
"""Arms among the key figures."""

METRICS = (
    "ROUGE-1 recall", "ROUGE-1 precision", "ROUGE-1 F", "ROUGE-L F", "words", "hints", "hint uptake",
    "added recall per hint", "copy rate",
)  # fmt: skip


def arms_of(writer: str) -> str:
    """Name of a writer's table of arms."""
    return f"arms, {writer}"


def rows_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row per arm with the means of its metrics."""
    names = (*METRICS, evaluation.faithfulness)
    return [
        {"arm": name, **{metric: arm.mean(metric) for metric in names}}
        for name, arm in evaluation.arms.items()
    ]


def write(page: Page, results: Results) -> None:
    """Write the page of the miniature, writer by writer."""
    writers = [writer for writer in results.by_part if arms_of(writer) in results.rows]
    for writer in writers:
        page.section(f"Summaries by the {writer} writer")
        if writer == "trained":
            page.text(
                "A T5 of half a million parameters, trained on documents with policies drawn anew each time: it follows hints "
                "and cannot know the policy of the test documents."
            )
        else:
            page.text("A simulator: it tells 80% of the facts whose names are hinted and 33% of the others.")
        page.table(_means(results, writer), caption="means over seeds, in points", best={"ROUGE-1 F": "max"})
        _curve(page, results, writer)
    if writers:
        page.section("The extractor")
        page.table(results.rows["ranks"], caption="how well each order finds the phrases that references say")
        page.table(results.rows["tuned"], caption="what tune-k would choose on the validation documents")
    if docstrings := results.rows.get("docstrings"):
        page.section("Real text")
        page.text(
            "Bodies of documentation strings, with their first paragraph as the reference. Shown to prove that nothing but text "
            "is needed; no claim rests on it."
        )
        page.table(docstrings, caption="loss per labelled token and recall on held-out documents")
    for writer in writers:
        world, summaries, evaluation = results.shown[writer]
        page.section(f"Reading along: the {writer} writer, first seed")
        arms = pair_up(world.rows, [summary for summary in summaries if summary.arm in ("none", "sigext")])
        colours.show_summaries(page, world.rows[:4], arms, evaluation.invented)
    if writers:
        table = {row["arm"]: row for row in _means(results, writers[0])}
        names = {arm: next(name for name in table if name.split(",")[0] == arm) for arm in SHOWN}
        page.figures({f"ROUGE-1 F, {arm}": table[name]["ROUGE-1 F"] for arm, name in names.items()})


def _means(results: Results, writer: str) -> list[dict[str, Any]]:
    """Means over seeds of every arm; None where no seed has a number."""
    rows = results.rows[arms_of(writer)]
    empty = {name: None for name in rows[0] if name != "seed"}
    return [{**empty, **row} for row in means(rows, "arm")]


def _curve(page: Page, results: Results, writer: str) -> None:
    """ROUGE-1 against K, without the threshold, with bands over seeds and documents."""
    scores = results.scores(writer)
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for what in ("precision", "recall", "F"):
        points = []
        for k in KS:
            values = scores[f"sigext, K={k}"][f"ROUGE-1 {what}"]
            band = mean_interval(values, n_resamples=2000)
            points.append((float(k), band.estimate, band.low, band.high))
        lines[what] = points
    page.lines(lines, x_label="K", y_label="ROUGE-1", caption=f"{DIAL}: the number of phrases as a dial")
