"""Questions apart for training, choosing and testing. All answers to one question fall on the same side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.truth_probes.answers import Answer

Rows = NDArray[np.int64]

PAPER_SEEDS = (0, 5, 26, 42, 63)
"""Seeds of the paper's splits."""

FEWEST = 20
"""Answers of a class below which nothing is trained."""


def split(ids: Sequence[str], seed: int, share: float = 0.2) -> tuple[Rows, Rows]:
    """Rows of the larger and of the smaller side; the smaller one has `share` of the questions.

    A question's side depends on the seed and the set of questions, not on the order of the rows.

    >>> larger, smaller = split(["a", "a", "b", "c", "d", "e"], seed=0)
    >>> len({0, 1} & set(larger.tolist())) in (0, 2)
    True
    """
    names = sorted(set(ids))
    order = Rng(seed).child("split").numpy().permutation(len(names))
    few = {names[i] for i in order[: max(1, round(share * len(names)))]}
    inside = np.array([name in few for name in ids])
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def folds(ids: Sequence[str], count: int, seed: int) -> list[tuple[Rows, Rows]]:
    """`count` ways to train on all questions but a `count`-th and test on that, each question tested once."""
    names = sorted(set(ids))
    order = Rng(seed).child("folds").numpy().permutation(len(names))
    fold = {names[i]: place % count for place, i in enumerate(order)}
    where = np.array([fold[name] for name in ids])
    return [(np.flatnonzero(where != k), np.flatnonzero(where == k)) for k in range(count)]


def usable(answers: Sequence[Answer]) -> list[int]:
    """Rows that have a label and an exact answer, right and wrong ones by the same rule."""
    return [i for i, answer in enumerate(answers) if answer.is_usable]


def require_both(labels: Sequence[int] | NDArray[np.int64], what: str, fewest: int = FEWEST) -> None:
    """Refuse what cannot be learned from.

    Raises:
        BadInput: fewer than `fewest` right or wrong answers; the message has the counts.
    """
    right = int(np.sum(labels))
    wrong = len(labels) - right
    if min(right, wrong) < fewest:
        raise BadInput(
            f"{what}: {right} right and {wrong} wrong answers; a probe needs at least {fewest} of each. "
            "Ask more questions, or ones that the model sometimes gets wrong and sometimes right."
        )
