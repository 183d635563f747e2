"""The miniature: how much a judge's label is worth when it is chosen by TRM, by uncertainty, at random, or not chosen at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.study import write_summary
from gnomon.methods.sieve.config import CLAIMS, Mini
from gnomon.methods.sieve.mini import report
from gnomon.methods.sieve.mini.parts import PARTS, SCALES, Part, Scale, trial
from gnomon.methods.sieve.mini.trial import ALL_LABELS

SHOWN = (100, 500, 800)
"""Numbers of labels at which arms are compared: after the last round that ends there or before."""


@dataclass
class Findings:
    """What all seeds brought."""

    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Arm (with its number of labels) -> metric -> per seed a number, as claims name them."""
    parts: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """Comparison -> arm -> what was measured, per seed."""

    def add(self, arm: str, metric: str, value: float) -> None:
        """One seed's score."""
        self.scores.setdefault(arm, {}).setdefault(metric, []).append(value)


def mini(cfg: Mini, run: Run) -> None:
    """Run the comparisons for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    parts = [part for name in cfg.parts for part in PARTS[name] if scale.rounds > 2 or part.key in _SMOKE]
    arms = sum(len(part.arms) for part in parts)
    run.plan(
        seeds=list(seeds),
        comparisons=[part.key for part in parts],
        arms_per_seed=arms,
        labels=arms * cfg.seeds * scale.budget,
        judge="rules of the miniature, nothing is asked of a language model",
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "sieve in miniature, SIMULATED judge: what a chosen label is worth"
    run.page.simulated = True
    found = Findings()
    for part in parts:
        for seed in seeds:
            _run_part(part, scale, seed, run, found)
    verdicts = [
        decide(found.scores, claim)
        for claim in CLAIMS
        if cfg.scale != "smoke" and claim.comparison.metric in found.scores.get(claim.comparison.left, {})
    ]
    run.page.verdicts(verdicts)
    report.write(run.page, {part.key: part for part in parts}, found.parts)
    write_summary(run, cfg, scale, verdicts, _summary(found), "--parts", *cfg.parts)


_SMOKE = ("topics", "encoder")
"""Comparisons that the smoke scale runs."""


def _run_part(part: Part, scale: Scale, seed: int, run: Run, found: Findings) -> None:
    """All arms of a comparison under one seed. A finished arm is read back."""
    place = run.within(f"seed-{seed}/{part.key}")
    place.folder.mkdir(parents=True, exist_ok=True)
    shared = None
    with run.progress(len(part.arms), place.name) as bar:
        for arm in part.arms:
            done = place.folder / f"{arm.replace(', ', '-').replace(' = ', '').replace(' ', '-')}.json"
            if not done.exists():
                # The corpus is a function of the seed; it is made once, by the first arm that is not done.
                shared = shared or trial(part, scale, Rng(seed).child("sieve"), place.folder / "model")
                write_json(done, shared.run(arm, place.folder / "scratch"))
            measured = json.loads(done.read_text("utf-8"))
            found.parts.setdefault(part.key, {}).setdefault(arm, []).append(measured)
            place.log(arm=arm, **{k: v for k, v in measured.items() if k != "curve"})
            _score(part, arm, measured, found)
            bar.advance(1)


def _score(part: Part, arm: str, measured: Mapping[str, Any], found: Findings) -> None:
    """Enter what claims name."""
    suffix = {"topics": "", "gamma-5": ", miscalibrated student"}.get(part.key, f", {part.key}")
    name = ARM_NAMES.get(arm, arm)
    if arm == ALL_LABELS:
        found.add(name, f"AP{suffix}", measured["curve"][0]["AP"])
        return
    for labels in SHOWN:
        # A seed round that had to look for its first pass is longer, and the rounds behind it end later.
        at = [point for point in measured["curve"] if point["labels"] <= labels]
        if at:
            found.add(f"{name}@{labels}", f"AP{suffix}", at[-1]["AP"])
    last = f"{name}@{measured['labels']}"
    found.add(last, f"balanced accuracy{suffix}", measured["balanced accuracy"])
    found.add(name, f"pass share over base rate{suffix}", measured["pass share"] / measured["base rate"])


ARM_NAMES = {"trm, halving": "trm halving", "trm, c = 1": "trm c=1"}
"""Arm -> its name in claims, where a comma would not do."""


def _summary(found: Findings) -> dict[str, Any]:
    """What came out, per seed and in the mean."""
    means = {key: {arm: _means(rows) for arm, rows in arms.items()} for key, arms in found.parts.items()}
    told = "the judge is a rule of the miniature with planted error rates"
    return {"SIMULATED": told, "parts": found.parts, "means": means}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over seeds of every plain number."""
    names = [name for name, value in rows[0].items() if isinstance(value, (int, float))]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}
