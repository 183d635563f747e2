"""Position: the same answers in every rotation, beside as many draws without any, and what the slots themselves attract."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.stats import mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.methods.calm.agreement import UNPARSED, Codes, Estimates, Floats, proportion


@dataclass(frozen=True)
class Turned:
    """What turning the candidates shows."""

    rr: Estimates
    """Share of the items with the same verdict in all rotations."""
    cr: Estimates | None
    """Its floor: share with the same verdict in as many plain draws. It falls with the number of candidates by itself."""
    bis: Estimates | None
    """CR - RR."""
    pairwise: Estimates
    """Agreement of two rotations, over all pairs of them."""
    first: Estimates
    """Share of the decisive verdicts for the first slot; 1 / candidates without a slot effect."""
    effect: Floats
    """The first slot's advantage in log-odds."""
    p: Floats
    """p-value of either a liking for a slot or a loss of consistency; exact with two candidates."""
    discordant: Floats
    """Variance of an item's share of choices for the first slot when slots do not matter: what a test of position lives on."""
    n: NDArray[np.int64]
    """Items with a verdict in every rotation."""


def measure_rotations(
    turned: Codes, plain: Codes | None, candidates: int, *, rng: Rng | None = None
) -> Turned:
    """What turning shows.

    Args:
        turned: verdicts in every rotation, `[C, ..., N]`, where an answer is told by its slot in rotation 0; rotation r has the
            answer of slot r first.
        plain: independent verdicts without turning, `[C, ..., N]`; None: no noise floor.
        candidates: C.
        rng: of the bootstrap over items.

    Source: position bias, section on metrics; the conditional logistic regression of two rotations has the closed form used here.
    """
    same, read = _unanimous(turned)
    counts, decisive = np.zeros(turned.shape[1:]), np.zeros(turned.shape[1:])
    for rotation, row in enumerate(turned):
        counts += row == rotation
        decisive += row >= 0
    complete = (decisive == candidates).astype(np.float64)
    excess, spread = (counts - 1) * complete, _shuffled_variance(turned) * complete
    p_slot = _slot_test(excess, spread, candidates)
    pairwise = Estimates(*ratio_intervals(*_pairs(turned), rng=rng))
    first = Estimates(*ratio_intervals(counts, decisive, rng=rng))
    discordant = spread.sum(-1) / np.maximum(complete.sum(-1), 1) / candidates**2
    told = {
        "pairwise": pairwise,
        "first": first,
        "effect": slot_effect(counts, complete, candidates),
        "discordant": discordant,
        "n": read.sum(-1).astype(np.int64),
    }
    rr = proportion(same, read)
    if plain is None:
        return Turned(rr=rr, cr=None, bis=None, p=p_slot, **told)
    still, seen = _unanimous(plain)
    both = read * seen
    bis = Estimates(*ratio_intervals((still - same) * both, both, rng=rng))
    lost = (still - same) * both
    p_bis = np.where(bis.value > 0, mcnemar((lost < 0).sum(-1), (lost > 0).sum(-1)), 1.0)
    p = np.minimum(1.0, 2 * np.minimum(p_slot, p_bis))
    return Turned(rr=rr, cr=proportion(still * both, both), bis=bis, p=p, **told)


def slot_effect(counts: Floats, complete: Floats, candidates: int) -> Floats:
    """The first slot's advantage in log-odds, from how often each item chose it over its rotations.

    With two candidates: half of the log ratio of items that chose the first slot twice to those that never did, which is the
    conditional logistic regression with a term for every item. With more: the log-odds of the first slot over all rotations less
    those of chance, which an effect of the same size moves less. One half is added to both counts, so that it is finite.
    """
    if candidates == 2:
        often = ((counts == 2) * complete).sum(-1) + 0.5
        never = ((counts == 0) * complete).sum(-1) + 0.5
        return np.asarray(0.5 * np.log(often / never))
    chosen = (counts * complete).sum(-1) + 0.5
    other = ((candidates - counts) * complete).sum(-1) + 0.5
    return np.asarray(np.log(chosen / other) + np.log(candidates - 1))


def _shuffled_variance(turned: Codes) -> Floats:
    """Variance of an item's number of choices of the first slot, were its verdicts dealt to the rotations at random; the mean is 1.

    With k of C verdicts for each answer it is (C^2 - sum of k^2) / (C (C - 1)).
    """
    candidates = len(turned)
    squares = sum((turned == slot).sum(0).astype(np.float64) ** 2 for slot in range(candidates))
    return np.asarray((candidates**2 - squares) / (candidates * (candidates - 1)))


def _slot_test(excess: Floats, spread: Floats, candidates: int) -> Floats:
    """p-value of choices of the first slot beyond one an item, if slots do not matter.

    With two candidates McNemar's exact test. With more an item's number of such choices is skewed, so that signs tell nothing;
    verdicts may then be dealt to the rotations at random, and the sum over items is about normal.
    """
    if candidates == 2:
        return np.asarray(mcnemar((excess < 0).sum(-1), (excess > 0).sum(-1)))
    from scipy.stats import norm

    width = np.sqrt(spread.sum(-1))
    z = np.divide(excess.sum(-1), width, out=np.zeros_like(width), where=width > 0)
    return np.asarray(2 * norm.sf(np.abs(z)))


def _unanimous(verdicts: Codes) -> tuple[Floats, Floats]:
    read = np.asarray((verdicts > UNPARSED).all(0))
    same = np.asarray((verdicts == verdicts[0]).all(0))
    return (same & read).astype(np.float64), read.astype(np.float64)


def _pairs(turned: Codes) -> tuple[Floats, Floats]:
    top: Floats = np.zeros(turned.shape[1:])
    bottom: Floats = np.zeros(turned.shape[1:])
    for i in range(len(turned)):
        for j in range(i):
            both = (turned[i] > UNPARSED) & (turned[j] > UNPARSED)
            top = top + ((turned[i] == turned[j]) & both)
            bottom = bottom + both
    return np.asarray(top), np.asarray(bottom)
