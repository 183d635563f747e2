"""An image of any kind as RGB of eight bits, upright; what cannot be turned into that without a guess is refused."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

MOST_PIXELS = 80_000_000
"""Larger images are refused before they are unpacked: a few kilobytes can claim to be gigabytes."""

_BITS_PER_SAMPLE = 258
"""TIFF's tag for it."""


def open_image(source: Any, name: str = "The image", *, alpha: str = "white") -> Image:
    """A PIL image or the file at a path as RGB of eight bits, upright by its EXIF orientation.

    16 bits become 8 by their upper half, transparent parts lie over `alpha`, of several frames the first counts (logged).

    Args:
        source: a PIL image or a path.
        name: what an error calls it.
        alpha: colour behind transparent parts, by a name or as "#rrggbb".

    Raises:
        BadInput: it is neither, cannot be read, has more than `MOST_PIXELS` pixels, or holds numbers whose black and white are
            not known (mode F, 32-bit integers).
    """
    with opened(source, name) as image:
        return _upright(image, name if image is source else f'{name}: "{source}"', alpha)


@contextmanager
def opened(source: Any, name: str) -> Iterator[Image]:
    """A PIL image as it is, or the file at a path, open; what goes wrong while it is read is said in one sentence.

    Raises:
        BadInput: as of `open_image`.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, Image.Image):
        yield source
        return
    if not isinstance(source, str | Path):
        raise BadInput(f"{name} is a {type(source).__name__}; give a PIL image or the path of a file.")
    try:
        with warnings.catch_warnings():
            # Pillow has a limit of its own, which only warns up to twice as many pixels; ours is below it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise BadInput(_too_large(f'{name}: "{source}"', image.size))
                yield image
    except FileNotFoundError as error:
        raise BadInput(f'{name}: there is no file "{source}". Check the path.') from error
    except Image.DecompressionBombError as error:
        raise BadInput(_too_large(f'{name}: "{source}"')) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise BadInput(
            f'{name}: "{source}" cannot be read as an image ({error}). Save it again as PNG or JPEG.'
        ) from error


def _upright(image: Image, name: str, alpha: str) -> Image:
    from PIL import ImageOps

    if image.width * image.height > MOST_PIXELS:
        raise BadInput(_too_large(name, image.size))
    if getattr(image, "n_frames", 1) > 1:
        log.warning("%s has %d frames; the first is taken.", name, getattr(image, "n_frames", 1))
        image.seek(0)
    return ImageOps.exif_transpose(_rgb(image, name, alpha))


def _rgb(image: Image, name: str, alpha: str) -> Image:
    """The image in RGB, its EXIF orientation kept."""
    import numpy as np
    from PIL import Image

    # First: some tags come behind the pixels, and a TIFF is turned by this alone.
    _load(image)
    exif = image.getexif()
    if image.mode == "F" or (image.mode.startswith("I") and not _is_16_bits(image)):
        low, high = image.getextrema()
        raise BadInput(
            f"{name} has values in {low:g}..{high:g} of mode {image.mode}, of which it is not known what is black and what is "
            "white. Save it with 8 or 16 bits."
        )
    has_alpha = "A" in image.mode or "a" in image.mode or "transparency" in image.info
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        eight = Image.fromarray((values >> 8).astype(np.uint8))
        if has_alpha:  # one grey value stands for transparency
            is_shown = values != int(image.info["transparency"])
            eight.putalpha(Image.fromarray(is_shown.astype(np.uint8) * 255))
        image = eight
    if has_alpha:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, alpha), image)
    rgb = image.convert("RGB")
    rgb.info = {}
    rgb.getexif().clear()
    if 0x0112 in exif:
        rgb.getexif()[0x0112] = exif[0x0112]
    return rgb


def _load(image: Image) -> None:
    """Read the pixels of a file, where they are not read yet."""
    path = getattr(image, "filename", None)
    try:
        # Opened by its path, an unpacked TIFF would be mapped into memory with width and height exchanged before it is turned.
        if path:
            image.filename = ""  # type: ignore[attr-defined]
        image.load()
    finally:
        if path:
            image.filename = path  # type: ignore[attr-defined]


def _is_16_bits(image: Image) -> bool:
    """Whether the integers of a mode such as "I;16" or "I" are of 16 bits, so that 65535 is white."""
    if image.mode.startswith("I;16"):
        return True
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (0,))
    return getattr(image, "format", None) in ("PNG", "PPM") or tuple(bits) == (16,)


def _too_large(name: str, size: tuple[int, int] | None = None) -> str:
    shape = "" if size is None else f" ({size[0]} x {size[1]})"
    return f"{name} has more than {MOST_PIXELS // 10**6} million pixels{shape}. Make it smaller first."
