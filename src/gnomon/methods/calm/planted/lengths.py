"""Judges that look at length, planted on the answers of real pairs: whether their shift is none at equal length.

A pair's worse answer is rewritten: it gets longer by sentences of other answers, and shows a cue. A judge prefers it with a
probability that depends on the lengths of both answers, on how much better the other one is, and on the cue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gnomon.core.rng import Rng
from gnomon.methods.calm.measures.agreement import Floats
from gnomon.methods.calm.measures.lengths import LengthModel, Pairs
from gnomon.methods.calm.planted.truth import sigmoid

DRIFTS = {"1.0 to 1.3": (1.0, 1.3), "1.0 to 2.1": (1.0, 2.1), "about 2.1": (2.0, 2.2)}
"""How much longer the rewrites are, in words."""

UNITS = ("words", "characters")

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")

Chance = Callable[[Floats, Floats, float], Floats]
"""(lengths of the cued and the other answer in one unit `[N, 2]`, margins of the other one `[N]`, cue) -> P(cued is preferred)."""


def _longer(lengths: Floats) -> Floats:
    return (lengths[:, 0] > lengths[:, 1]).astype(np.float64)


def _doublings(lengths: Floats) -> Floats:
    return np.asarray(np.log2(lengths[:, 0] / lengths[:, 1]))


def _relative(lengths: Floats) -> Floats:
    """Difference over the median length, which is about what a judge that counts would see."""
    return np.asarray((lengths[:, 0] - lengths[:, 1]) / np.median(lengths))


BY_LENGTH: dict[str, Chance] = {
    "always the longer": lambda lengths, margins, cue: _longer(lengths),
    "always the shorter": lambda lengths, margins, cue: 1 - _longer(lengths),
    "sigmoid(2 x doublings)": lambda lengths, margins, cue: sigmoid(2 * _doublings(lengths)),
    "sigmoid(6 x doublings)": lambda lengths, margins, cue: sigmoid(6 * _doublings(lengths)),
    "sigmoid(5 x difference)": lambda lengths, margins, cue: sigmoid(5 * _relative(lengths)),
    "only if 1.2 times as long": lambda lengths, margins, cue: _longer(lengths * np.array([1, 1.2])),
    "quality and 3 x doublings": lambda lengths, margins, cue: sigmoid(3 * _doublings(lengths) - margins),
}
"""Judges without a bias beside length."""

WITH_CUE: dict[str, Chance] = {
    "the longer, or the cue in a quarter": lambda lengths, margins, cue: np.maximum(
        _longer(lengths), 0.25 * cue
    ),
    "quality, 3 x doublings, cue for": lambda lengths, margins, cue: sigmoid(
        3 * _doublings(lengths) - margins + cue
    ),
    "quality, 3 x doublings, cue against": lambda lengths, margins, cue: sigmoid(
        3 * _doublings(lengths) - margins - cue
    ),
}
"""Judges with a bias beside length."""

WITHOUT_LENGTH: dict[str, Chance] = {
    "quality": lambda lengths, margins, cue: sigmoid(-margins),
    "quality, cue for": lambda lengths, margins, cue: sigmoid(cue - margins),
    "quality that goes with length": lambda lengths, margins, cue: sigmoid(-margins),
}
"""Judges that do not look at length; of the last, longer answers are better by half a unit per standard deviation."""


@dataclass(frozen=True)
class Held:
    """One planted judge over many audits."""

    judge: str
    unit: str
    """What it measures length in; empty where it does not look at it."""
    drift: str
    """How much longer the rewrites are."""
    raw: float
    """Mean shift of the compared items as it is."""
    truth: float
    """Shift at equal length that is planted in them."""
    mean: float
    """Mean estimate of it."""
    coverage: float
    """Share of the audits whose interval holds the truth, of those that could hold length equal."""
    off_zero: float
    """Share whose interval leaves out 0: power where there is a bias, false alarms where there is none."""
    compared: float
    """Mean number of items compared."""
    smallest: float
    """Mean of the smallest shift found with power 0.8."""
    cannot: float
    """Share of the audits that say that length cannot be held equal."""


def plant_lengths(
    pairs: Sequence[tuple[str, str]], audits: int, n: int, rng: Rng, drifts: Sequence[str] = tuple(DRIFTS)
) -> Iterator[Held]:
    """Every planted judge, audited many times.

    Args:
        pairs: better and worse answers.
        audits: simulated audits of each judge.
        n: items of each audit, drawn from the pairs.
        rng: names the draws.
        drifts: names of `DRIFTS`.
    """
    groups = ((BY_LENGTH, UNITS), (WITH_CUE, UNITS), (WITHOUT_LENGTH, ("",)))
    for drift in drifts:
        # Rewrites are drawn a few times, not for every audit: texts are long, and which items are drawn varies anyway.
        pool = [changed_lengths(pairs, DRIFTS[drift], rng.child("rewrites", drift, i)) for i in range(8)]
        for judges, units in groups:
            for name, chance in judges.items():
                for unit in units:
                    yield _audited(name, unit, chance, pool, audits, n, drift, rng.child(name, unit, drift))


def changed_lengths(
    pairs: Sequence[tuple[str, str]], drift: tuple[float, float], rng: Rng
) -> tuple[Floats, Floats]:
    """Lengths of the worse and the better answer before and after a rewrite of the worse one, `[N, 2, 2]` each as in `Pairs`."""
    draw = rng.numpy()
    sentences = [part for pair in pairs for text in pair for part in _SENTENCE.split(text) if part.split()]
    before, after = [], []
    for better, worse in pairs:
        missing = (draw.uniform(*drift) - 1) * len(worse.split())
        text = worse
        while missing > 2:
            more = sentences[draw.integers(len(sentences))]
            if len(more.split()) <= missing + 5:
                text, missing = f"{text} {more}", missing - len(more.split())
        before.append([_lengths(worse), _lengths(better)])
        after.append([_lengths(text), _lengths(better)])
    return np.array(before, dtype=np.float64), np.array(after, dtype=np.float64)


def _lengths(text: str) -> list[int]:
    return [max(1, len(text.split())), max(1, len(text))]


def _audited(
    name: str,
    unit: str,
    chance: Chance,
    pool: Sequence[tuple[Floats, Floats]],
    audits: int,
    n: int,
    drift: str,
    rng: Rng,
) -> Held:
    draw = rng.numpy()
    at = UNITS.index(unit) if unit else 0
    rows = []
    for audit in range(audits):
        before, after = pool[audit % len(pool)]
        chosen = draw.choice(len(before), min(n, len(before)), replace=False)
        before, after = before[chosen], after[chosen]
        margins = draw.normal(1.0, 1.0, len(chosen))
        if name.endswith("goes with length"):
            doublings = _doublings(before[..., 0])
            margins = (
                margins - 0.5 * doublings / doublings.std()
            )  # the cued answer is the better, the longer it is
        plain, shown = chance(before[..., at], margins, 0.0), chance(after[..., at], margins, 1.0)
        liked = sum((draw.random(len(plain)) < plain).astype(np.float64) for _ in range(2))
        ones = np.ones(len(plain))
        model = LengthModel(Pairs(np.asarray(liked), 2 * ones, before), rng.child("intervals", audit))
        changed = Pairs((draw.random(len(shown)) < shown).astype(np.float64), ones, after)
        held = model.hold_equal(changed, after[:, 0, 0] / before[:, 0, 0])
        assert held is not None
        inside = model.covers(after)
        truth = (shown - chance(after[..., at], margins, 0.0))[inside]
        rows.append((held, float(truth.mean()) if inside.any() else 0.0))
    done = [(held, truth) for held, truth in rows if held.at_equal_length is not None]
    values = np.array(
        [
            (held.shift, truth, *(held.at_equal_length or ()), held.items, held.smallest)
            for held, truth in done
        ],
        dtype=np.float64,
    ).reshape(len(done), 7)
    raw, truth, value, low, high, compared, smallest = values.T
    return Held(
        name, unit, drift, _mean(raw), _mean(truth), _mean(value), _mean((low <= truth) & (truth <= high)),
        _mean((low > 0) | (high < 0)), _mean(compared), _mean(smallest), 1 - len(done) / audits,
    )  # fmt: skip


def _mean(values: Floats | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
