"""The miniature's page: curves of accuracy against labels, how the interval narrows, and what it would cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.sieve.fitting.cost import Cost, call_usd
from gnomon.methods.sieve.mini.comparisons import COMPARISONS
from gnomon.methods.sieve.mini.trial import ALL_LABELS

DECISIONS = (
    "balanced accuracy",
    "balanced accuracy at 0.5",
    "balanced accuracy at the best cut",
    "F1",
    "kappa",
    "error where both agree",
)
"""Measures of a filter with its threshold."""

Measured = Mapping[str, Sequence[Mapping[str, Any]]]
"""Arm -> measurements, per seed."""


def by_comparison(results: Results) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Comparison -> arm -> measurements, per seed."""
    table: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for key, arm, measured in results.kept.get("measured", []):
        table.setdefault(key, {}).setdefault(arm, []).append(measured)
    return table


def write(page: Page, results: Results) -> None:
    """One section per comparison, and the cost."""
    titles = {comparison.key: comparison.title for group in COMPARISONS.values() for comparison in group}
    measured = by_comparison(results)
    page.text(
        "The judge is a rule with planted error rates (generated text) or a rule about words that are deleted before the student "
        "reads the text (documentation). AP and balanced accuracy are measured against the judge's verdicts on documents that "
        "no arm has seen; intervals are 95% bootstrap intervals over seeds."
    )
    for key, arms in measured.items():
        page.section(titles[key])
        _curves(page, arms)
        page.table(
            [_row(arm, rows, arms.get("random")) for arm, rows in arms.items()],
            caption="ranking, at the end of the budget; means over seeds",
            best={"AP": "max", "best F1": "max"},
        )
        page.table(
            [{"arm": arm} | {name: _mean(rows, name) for name in DECISIONS} for arm, rows in arms.items()],
            caption="decisions of the finished filter; means over seeds",
            best={"balanced accuracy": "max", "kappa": "max"},
        )
    first = next(iter(measured.values()))
    if "trm" in first:
        page.figures(
            {
                "AP, trm": _mean(first["trm"], "AP"),
                "AP, random": _mean(first["random"], "AP"),
                "labels": first["trm"][0]["labels"],
            }
        )
        _cost(page, first["trm"])


def _curves(page: Page, arms: Measured) -> None:
    curves: dict[str, list[tuple[float, ...]]] = {}
    widths: dict[str, list[tuple[float, ...]]] = {}
    for arm, rows in arms.items():
        if arm == ALL_LABELS:
            continue
        points: list[tuple[float, ...]] = []
        narrowing: list[tuple[float, ...]] = []
        for at in range(min(len(row["curve"]) for row in rows)):
            values = [row["curve"][at]["AP"] for row in rows]
            labels = float(np.mean([row["curve"][at]["labels"] for row in rows]))
            interval = mean_interval([[value] for value in values])
            points.append((labels, interval.estimate, interval.low, interval.high))
            narrowing.append((labels, float(np.mean([row["curve"][at]["width"] for row in rows]))))
        curves[arm] = points
        if arm.startswith("trm"):
            widths[arm] = narrowing[1:]
    if ALL_LABELS in arms:
        full = float(np.mean([row["curve"][0]["AP"] for row in arms[ALL_LABELS]]))
        ends = next(iter(curves.values()))
        curves[ALL_LABELS] = [(ends[0][0], full), (ends[-1][0], full)]
    page.lines(curves, x_label="labels", y_label="average precision")
    if any(widths.values()):
        page.lines(
            widths, x_label="labels", y_label="interval width at the round's end (share of the stream)"
        )


def labels_to_reach(curve: Sequence[Mapping[str, float]], target: float) -> float | None:
    """How many labels an arm needs for an AP of `target`, by linear interpolation; None when it does not get there.

    >>> labels_to_reach([{"labels": 100, "AP": 0.5}, {"labels": 200, "AP": 0.7}], 0.6)
    150.0
    """
    points = [(point["labels"], point["AP"]) for point in curve]
    if points[0][1] >= target:
        return points[0][0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y0 < target <= y1:
            return float(x0 + (x1 - x0) * (target - y0) / (y1 - y0))
    return None


def _row(
    arm: str, rows: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    scores = mean_interval([[row["curve"][-1]["AP"]] for row in rows])
    return {
        "arm": arm,
        "labels": round(float(np.mean([row["labels"] for row in rows]))),
        "pass share of labels": float(np.mean([row.get("pass share", row["base rate"]) for row in rows])),
        "AP": (scores.estimate, scores.low, scores.high),
        "labels to random's AP": _reach(rows, random) if random and arm != ALL_LABELS else None,
        "best F1": float(np.mean([row["curve"][-1]["best F1"] for row in rows])),
    }


def _reach(rows: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]]) -> float | None:
    """Labels after which an arm's mean curve reaches what random selection reaches with its whole budget."""
    target = _mean(random, "AP")
    points = zip(*(row["curve"] for row in rows), strict=False)
    curve = [{n: float(np.mean([p[n] for p in point])) for n in ("labels", "AP")} for point in points]
    return labels_to_reach(curve, target)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [row["curve"][-1][name] if name == "AP" else row[name] for row in rows]
    return float(np.mean(values))


PRICES = {"tokens_in": 700, "tokens_out": 150, "price_in": 2.5, "price_out": 10.0}
"""What a judge call is taken to cost: a strong hosted model, USD per million tokens, and a snippet of 512 tokens."""

USD_PER_HOUR = 0.10
"""What an hour of the two cores is taken to cost."""

CORPUS = 8_000_000
"""Size of the corpus that is billed, in snippets."""


def _cost(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """The bill, as text: seconds differ from run to run and have no place in the tables."""
    scored, seconds = sum(row["scored"] for row in rows), sum(row["scoring_s"] for row in rows)
    cost = Cost(
        snippets=CORPUS,
        labels=round(float(np.mean([row["labels"] for row in rows]))),
        usd_per_call=call_usd(**PRICES),
        training_s=float(np.mean([row["training_s"] for row in rows])),
        snippets_per_s=max(scored, 1) / max(seconds, 1e-9),
        usd_per_hour=USD_PER_HOUR,
        stream_scored=round(scored / len(rows)),
    )
    page.section("What it would cost")
    page.text(
        f"With a judge call at {cost.usd_per_call:.5f} USD ({PRICES['tokens_in']} tokens in, {PRICES['tokens_out']} out) and an "
        f"hour of this machine at {USD_PER_HOUR:.2f} USD, filtering {CORPUS:,} snippets costs {cost.total_usd:,.2f} USD, of which "
        f"the labels are {cost.judge_usd:,.2f}; the judge on everything would cost {cost.judge_all_usd:,.0f} USD, so the ratio is "
        f"{cost.ratio:.4%}. One judge call pays for {cost.calls_per_judge_call:,.0f} snippets scored by the student "
        f"({cost.snippets_per_s:,.0f} a second, training {cost.training_s:.1f} s). The student is the cheaper way from "
        f"{cost.break_even:,} snippets on."
    )
