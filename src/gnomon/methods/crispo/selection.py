"""Which of many prompts is best: by one metric, or by several at once.

All values are such that larger is better. Every function looks at all prompts that were measured on a split, and is asked anew
whenever one is added: a rank is only worth something among the ranks of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Policy = Literal["rank", "zsum", "pareto"]
Key = tuple[float, ...]
"""What prompts are sorted by, larger is better."""


def mean_ranks(table: ArrayLike) -> NDArray[np.float64]:
    """The mean over metrics of the number of prompts with a strictly better score, [N]; smaller is better.

    Args:
        table: scores, [N, J].

    Source: section on automatic suffix tuning; zero-based competition ranks.

    >>> mean_ranks([[10], [10], [9]]).tolist()
    [0.0, 0.0, 2.0]
    """
    scores = np.asarray(table, np.float64)
    better: NDArray[np.bool_] = scores[None, :, :] > scores[:, None, :]
    ranks: NDArray[np.float64] = better.sum(1).mean(1)
    return ranks


def z_sums(table: ArrayLike, weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """The weighted sum of the standardised metrics, [N]; a metric in which all prompts agree adds nothing.

    Args:
        table: scores, [N, J].
        weights: of the metrics; None weighs them alike.
    """
    scores = np.asarray(table, np.float64)
    spread = scores.std(0)
    z = (scores - scores.mean(0)) / np.where(spread > 0, spread, 1.0)
    sums: NDArray[np.float64] = z @ np.asarray(weights if weights is not None else np.ones(scores.shape[1]))
    return sums


def pareto_front(table: ArrayLike) -> list[int]:
    """Numbers of the prompts that no other one beats: at least as good in everything and better in something.

    >>> pareto_front([[1, 3], [2, 2], [1, 2], [2, 2]])
    [0, 1, 3]
    """
    scores = np.asarray(table, np.float64)
    at_least: NDArray[np.bool_] = np.all(scores[None, :, :] >= scores[:, None, :], axis=2)
    better: NDArray[np.bool_] = np.any(scores[None, :, :] > scores[:, None, :], axis=2)
    return [int(i) for i in np.flatnonzero(~(at_least & better).any(1))]


def sort_keys(
    table: Sequence[Sequence[float]],
    policy: Policy = "rank",
    *,
    eps: float = 0.0,
    weights: Sequence[float] | None = None,
) -> list[Key]:
    """What to sort prompts by, one key each.

    Args:
        table: scores, [N, J]; the first row is the prompt that the search began with.
        policy: `rank`, `zsum`, or `pareto`: never lose more than `eps` on the first metric against the first row; among those that
            do not, the best sum of the other metrics' z-scores.
        eps: in the first metric's unit.
        weights: of the metrics, for `zsum`.
    """
    if not table:
        return []
    scores = np.asarray(table, np.float64)
    if scores.shape[1] == 1:
        return [(float(value),) for value in scores[:, 0]]
    if policy == "rank":
        return [(float(-rank),) for rank in mean_ranks(scores)]
    if policy == "zsum":
        return [(float(value),) for value in z_sums(scores, weights)]
    first, rest = scores[:, 0], z_sums(scores[:, 1:])
    keeps = first >= first[0] - eps - 1e-12
    return [
        (1.0, float(other), float(one)) if kept else (0.0, float(one), float(other))
        for kept, one, other in zip(keeps, first, rest, strict=True)
    ]


def best_of(keys: Sequence[Key]) -> int:
    """The place of the largest key; of equal ones the first.

    >>> best_of([(1.0,), (2.0,), (2.0,)])
    1
    """
    return max(range(len(keys)), key=lambda i: (keys[i], -i))
