"""What one image underwent on its way into a network, and the way back: resize, pad, crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnomon.core.vision.boxes import Boxes, areas, as_boxes, overlaps
from gnomon.errors import BadConfig, BadInput, ModelMismatch

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
"""Width and height, in pixels."""

_WHOLE = 1e-6
"""A border this near to a pixel's is one: floats."""


@dataclass(frozen=True)
class Frame:
    """The input's window on the original; width and height are scaled each by its own ratio, as rounding to pixels makes them."""

    size: Size
    """Of the original."""
    input: Size
    """Of what the network sees."""
    box: tuple[float, float, float, float]
    """What the input covers, in pixels of the original: left, top, right, bottom. It sticks out where the input is padded, and
    leaves margins where it is cropped."""

    @classmethod
    def letterbox(cls, size: Size, side: int, anchor: Literal["corner", "centre"] = "corner") -> Frame:
        """The whole image resized so that its longer side is `side`, then padded to a square: at right and bottom, or around.

        Each side is rounded to whole pixels by itself, halves upwards, as SAM does it (corner).

        >>> [round(n, 2) for n in Frame.letterbox((640, 427), 224).box]  # 427 becomes 149, not 149.45
        [0.0, 0.0, 640.0, 641.93]
        """
        _check(size)
        new = [max(1, math.floor(n * side / max(size) + 0.5)) for n in size]
        offsets = [(side - n) // 2 if anchor == "centre" else 0 for n in new]
        return cls._of_resized(size, (new[0], new[1]), (side, side), (-offsets[0], -offsets[1]))

    @classmethod
    def square(cls, size: Size, side: int, anchor: Literal["corner", "centre"] = "corner") -> Frame:
        """The image padded to a square, then resized: both axes have one ratio, without rounding, as OWLv2 does it (corner)."""
        _check(size)
        most = max(size)
        left, top = ((n - most) / 2 if anchor == "centre" else 0.0 for n in size)
        return cls(size, (side, side), (left, top, left + most, top + most))

    @classmethod
    def stretch(cls, size: Size, width: int, height: int) -> Frame:
        """The whole image resized to exactly this size, whatever its proportions."""
        _check(size)
        return cls(size, (width, height), (0.0, 0.0, float(size[0]), float(size[1])))

    @classmethod
    def cover(cls, size: Size, width: int, height: int) -> Frame:
        """The image resized until it covers the input, the longer side rounded down, then cropped in its centre."""
        _check(size)
        share = max(width / size[0], height / size[1])
        new = [max(int(n * share + _WHOLE), least) for n, least in zip(size, (width, height), strict=True)]
        starts = (crop_start(new[0], width), crop_start(new[1], height))
        return cls._of_resized(size, (new[0], new[1]), (width, height), starts)

    @classmethod
    def of(cls, image_processor: Any, size: Size) -> Frame:
        """What a transformers image processor does to an image of this size: pad to a square, resize, crop the centre.

        Args:
            image_processor: with the usual settings (`do_pad`, `do_resize`, `size`, `do_center_crop`, `crop_size`).
            size: the original's.

        Raises:
            ModelMismatch: its sizes are of another kind.
        """
        _check(size)
        width, height = size
        x = y = 0  # of the original's corner
        if getattr(image_processor, "do_pad", False):
            side = max(size)
            x, y = (side - width) // 2, (side - height) // 2
            width = height = side
        new_width, new_height = width, height
        if getattr(image_processor, "do_resize", True):
            new_width, new_height = _resized(image_processor.size, (width, height))
        left = top = 0
        seen_width, seen_height = new_width, new_height
        if getattr(image_processor, "do_center_crop", False):
            seen_width, seen_height = image_processor.crop_size["width"], image_processor.crop_size["height"]
            left, top = crop_start(new_width, seen_width), crop_start(new_height, seen_height)
        across, down = width / new_width, height / new_height
        box = (
            left * across - x,
            top * down - y,
            (left + seen_width) * across - x,
            (top + seen_height) * down - y,
        )
        return cls(size, (seen_width, seen_height), box)

    @classmethod
    def _of_resized(cls, size: Size, new: Size, seen: Size, start: tuple[int, int]) -> Frame:
        """The image resized to `new`, of which the input shows `seen` from `start` on."""
        ratios = [old / resized for old, resized in zip(size, new, strict=True)]
        (left, right), (top, bottom) = (
            (begin * ratio, (begin + n) * ratio) for begin, n, ratio in zip(start, seen, ratios, strict=True)
        )
        return cls(size, seen, (left, top, right, bottom))

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input for one of the original, across and down."""
        left, top, right, bottom = self.box
        return self.input[0] / (right - left), self.input[1] / (bottom - top)

    def into(self, boxes: ArrayLike) -> Boxes:
        """Boxes of the original, by their corners, in pixels of the input; they may stick out of it."""
        return (as_boxes(boxes) - np.tile(self.box[:2], 2)) * np.tile(self.scale, 2)

    def back(self, boxes: ArrayLike) -> Boxes:
        """Boxes of the input in pixels of the original; the inverse of `into`."""
        return as_boxes(boxes) / np.tile(self.scale, 2) + np.tile(self.box[:2], 2)

    def seen(self, boxes: ArrayLike) -> Float[np.ndarray, " N"]:
        """The share of each box of the original that the input shows; 0 for one without an area."""
        own = areas(boxes)
        shared = overlaps(boxes, [self.box])[:, 0]
        return np.divide(shared, own, out=np.zeros_like(own), where=own > 0)

    def apply(self, image: Image, fill: Any = 0) -> Image:
        """The image as the network sees it, its values untouched but for resizing.

        Args:
            image: of the original's size.
            fill: colour of what lies outside.

        Raises:
            BadInput: the image has another size.
        """
        from PIL import Image

        if image.size != self.size:
            raise BadInput(f"The frame is of an image of {self.size}; this one has {image.size}.")
        ((x0, y0, x1, y1),) = self.into([0, 0, *self.size]).tolist()
        inner = [
            max(x0, 0.0), max(y0, 0.0), min(x1, float(self.input[0])), min(y1, float(self.input[1])),
        ]  # fmt: skip
        whole = [round(n) for n in inner]
        if max(abs(n - m) for n, m in zip(inner, whole, strict=True)) < _WHOLE:
            # The picture fills whole pixels of the input: it is resized by itself, and padding does not bleed into it.
            (part,) = np.clip(self.back(inner), 0, [*self.size, *self.size]).tolist()
            resized = image.resize(
                (whole[2] - whole[0], whole[3] - whole[1]), Image.Resampling.BICUBIC, box=tuple(part)
            )
            canvas = Image.new(image.mode, self.input, fill)
            canvas.paste(resized, (whole[0], whole[1]))
            return canvas
        left, top = (min(0, math.floor(n)) for n in self.box[:2])
        right, bottom = (max(s, math.ceil(n)) for s, n in zip(self.size, self.box[2:], strict=True))
        canvas = Image.new(image.mode, (right - left, bottom - top), fill)
        canvas.paste(image, (-left, -top))
        x, y, z, w = self.box
        window = (x - left, y - top, z - left, w - top)
        return canvas.resize(self.input, Image.Resampling.BICUBIC, box=window)

    def back_map(self, values: Float[np.ndarray, "h w"], *, smooth: bool = True) -> Float[np.ndarray, "H W"]:
        """A map over the input, of any resolution, on the original's pixels; nan where the input shows nothing of it.

        Args:
            values: over the whole input, such as scores of its patches.
            smooth: straight lines between the middles of cells; else each pixel has its cell's value.
        """
        array = np.asarray(values, np.float64)
        rows, is_seen_y = self._places(1, array.shape[0])
        columns, is_seen_x = self._places(0, array.shape[1])
        if smooth:
            whole = _between(_between(array, rows, 0), columns, 1)
        else:
            y, x = (
                np.clip(np.floor(at + 0.5).astype(int), 0, n - 1)
                for at, n in zip((rows, columns), array.shape, strict=True)
            )
            whole = array[y][:, x]
        return np.where(is_seen_y[:, None] & is_seen_x[None], whole, np.nan)

    def _places(self, axis: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the middles of the original's pixels lie among the middles of the map's cells, and which the input shows."""
        low, high = self.box[axis], self.box[axis + 2]
        middles = np.arange(self.size[axis]) + 0.5
        return (middles - low) / (high - low) * cells - 0.5, (low <= middles) & (middles < high)


def crop_start(whole: int, part: int) -> int:
    """Where a centred part of a length begins; before 0 where the length is too short and is padded."""
    return (whole - part) // 2 if part <= whole else -math.ceil((part - whole) / 2)


def _resized(wanted: Any, size: Size) -> Size:
    """The size an image is resized to: that of its short side, or both sides given."""
    width, height = size
    short = wanted.get("shortest_edge")
    if short and not wanted.get("longest_edge"):
        long = int(short * max(size) / min(size))
        return (short, long) if width <= height else (long, short)
    if wanted.get("height") and wanted.get("width"):
        return wanted["width"], wanted["height"]
    raise ModelMismatch(
        f"An image processor with size {dict(wanted)} is not known. It must name shortest_edge, or height and width."
    )


def _between(array: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Values at fractional places along an axis, the outermost beyond the ends."""
    most = array.shape[axis] - 1
    at = np.clip(at, 0, most)
    low = np.minimum(np.floor(at).astype(int), max(most - 1, 0))
    share = (at - low).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    return array.take(low, axis) * (1 - share) + array.take(np.minimum(low + 1, most), axis) * share


def _check(size: Size) -> None:
    if min(size) < 1:
        raise BadConfig(f"An image has a width and a height of at least 1; got {size}.")
