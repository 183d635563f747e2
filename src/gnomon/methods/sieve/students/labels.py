"""What a student is given to learn from, checked before anything is spent on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput


def check_labels(
    texts: Sequence[str], labels: Sequence[int], weights: Sequence[float], groups: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and weights as arrays, [N] each.

    Raises:
        BadInput: the lengths differ, a label is neither 0 nor 1, a weight is not a positive number, or all labels are equal.
    """
    for name, values in (("labels", labels), ("weights", weights), ("groups", groups)):
        if values is not None and len(values) != len(texts):
            raise BadInput(f"{len(texts)} texts came with {len(values)} {name}. Give every text one.")
    for i, label in enumerate(labels):
        if label not in (0, 1):
            raise BadInput(f"Label {i} is {label!r}. A label is 1 for pass or 0 for fail.")
    for i, weight in enumerate(weights):
        if not 0 < weight < float("inf"):
            raise BadInput(f"Weight {i} is {weight!r}. A weight is a number above 0.")
    if len(set(labels)) < 2:
        found = f'only the label "{"pass" if labels[0] else "fail"}"' if len(labels) else "no label"
        raise BadInput(f"A student learns from both verdicts, and there is {found}. Label more texts.")
    return np.asarray(labels, np.int64), np.asarray(weights, np.float64)


def split_held_out(
    labels: NDArray[np.int64], groups: Sequence[str] | None, share: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and indices to keep back, each ascending.

    About `share` of each verdict is kept back, in whole groups. Both sides hold both verdicts; where the labels do not
    allow it (a single pass, all passes in one document), nothing is kept back.

    Args:
        labels: 0 or 1, [N], both present.
        groups: group of each label; None: each is its own.
        share: of the labels to keep back, 0..1.
        generator: draws the order in which groups are kept back.
    """
    everything = np.arange(len(labels))
    nothing = everything[:0]
    if share == 0:
        return everything, nothing
    names = [str(i) for i in everything] if groups is None else list(groups)
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name, []).append(i)
    ordered = [members[name] for name in members]
    ordered = [ordered[i] for i in generator.permutation(len(ordered))]
    # The rarer verdict first: its groups bring labels of the other along.
    rare = int(labels.mean() < 0.5)
    totals = np.bincount(labels, minlength=2)
    wanted = np.maximum(1, np.round(share * totals))
    kept, taken = np.zeros(2, np.int64), np.zeros(len(labels), bool)
    for verdict in (rare, 1 - rare):
        for group in ordered:
            if kept[verdict] >= wanted[verdict]:
                break
            inside = np.bincount(labels[group], minlength=2)
            leaves_both = (kept + inside < totals).all()
            if inside[verdict] and not taken[group[0]] and leaves_both:
                taken[group] = True
                kept += inside
    if not kept.all():
        return everything, nothing
    return np.flatnonzero(~taken), np.flatnonzero(taken)
