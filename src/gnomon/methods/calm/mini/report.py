"""The miniature's page: coverage, audits through text, trained judges by dose, the paper's claims with noise floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.calm.mini.measures import Qualitative, Trained
from gnomon.methods.calm.planted import study as planted
from gnomon.methods.calm.planted.validation import Validation

Rows = Sequence[Mapping[str, Any]]


def write(page: Page, results: Results) -> None:
    """Write the page of the miniature, part by part."""
    shown, rows = results.shown, results.rows
    if "validation" in shown:
        _coverage(page, shown["validation"], rows["coverage"])
        planted.show(page, shown["text"])
    if "trained" in shown:
        _trained(page, shown["trained"], rows["trained"])
    if "claims" in shown:
        _claims(page, shown["claims"], rows)


def _coverage(page: Page, first: Validation, rows: Rows) -> None:
    page.section("Planted biases, many audits each")
    page.text(
        "A judge whose choice is logistic in a margin and its cues; what RR, BIS, shift and error rates must be follows by "
        "quadrature. Each bias is audited many times with 439 items; intervals should cover the truth 95 times in 100."
    )
    table = []
    for key in dict.fromkeys((row["probe"], row["quantity"]) for row in rows):
        mine = [row for row in rows if (row["probe"], row["quantity"]) == key]
        table.append(
            {
                "bias": key[0],
                "quantity": key[1],
                "planted": mine[0]["truth"],
                "mean estimate": mean_interval([row["mean"] for row in mine]).estimate,
                "coverage": mean_interval([row["coverage"] for row in mine]).estimate,
            }
        )
    page.table(table, caption="means over seeds")
    page.table(
        [
            {
                "planted": name,
                "its own flag": first.flagged_own[name],
                "flags of the others": first.flagged_other[name],
            }
            for name in first.flagged_own
        ],
        caption="share of audits flagged after the correction, first seed",
    )
    page.figures(
        {
            "smallest coverage": min(row["coverage"] for row in rows),
            "flags without a bias": first.flagged_null,
        }
    )


def _trained(page: Page, study: Trained, rows: Rows) -> None:
    page.section("Trained judges")
    page.text(
        "Tiny Llamas that learned from nothing which of two answers has more right sums. Half of the pairs show a source over one "
        "answer, half more words; in a share of the pairs that show it (for the first slot: of all) the label follows the cue."
    )
    series: dict[str, list[tuple[float, ...]]] = {}
    for cue in dict.fromkeys(row["cue"] for row in rows):
        for share in sorted({row["share"] for row in rows}):
            mine = mean_interval([row[cue][0] for row in rows if row["cue"] == cue and row["share"] == share])
            series.setdefault(cue, []).append((share, mine.estimate, mine.low, mine.high))
    page.lines(
        series,
        x_label="share of labels that follow the cue",
        y_label="shift by that cue",
        caption="dose and response",
    )
    page.table(study.rows, caption="first seed: shift by every cue of judges trained on one")


def _claims(page: Page, study: Qualitative, rows: Mapping[str, Rows]) -> None:
    page.section("What the paper says in words, with noise floors")
    page.text(
        "**More candidates.** RR over all rotations falls with their number also for a judge without any liking for a slot: the "
        "floor falls with it. What a slot costs is CR - RR at each number."
    )
    page.table(study.candidates, caption="first seed")
    page.text(
        "**Smaller gaps.** The shift of a cue of one weight grows as the gap in quality shrinks, as the paper says; BIS does not, "
        "since agreement cannot tell a bias from a coin where the judge tosses one."
    )
    page.table(study.gaps, caption="first seed")
    for name in ("RR", "BIS", "shift"):
        points = []
        for gap in sorted({row["gap"] for row in rows["gaps"]}):
            mine = mean_interval([row[name][0] for row in rows["gaps"] if row["gap"] == gap])
            points.append((gap, mine.estimate, mine.low, mine.high))
        page.lines({name: points}, x_label="mean quality gap", y_label=name, caption=f"{name} by quality gap")
    page.text(
        "**Order.** A noisy judge without a bias and a quiet one with a bias: RR and BIS put them in opposite orders."
    )
    page.table(study.order, caption="first seed")
