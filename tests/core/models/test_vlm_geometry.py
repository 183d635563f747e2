"""Where image tokens lie: a mark painted on an image is found again in the token whose cell holds it.

The check does not trust the layout: the tower's blocks are silenced, so that each patch keeps to itself, and the real
processor and the real model say which image tokens of the language model a painted mark has changed.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fixtures_vlm import FAMILIES, GRIDLESS, picture, vlm
from gnomon.core.models.architectures.parts import Tile
from gnomon.core.vision.frames import Frame

GRIDS = [name for name in FAMILIES if name not in GRIDLESS]
GREY = 90


def changes(handle, size, box):
    """How much each image token changes when a white box is painted on a grey image."""
    plain = np.full((size[1], size[0], 3), GREY, dtype=np.uint8)
    marked = plain.copy()
    left, top, right, bottom = box
    marked[top:bottom, left:right] = 255
    silent = {
        f"vision.{i}.{part}": lambda hidden, step: torch.zeros_like(hidden)
        for i in range(len(handle.sites.stacks["vision"].blocks))
        for part in ("attn_out", "mlp_out")
    }
    batch = handle.encode([handle.prompt("x")] * 2, images=[Image.fromarray(plain), Image.fromarray(marked)])
    with handle.edit(silent):
        tokens = handle.capture(batch, ["embed"], where=batch.image_mask)["embed"]
    before, after = tokens.chunk(2)
    return batch.layouts[0][0], (after - before).norm(dim=-1).numpy()


def inside(box, size, margin=0.25):
    """Whole pixels well within a box and the image; `None` where there are none."""
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    left, right = int(np.ceil(left + across)), int(right - across)
    top, bottom = int(np.ceil(top + down)), int(bottom - down)
    is_seen = left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]
    return (left, top, right, bottom) if is_seen and right > left and bottom > top else None


def overlaps(cell, box, pixel=1):
    """Whether a cell and a box have a place in common, within the pixel that resizing blurs."""
    return (
        cell[0] < box[2] + pixel
        and box[0] < cell[2] + pixel
        and cell[1] < box[3] + pixel
        and box[1] < cell[3] + pixel
    )


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=12)
@given(width=st.integers(32, 110), height=st.integers(32, 110), draw=st.randoms(use_true_random=False))
def test_a_mark_is_found_in_its_cell_and_back(name, width, height, draw):
    handle, size = vlm(name), (width, height)
    ((layout,),) = handle.encode([handle.prompt("x")], images=[picture(0, *size)]).layouts
    assert layout.size == size
    tile_index = draw.randrange(len(layout.tiles))
    tile = layout.tiles[tile_index]
    cells = [(r, c) for r, c in np.ndindex(tile.tokens.shape) if inside(tile.cell(r, c), size) is not None]
    row, column = draw.choice(cells)
    box = inside(tile.cell(row, column), size)
    again, change = changes(handle, size, box)
    assert again.tiles[tile_index].box == tile.box
    within = change[tile.tokens]
    assert np.unravel_index(within.argmax(), within.shape) == (row, column)
    # Back: what was painted lies in the token that changed most, by its own cell.
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    assert tile.at(x, y) == tile.tokens[row, column]
    # Another tile that shows the place, shows the mark at the place.
    for other in layout.tiles:
        token = other.at(x, y)
        if token is not None:
            assert change[token] > 0
            # Its cells lie otherwise, so the mark may cover several: the one that changed most is one of those.
            seen = change[other.tokens]
            assert overlaps(other.cell(*map(int, np.unravel_index(seen.argmax(), seen.shape))), box)


@pytest.mark.parametrize("name", GRIDS)
def test_every_image_token_with_a_place_is_in_one_cell(name):
    handle = vlm(name)
    for size in ((40, 30), (30, 80), (110, 35)):
        ((layout,),) = handle.encode([handle.prompt("x")], images=[picture(0, *size)]).layouts
        tokens = np.concatenate([tile.tokens.ravel() for tile in layout.tiles])
        assert len(set(tokens.tolist())) == len(tokens)
        assert set(tokens.tolist()) <= set(range(layout.n_tokens))
        if name != "llava_next":  # its line ends have no place
            assert len(tokens) == layout.n_tokens


@pytest.mark.parametrize("name", GRIDLESS)
def test_tokens_that_have_looked_everywhere_have_no_place(name):
    handle = vlm(name)
    ((layout,),) = handle.encode([handle.prompt("x")], images=[picture(0)]).layouts
    assert layout.tiles == ()
    assert layout.n_tokens == {"instructblip": 5, "blip2": 5, "idefics2": 4, "idefics2-split": 20}[name]


class Settings:
    """Of an image processor."""

    def __init__(self, **values):
        self.__dict__ |= values


CROP = {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}, "size": {"shortest_edge": 24}}


@pytest.mark.parametrize(
    ("image_processor", "size", "expected"),
    [
        # 80 x 60 becomes 32 x 24; 4 of 32 columns are cut off on either side, 10 of 80 pixels.
        (Settings(**CROP), (80, 60), ((24, 24), (10, 0, 70, 60))),
        (Settings(**CROP), (60, 80), ((24, 24), (0, 10, 60, 70))),
        # Padded to 80 x 80: the frame begins 10 pixels above the image.
        (Settings(do_pad=True, **CROP), (80, 60), ((24, 24), (0, -10, 80, 70))),
        (Settings(size={"height": 10, "width": 20}), (80, 60), ((20, 10), (0, 0, 80, 60))),
        # Not resized: 40 x 20 is too low for the crop and gets 2 rows above and below.
        (Settings(do_resize=False, **{**CROP, "size": {}}), (40, 20), ((24, 24), (8, -2, 32, 22))),
    ],
)
def test_what_a_processed_image_covers(image_processor, size, expected):
    frame = Frame.of(image_processor, size)
    assert (frame.input, frame.box) == expected


def test_a_tiled_image_by_hand():
    """LLaVA-NeXT, tower 24 in 3 x 3 patches: 100 x 40 takes 72 x 24, of which the image fills 60 x 24."""
    ((layout,),) = vlm("llava_next").encode(["<image>"], images=[picture(0, 100, 40)]).layouts
    whole, parts = layout.tiles
    assert whole == Tile(whole.tokens, (0, 0, 100, 40))
    assert whole.tokens.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    # 9 columns of patches; by the proportions 7.5 hold the image, int(7) of them and so one is taken off on either side.
    assert parts.tokens.tolist() == [
        [9, 10, 11, 12, 13, 14, 15],
        [17, 18, 19, 20, 21, 22, 23],
        [25, 26, 27, 28, 29, 30, 31],
    ]
    # The image begins 6 pixels from the left; the columns left over begin at 8 and end at 64, in pixels of 100/60.
    assert parts.box == pytest.approx((2 * 100 / 60, 0, 58 * 100 / 60, 40))
    assert layout.n_tokens == 33
    assert parts.at(50, 20) == 20
    assert parts.at(3, 20) is None  # lost with the column that was taken off
