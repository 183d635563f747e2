"""A region of an image, and COCO's outlines as masks, without pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from gnomon.errors import BadInput

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the upright image."""


@dataclass(frozen=True)
class Region:
    """A part of an image."""

    box: Box
    """Where it is."""
    text: str | None = None
    """What it shows: a class or a phrase."""
    score: float | None = None
    """How sure a detector was; None for truth."""
    outline: Any = field(default=None, compare=False)
    """COCO's segmentation of it: polygons, or run lengths; None where there is none."""
    is_crowd: bool = False
    """Whether COCO's box is of a group."""

    def mask(self, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """The pixels of its outline on an image of this size, or of its box where it has none."""
        if self.outline is None:
            mask = np.zeros((size[1], size[0]), bool)
            left, top, right, bottom = (round(n) for n in self.box)
            mask[top:bottom, left:right] = True
            return mask
        return mask_of_outline(self.outline, size)


def mask_of_outline(outline: Any, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A COCO segmentation as a mask.

    Args:
        outline: polygons as lists of x and y, or run lengths `{"size": [H, W], "counts": ...}` down the columns, as numbers or
            packed.
        size: width and height of the image.

    Raises:
        BadInput: run lengths are of another size, or it is neither.
    """
    if isinstance(outline, Mapping):
        height, width = outline["size"]
        if (width, height) != tuple(size):
            raise BadInput(f"Run lengths of {width} x {height} on an image of {size[0]} x {size[1]}.")
        counts = outline["counts"]
        lengths = unpacked(counts) if isinstance(counts, str | bytes) else list(counts)
        if sum(lengths) != width * height:
            raise BadInput(f"Run lengths of {sum(lengths)} pixels on an image of {width * height}.")
        values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return np.ascontiguousarray(values.reshape(width, height).T)
    if not isinstance(outline, Sequence):
        raise BadInput(f"An outline is polygons or run lengths; got {type(outline).__name__}.")
    from PIL import Image, ImageDraw

    canvas = Image.new("1", size)
    for polygon in outline:
        points = [(float(x), float(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
        if len(points) > 2:
            ImageDraw.Draw(canvas).polygon(points, fill=1, outline=1)
    return np.asarray(canvas)


def unpacked(counts: str | bytes) -> list[int]:
    """COCO's packed run lengths as numbers.

    Numbers are written in groups of five bits, the lowest first, each group as a character from "0" on; a sixth bit says that
    another group follows, the fifth of the last is the sign; from the fourth number on they are differences from the last but one.

    >>> unpacked("0;5")
    [0, 11, 5]

    Source: the description of run lengths in the COCO API.
    """
    data = counts.encode() if isinstance(counts, str) else counts
    lengths: list[int] = []
    i = 0
    while i < len(data):
        value, shift, more = 0, 0, True
        while more:
            group = data[i] - 48
            value |= (group & 0x1F) << shift
            shift, more, i = shift + 5, bool(group & 0x20), i + 1
            if not more and group & 0x10:
                value |= -1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    return lengths
