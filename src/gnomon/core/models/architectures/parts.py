"""Where the image tokens of a vision-language model lie on the original image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

Box = tuple[float, float, float, float]
"""Left, top, right, bottom on the original image, in pixels."""


@dataclass(frozen=True)
class Tile:
    """A grid of image tokens and the part of the image that it covers."""

    tokens: Int[np.ndarray, "R C"]
    """Which of the image's tokens stands in each cell, counted from the image's first token."""
    box: Box
    """What the whole grid covers. It may stick out of the image (padding) or leave margins of it unseen (a crop)."""

    def cell(self, row: int, column: int) -> Box:
        """What one cell covers."""
        left, top, right, bottom = self.box
        height, width = (bottom - top) / self.tokens.shape[0], (right - left) / self.tokens.shape[1]
        x, y = left + column * width, top + row * height
        return x, y, x + width, y + height

    def at(self, x: float, y: float) -> int | None:
        """The token whose cell holds the point (x, y) of the original image; `None` outside the tile."""
        left, top, right, bottom = self.box
        if not (left <= x < right and top <= y < bottom):
            return None
        rows, columns = self.tokens.shape
        row = min(int((y - top) / (bottom - top) * rows), rows - 1)
        column = min(int((x - left) / (right - left) * columns), columns - 1)
        return int(self.tokens[row, column])


@dataclass(frozen=True)
class ImageLayout:
    """The tokens of one image."""

    size: tuple[int, int]
    """Width and height of the original image, in pixels."""
    n_tokens: int
    """How many image tokens it has, those with no place on it (line ends of a tiled image) included."""
    tiles: tuple[Tile, ...] = ()
    """Where they lie; several for an image that is seen whole and in parts. Empty where tokens are no grid (Q-Former)."""
