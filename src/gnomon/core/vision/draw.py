"""Pictures for pages: a heat map, a mask, its truth and boxes over an image, and sheets of pictures with captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from gnomon.core.vision.outlines import Region
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

WARM = np.array([255.0, 140.0, 20.0])
"""Colour of what is predicted: of heat and of masks."""
TINT = 0.5
"""Share of it over the picture in a mask."""
TRUTH = (255, 255, 255)
"""Colour of the outline of what is true, on a black one: seen on any picture, in grey too."""
LINES = ("#ff8c14", "#1c7ed6", "#2b8a3e", "#c2255c", "#7048e8", "#e8590c", "#0b7285", "#5c940d")
"""Colours of boxes, by the number of their name."""


def overlay(
    picture: Image,
    heat: Float[np.ndarray, "H W"] | None = None,
    *,
    mask: Bool[np.ndarray, "H W"] | None = None,
    truth: Bool[np.ndarray, "H W"] | None = None,
    regions: Sequence[Region] = (),
) -> Image:
    """A picture with what is predicted as a tint, what is true as an outline, and regions as boxes with their names.

    Args:
        picture: any mode.
        heat: in colour from its smallest value to its largest over the picture in dark grey; nan stays grey.
        mask: tinted.
        truth: outlined.
        regions: boxes, each name in a colour of its own; a score stands behind the name.

    Raises:
        BadInput: a map is not of the picture's size.
    """
    from PIL import Image, ImageDraw

    for name, area in (("heat", heat), ("mask", mask), ("truth", truth)):
        if area is not None and area.shape != (picture.height, picture.width):
            raise BadInput(
                f"{name} is {list(area.shape)}; the picture has {picture.height} rows and {picture.width} columns."
            )
    colours = np.asarray(picture.convert("RGB"), np.float64)
    if heat is not None:
        colours = _heated(picture, heat)
    if mask is not None:
        share = np.where(mask, TINT, 0.0)[..., None]
        colours = colours * (1 - share) + WARM * share
    if truth is not None:
        inner, outer = borders(truth)
        colours = np.where(
            outer[..., None], 0.0, np.where(inner[..., None], np.array(TRUTH, np.float64), colours)
        )
    drawn = Image.fromarray(colours.round().astype(np.uint8))
    pen, names = ImageDraw.Draw(drawn), list(dict.fromkeys(region.text for region in regions))
    width = max(1, round(max(picture.size) / 250))
    for region in regions:
        colour = LINES[names.index(region.text) % len(LINES)]
        left, top, right, bottom = region.box
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour, width=width)
        label = " ".join(filter(None, (region.text, None if region.score is None else f"{region.score:.2f}")))
        if label:
            at = (left + width + 1, top + width)
            pen.rectangle(pen.textbbox(at, label), fill=colour)
            pen.text(at, label, fill="white")
    return drawn


def borders(area: Bool[np.ndarray, "H W"]) -> tuple[Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """The outermost pixels of an area, and those around it."""
    padded = np.pad(area, 1)
    around = [padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x] for y, x in _SIDES]
    return area & ~np.logical_and.reduce(around), ~area & np.logical_or.reduce(around)


_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def sheet(pictures: Sequence[Image], columns: int = 4, captions: Sequence[str] = (), gap: int = 4) -> Image:
    """Pictures side by side, row by row, each in a cell of the largest's size, with its caption under it.

    Raises:
        BadInput: there are no pictures, or not one caption for each.
    """
    from PIL import Image, ImageDraw

    if not pictures or (captions and len(captions) != len(pictures)):
        raise BadInput(f"A sheet of {len(pictures)} pictures with {len(captions)} captions.")
    columns = min(max(columns, 1), len(pictures))
    line = 14 if captions else 0
    width, height = (max(sizes) for sizes in zip(*(p.size for p in pictures), strict=True))
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + line + gap) - gap), "white")
    pen = ImageDraw.Draw(whole)
    for i, picture in enumerate(pictures):
        x, y = i % columns * (width + gap), i // columns * (height + line + gap)
        whole.paste(picture.convert("RGB"), (x, y))
        if captions:
            pen.text((x, y + height + 1), _fitting(pen, captions[i], width), fill="black")
    return whole


def _fitting(pen: object, text: str, width: int) -> str:
    """As much of a caption as a cell is wide."""
    while text and pen.textlength(text) > width:  # type: ignore[attr-defined]
        text = text.removesuffix("…")[:-1] + "…" if len(text) > 1 else ""
    return text


def _heated(picture: Image, heat: Float[np.ndarray, "H W"]) -> np.ndarray:
    is_known = np.isfinite(heat)
    low, high = (float(f(heat[is_known])) for f in (np.min, np.max)) if is_known.any() else (0.0, 0.0)
    share = (
        np.where(is_known, (heat - low) / (high - low), 0.0)[..., None]
        if high > low
        else np.zeros((*heat.shape, 1))
    )
    grey = np.asarray(picture.convert("L"), np.float64)[..., None] * 0.6
    return np.asarray(grey * (1 - 0.75 * share) + WARM * 0.75 * share)
