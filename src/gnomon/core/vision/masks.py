"""Masks of any kind of file as true and false, of their image's size."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from gnomon.core.vision.images import open_image, opened
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

_ORIENTATION = 0x0112
"""EXIF's tag for it."""
_TURNED = (5, 6, 7, 8)
"""Values with which width and height change places."""


@dataclass(frozen=True)
class Stored:
    """How an image lies in its file."""

    size: tuple[int, int]
    """Width and height as they are stored."""
    orientation: int = 1
    """EXIF's number; 1 is upright."""

    @classmethod
    def of(cls, source: Any, name: str = "The image") -> Stored:
        """Of a PIL image or the file at a path.

        Raises:
            BadInput: as of `open_image`.
        """
        with opened(source, name) as image:
            return cls(image.size, int(image.getexif().get(_ORIENTATION, 1)))

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image as `open_image` gives it."""
        width, height = self.size
        return (height, width) if self.orientation in _TURNED else (width, height)


def open_mask(
    source: Any, of: Stored | tuple[int, int], name: str = "The mask", *, label: int | None = None
) -> Bool[np.ndarray, "H W"]:
    """A mask [H, W] on the upright image: True where its file has more than half of its largest value.

    Files of 0 and 1, of 0 and 255, of one bit, with a palette, in colours (the brightest channel counts; what is transparent is
    black) and of 16 bits are masks; one without a value above 0 is empty. More than two values are warned of with their number:
    half of the largest is then a guess. A mask has no orientation of its own: where it has the size in which its image
    is stored, it is turned with the image; else it must have the upright size, and stays as it is.

    Args:
        source: a PIL image, a path, or an array [H, W].
        of: how the image is stored, or the size of an upright one.
        name: what an error calls the mask.
        label: the mask is True where the file has exactly this value, as in a file that numbers classes.

    Raises:
        BadInput: it cannot be read, holds numbers that are not finite, or has neither size.
    """
    stored = of if isinstance(of, Stored) else Stored(of)
    values = _values(source, name)
    most = values.max(initial=0)
    if label is not None:
        mask: np.ndarray = values == label
    else:
        levels = 0 if values.dtype == bool else len(np.unique(values))
        if levels > 2:
            log.warning("%s has %d values; what is above half of the largest is taken.", name, levels)
        mask = values > most / 2 if most > 0 else np.zeros(values.shape, bool)
    size = (mask.shape[1], mask.shape[0])
    if size == stored.size:
        return _turned(mask, stored.orientation)
    if size == stored.upright:
        return mask
    sizes = f"{stored.size[0]} x {stored.size[1]}"
    if stored.upright != stored.size:
        sizes += f", upright {stored.upright[0]} x {stored.upright[1]}"
    raise BadInput(f"{name} is {size[0]} x {size[1]} and its image {sizes}. A mask has its image's size.")


def frames_of(source: Any, name: str = "The image") -> Iterator[Image]:
    """The frames of an animation, or the one of a still image, each as `open_image` gives it.

    Raises:
        BadInput: as of `open_image`.
    """
    with opened(source, name) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            yield open_image(image.copy(), f"Frame {i} of {name}")


def _values(source: Any, name: str) -> np.ndarray:
    """The values [H, W] of a mask."""
    if isinstance(source, np.ndarray):
        values = source
    else:
        if not isinstance(source, str | Path) and not hasattr(source, "getexif"):
            raise BadInput(f"{name} is a {type(source).__name__}; give a path, a PIL image or an array.")
        with opened(source, name) as image:
            image.load()
            is_plain = image.mode in ("1", "L", "F") or image.mode.startswith("I")
            values = np.asarray(image) if is_plain else _brightest(image)
    if values.ndim != 2:
        raise BadInput(f"{name} has the shape {list(values.shape)}; a mask is [height, width].")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(f"{name} holds numbers that are not finite.")
    return values


def _brightest(image: Image) -> np.ndarray:
    """The largest channel of each pixel, black where it is transparent."""
    colours = np.asarray(image.convert("RGBA")).astype(np.uint16)
    brightest: np.ndarray = colours[..., :3].max(-1) * colours[..., 3] // 255
    return brightest


def _turned(mask: np.ndarray, orientation: int) -> Bool[np.ndarray, "H W"]:
    """A mask as EXIF turns its image."""
    turns = {
        2: lambda m: m[:, ::-1], 3: lambda m: m[::-1, ::-1], 4: lambda m: m[::-1], 5: lambda m: m.T,
        6: lambda m: m.T[:, ::-1], 7: lambda m: m.T[::-1, ::-1], 8: lambda m: m.T[::-1],
    }  # fmt: skip
    return np.ascontiguousarray(turns.get(orientation, lambda m: m)(mask))
