"""Where the tokens of an image lie on it, of a model whose processor is not known: what known processors do is tried, and measured.

The tower's blocks are silenced, so that each patch keeps to itself, and marks are painted on a grey image. A layout is taken if
every mark changes the token whose cell holds it more than any other of its grid, on images of several forms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gnomon.core.models.architectures import geometry
from gnomon.core.models.architectures.parts import Grid, ImageLayout, Tile
from gnomon.core.models.architectures.sight import FAILURES, entering
from gnomon.errors import ModelMismatch

GREY, MARKS, FEWEST = 90, 5, 8
"""Grey value of the images, marks that are painted on each, and the fewest on all of them that say something."""

FORMS = ((1.0, 1.0), (1.35, 1.0), (1.0, 1.9), (2.6, 1.0))
"""Width and height of the images, in units."""


def measured_grid(handle: Any) -> Grid | None:
    """The first of the layouts of known processors that holds on a model; None where none does, or its tower has not all sites.

    Args:
        handle: a handle with the sites of a vision-language model, whose `show` makes a batch of pictures.
    """
    sites = handle.sites
    blocks = range(len(sites.stacks["vision"].blocks)) if "vision" in sites.stacks else ()
    silent = [f"vision.{i}.{part}" for i in blocks for part in ("attn_out", "mlp_out")]
    if not blocks or not all(site in sites for site in silent):
        return None
    edits = dict.fromkeys(silent, lambda hidden, step: torch.zeros_like(hidden))
    seen = handle.show([_grey((64, 64))])
    unit = max(64, 10 * math.isqrt(seen[0].ids.count(sites.top.image_token)))
    for grid in geometry.GRIDS:
        marks = 0
        try:
            for width, height in FORMS:
                right = _marks_right(handle, grid, edits, (int(unit * width), int(unit * height)))
                if not right:
                    break
                marks += right
            else:
                if marks >= FEWEST:
                    return grid
        except (ModelMismatch, ZeroDivisionError, *FAILURES):
            continue  # this processor's settings are not those of the known one
    return None


def _marks_right(handle: Any, grid: Grid, edits: Mapping[str, Any], size: tuple[int, int]) -> int:
    """How many marks on an image of a size are seen by the tokens that a layout names; 0 where one of them is not."""
    token, plain = handle.sites.top.image_token, _grey(size)
    (seen,) = handle.show([plain])
    n_tokens = seen.ids.count(token)
    layout = grid(handle.processor, handle.model.config, size, seen.pixels, n_tokens)
    if layout is None or layout.n_tokens != n_tokens or not layout.tiles:
        return 0
    boxes = list(_boxes(layout))
    if not boxes:
        return 0
    batch = handle.gather([seen, *handle.show([_marked(plain, box) for _, _, box in boxes])])
    with handle.edit(edits):
        states = entering(handle.model, batch.inputs("vlm"), handle.sites.top.blocks[0])
    mask = batch.image_mask.cpu()
    vectors = [row[is_image] for row, is_image in zip(states, mask, strict=True)]
    is_right = all(
        _is_seen(layout, tile, cell, box, (marked - vectors[0]).norm(dim=-1).numpy())
        for (tile, cell, box), marked in zip(boxes, vectors[1:], strict=True)
    )
    return len(boxes) if is_right else 0


def _is_seen(
    layout: ImageLayout, tile: Tile, cell: tuple[int, int], box: Sequence[int], change: np.ndarray
) -> bool:
    """Whether a mark changed the token of its cell most, and that of another tile that shows the place."""
    within = change[tile.tokens]
    if not within.max() > 0 or int(within.argmax()) != cell[0] * within.shape[1] + cell[1]:
        return False
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    tokens = [(other, other.at(x, y)) for other in layout.tiles]
    return all(token is None or change[token] > 0.3 * change[other.tokens].max() for other, token in tokens)


def _boxes(layout: ImageLayout) -> Iterator[tuple[Tile, tuple[int, int], tuple[int, int, int, int]]]:
    """Cells spread over the tiles of a layout, and whole pixels well within each."""
    drawn = np.random.default_rng(0)
    cells = [(tile, cell) for tile in layout.tiles for cell in np.ndindex(tile.tokens.shape)]
    count = 0
    for i in drawn.permutation(len(cells)):
        tile, cell = cells[i]
        box = _inside(tile.cell(*cell), layout.size)
        if box is not None:
            count += 1
            yield tile, (cell[0], cell[1]), box
        if count == MARKS:
            return


def _inside(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Whole pixels in the middle of a box; None where there are none, or they lie outside of the image."""
    left, top, right, bottom = box
    across, down = (right - left) / 4, (bottom - top) / 4
    whole = (math.ceil(left + across), math.ceil(top + down), int(right - across), int(bottom - down))
    is_seen = whole[0] >= 0 and whole[1] >= 0 and whole[2] <= size[0] and whole[3] <= size[1]
    return whole if is_seen and whole[0] < whole[2] and whole[1] < whole[3] else None


def _grey(size: tuple[int, int]) -> Any:
    from PIL import Image

    return Image.new("RGB", size, (GREY, GREY, GREY))


def _marked(image: Any, box: Sequence[int]) -> Any:
    marked = image.copy()
    marked.paste((255, 255, 255), tuple(box))
    return marked
