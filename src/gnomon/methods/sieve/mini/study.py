"""The miniature: how much a judge's label is worth when it is chosen by TRM, by uncertainty, at random, or not chosen at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.sieve.config import CLAIMS, Mini
from gnomon.methods.sieve.mini import report
from gnomon.methods.sieve.mini.comparisons import COMPARISONS, SCALES, Comparison, Scale, prepare
from gnomon.methods.sieve.mini.trial import ALL_LABELS, Trial

SHOWN = (100, 500, 800)
"""Numbers of labels at which arms are compared: after the last round that ends there or before."""

WHOLE = 800
"""Labels of the whole budget, after which claims compare finished filters."""

AT_ALL_SCALES = ("topics", "encoder")
"""Groups of comparisons that the smoke scale runs as well."""

ARM_NAMES = {"trm, halving": "trm halving", "trm, c = 1": "trm c=1"}
"""Arm -> its name in claims, where a comma would not do."""


def mini(cfg: Mini, run: Run) -> None:
    """Run the comparisons for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    groups = [name for name in cfg.parts if cfg.scale in STUDY.parts[name].scales]
    comparisons = [comparison for name in groups for comparison in COMPARISONS[name]]
    arms = sum(len(comparison.arms) for comparison in comparisons)
    return {
        "comparisons": [comparison.key for comparison in comparisons],
        "arms_per_seed": arms,
        "labels": arms * cfg.seeds * scale.budget,
        "judge": "rules of the miniature, nothing is asked of a language model",
    }


def _group(scale: Scale, seed: int, part: PartOfRun, out: Out, *, comparisons: Sequence[Comparison]) -> None:
    """All arms of some comparisons under one seed."""
    for comparison in comparisons:
        _compare(comparison, scale, part.within(comparison.key, part.rng.child("sieve")), out)


def _compare(comparison: Comparison, scale: Scale, part: PartOfRun, out: Out) -> None:
    """All arms of one comparison. A finished arm is read back."""
    # The corpus is a function of the seed; it is made once, by the first arm that is not done.
    shared = cache(lambda: prepare(comparison, scale, part.rng, part.folder / "model"))
    with part.progress(len(comparison.arms), "arms") as bar:
        for arm in comparison.arms:
            slug = arm.replace(", ", "-").replace(" = ", "").replace(" ", "-")
            run_arm = partial(_run_arm, shared, arm, part.folder / "scratch")
            measured = out.once(f"{comparison.key}/{slug}", run_arm)
            out.keep("measured", (comparison.key, arm, measured))
            part.log(arm=arm, **{k: v for k, v in measured.items() if k != "curve"})
            _score(comparison, arm, measured, out)
            bar.advance(1)


def _run_arm(shared: Callable[[], Trial], arm: str, scratch: Path) -> dict[str, Any]:
    return shared().run(arm, scratch)


def _score(comparison: Comparison, arm: str, measured: Mapping[str, Any], out: Out) -> None:
    """Score what claims name."""
    key = comparison.key
    suffix = {"topics": "", "gamma-5": ", miscalibrated student"}.get(key, f", {key}")
    name = ARM_NAMES.get(arm, arm)
    if arm == ALL_LABELS:
        out.score(name, f"AP{suffix}", measured["curve"][0]["AP"])
        return
    for labels in SHOWN:
        # A seed round that had to look for its first pass is longer, and the rounds behind it end later.
        at = [point for point in measured["curve"] if point["labels"] <= labels]
        if at:
            out.score(f"{name}@{labels}", f"AP{suffix}", at[-1]["AP"])
        else:
            out.undefine(
                f"{name}@{labels}", f"AP{suffix}", f"The seed round alone took more than {labels} labels."
            )
    accuracy = f"balanced accuracy{suffix}"
    out.score(f"{name}@{measured['labels']}", accuracy, measured["balanced accuracy"])
    if measured["labels"] != WHOLE:
        out.undefine(f"{name}@{WHOLE}", accuracy, f"The arm ended with {measured['labels']} labels.")
    out.score(name, f"pass share over base rate{suffix}", measured["pass share"] / measured["base rate"])


def _summary(results: Results) -> Mapping[str, Any]:
    """Measurements per seed and in the mean."""
    by_key = report.by_comparison(results)
    means = {key: {arm: _means(rows) for arm, rows in arms.items()} for key, arms in by_key.items()}
    note = "the judge is a rule of the miniature with planted error rates"
    return {"SIMULATED": note, "parts": by_key, "means": means}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over seeds of every plain number."""
    names = [name for name, value in rows[0].items() if isinstance(value, (int, float))]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


STUDY = Study(
    title="sieve in miniature, SIMULATED judge: what a chosen label is worth",
    claims=CLAIMS,
    scales=SCALES,
    parts={
        name: Part(
            partial(_group, comparisons=comparisons),
            scales=("smoke", "mini", "gpu") if name in AT_ALL_SCALES else ("mini", "gpu"),
        )
        for name, comparisons in COMPARISONS.items()
    },
    plan=_plan,
    page=report.write,
    summary=_summary,
    simulated=True,
)
