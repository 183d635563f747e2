"""Boxes: forms by hand and by round trip, agreement by counting pixels, and which are left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.vision.boxes import around, clean, convert, iou, overlaps
from gnomon.errors import BadConfig, BadInput

FORMS = ("xyxy", "xywh", "cxcywh")
corner = st.integers(0, 20)
box = st.tuples(corner, corner, corner, corner).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1)
)


def test_forms_by_hand():
    assert convert([10, 20, 30, 60], "xyxy", "xywh").tolist() == [[10, 20, 20, 40]]
    unit = convert([0.5, 0.5, 0.2, 0.4], "cxcywh", "xyxy", units=("unit", "pixels"), size=(100, 50))
    assert unit.tolist() == [[40, 15, 60, 35]]
    with pytest.raises(BadConfig, match="size"):
        convert([0, 0, 1, 1], "xyxy", "xywh", units=("unit", "pixels"))
    assert convert([], "xyxy", "xywh").shape == (0, 4)
    with pytest.raises(BadInput, match="four numbers"):
        convert([[1, 2, 3]], "xyxy", "xywh")


@given(
    boxes=st.lists(box, min_size=1), forms=st.permutations(FORMS), units=st.permutations(["pixels", "unit"])
)
def test_there_and_back_is_where_it_was(boxes, forms, units):
    there = convert(boxes, forms[0], forms[1], units=tuple(units), size=(37, 21))
    back = convert(there, forms[1], forms[0], units=tuple(units[::-1]), size=(37, 21))
    np.testing.assert_allclose(back, np.array(boxes, float), atol=1e-9)


@given(a=st.lists(box, min_size=1, max_size=4), b=st.lists(box, min_size=1, max_size=4))
@settings(deadline=None)
def test_agreement_is_that_of_pixels(a, b):
    def area(of):
        mask = np.zeros((22, 22), bool)
        mask[of[1] : of[3], of[0] : of[2]] = True
        return mask

    for i, first in enumerate(a):
        for k, second in enumerate(b):
            both, either = (area(first) & area(second)).sum(), (area(first) | area(second)).sum()
            assert overlaps(a, b)[i, k] == both
            assert iou(a, b)[i, k] == pytest.approx(both / either)
    np.testing.assert_allclose(iou(a, b), iou(b, a).T)


def test_boxes_that_cannot_be_used_are_named():
    boxes = [
        [0, 0, 10, 10],
        [5, 5, 3, 9],
        [4, 4, 4, 8],
        [np.nan, 0, 1, 1],
        [-6, 0, 4, 10],
        [-4, 0, 6, 10],
        [90, 40, 110, 60],
    ]
    cleaned = clean(boxes, (100, 50))
    assert cleaned.kept == [0, 5] and cleaned.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 6, 10]]
    assert cleaned.dropped == {
        1: "corners exchanged", 2: "without an area", 3: "not finite", 4: "less than 50% on the image",
        6: "less than 50% on the image",
    }  # fmt: skip
    assert cleaned.reasons()["less than 50% on the image"] == 2
    assert clean([[-5, 0, 5, 10]], (100, 50)).kept == [0]  # exactly half


def test_a_box_around_a_mask():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    assert around([mask]).tolist() == [[3, 2, 7, 4]]
    with pytest.raises(BadInput, match="Mask 1 is empty"):
        around([mask, np.zeros((2, 2), bool)])
