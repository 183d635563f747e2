"""The miniature's page: image tokens to explore, detection, places and erasure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.study import Results
from gnomon.methods.vl_lens import report as panels
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.lens.lens import lens
from gnomon.methods.vl_lens.mini.measures import Seen, Trial
from gnomon.methods.vl_lens.mini.models import PROMPT

Scores = Mapping[str, Mapping[str, list[float]]]

EXPLORED = 3
"""Scenes of the first seed that the page lets one explore."""


def write(page: Page, results: Results) -> None:
    """The whole page: scenes to explore, then tables and curves over all seeds."""
    _look_inside(page, results.shown["seen"])
    _numbers(page, dict(zip(results.seeds, results.kept["trials"], strict=True)), results.scores())


def _look_inside(page: Page, seen: Seen) -> None:
    """A few scenes to explore."""
    page.section("Look inside")
    page.text(
        "Scenes of the first seed. Nobody told the model which patch holds what: its image side learned from captions alone."
    )
    pictures = list(seen.pictures[:EXPLORED])
    read = lens(seen.handle, pictures, PROMPT, seen.vocabulary.names)
    for b, picture in enumerate(pictures):
        things = [o.name if o.contrast == 1 else f"{o.name}, faint" for o in seen.scenes[b].objects]
        panels.explore(page, read, b, picture, name=f"scene {b} ({'; '.join(things)})", lens="raw")


def _numbers(page: Page, trials: Mapping[int, Trial], scores: Scores) -> None:
    """Tables and curves over all seeds."""
    first = next(iter(trials.values()))
    page.figures(
        {
            "AUC, internal confidence": np.mean(
                scores["internal confidence"]["AUC of hallucinated mentions"]
            ),
            "AUC, output probability": np.mean(scores["output probability"]["AUC of hallucinated mentions"]),
            "mIoU": np.mean(scores["heat map"]["mIoU"]),
            "hallucinated removed": np.mean(scores["hallucinated"]["removed"]),
        }
    )
    page.section("Telling hallucinated mentions")
    counts = {name: sum(t.counts[name] for t in trials.values()) for name in first.counts}
    page.text(
        f"{counts['mentions']:,} mentions in captions of {counts['images']:,} test images, {counts['hallucinated']:,} of them "
        "hallucinated. In training a class brings its partner; in the test images it never does."
    )
    detectors = ("internal confidence", "output probability", "mean output probability")
    page.table(
        _rows(scores, detectors),
        caption="means over seeds with 95 % intervals",
        best={"AUC of hallucinated mentions": "max", "average precision": "max"},
    )
    curve = {
        f"seed {seed}": [(row["layer"], row["presence AUC"]) for row in trial.by_layer]
        for seed, trial in trials.items()
    }
    page.lines(
        curve,
        x_label="layer",
        y_label="presence AUC",
        caption="how well each layer tells which classes are in the image",
    )
    page.section("Where objects are")
    page.table(
        _rows(scores, ("heat map", "chance")),
        caption="clearly drawn objects; the mask is what lies above the heat map's mean",
    )
    page.section("Erasing")
    page.text(
        "Each mention is erased by itself. The setting is the one that removes most hallucinated mentions on one half of the "
        "images while it keeps 95 % of the other correct objects; the numbers are those of the other half."
    )
    page.table(
        _rows(scores, ("hallucinated", "correct", "random direction")),
        caption="chosen on one half, measured on the other; means over seeds with 95 % intervals",
    )
    page.table(
        [
            {"seed": seed, **t.sweep["chosen"], "within bound": t.sweep["within_bound"]}
            for seed, t in trials.items()
        ],
        caption="the chosen settings, on the half that chose",
    )
    _heat(page, first)
    if first.changes:
        words = Vocabulary.of(
            [
                [name]
                for name in {n for _, c in first.changes for n in (*c.removed, *c.kept, *c.new, *c.erased)}
            ]
        )
        panels.changes(
            page,
            first.changes[:12],
            words,
            caption="captions of the first seed with one hallucinated object erased",
        )


def _heat(page: Page, trial: Trial) -> None:
    """Removed and kept over both layers, at the chosen strength."""
    tried = [row for row in trial.sweep["tried"] if row["alpha"] == trial.sweep["chosen"]["alpha"]]
    text, edit = (sorted({row[name] for row in tried}) for name in ("text_layer", "edit_layer"))
    for name in ("removed_hallucinated", "kept"):
        value = {(row["text_layer"], row["edit_layer"]): row[name] for row in tried}
        page.heatmap(
            [[value[t, e] for e in edit] for t in text],
            x=[f"l_I {e}" for e in edit],
            y=[f"l_T {t}" for t in text],
            low=0.0,
            high=1.0,
            caption=f"{name.replace('_', ' ')} on the half that chose, first seed, alpha {trial.sweep['chosen']['alpha']:g}",
        )


def _rows(scores: Scores, arms: tuple[str, ...]) -> list[dict[str, object]]:
    rows = []
    for arm in arms:
        row: dict[str, object] = {"arm": arm}
        for metric, values in scores[arm].items():
            if not np.isfinite(values).all():  # too few mentions of a kind, as in a smoke run
                row[metric] = None
                continue
            interval = mean_interval(values)
            row[metric] = (interval.estimate, interval.low, interval.high)
        rows.append(row)
    return rows
