"""Boxes on an image: their forms, which of them can be used, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnomon.errors import BadConfig, BadInput

Form = Literal["xyxy", "xywh", "cxcywh"]
"""xyxy: left, top, right, bottom; xywh: left, top, width, height; cxcywh: centre, width, height."""
Unit = Literal["pixels", "unit"]
"""pixels of the image, or shares of its width and height."""
Boxes = Float[np.ndarray, "N 4"]

LEAST_INSIDE = 0.5
"""Share of a box that must lie on the image."""


def as_boxes(boxes: ArrayLike) -> Boxes:
    """Boxes as an array [N, 4] of doubles; one box is N = 1, none is N = 0.

    Raises:
        BadInput: they are not of four numbers each.
    """
    array = np.asarray(boxes, np.float64)
    if not array.size:
        return np.zeros((0, 4))
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise BadInput(f"Boxes are rows of four numbers; got an array of shape {list(array.shape)}.")
    return array


def convert(
    boxes: ArrayLike,
    source: Form,
    target: Form,
    *,
    units: tuple[Unit, Unit] = ("pixels", "pixels"),
    size: tuple[int, int] | None = None,
) -> Boxes:
    """Boxes in another form and unit.

    Args:
        boxes: [N, 4].
        source: the form they have.
        target: the form that is wanted.
        units: what they have and what is wanted.
        size: width and height of the image, where the units differ.

    >>> convert([10, 20, 30, 60], "xyxy", "cxcywh").tolist()
    [[20.0, 40.0, 20.0, 40.0]]

    Raises:
        BadConfig: the units differ and there is no size.
    """
    array = as_boxes(boxes)
    first, second = array[:, :2], array[:, 2:]
    if source == "xywh":
        first, second = first, first + second
    elif source == "cxcywh":
        first, second = first - second / 2, first + second / 2
    corners = np.concatenate([first, second], 1)
    if units[0] != units[1]:
        if size is None:
            raise BadConfig("Boxes change between pixels and shares by the image's size. Give it.")
        sides = np.array([*size, *size], np.float64)
        corners = corners * sides if units[0] == "unit" else corners / sides
    first, second = corners[:, :2], corners[:, 2:]
    if target == "xywh":
        second = second - first
    elif target == "cxcywh":
        first, second = (first + second) / 2, second - first
    return np.concatenate([first, second], 1)


@dataclass(frozen=True)
class Cleaned:
    """Boxes that can be used, and why others cannot."""

    boxes: Boxes
    """Corners in pixels, cut at the image's borders."""
    kept: list[int]
    """Which of the boxes they are."""
    dropped: dict[int, str] = field(default_factory=dict)
    """Number of a box -> why it was left out."""

    def reasons(self) -> dict[str, int]:
        """How many boxes were left out for each reason."""
        return dict(Counter(self.dropped.values()))


def clean(boxes: ArrayLike, size: tuple[int, int], least_inside: float = LEAST_INSIDE) -> Cleaned:
    """The boxes that lie on an image with an area.

    Left out are boxes with a number that is not finite, with corners exchanged, without an area, or with less than
    `least_inside` of their area on the image.

    Args:
        boxes: [N, 4], corners in pixels.
        size: width and height of the image.
        least_inside: share of a box's area that must lie on the image.
    """
    array = as_boxes(boxes)
    kept, dropped = [], {}
    limits = np.array([*size, *size], np.float64)
    for i, box in enumerate(array):
        if not np.isfinite(box).all():
            dropped[i] = "not finite"
        elif box[2] < box[0] or box[3] < box[1]:
            dropped[i] = "corners exchanged"
        elif box[2] == box[0] or box[3] == box[1]:
            dropped[i] = "without an area"
        elif _area(np.clip(box, 0, limits)) < least_inside * _area(box):
            dropped[i] = f"less than {least_inside:.0%} on the image"
        else:
            kept.append(i)
    return Cleaned(np.clip(array[kept], 0, limits), kept, dropped)


def areas(boxes: ArrayLike) -> Float[np.ndarray, " N"]:
    """Areas of boxes given by their corners; 0 where the corners are exchanged."""
    array = as_boxes(boxes)
    sides: Float[np.ndarray, " N"] = np.clip(array[:, 2:] - array[:, :2], 0, None).prod(1)
    return sides


def overlaps(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, "N M"]:
    """Area that each box of `a` shares with each box of `b`, both given by their corners."""
    first, second = as_boxes(a), as_boxes(b)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: Float[np.ndarray, "N M"] = np.clip(high - low, 0, None).prod(-1)
    return shared


def iou(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, "N M"]:
    """Intersection over union of each box of `a` with each of `b`, given by their corners; 0 for two boxes without an area.

    >>> iou([0, 0, 2, 2], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
    [[0.333, 0.0]]
    """
    shared = overlaps(a, b)
    union = areas(a)[:, None] + areas(b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def around(masks: Sequence[np.ndarray]) -> Boxes:
    """The smallest box [N, 4] around the True pixels of each mask [H, W]; right and bottom are the first pixels outside.

    Raises:
        BadInput: a mask is empty; its number is named.
    """
    boxes = []
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            raise BadInput(f"Mask {i} is empty: there is no box around it.")
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return as_boxes(boxes)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
