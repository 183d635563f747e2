"""Report pages of the verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.report import Page
from gnomon.methods.sigext.extractor.model import Settings
from gnomon.methods.sigext.extractor.training import Trained, Tuned
from gnomon.methods.sigext.phrases.data import Row
from gnomon.methods.sigext.summaries import colours
from gnomon.methods.sigext.summaries.evaluation import STAND_IN, Arm, Evaluation
from gnomon.methods.sigext.summaries.summaries import Summary, pair_up

SHOWN = 6
"""Documents to look at, at most."""

LONG = {"ROUGE-1": ("precision", "recall", "F"), "ROUGE-2": ("F",), "ROUGE-L": ("F",), "ROUGE-Lsum": ("F",)}


def prepared(page: Page, figures: Mapping[str, Any], refused: int) -> None:
    """Counts of phrases and labels."""
    page.title = f"{figures['phrases']:,} phrases of {figures['documents']:,} documents labelled"
    page.figures({**figures, "rejected": refused})


def labels(
    page: Page,
    rows: Sequence[Row],
    figures: Mapping[str, Mapping[str, Any]],
    agreement: float | None,
    near: Sequence[Sequence[str]],
) -> None:
    """Both rules beside each other, and documents with coloured labels."""
    rate = {rule: numbers["positive rate"] for rule, numbers in figures.items()}
    page.title = f"Labels of {len(rows):,} documents"
    page.figures(
        {**{f"positive, rule {rule}": value for rule, value in rate.items()}, "the rules agree on": agreement}
    )
    page.table([{"rule": rule, **numbers} for rule, numbers in figures.items()], caption="labels by rule")
    if near:
        page.section("Examples")
        colours.show_labels(page, rows[: len(near)], near)


def training(
    page: Page, trained: Trained, settings: Settings, train: Sequence[Row], validation: Sequence[Row]
) -> None:
    """Loss, validation by epoch, and what was left out."""
    ranks = trained.validation
    reached = (
        "" if ranks is None else f": recall@20 {ranks.recall[20]:.2f}, R-precision {ranks.r_precision:.2f}"
    )
    page.title = f"An extractor from {len(train):,} documents{reached}"
    page.figures(
        {
            "threshold (log-probability)": settings.tau,
            "epoch kept": trained.best_epoch,
            "documents trained on": len(train) - trained.dropped_train,
            "left out, no positive phrase": trained.dropped_train,
            "phrases beyond the encoder's reach": trained.unscored,
            **({} if ranks is None else {name: v for name, v in ranks.figures().items() if "@" in name}),
        }
    )
    records = trained.history.records
    smooth = [(r["step"], r["loss"]) for r in records if "loss" in r]
    step = max(1, len(smooth) // 200)
    means = [
        (smooth[i][0], float(np.mean([v for _, v in smooth[i : i + step]])))
        for i in range(0, len(smooth), step)
    ]
    page.section("Training")
    page.lines(
        {"training": means}, x_label="step", y_label="loss per token", caption="weighted cross entropy"
    )
    by_epoch = [record for record in records if "validation recall@20" in record]
    if by_epoch:
        lines = {
            name: [(record["epoch"], record[f"validation {name}"]) for record in by_epoch]
            for name in ("recall@20", "R-precision")
            if f"validation {name}" in by_epoch[0]
        }
        page.lines(lines, x_label="epoch", y_label="share", caption="on the validation documents")
    page.text(
        f"{trained.dropped_validation} of {len(validation)} validation documents have too few positive phrases to choose "
        f"the epoch by. Stop words and rule: {settings.reading.language}, {settings.reading.rule}."
    )


def scored(page: Page, rows: Iterable[Mapping[str, Any]], document_field: str, id_field: str) -> None:
    """Counts of all scored phrases, and some documents with theirs."""
    shown: list[tuple[str, str, Any]] = []
    names = ("documents", "phrases", "kept", "beyond the encoder's reach", "documents without a phrase")
    counts = dict.fromkeys(names, 0)
    for row in rows:
        kept = sum(phrase["kept"] for phrase in row["phrases"])
        unscored = sum(phrase["score"] is None for phrase in row["phrases"])
        for name, more in zip(names, (1, len(row["phrases"]), kept, unscored, int(not kept)), strict=True):
            counts[name] += more
        if len(shown) < SHOWN:
            shown.append((str(row[id_field]), row[document_field], row["phrases"]))
    page.title = f"{counts['documents']:,} documents scored"
    page.figures(counts)
    colours.show_scores(page, shown)


def _source(page: Page) -> str:
    """Beginning of the title when a simulator wrote the summaries."""
    return "SIMULATED: " if page.simulated else ""


def arm_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One table row per arm."""
    rows = []
    for name, arm in evaluation.arms.items():
        row: dict[str, Any] = {"arm": name}
        for kind, whats in LONG.items():
            row |= {f"{kind} {what}": arm.mean(f"{kind} {what}") for what in whats}
        for metric in (
            "words",
            "hints",
            "hint uptake",
            "added recall per hint",
            "copy rate",
            evaluation.faithfulness,
        ):
            row[metric] = arm.mean(metric) if metric in arm.values else None
        rows.append(row)
    return rows


def summaries(page: Page, rows: Sequence[Row], written: Sequence[Summary], evaluation: Evaluation) -> None:
    """Table of arms, differences, K curve and coloured documents."""
    base = "none" if "none" in evaluation.arms else next(iter(evaluation.arms))
    honest = [arm for arm in evaluation.arms.values() if arm.arm != "oracle"] or list(
        evaluation.arms.values()
    )
    page.title = f"{_source(page)}Summaries of {evaluation.documents:,} documents{_ahead(honest)}"
    page.figures(
        {
            "documents": evaluation.documents,
            **{
                f"ROUGE-1 F, {name}": arm.mean("ROUGE-1 F") for name, arm in list(evaluation.arms.items())[:4]
            },
            "prompts with a cut document": evaluation.cut_prompts,
            "summaries cut off": evaluation.cut_summaries,
            "missing summaries": sum(evaluation.faults.values()),
        }
    )
    page.section("Arms")
    page.table(
        arm_rows(evaluation),
        caption="means over documents, in points",
        best={"ROUGE-1 F": "max", "ROUGE-L F": "max"},
    )
    differences = []
    for name in evaluation.arms:
        if name != base:
            row: dict[str, Any] = {"arm": f"{name} - {base}"}
            for metric in ("ROUGE-1 recall", "ROUGE-1 precision", "ROUGE-1 F", "ROUGE-L F"):
                gap = evaluation.difference(name, base, metric)
                row[metric] = (gap.estimate, gap.low, gap.high)
            differences.append(row)
    if differences:
        page.table(differences, caption="differences paired by document, with 95% bootstrap intervals")
    _curve(page, evaluation)
    _checks(page, evaluation)
    arms = pair_up(rows, written)
    first = next(iter(arms.values()))
    page.section("Reading along")
    colours.show_summaries(page, [row for row in rows if row.id in first][:SHOWN], arms, evaluation.invented)


def _ahead(arms: Sequence[Arm]) -> str:
    """End of the title: which arms have the highest ROUGE-1 F, to the digits that the table shows."""
    scores = [round(arm.mean("ROUGE-1 F") or 0, 2) for arm in arms]
    best = [arm.name for arm, score in zip(arms, scores, strict=True) if score == max(scores)]
    if len(arms) < 2:
        return ""
    if len(best) == len(arms):
        return ": all arms have the same ROUGE-1 F"
    return f": best by ROUGE-1 F {'is' if len(best) == 1 else 'are'} {' and '.join(best)}"


def _curve(page: Page, evaluation: Evaluation) -> None:
    """ROUGE-1 against K, for arms with several of them."""
    for arm in dict.fromkeys(member.arm for member in evaluation.arms.values()):
        members = sorted(
            (member for member in evaluation.arms.values() if member.arm == arm), key=lambda member: member.k
        )
        if len(members) > 1:
            lines = {}
            for what in ("precision", "recall", "F"):
                intervals = [(member.k, member.interval(f"ROUGE-1 {what}")) for member in members]
                lines[what] = [(float(k), i.estimate, i.low, i.high) for k, i in intervals]
            page.lines(
                lines, x_label="K", y_label="ROUGE-1", caption=f"{arm}: the number of phrases as a dial"
            )


def _checks(page: Page, evaluation: Evaluation) -> None:
    """Faithfulness, inventions and missing summaries."""
    page.section("Checks")
    rows = [
        {
            "arm": name,
            evaluation.faithfulness: arm.mean(evaluation.faithfulness),
            "phrases that stand in the document": arm.mean("hint in source"),
            "summaries with invented names or numbers": arm.mean("summaries with inventions"),
        }
        for name, arm in evaluation.arms.items()
    ]
    page.table(rows, caption="faithfulness and inventions, in points")
    if evaluation.faithfulness == STAND_IN:
        page.text(
            "Token support counts content words and numbers that the document has too. It stands in for AlignScore, sees no "
            "negation and no wrong combination, and is no measure of truth. Name a checkpoint with `--faithfulness`."
        )
    if evaluation.faults:
        page.table(
            [{"fault": name, "summaries": n} for name, n in evaluation.faults.items()],
            caption="summaries that are missing; their documents are left out of every arm",
        )


def tuned(page: Page, result: Tuned, measured_by: str) -> None:
    """All trials, and the choice among them."""
    page.title = f"{_source(page)}K = {result.k} with percentile {result.percentile:g} has the best ROUGE-1 F"
    page.figures({"K": result.k, "percentile": result.percentile, "threshold": result.tau})
    page.table(result.tried, caption=f"ROUGE-1 in points, by {measured_by}", best={"F": "max"})
    for what in ("precision", "recall", "F"):
        lines = {
            f"percentile {p:g}": [
                (float(row["K"]), row[what]) for row in result.tried if row["percentile"] == p
            ]
            for p in dict.fromkeys(row["percentile"] for row in result.tried)
        }
        page.lines(lines, x_label="K", y_label=f"ROUGE-1 {what}", caption=what)
