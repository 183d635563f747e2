"""Pictures: what is predicted as a tint, what is true as an outline, regions as boxes."""

import numpy as np
import pytest
from PIL import Image

from gnomon.core.vision import Region, overlay, sheet
from gnomon.core.vision.draw import borders
from gnomon.errors import BadInput


def test_prediction_is_tinted_and_truth_outlined():
    mask, truth = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    mask[5:10, 5:10], truth[4:12, 15:25] = True, True
    drawn = np.asarray(overlay(Image.new("RGB", (30, 20), (100, 100, 100)), mask=mask, truth=truth)).astype(
        int
    )
    assert drawn[7, 7].tolist() == [178, 120, 60]  # half of the colour, half of the picture
    assert drawn[4, 20].tolist() == [255, 255, 255] and drawn[3, 20].tolist() == [0, 0, 0]
    assert drawn[8, 20].tolist() == [100, 100, 100] and drawn[0, 0].tolist() == [100, 100, 100]


def test_borders_by_hand():
    area = np.zeros((5, 5), bool)
    area[1:4, 1:4] = True
    inner, outer = borders(area)
    assert inner.sum() == 8 and not inner[2, 2] and outer.sum() == 12
    whole = np.ones((3, 3), bool)
    assert borders(whole)[0].sum() == 8  # the picture's border counts as one


def test_regions_have_a_colour_for_each_name():
    regions = [
        Region((2, 2, 12, 12), "cat"),
        Region((20, 2, 32, 12), "dog", 0.5),
        Region((2, 30, 12, 38), "cat"),
    ]
    drawn = np.asarray(overlay(Image.new("RGB", (60, 40)), regions=regions))
    assert drawn[11, 6].tolist() == drawn[37, 6].tolist() != drawn[11, 24].tolist()
    assert drawn[20, 50].tolist() == [0, 0, 0]


def test_heat_where_nothing_is_known_stays_grey():
    heat = np.array([[0.0, 1.0, np.nan]])
    drawn = np.asarray(overlay(Image.new("RGB", (3, 1), (200, 200, 200)), heat)).astype(int)
    assert drawn[0, 0].tolist() == drawn[0, 2].tolist() == [120, 120, 120]
    assert drawn[0, 1, 0] > 200
    with pytest.raises(BadInput, match=r"mask is \[2, 2\]"):
        overlay(Image.new("L", (3, 1)), mask=np.zeros((2, 2), bool))


def test_a_sheet_has_a_cell_for_each_picture():
    pictures = [Image.new("RGB", (20 + i, 10), (i, i, i)) for i in range(5)]
    whole = sheet(pictures, columns=3, captions=["short", "a caption that is far too long", "", "4", "5"])
    assert whole.size == (3 * 24 + 2 * 4, 2 * (10 + 14) + 4)
    pixels = np.asarray(whole)
    assert (
        pixels[0, 0].tolist() == [0, 0, 0]
        and pixels[0, 28].tolist() == [1, 1, 1]
        and pixels[28, 28].tolist() == [4, 4, 4]
    )
    assert pixels[28, 56].tolist() == [255, 255, 255]  # the sixth cell is empty
    with pytest.raises(BadInput, match="2 captions"):
        sheet(pictures, captions=["a", "b"])
