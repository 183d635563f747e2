"""Labels: the chance that a fresh sample would not be better, counted on samples of the same prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput

Labels = Literal["soft", "pair"]


def wins_or_ties(reward: float, other: float, epsilon: float) -> bool:
    """Whether a reward beats another or is within epsilon of it.

    >>> wins_or_ties(0.5, 0.505, 0.01), wins_or_ties(0.0, 1.0, 0.0)
    (True, False)
    """
    # Win: r > r' + e; tie: |r - r'| <= e. Together: r >= r' - e. Rounding may not turn a tie at the border into a loss.
    return reward >= other - epsilon - 1e-12


def label(
    rewards: Sequence[float],
    mode: Labels = "soft",
    *,
    epsilon: float = 0.0,
    fresh: Sequence[bool] | None = None,
) -> NDArray[np.float64]:
    """The label of each sample of a prompt, [K]; NaN where it has none.

    Args:
        rewards: of the samples.
        mode: soft: the share of the other samples that it beats or ties with; pair: 0 or 1 against its partner, samples 0 and 1,
            2 and 3 and so on being partners. Both have the same expectation.
        epsilon: rewards no further apart tie.
        fresh: for soft: which samples are drawn as a restart would be; the others are labelled against them. None: all.

    Raises:
        BadInput: there are fewer than two samples.

    Source: steps 1 and 3.

    >>> label([1.0, 0.0, 1.0]).tolist(), label([1.0, 0.0], "pair").tolist()
    ([1.0, 0.0, 1.0], [1.0, 0.0])
    """
    if len(rewards) < 2:
        raise BadInput(
            f"A label compares samples, and there is {len(rewards)}; draw at least 2 of each prompt."
        )
    r = np.asarray(rewards, float)
    if mode == "pair":
        labels = np.full(len(r), np.nan)
        for i in range(0, len(r) - 1, 2):
            labels[i], labels[i + 1] = (
                wins_or_ties(r[i], r[i + 1], epsilon),
                wins_or_ties(r[i + 1], r[i], epsilon),
            )
        return labels
    counts = np.ones(len(r), bool) if fresh is None else np.asarray(fresh, bool)
    not_beaten = r[:, None] >= r[None, :] - epsilon - 1e-12  # [sample, other]
    others = np.broadcast_to(counts, not_beaten.shape) & ~np.eye(len(r), dtype=bool)
    number = others.sum(1)
    shares: NDArray[np.float64] = np.divide(
        (not_beaten & others).sum(1), number, out=np.full(len(r), np.nan), where=number > 0
    )
    return shares
