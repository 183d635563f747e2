"""From the tokens of an image back to the original's pixels: what each kind of processor does to an image.

Every function here has the form `vlm.LayOut`. A processor's sizes are read from its own settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gnomon.core.models.architectures.parts import Grid, ImageLayout, LayOut, Tile
from gnomon.core.vision.frames import Frame
from gnomon.errors import ModelMismatch

Size = tuple[int, int]
"""Width and height, in pixels."""


def llava(processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int) -> ImageLayout:
    """One grid of patches, row by row; a class token first where the model keeps it."""
    extra = 0 if config.vision_feature_select_strategy == "default" else processor.num_additional_image_tokens
    return _one_grid(processor, config, size, extra)


def paligemma(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int
) -> ImageLayout:
    """One grid of patches, row by row."""
    return _one_grid(processor, config, size, 0)


def llava_next(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int
) -> ImageLayout:
    """The whole image squeezed into one tile, then the image over several, its padding taken off, a token after each row."""
    from transformers.image_processing_utils import select_best_resolution

    chosen, side = processor.image_processor, config.vision_config.image_size
    patches = side // config.vision_config.patch_size
    cut = chosen.crop_size or {"height": side}
    if cut["height"] != side or (chosen.size.get("shortest_edge") or chosen.size["height"]) != side:
        raise ModelMismatch(
            f"The image processor makes tiles of {dict(chosen.size)} cropped to {dict(cut)}; "
            f"the vision tower takes {side}. Give both sizes the tower's."
        )
    width, height = size
    whole = Tile(np.arange(patches**2).reshape(patches, patches), (0.0, 0.0, float(width), float(height)))
    full_height, full_width = select_best_resolution((height, width), chosen.image_grid_pinpoints)
    # The image keeps its proportions and stands in the middle.
    if full_width / width < full_height / height:
        new_width, new_height = full_width, min(math.ceil(height * full_width / width), full_height)
    else:
        new_width, new_height = min(math.ceil(width * full_height / height), full_width), full_height
    x, y = (full_width - new_width) // 2, (full_height - new_height) // 2
    rows, columns = full_height // side * patches, full_width // side * patches
    # The model takes off whole rows or columns of cells, counted by the proportions.
    off_rows = off_columns = 0
    if width / height > columns / rows:
        off_rows = (rows - int(round(height * (columns / width), 7))) // 2
    else:
        off_columns = (columns - int(round(width * (rows / height), 7))) // 2
    cell = side / patches
    across, down = width / new_width, height / new_height
    box = (
        (off_columns * cell - x) * across,
        (off_rows * cell - y) * down,
        ((columns - off_columns) * cell - x) * across,
        ((rows - off_rows) * cell - y) * down,
    )
    rows, columns = rows - 2 * off_rows, columns - 2 * off_columns
    with_ends = patches**2 + np.arange(rows * (columns + 1)).reshape(rows, columns + 1)
    return ImageLayout(size, patches**2 + with_ends.size, (whole, Tile(with_ends[:, :-1], box)))


def qwen(processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int) -> ImageLayout:
    """One grid as large as the image asks for, several patches merged into a token."""
    merge = config.vision_config.spatial_merge_size
    _, rows, columns = (int(n) for n in pixels["image_grid_thw"][index])
    return _whole(size, rows // merge, columns // merge)


def idefics3(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int
) -> ImageLayout:
    """The image stretched over tiles, row by row, and the whole image in one more tile at the end."""
    side = math.isqrt(processor.image_seq_len)
    rows, columns = _splits(processor.image_processor, size)
    cells = np.arange(side**2).reshape(side, side)
    width, height = (n / splits for n, splits in zip(size, (columns, rows), strict=True))
    tiles = [
        Tile(cells + (i * columns + j) * side**2, (j * width, i * height, (j + 1) * width, (i + 1) * height))
        for i in range(rows)
        for j in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(Tile(cells + len(tiles) * side**2, (0.0, 0.0, float(size[0]), float(size[1]))))
    return ImageLayout(size, len(tiles) * side**2, tuple(tiles))


def queries(processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int) -> ImageLayout:
    """Tokens that have looked at the whole image: no grid."""
    return ImageLayout(size, config.num_query_tokens)


def resampled(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], index: int
) -> ImageLayout:
    """The same, for the whole image and for its four quarters where it is split."""
    tiles = 5 if processor.image_processor.do_image_splitting else 1
    return ImageLayout(size, tiles * processor.image_seq_len)


def _whole(size: Size, rows: int, columns: int) -> ImageLayout:
    """One grid over the whole image."""
    cells = np.arange(rows * columns).reshape(rows, columns)
    return ImageLayout(size, cells.size, (Tile(cells, (0.0, 0.0, float(size[0]), float(size[1]))),))


def _one_grid(processor: Any, config: Any, size: Size, extra: int) -> ImageLayout:
    """One grid of patches over what the processor leaves of the image, after `extra` tokens without a place."""
    patch = config.vision_config.patch_size
    seen = Frame.of(processor.image_processor, size)
    (width, height), (left, top, right, bottom) = seen.input, seen.box
    rows, columns = height // patch, width // patch
    # Pixels after the last whole patch are not seen.
    box = (
        left,
        top,
        left + (right - left) * columns * patch / width,
        top + (bottom - top) * rows * patch / height,
    )
    cells = extra + np.arange(rows * columns).reshape(rows, columns)
    return ImageLayout(size, extra + cells.size, (Tile(cells, box),))


def _splits(image_processor: Any, size: Size) -> tuple[int, int]:
    """Rows and columns of tiles that an Idefics 3 processor cuts an image into."""
    if not image_processor.do_image_splitting:
        return 1, 1
    width, height = size
    if image_processor.do_resize:
        longest, ratio = image_processor.size["longest_edge"], width / height
        # Multiples of two, and never more than 4096.
        if width >= height:
            width, height = longest, int(longest / ratio)
            height += height % 2
        else:
            width, height = int(longest * ratio), longest
            width += width % 2
        if max(width, height) > 4096:
            ratio = width / height
            width, height = (4096, int(4096 / ratio)) if width >= height else (int(4096 * ratio), 4096)
        width, height = max(width, 1), max(height, 1)
    side, ratio = image_processor.max_image_size["longest_edge"], width / height
    if width >= height:
        columns = math.ceil(width / side)
        return math.ceil(int(columns * side / ratio) / side), columns
    rows = math.ceil(height / side)
    return rows, math.ceil(int(rows * side * ratio) / side)


# Layouts of processors that are not known: each is tried on a model and measured (see `measure.py`).


def _by_report(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], n: int
) -> ImageLayout | None:
    """One grid over the whole image, as the processor reports it: frames, rows and columns of patches, some merged into a token."""
    grids = [v for k, v in pixels.items() if "grid" in k and v.dim() == 2 and v.shape[-1] in (2, 3)]
    if not grids:
        return None
    rows, columns = (int(v) for v in grids[0][0, -2:])
    merge = math.isqrt(rows * columns // n)
    return _whole(size, rows // merge, columns // merge)


def _stretched(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], n: int
) -> ImageLayout | None:
    """One grid over the whole image, in the proportions of the processed one."""
    shape = _seen_shape(pixels)
    return None if shape is None else _whole(size, *shape_of(n, *shape))


def _cropped(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], n: int
) -> ImageLayout | None:
    """One grid over what padding, resizing and cropping leave."""
    seen = Frame.of(processor.image_processor, size)
    rows, columns = shape_of(n, seen.input[1], seen.input[0])
    return ImageLayout(size, n, (Tile(np.arange(n).reshape(rows, columns), seen.box),))


def _padded(
    processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], n: int
) -> ImageLayout | None:
    """One square grid over the image in the middle of a square."""
    side, rows = max(size), math.isqrt(n)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    cells = np.arange(rows * rows).reshape(rows, rows)
    return ImageLayout(size, rows * rows, (Tile(cells, (left, top, left + side, top + side)),))


def _tiles(first: bool) -> Grid:
    """Tiles of the stretched image, row by row, and the whole image in one more tile, `first` or last."""

    def lay_out(
        processor: Any, config: Any, size: Size, pixels: Mapping[str, Tensor], n: int
    ) -> ImageLayout | None:
        images = [v for v in pixels.values() if v.dim() >= 4 and v.shape[-3] == 3]
        if not images:
            return None
        tiles = math.prod(images[0].shape[:-3])
        if tiles == 1:
            return _stretched(processor, config, size, pixels, n)
        each, parts = n // tiles, tiles - 1
        side_rows, side_columns = shape_of(each, *images[0].shape[-2:])
        # As many rows and columns as come nearest to the image's proportions.
        rows = min(
            (r for r in range(1, parts + 1) if parts % r == 0),
            key=lambda r: abs(size[0] / size[1] - parts / r / r),
        )
        columns = parts // rows
        cells = np.arange(each).reshape(side_rows, side_columns)
        width, height = size[0] / columns, size[1] / rows
        whole = Tile(cells + (0 if first else parts * each), (0.0, 0.0, float(size[0]), float(size[1])))
        grid = [
            Tile(
                cells + (i * columns + j + first) * each,
                (j * width, i * height, (j + 1) * width, (i + 1) * height),
            )
            for i in range(rows)
            for j in range(columns)
        ]
        return ImageLayout(size, tiles * each, (whole, *grid) if first else (*grid, whole))

    return lay_out


def _as_known(lay_out: LayOut) -> Grid:
    """A known processor's layout."""
    return lambda processor, config, size, pixels, n: lay_out(processor, config, size, pixels, 0)


def _seen_shape(pixels: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Height and width of the processed image, without the padding to others' size."""
    for name, value in pixels.items():
        if name.endswith("sizes") and value.dim() == 2 and value.shape == (1, 2):
            return int(value[0, 0]), int(value[0, 1])
    images = [value for value in pixels.values() if value.dim() >= 4 and value.shape[-3] == 3]
    return (int(images[0].shape[-2]), int(images[0].shape[-1])) if images else None


def shape_of(n: int, height: float, width: float) -> tuple[int, int]:
    """Rows and columns of n cells in the proportions of height and width.

    >>> shape_of(12, 30, 40)
    (3, 4)
    """
    rows = round(math.sqrt(n * height / width))
    return rows, n // max(rows, 1)


GRIDS: tuple[Grid, ...] = (
    _by_report,
    _stretched,
    _cropped,
    _padded,
    _tiles(first=False),
    _tiles(first=True),
    _as_known(llava),
    _as_known(llava_next),
    _as_known(idefics3),
)
"""The plainest first."""
