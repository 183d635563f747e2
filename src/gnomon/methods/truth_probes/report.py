"""Report pages of the verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.metrics.ranking import Auc
from gnomon.core.report import Page
from gnomon.methods.truth_probes.answers.answers import Answer
from gnomon.methods.truth_probes.errors.choice import STRATEGIES, Choice
from gnomon.methods.truth_probes.errors.clusters import MEANINGS, TYPES, Typed, coverage
from gnomon.methods.truth_probes.probes.evaluation import Detector, Seeds
from gnomon.methods.truth_probes.probes.grid import Grid, Transfer

SHOWN = 12
"""Rows of examples, at most."""


def answers(page: Page, rows: Sequence[Answer], title: str) -> None:
    """Answers with their labels."""
    right = [answer.z for answer in rows]
    page.title = f"{title}: {sum(right):,} of {len(right):,} right"
    page.figures(
        {
            "answers": len(rows),
            "right": float(np.mean(right)),
            "cut off": sum(answer.finish == "length" for answer in rows),
        }
    )
    page.section("Answers")
    page.table([_row(answer) for answer in rows[:SHOWN]], caption="the first ones")


def extracted(page: Page, rows: Sequence[Answer], dropped: Mapping[str, Any], how: str) -> None:
    """Usable answers, and the shares left out of right and of wrong ones."""
    page.title = f"Exact answers: {dropped['usable']:,} of {dropped['answers']:,} found"
    page.figures(dropped)
    page.text(
        f"Found by `{how}`. Answers without an exact answer are left out of training and testing alike; the shares above tell "
        "whether right or wrong ones are left out more often."
    )
    page.table([_row(answer) for answer in rows[:SHOWN]], caption="the first ones")


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question[:160],
        "answer": answer.answer.strip()[:160],
        "exact answer": answer.exact_answer,
        "accepted": " | ".join(answer.gold[:3]),
        "right": answer.correct,
    }


def heatmap(page: Page, grid: Grid, caption: str = "AUC of a probe at each layer and token") -> None:
    """AUC by layer and token."""
    layer, position, value = grid.best()
    page.title = f"Errors are read best at layer {layer}, {position}: AUC {value:.2f}"
    page.figures({"best AUC": value, "layer": layer, "position": position, "answers": grid.n})
    draw_grid(page, grid, caption)
    page.table(grid.rows(), caption="the same as numbers")


def draw_grid(page: Page, grid: Grid, caption: str) -> None:
    """The heat map, the last layer on top."""
    page.heatmap(
        grid.auc[::-1].tolist(),
        x=list(grid.positions),
        y=[f"layer {layer}" for layer in reversed(grid.layers)],
        low=0.5,
        high=1.0,
        caption=caption,
    )


def detectors(
    page: Page, rows: Sequence[Detector], title: str, dropped: Mapping[str, Any], seeds: Seeds | None = None
) -> None:
    """Detectors on the same answers."""
    probe = next(detector for detector in rows if detector.name == "probe")
    best = max((detector.auc.value or 0.0 for detector in rows if detector.name != "probe"), default=0.0)
    page.title = title
    page.figures({"AUC of the probe": probe.auc.value, "best baseline": best, **dropped})
    if probe.auc.value is None:
        page.text("All tested answers are right, or all are wrong: the AUC is undefined.")
    if seeds is not None and seeds.mean is not None:
        page.text(
            f"Over {len(seeds.seeds)} splits of the questions the probe reaches an AUC of {seeds.mean:.3f} "
            f"(standard deviation {seeds.std:.3f}); layers chosen: {', '.join(map(str, seeds.layers))}."
        )
    page.section("Detectors")
    page.table(
        [detector.row for detector in rows],
        caption="AUC with its 95% bootstrap interval over questions",
        best={"AUC": "max"},
    )
    bars = {
        detector.name: {"AUC": detector.auc.cell} for detector in rows[:8] if detector.auc.cell is not None
    }
    if bars:
        page.bars(
            {"AUC": {name: row["AUC"] for name, row in bars.items()}},
            y_label="AUC",
            caption="the best detectors",
        )


def transfer(page: Page, matrix: Transfer, baseline: str) -> None:
    """The generalisation matrix, raw, either way, and over the baseline."""
    off = ~np.eye(len(matrix.tasks), dtype=bool)
    page.title = f"Transfer between {len(matrix.tasks)} tasks"
    page.figures(
        {
            "mean AUC, same task": float(np.nanmean(np.diag(matrix.auc))),
            "mean AUC, other task": float(np.nanmean(matrix.auc[off])),
            "mean gain over the baseline, other task": float(np.nanmean(matrix.gain[off])),
        }
    )
    page.text(
        "Rows are trained on, columns tested on. Between tasks of different kinds the direction may turn round: the raw AUC says "
        "whether a detector can be used as it is, and |AUC| only whether there is a common axis. What exceeds the model's own "
        "probabilities is transfer worth having."
    )
    draw_transfer(page, matrix, baseline)
    page.table(matrix.rows(), caption="all pairs")


def draw_transfer(page: Page, matrix: Transfer, baseline: str) -> None:
    """The three matrices."""
    names = list(matrix.tasks)
    page.heatmap(matrix.auc.tolist(), x=names, y=names, low=0.0, high=1.0, caption="AUC")
    page.heatmap(
        matrix.either_way.tolist(), x=names, y=names, low=0.5, high=1.0, caption="|AUC| = max(AUC, 1 - AUC)"
    )
    page.heatmap(
        matrix.gain.tolist(), x=names, y=names, caption=f"AUC less that of {baseline} on the tested task"
    )


def kinds(page: Page, typed: Sequence[Typed], rule: str) -> None:
    """Questions of each type."""
    share = coverage(typed)
    K = typed[0].counts.samples
    page.title = f"Kinds of errors on {len(typed):,} questions, {K} samples each"
    failed = sum(question.counts.failed for question in typed) / (K * len(typed))
    page.figures(
        {"questions": len(typed), "samples": K, "errors with a kind": share, "samples not located": failed}
    )
    rows: list[dict[str, Any]] = [
        {
            "type": kind,
            "meaning": MEANINGS[kind],
            "questions": (n := sum(kind in question.types for question in typed)),
            "share": n / len(typed),
        }
        for kind in TYPES
    ]
    page.table(rows, caption=f"types, which may overlap; thresholds: {rule}")
    page.bars(
        {"questions": {row["type"]: float(row["questions"]) for row in rows}},
        y_label="questions",
        caption="questions by type",
    )
    examples = [question for question in typed if question.types and question.wrong][:SHOWN]
    page.table(
        [
            {
                "question": question.id,
                "types": " ".join(question.types),
                "right": question.counts.correct,
                "wrong answers": ", ".join(f"{text} x{n}" for text, n in list(question.wrong.items())[:5]),
            }
            for question in examples
        ],
        caption="some questions",
    )


def types(page: Page, aucs: Mapping[str, Auc], typed: Sequence[Typed]) -> None:
    """AUC of each type, from the greedy answer's state."""
    page.title = "Kinds of errors from one hidden state"
    page.figures({f"AUC, {kind}": value.value for kind, value in aucs.items()})
    rows: list[dict[str, Any]] = [
        {
            "type": kind,
            "AUC": value.cell,
            "questions": value.n,
            "share of the type": value.base_rate,
            "std": value.std,
        }
        for kind, value in aucs.items()
    ]
    if not rows:
        page.text("No type has enough questions for a probe, and enough others beside it.")
        return
    page.table(
        rows, caption="each type against all others, or two types against each other; questions held out"
    )
    page.bars(
        {"AUC": {row["type"]: row["AUC"] for row in rows}},
        y_label="AUC",
        caption=f"AUC by type, {len(typed)} questions",
    )


def choice(page: Page, chosen: Choice, groups: Mapping[str, Sequence[int]]) -> None:
    """Bars of the strategies, over all questions and by type."""
    page.title = f"Which of many samples to give: the probe is right on {chosen.accuracy('probe'):.0%} of the questions"
    page.figures({name: chosen.accuracy(name) for name in STRATEGIES})
    draw_choice(page, chosen, groups)


def draw_choice(page: Page, chosen: Choice, groups: Mapping[str, Sequence[int]]) -> None:
    """Table and bars."""
    rows = [
        {
            "questions": name,
            "n": len(members),
            **{strategy: chosen.interval(strategy, members) for strategy in STRATEGIES},
        }
        for name, members in groups.items()
    ]
    page.table(rows, caption="share answered right, with 95% bootstrap intervals over questions")
    page.bars(
        {
            strategy: {name: chosen.interval(strategy, members) for name, members in groups.items()}
            for strategy in STRATEGIES
        },
        y_label="share answered right",
        caption="answer choice",
    )


def scored(page: Page, rows: Sequence[Mapping[str, Any]], total: int) -> None:
    """Scored answers and their mean P(right)."""
    chances = [row["p_right"] for row in rows if row["p_right"] is not None]
    page.title = f"{total:,} answers scored"
    page.figures({"answers": total, "mean P(right)": float(np.mean(chances)) if chances else None})
    columns = ["question", "completion", "exact_answer", "p_right"]
    page.table([dict(row) for row in rows[:SHOWN]], columns=columns, caption="the first ones")
