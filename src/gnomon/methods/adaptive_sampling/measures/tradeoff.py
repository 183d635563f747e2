"""What c buys: accuracy against samples, gamma by target, and whether any of it is worth using on a user's own questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.stats import paired_difference
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.policies.policies import GROUPS
from gnomon.methods.adaptive_sampling.policies.replay import Pool, Spent, adaptive, best_of, vote

Array = NDArray[np.float64]

ORDERS = 16
"""Orders of samples drawn alike over which replays are averaged: the same samples, less noise."""


def averaged(pool: Pool, replay: Callable[[Pool], Spent], rng: Rng | None) -> Spent:
    """A replay, averaged over orders of the samples where they are drawn alike; `rng` None: as they came."""
    if rng is None:
        return replay(pool)
    runs = [replay(pool.shuffled(rng.child("order", i))) for i in range(ORDERS)]
    return Spent(
        *(np.mean([getattr(run, name) for run in runs], axis=0) for name in ("reward", "samples", "tokens"))
    )


def fixed_curve(pool: Pool, rng: Rng | None) -> list[float]:
    """Mean reward of the best of 1, 2, ..., N by c."""
    return [float(averaged(pool, partial(best_of, k=k), rng).reward.mean()) for k in range(1, pool.n + 1)]


def at_mean(curve: Sequence[float], mean: float) -> float:
    """The curve of fixed numbers of samples at a mean between two of them.

    >>> at_mean([0.0, 1.0, 2.0], 1.5)
    0.5
    """
    return float(np.interp(mean, np.arange(1, len(curve) + 1), curve))


def share_of_gain(reward: float, first: float, best: float) -> float | None:
    """What of the gain from the first sample to the best of N is kept, both under one schedule; None where there is none.

    >>> share_of_gain(0.4, 0.3, 0.5), share_of_gain(0.4, 0.3, 0.3)
    (0.5, None)
    """
    return None if best <= first else round((reward - first) / (best - first), 12)


def gamma_for(pool: Pool, target: float, groups: Sequence[int] = GROUPS) -> float:
    """The largest gamma with which the mean number of samples is at most `target`; values of c are all that matters between.

    Raises:
        BadInput: even the first group costs more.
    """
    values = np.unique(np.maximum.accumulate(pool.c, 1))
    candidates = np.append(values, np.nextafter(values[-1], 2.0))
    low, high = 0, len(candidates) - 1
    if adaptive(pool, float(candidates[0]), groups).samples.mean() > target:
        raise BadInput(
            f"The first group alone takes more than {target:g} samples. Raise --target-mean-samples."
        )
    while low < high:  # the mean rises with gamma
        middle = (low + high + 1) // 2
        if adaptive(pool, float(candidates[middle]), groups).samples.mean() <= target:
            low = middle
        else:
            high = middle - 1
    return float(min(candidates[low], 1.0))


GAMMAS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.98, 0.99)


def sweep(
    pool: Pool, rng: Rng | None, gammas: Sequence[float] = GAMMAS, groups: Sequence[int] = GROUPS
) -> list[dict[str, Any]]:
    """A row per gamma: samples, reward, that of a fixed number at the same mean, and the share of the gain."""
    curve = fixed_curve(pool, rng)
    rows = []
    for gamma in gammas:
        spent = averaged(pool, partial(adaptive, gamma=gamma, groups=groups), rng)
        reward, mean = float(spent.reward.mean()), float(spent.samples.mean())
        rows.append(
            {
                "gamma": gamma, "mean_samples": mean, "reward": reward, "fixed": at_mean(curve, mean),
                "share_of_gain": share_of_gain(reward, curve[0], curve[-1]), "tokens": float(spent.tokens.mean()),
            }
        )  # fmt: skip
    return rows


@dataclass(frozen=True)
class Verdict:
    """Whether the best of N by c is worth it here."""

    rows: list[dict[str, Any]]
    """Each arm: reward, and the difference of best-of-N to it with its interval, paired by prompt."""
    beats: bool
    """Best-of-N beats one sample, and falls behind neither greedy, vote nor log-probability for certain."""
    sentence: str


def verdict(pool: Pool, greedy: Array | None, rng: Rng) -> Verdict:
    """Best-of-N by c against one sample, greedy, a vote and the likeliest sample, at the same samples.

    Args:
        pool: of questions that were not trained on.
        greedy: [M] rewards of the greedy answers; None: not measured.
        rng: of the bootstrap.
    """
    n = pool.n
    arms = {
        "one sample": best_of(pool, 1).reward if greedy is None else pool.reward.mean(1),
        "greedy": greedy,
        f"vote of {n}": vote(pool, sure=1).reward,
        f"log-probability, best of {n}": best_of(pool, n, "logprob").reward,
    }
    chosen = best_of(pool, n).reward
    rows: list[dict[str, Any]] = [{"arm": f"best of {n} by c", "reward": float(chosen.mean())}]
    behind, gains = [], False
    for name, rewards in arms.items():
        if rewards is None:
            continue
        gap = paired_difference(chosen.tolist(), rewards.tolist(), rng=rng, n_resamples=2000)
        rows.append(
            {
                "arm": name,
                "reward": float(rewards.mean()),
                "best of N minus it": (gap.estimate, gap.low, gap.high),
            }
        )
        gains = gap.estimate > 0 if name == "one sample" else gains
        if gap.high < 0:
            behind.append(name)
    rows.append({"arm": f"oracle, best of {n}", "reward": float(best_of(pool, n, "reward").reward.mean())})
    if not gains:
        sentence = f"Best of {n} by c is no better than one sample here: choosing exploits its errors. No gamma is recommended."
    elif behind:
        sentence = f"Best of {n} by c falls behind {' and '.join(behind)} here. No gamma is recommended."
    else:
        sentence = f"Best of {n} by c beats one sample here and falls behind nothing that costs the same."
    return Verdict(rows, gains and not behind, sentence)
