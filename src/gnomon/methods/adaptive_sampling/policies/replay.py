"""Replays of the policies on samples that were drawn once: sample k is the same, drawn alone, in a group or as one of N."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.policies.policies import GROUPS, SampleResult
from gnomon.methods.adaptive_sampling.policies.watch import Pruning

Array = NDArray[np.float64]
SURE = 0.95
"""Chance that the leading answer is the majority, from which a vote ends early."""


@dataclass(frozen=True)
class Pool:
    """N samples of each of M prompts."""

    c: Array
    """[M, N]."""
    reward: Array
    """[M, N]."""
    tokens: Array
    """[M, N], of each sample."""
    logprob: Array
    """[M, N], mean over a sample's tokens."""
    forms: Sequence[Sequence[Hashable]]
    """[M][N]: equal for answers that say the same; None for one that says nothing."""
    c_at: dict[int, Array]
    """Cut -> [M, N]: c of the beginning, or of the whole where the answer was shorter."""
    selfeval: float = 1.0
    """Tokens read for one c."""

    @classmethod
    def of(
        cls,
        results: Sequence[SampleResult],
        rewards: Sequence[Sequence[float]],
        form: Callable[[str], Hashable],
    ) -> Pool:
        """The pool of results of `BestOfN`, with a reward for each sample.

        Raises:
            BadInput: prompts have unequal numbers of samples.
        """
        if len({len(r.all_samples) for r in results}) != 1:
            raise BadInput("A pool needs equally many samples of every prompt, and at least one prompt.")
        rows = [r.all_samples for r in results]
        cuts = sorted({cut for row in rows for s in row for cut in s.c_at})

        def table(of: Callable[..., float]) -> Array:
            return np.array([[of(s) for s in row] for row in rows], float)

        return cls(
            table(lambda s: s.c),
            np.asarray(rewards, float),
            table(lambda s: len(s.tokens)),
            table(lambda s: s.logprob / max(1, len(s.tokens))),
            [[form(s.text) for s in row] for row in rows],
            {cut: table(lambda s, cut=cut: s.c_at.get(cut, s.c)) for cut in cuts},
            float(np.mean([r.tokens_selfeval / len(r.all_samples) for r in results])),
        )

    def __len__(self) -> int:
        return len(self.c)

    @property
    def n(self) -> int:
        """Samples a prompt."""
        return int(self.c.shape[1])

    def some(self, rows: Sequence[int]) -> Pool:
        """The pool of some prompts."""
        i = np.asarray(rows, int)
        return Pool(
            self.c[i], self.reward[i], self.tokens[i], self.logprob[i], [self.forms[j] for j in i],
            {cut: v[i] for cut, v in self.c_at.items()}, self.selfeval,
        )  # fmt: skip

    def shuffled(self, rng: Rng) -> Pool:
        """The samples of each prompt in another order; of no meaning where they are not drawn alike."""
        draw = rng.numpy()
        order = np.argsort(draw.random(self.c.shape), axis=1)

        def take(values: Array) -> Array:
            return np.take_along_axis(values, order, 1)

        forms = [[row[j] for j in places] for row, places in zip(self.forms, order, strict=True)]
        return Pool(
            take(self.c), take(self.reward), take(self.tokens), take(self.logprob), forms,
            {cut: take(v) for cut, v in self.c_at.items()}, self.selfeval,
        )  # fmt: skip


@dataclass(frozen=True)
class Spent:
    """What a policy came to, per prompt."""

    reward: Array
    """[M], of the chosen answer."""
    samples: Array
    """[M], drawn."""
    tokens: Array
    """[M], generated."""


def _pick(values: Array, pool: Pool) -> Array:
    """Reward of the sample with the highest value, of equals the earliest."""
    picked: Array = np.take_along_axis(pool.reward, values.argmax(1)[:, None], 1)[:, 0]
    return picked


def _first(pool: Pool, counts: NDArray[np.int64]) -> Array:
    """Tokens of the first samples, so many of each prompt."""
    tokens: Array = np.where(np.arange(pool.n)[None] < counts[:, None], pool.tokens, 0).sum(1)
    return tokens


def best_of(pool: Pool, k: int, by: str = "c") -> Spent:
    """The best of the first k by `c`, `logprob` or `reward` (the oracle)."""
    values = getattr(pool, by)[:, :k]
    counts = np.full(len(pool), k)
    return Spent(_pick(values, pool), counts.astype(float), _first(pool, counts))


def adaptive(pool: Pool, gamma: float, groups: Sequence[int] = GROUPS) -> Spent:
    """Samples on demand; exactly as `AdaptiveSampler` with the same samples."""
    counts = np.full(len(pool), min(groups[0], pool.n))
    best, number = np.maximum.accumulate(pool.c, 1), 1
    while True:
        goes_on = (best[np.arange(len(pool)), counts - 1] < gamma) & (counts < pool.n)
        if not goes_on.any():
            break
        size = groups[min(number, len(groups) - 1)]
        counts = np.where(goes_on, np.minimum(counts + size, pool.n), counts)
        number += 1
    values = np.where(np.arange(pool.n)[None] < counts[:, None], pool.c, -np.inf)
    return Spent(_pick(values, pool), counts.astype(float), _first(pool, counts))


def prune(pool: Pool, pruning: Pruning, rng: Rng | None = None) -> Spent:
    """Samples given up at cuts by c, or at random with the same numbers; the best of the rest by c.

    Args:
        pool: has the cuts.
        pruning: when, and how many stay.
        rng: for the control that gives up at random; None: by c.
    """
    draw = None if rng is None else rng.numpy()
    reward, tokens = np.zeros(len(pool)), np.zeros(len(pool))
    for i in range(len(pool)):
        stay = set(range(pool.n))
        spent = pool.tokens[i].copy()
        for cut in pruning.cuts:
            values = {(i, k): float(pool.c_at[cut][i, k]) for k in stay}
            kept = {k for _, k in pruning.kept(values, cut)}
            if draw is not None:
                kept = set(draw.permutation(sorted(stay))[: len(kept)].tolist())
            for k in stay - kept:
                spent[k] = min(spent[k], cut)
            stay = kept
        best = max(stay, key=lambda k: (pool.c[i, k], -k))
        reward[i], tokens[i] = pool.reward[i, best], spent.sum()
    return Spent(reward, np.full(len(pool), float(pool.n)), tokens)


def vote(pool: Pool, k: int | None = None, *, sure: float = SURE) -> Spent:
    """The commonest answer by its normal form, the earliest of equals; a vote ends once its leader is sure.

    It is sure as the majority with such a chance, that of a Beta posterior over the two commonest answers (adaptive consistency,
    arXiv 2305.11860). `sure=1` never ends early. Answers that say nothing have no vote.
    """
    from scipy.stats import beta

    most = k or pool.n
    reward, counts = np.zeros(len(pool)), np.zeros(len(pool), int)
    for i in range(len(pool)):
        votes: Counter[Hashable] = Counter()
        for count in range(1, most + 1):
            form = pool.forms[i][count - 1]
            if form is not None:
                votes[form] += 1
            top = [v for _, v in votes.most_common(2)] + [0, 0]
            if sure < 1 and float(beta.sf(0.5, top[0] + 1, top[1] + 1)) >= sure:
                break
        counts[i] = count
        leader = votes.most_common(1)[0][0] if votes else pool.forms[i][0]
        reward[i] = pool.reward[i, pool.forms[i].index(leader)]
    return Spent(reward, counts.astype(float), _first(pool, counts))
