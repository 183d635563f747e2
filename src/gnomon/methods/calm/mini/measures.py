"""The miniature's studies: trained judges audited, candidates, quality gaps, and a noisy judge beside a biased one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core.llm.roles import Recording
from gnomon.core.rng import Rng
from gnomon.methods.calm.judging.audit import audit
from gnomon.methods.calm.judging.local import LogitJudge
from gnomon.methods.calm.measures.analysis import analyze
from gnomon.methods.calm.measures.profile import Cell, Profile
from gnomon.methods.calm.mini.world import CUES, SHARES, Scale, make_items, mini_cues, prompting
from gnomon.methods.calm.planted.study import (
    planted_judge,
    planted_judges,
    reference,
    short_cues,
    world_items,
)
from gnomon.methods.calm.planted.truth import pair_truth, turn_truth
from gnomon.methods.calm.stimuli.items import Item
from gnomon.methods.calm.stimuli.probes import chosen_probes
from gnomon.methods.calm.stimuli.rewrites import write

GAPS = (1.0, 2.0, 3.0, 4.0)
"""Mean margins of the study of quality gaps."""

QUIET, NOISY = {"sharpness": 4.0, "authority": 4.0}, {"sharpness": 0.2}
"""A judge that is sure of itself and biased, and one that is neither."""


@dataclass
class Trained:
    """Shifts and accuracy of the trained judges."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Judge by judge: cue, share of labels that follow it, accuracy, and the shift by every cue."""
    profiles: list[Profile] = field(default_factory=list)
    """Their profiles."""

    def shift(self, cue: str, share: float) -> float:
        """The shift by the cue a judge was trained on."""
        return float(next(row for row in self.rows if row["cue"] == cue and row["share"] == share)[cue][0])

    def smallest(self, share: float) -> float:
        """Smallest shift by the own cue over the cues."""
        return min(self.shift(str(row["cue"]), share) for row in self.rows if row["share"] == share)

    def growing(self) -> float:
        """Share of the cues whose shift grows with every step of the share."""
        cues = list(dict.fromkeys(row["cue"] for row in self.rows))
        return float(
            np.mean([bool(np.all(np.diff([self.shift(cue, share) for share in SHARES]) > 0)) for cue in cues])
        )

    def others(self) -> float:
        """Largest shift, either way, by a cue that a judge was not trained on."""
        return max(
            abs(float(row[cue][0]))
            for row in self.rows
            for cue in CUES
            if cue in row and (cue != row["cue"] or row["share"] == 0)
        )

    def accuracy(self) -> float:
        """Share right of the judge trained without a cue."""
        return float(next(row for row in self.rows if row["share"] == 0)["accuracy"][0])


def study_trained(
    judges: Mapping[tuple[str, float], Path], scale: Scale, rng: Rng, device: str = "auto"
) -> Trained:
    """Every trained judge, loaded from its folder, audited for every cue.

    Args:
        judges: as `train_judges` gives them.
        scale: sizes.
        rng: names the draws.
        device: where the judges run.
    """
    cues, probes, trained = mini_cues(), chosen_probes(CUES), Trained()
    pairs = make_items(scale.tested, scale.steps, rng.child("tested"))
    items = write(
        [*pairs, *(replace(item, set="fact") for item in pairs)], probes, cues, rng.child("rewrites")
    ).items
    profiles: dict[Path, Profile] = {}
    for (cue, share), folder in judges.items():
        if folder not in profiles:
            judge = LogitJudge(
                folder, prompting=prompting(), temperature=1.0, batch_size=64, device=device, name=folder.name
            )
            (profiles[folder],) = analyze(
                audit(judge, items, probes, cues=cues, rng=rng.child("audit", folder.name)), rng=rng
            )
        profile = profiles[folder]
        shifts = {name: cell.shift for name, cell in profile.headline().items()}
        bis = {f"BIS, {name}": cell.bis for name, cell in profile.headline().items()}
        accuracy = profile.sets["alignment"]["better answer preferred"]
        trained.rows.append({"cue": cue, "share": share, "accuracy": accuracy, **shifts, **bis})
    trained.profiles = list(profiles.values())
    return trained


@dataclass
class Qualitative:
    """Measures of the paper's qualitative claims, beside noise floors."""

    candidates: list[dict[str, Any]] = field(default_factory=list)
    """By number of candidates: RR and CR with and without a liking for the first slot, and what quadrature says."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """By quality gap: RR, BIS and shift of a cue of weight 1."""
    order: list[dict[str, Any]] = field(default_factory=list)
    """The noisy and the biased judge."""


def study_claims(scale: Scale, rng: Rng, run: Recording | None = None) -> Qualitative:
    """Candidates, gaps and order, all through prompts and replies of simulated judges.

    Args:
        scale: sizes.
        rng: names the draws.
        run: counts what the judges are asked; None: nobody does.
    """
    claims, n = Qualitative(), scale.candidates
    turned = world_items(n, rng.child("turned"), sets=("alignment",), candidates=4)
    for bonus in (0.0, 1.0):
        for cell in _audited({"position": bonus}, turned, ["position"], rng, run).cells:
            count = int(cell.more["candidates"])
            truth = turn_truth(count, bonus)
            claims.candidates.append(
                {
                    "candidates": count, "slot bonus": bonus, "RR": cell.rr, "CR": cell.cr, "BIS": cell.bis,
                    "first slot": cell.more["first slot"], "RR planted": truth.rr, "CR planted": truth.cr,
                }
            )  # fmt: skip
    for gap in GAPS:
        items = world_items(n, rng.child("gap", str(gap)), sets=("alignment",), mean=gap)
        cell = _authority(_audited({"authority": 1.0}, items, ["authority"], rng, run))
        truth_of_gap = pair_truth(gap, 1.0)
        claims.gaps.append(
            {
                "gap": gap, "RR": cell.rr, "BIS": cell.bis, "shift": cell.shift, "RR planted": truth_of_gap.rr,
                "BIS planted": truth_of_gap.bis, "shift planted": truth_of_gap.shift,
            }
        )  # fmt: skip
    items = world_items(n, rng.child("order"), sets=("alignment",))
    for name, planted in (("quiet and biased", QUIET), ("noisy and fair", NOISY)):
        cell = _authority(_audited(planted, items, ["authority"], rng, run))
        claims.order.append(
            {"judge": name, "RR": cell.rr, "CR": cell.cr, "BIS": cell.bis, "shift": cell.shift}
        )
    return claims


def _audited(
    planted: Mapping[str, float], items: Sequence[Item], names: Sequence[str], rng: Rng, run: Recording | None
) -> Profile:
    cues, probes = short_cues(), chosen_probes(names)
    written = write(items, probes, cues, rng.child("rewrites")).items
    with planted_judges({"judge": reference(**planted)}, run) as models:
        judge = planted_judge(models, "judge")
        verdicts = audit(judge, written, probes, cues=cues, rng=rng.child("audit", str(dict(planted))))
    (profile,) = analyze(verdicts, rng=rng)
    return profile


def _authority(profile: Profile) -> Cell:
    """The cell of a source behind the worse answer, which is what quadrature is given for."""
    return next(
        cell for cell in profile.cells if cell.probe == "authority" and cell.condition.endswith("worse")
    )
