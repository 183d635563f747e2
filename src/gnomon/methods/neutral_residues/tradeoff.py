"""Learning against forgetting: points of a sweep, their Pareto front, and forgetting at equal learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Point:
    """One training of a sweep."""

    arm: str
    """The method, with what else was varied."""
    lr: float
    """Its peak learning rate."""
    learning: float
    """G: bits per byte of the new domain, before minus after."""
    forgetting: float
    """F: bits per byte of the old domain, after minus before."""


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in learning without forgetting more, by learning.

    >>> a, b, c = Point("a", 1, 0.3, 0.1), Point("b", 1, 0.2, 0.2), Point("c", 1, 0.1, 0.0)
    >>> [p.arm for p in front([a, b, c])]
    ['c', 'a']
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.learning, p.forgetting)):
        if not best or point.forgetting < best[-1].forgetting:
            best.append(point)
    return best[::-1]


def forgetting_at(points: Sequence[Point], learning: float) -> float | None:
    """F of one arm where it learns as much as `learning`: on the line between its neighbouring points; None beyond its points.

    >>> forgetting_at([Point("a", 1, 0.2, 0.1), Point("a", 2, 0.4, 0.3)], 0.3)
    0.2
    """
    ordered = sorted(points, key=lambda p: p.learning)
    for point in ordered:
        if point.learning == learning:
            return point.forgetting
    for low, high in pairwise(ordered):
        if low.learning < learning < high.learning:
            share = (learning - low.learning) / (high.learning - low.learning)
            return round(low.forgetting + share * (high.forgetting - low.forgetting), 12)
    return None


def hypervolume(points: Sequence[Point], worst: tuple[float, float]) -> float:
    """Area of (G, F) that the points beat, up to a reference point that learns `worst[0]` and forgets `worst[1]`.

    >>> hypervolume([Point("a", 1, 2.0, 1.0), Point("b", 1, 1.0, 0.5)], (0.0, 2.0))
    2.5
    """
    area, least = 0.0, worst[0]
    for point in front(points):
        if point.learning > least and point.forgetting < worst[1]:
            area += (point.learning - least) * (worst[1] - point.forgetting)
            least = point.learning
    return area
