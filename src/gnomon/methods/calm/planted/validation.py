"""Validation on planted biases, many audits at once in arrays: coverage of intervals, and share of false flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnomon.core.metrics.stats import benjamini_hochberg
from gnomon.core.rng import Rng
from gnomon.methods.calm.measures.agreement import Codes, Estimates, Floats, Measured, measure
from gnomon.methods.calm.measures.cells import measure_rotations
from gnomon.methods.calm.measures.profile import ALPHA
from gnomon.methods.calm.measures.ratings import error_rate, self_effect
from gnomon.methods.calm.planted.truth import pair_truth, score_truth, sigmoid, turn_truth

PLANTED: Mapping[str, float] = {
    "verbosity": 1.0, "compassion-fade": 0.5, "bandwagon": 2.0, "distraction": -0.5, "authority": 1.0, "sentiment": -1.0,
    "diversity": -0.5,
}  # fmt: skip
"""Bias -> weight of its cue, which speaks for the worse answer."""

SLOT, LOGIC, BONUS, NOISE, LEVEL = 1.0, 2.0, 0.5, 1.0, 5.5
"""Weight of the first slot; what a fallacy takes away; points for one's own; spread of scores; mean score."""

JUDGES = 3


@dataclass(frozen=True)
class Covered:
    """One quantity of one bias over many audits."""

    probe: str
    quantity: str
    """Name of the estimate, such as RR or shift."""
    truth: float
    """Planted value, by quadrature."""
    mean: float
    """Mean estimate."""
    coverage: float
    """Share of the audits whose 95% interval covers the truth."""


@dataclass
class Validation:
    """Coverage and flags over many audits."""

    covered: list[Covered] = field(default_factory=list)
    """Every quantity."""
    flagged_null: float = 0.0
    """Share of the cells of an unbiased judge that are flagged, each as a family of its own."""
    any_flagged_null: float = 0.0
    """Share of the audits of an unbiased judge with any flag when all biases are one family of tests."""
    flagged_own: dict[str, float] = field(default_factory=dict)
    """Bias -> share of the audits in which its planted cue is flagged."""
    flagged_other: dict[str, float] = field(default_factory=dict)
    """Bias -> share of the other cells that are flagged when this one is planted."""

    def rows(self) -> list[dict[str, Any]]:
        """The quantities as rows of a table."""
        return [vars(row) for row in self.covered]

    @property
    def smallest_coverage(self) -> float:
        """Of all quantities."""
        return min(row.coverage for row in self.covered)


def validate(audits: int, n: int, rng: Rng) -> Validation:
    """Planted biases of every probe, `audits` times with `n` items each.

    Args:
        audits: simulated audits of each bias.
        n: items of each.
        rng: names the draws.
    """
    validation = Validation()
    draw = rng.child("audits").numpy()
    for name, weight in PLANTED.items():
        _cover_pair(validation, name, weight, draw, audits, n, rng)
    _cover_fallacy(validation, draw, audits, n, rng)
    _cover_slots(validation, draw, audits, n, rng)
    _cover_scores(validation, draw, audits, n, rng)
    validation.flagged_null, validation.any_flagged_null, _ = _flags(draw, audits, n, {}, rng)
    for name, weight in PLANTED.items():
        _, _, flagged = _flags(draw, audits, n, {name: weight}, rng)
        index = list(PLANTED).index(name)
        validation.flagged_own[name] = float(flagged[:, index].mean())
        validation.flagged_other[name] = float(np.delete(flagged, index, 1).mean())
    return validation


def judged(margins: Floats, draw: np.random.Generator, added: float | Floats = 0.0) -> Codes:
    """Verdicts of a logistic judge: 0 where it prefers the better answer, else 1."""
    return (draw.random(margins.shape) >= sigmoid(margins + added)).astype(np.int64)


def _margins(draw: np.random.Generator, audits: int, n: int) -> Floats:
    return np.asarray(draw.normal(1.0, 1.0, (audits, n)))


def _note(
    validation: Validation, probe: str, quantity: str, truth: float, estimate: Estimates | None
) -> None:
    assert estimate is not None
    inside = (estimate.low <= truth) & (truth <= estimate.high)
    validation.covered.append(
        Covered(probe, quantity, truth, float(estimate.value.mean()), float(inside.mean()))
    )


def _cover_pair(
    validation: Validation, name: str, weight: float, draw: np.random.Generator, audits: int, n: int, rng: Rng
) -> None:
    margins = _margins(draw, audits, n)
    seen = measure(judged(margins, draw), [judged(margins, draw)], judged(margins, draw, -weight), 1, rng=rng)
    truth = pair_truth(1.0, weight)
    for quantity, value, estimate in (
        ("RR", truth.rr, seen.rr),
        ("BIS", truth.bis, seen.bis),
        ("shift", truth.shift, seen.shift),
    ):
        _note(validation, name, quantity, value, estimate)


def _cover_fallacy(validation: Validation, draw: np.random.Generator, audits: int, n: int, rng: Rng) -> None:
    margins = _margins(draw, audits, n)
    changed = judged(margins, draw, -LOGIC)
    seen = measure(judged(margins, draw), [judged(margins, draw)], changed, 1, flips_to=1, rng=rng)
    plain, moved = pair_truth(1.0, 0.0), pair_truth(1.0, LOGIC)
    rr = 1 - pair_truth_share(1.0) + moved.shift
    _note(validation, "fallacy-oversight", "RR", rr, seen.rr)
    _note(validation, "fallacy-oversight", "BIS", plain.cr - rr, seen.bis)


def pair_truth_share(mean: float) -> float:
    """Share of plain verdicts for the better answer: half of what a cue of endless weight for the worse one would take."""
    return pair_truth(mean, 1e3).shift


def _cover_slots(validation: Validation, draw: np.random.Generator, audits: int, n: int, rng: Rng) -> None:
    for candidates in (2, 3, 4):
        turned, plain = turned_verdicts(draw, (audits, n), candidates, SLOT)
        seen = measure_rotations(turned, plain, candidates, rng=rng)
        truth = turn_truth(candidates, SLOT)
        name = f"position, {candidates} candidates"
        _note(validation, name, "RR", truth.rr, seen.rr)
        _note(validation, name, "BIS", truth.cr - truth.rr, seen.bis)
        _note(validation, name, "first slot", truth.first, seen.first)


def turned_verdicts(
    draw: np.random.Generator, shape: tuple[int, int], candidates: int, bonus: float
) -> tuple[Codes, Codes]:
    """Verdicts of a softmax judge with a bonus for the first slot: in every rotation, and in as many plain draws, `[C, S, N]`."""
    utilities = np.zeros((candidates, *shape))
    start = np.arange(shape[1]) % 2  # the better answer stands first in half of the items
    np.put_along_axis(utilities, np.broadcast_to(start, shape)[None], draw.normal(1.0, 1.0, shape)[None], 0)

    def chosen(first: int) -> Codes:
        shown = utilities.copy()
        shown[first] += bonus
        return np.asarray(np.argmax(shown + draw.gumbel(size=shown.shape), 0))

    return np.stack([chosen(r) for r in range(candidates)]), np.stack([chosen(0) for _ in range(candidates)])


def _cover_scores(validation: Validation, draw: np.random.Generator, audits: int, n: int, rng: Rng) -> None:
    quality = draw.normal(0.0, 0.7, (audits, n, 1, JUDGES))  # by author
    leniency = np.linspace(-0.4, 0.4, JUDGES)[:, None]
    own = BONUS * np.eye(JUDGES)
    raw = LEVEL + quality + leniency + own + draw.normal(0.0, NOISE, (audits, n, JUDGES, JUDGES))
    scores = np.clip(np.round(raw), 1, 10)
    spread = float(np.hypot(0.7, NOISE))
    means = np.array(
        [
            [score_truth(LEVEL + float(leniency[j, 0]) + BONUS * (j == a), spread) for a in range(JUDGES)]
            for j in range(JUDGES)
        ]
    )
    effect = (np.trace(means) - means.sum() / JUDGES) / (JUDGES - 1)
    _note(validation, "self-enhancement", "bonus, in points", float(effect), self_effect(scores, rng=rng))
    others = scores[:, :, 1:, 0].mean(-1)
    rate = means[0, 0] / means[1:, 0].mean() - 1
    _note(
        validation,
        "self-enhancement",
        "error rate",
        float(rate),
        error_rate(scores[:, :, 0, 0], others, rng=rng).rate,
    )
    base = LEVEL + draw.normal(0.0, 0.7, (audits, n))
    alone, shown = (
        np.clip(np.round(base + more + draw.normal(0.0, NOISE, (audits, n))), 1, 10) for more in (0.0, -BONUS)
    )
    rate = score_truth(LEVEL - BONUS, spread) / score_truth(LEVEL, spread) - 1
    _note(validation, "refinement-aware", "error rate", float(rate), error_rate(shown, alone, rng=rng).rate)


def _flags(
    draw: np.random.Generator, audits: int, n: int, planted: Mapping[str, float], rng: Rng
) -> tuple[float, float, np.ndarray]:
    """Share of cells flagged each by itself; with all biases as one family, share of audits with any flag, and all flags `[S, K]`.

    All probes of an audit share their plain verdicts, as in a real one.
    """
    margins = _margins(draw, audits, n)
    plain, again = judged(margins, draw), judged(margins, draw)
    seen: list[Measured] = [
        measure(plain, [again], judged(margins, draw, -planted.get(name, 0.0)), 1, rng=rng)
        for name in PLANTED
    ]
    p = np.stack([measured.p for measured in seen], -1)
    flagged = benjamini_hochberg(p) < ALPHA
    return float((p < ALPHA).mean()), float(flagged.any(-1).mean()), np.asarray(flagged)
