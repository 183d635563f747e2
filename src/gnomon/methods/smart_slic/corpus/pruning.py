"""Papers that are not about the core's subject, found by their vectors; each with a score and a reason, none deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

Floats = NDArray[np.float64]
Rule = Literal["relative", "knn", "centroid"]
RULES = ("relative", "knn", "centroid")

INCOHERENT = 0.95
"""Spread of the core, as a share of the pool's, from which the core is not one subject. See docs/design/smart-slic.md."""


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """How papers are told from the core's subject."""

    rule: Rule = "relative"
    """relative: nearness to the core less that to a sample of the pool; knn: nearness to the core; centroid: the paper's rule."""
    neighbours: int = 5
    """Nearest papers that are looked at."""
    background: int = 300
    """relative: papers of the pool that are drawn."""
    quantile: float = 0.05
    """relative, knn: share of the core that the threshold would drop, each core paper left out in turn."""
    deviations: float = 3.0
    """centroid: standard deviations above the core's mean distance that are kept."""
    leave_one_out: bool = False
    """centroid: a core paper's distance is that to the centroid of the others; the paper counts it in, which is optimistic."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise BadConfig(f'rule must be {", ".join(RULES)}; got "{self.rule}".')
        if self.neighbours < 1 or self.background < 1 or not 0 <= self.quantile < 1 or self.deviations < 0:
            raise BadConfig("neighbours and background must be >= 1, quantile in [0, 1), deviations >= 0.")


@dataclass(frozen=True)
class Decision:
    """What became of a paper."""

    id: str
    status: Literal["core", "kept", "dropped"]
    score: float
    """Higher is nearer to the core; of `centroid` the distance with its sign turned."""
    reason: str
    """In words, with the score and the threshold."""


@dataclass(frozen=True)
class Pruned:
    """All papers with what became of them."""

    decisions: tuple[Decision, ...]
    """In the order of the papers."""
    threshold: float
    coherence: float
    """Spread of the core as a share of the pool's: near 1, the core is as mixed as the pool."""
    warning: str
    """Why the core is not to be trusted as one subject; empty where it is."""

    @property
    def kept(self) -> list[str]:
        """Ids of the core and of what was kept."""
        return [d.id for d in self.decisions if d.status != "dropped"]


def prune(
    ids: Sequence[str],
    vectors: Floats,
    core: Sequence[str],
    options: PruneOptions | None = None,
    *,
    rng: Rng | None = None,
) -> Pruned:
    """Decide for each paper whether it is about the core's subject; core papers always stay.

    Args:
        ids: of papers.
        vectors: [N, D] of unit length, of title and abstract.
        core: ids of the core, at least `neighbours` + 1.
        options: the rule.
        rng: draws the background.

    Raises:
        BadInput: a core paper has no vector, or there are too few of them or of others.
    """
    options = options or PruneOptions()
    place_of = {name: i for i, name in enumerate(ids)}
    if missing := [name for name in core if name not in place_of]:
        raise BadInput(f'The core paper "{missing[0]}" is not in the corpus.')
    inside = np.array(sorted({place_of[name] for name in core}), np.int64)
    outside = np.setdiff1d(np.arange(len(ids)), inside)
    if len(inside) <= options.neighbours or not len(outside):
        raise BadInput(
            f"Pruning needs more than {options.neighbours} core papers and others beside them; "
            f"got {len(inside)} and {len(outside)}."
        )
    unit = np.asarray(vectors, np.float64)
    if options.rule == "centroid":
        scores, threshold = _centroid(unit, inside, options)
    else:
        scores = _nearness(unit, inside, options.neighbours)
        if options.rule == "relative":
            draw = (rng or Rng(0)).child("background").numpy()
            sample = np.sort(draw.choice(outside, min(options.background, len(outside)), replace=False))
            scores = scores - _nearness(unit, sample, options.neighbours)
        threshold = float(np.quantile(scores[inside], options.quantile))
    what = {
        "relative": "nearness to the core less nearness to the background",
        "knn": "mean cosine to the nearest core papers",
        "centroid": "distance to the core's centroid, with its sign turned,",
    }[options.rule]
    is_core = np.isin(np.arange(len(ids)), inside)
    decisions = []
    for i, name in enumerate(ids):
        stays = bool(scores[i] >= threshold)
        status: Literal["core", "kept", "dropped"] = "core" if is_core[i] else "kept" if stays else "dropped"
        side = "at least" if stays else "below"
        reason = f"{options.rule}: {what} {scores[i]:.3f} is {side} {threshold:.3f}"
        decisions.append(Decision(name, status, float(scores[i]), "core paper" if is_core[i] else reason))
    coherence = _spread(unit[inside]) / _spread(unit)
    warning = (
        f"The core is not coherent: its papers lie {coherence:.0%} as far apart as those of the whole pool. Nothing can be told "
        "from a subject that it does not have; choose core papers of one topic, or look at the decisions by hand."
        if coherence >= INCOHERENT
        else ""
    )
    return Pruned(tuple(decisions), threshold, coherence, warning)


def _nearness(unit: Floats, to: NDArray[np.int64], k: int) -> Floats:
    """Mean cosine of every paper to the k nearest of some; a paper is no neighbour of itself."""
    cosines = unit @ unit[to].T
    cosines[to, np.arange(len(to))] = -np.inf
    k = min(k, len(to) - 1) or 1
    nearest: Floats = np.partition(cosines, -k, axis=1)[:, -k:].mean(1)
    return nearest


def _centroid(unit: Floats, inside: NDArray[np.int64], options: PruneOptions) -> tuple[Floats, float]:
    centre = unit[inside].mean(0)
    distances = np.linalg.norm(unit - centre, axis=1)
    of_core = distances[inside]
    if options.leave_one_out:
        others = (centre * len(inside) - unit[inside]) / (len(inside) - 1)
        of_core = np.linalg.norm(unit[inside] - others, axis=1)
    return -distances, -float(of_core.mean() + options.deviations * of_core.std())


def _spread(unit: Floats) -> float:
    """Mean distance to the centroid of the others."""
    n = len(unit)
    others = (unit.sum(0) - unit) / (n - 1)
    return float(np.linalg.norm(unit - others, axis=1).mean())
