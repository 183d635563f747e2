"""The way into a network and back: four kinds of frames by one property, and each by the class it is modelled on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gnomon.core.vision import Frame
from gnomon.errors import BadInput

sides = st.integers(20, 90)
KINDS = {
    "letterbox": lambda size: Frame.letterbox(size, 64),
    "letterbox, centre": lambda size: Frame.letterbox(size, 64, "centre"),
    "square": lambda size: Frame.square(size, 64),
    "square, centre": lambda size: Frame.square(size, 64, "centre"),
    "stretch": lambda size: Frame.stretch(size, 48, 64),
    "cover": lambda size: Frame.cover(size, 64, 64),
    "cover, wide": lambda size: Frame.cover(size, 80, 40),
}


def painted(size, box):
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", KINDS)
@given(width=sides, height=sides, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_painted_box_is_where_the_frame_says(kind, width, height, data):
    x0, y0 = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
    x1, y1 = data.draw(st.integers(x0 + 12, width)), data.draw(st.integers(y0 + 12, height))
    frame = KINDS[kind]((width, height))
    (box,) = frame.into([x0, y0, x1, y1])
    np.testing.assert_allclose(frame.back(box), [[x0, y0, x1, y1]], atol=1e-4)
    # The brightness of a row or column tells where an edge lies between pixels: 128 of 255 covers half of one.
    shown = np.asarray(frame.apply(painted((width, height), (x0, y0, x1, y1))), np.float64) / 255
    assert shown.shape == (frame.input[1], frame.input[0])
    low, high = np.clip(box[:2], 0, frame.input), np.clip(box[2:], 0, frame.input)
    if (high - low < 6).any():
        return  # hardly any of it is seen
    middle = ((low + high) / 2).astype(int)
    for axis, line in ((0, shown[middle[1]]), (1, shown[:, middle[0]])):
        inside = np.flatnonzero(line > 0.5)
        edges = inside[0], inside[-1] + 1
        scale = frame.scale[axis]
        assert abs(edges[0] - low[axis]) <= 0.5 + max(scale, 1) / 2
        assert abs(edges[1] - high[axis]) <= 0.5 + max(scale, 1) / 2
        assert abs(line.sum() - (high[axis] - low[axis])) <= 1.0 + max(scale, 1) / 2


def test_each_side_has_its_own_rounded_ratio():
    """640 x 427 to 224 is 224 x 149: y scales by 149/427 and not by .35."""
    frame = Frame.letterbox((640, 427), 224)
    np.testing.assert_allclose(frame.into([0, 0, 640, 427]), [[0, 0, 224, 149]])
    assert Frame.letterbox((640, 427), 224, "centre").into([0, 0, 640, 427]).tolist() == [[0, 37, 224, 186]]


def test_a_square_is_padded_before_it_is_resized():
    """OWLv2: both axes by the longer side."""
    np.testing.assert_allclose(
        Frame.square((640, 427), 224).into([0, 0, 640, 427]), [[0, 0, 224, 427 * 0.35]]
    )


def test_the_centre_is_cropped_as_clip_does():
    from transformers import CLIPImageProcessorPil

    clip = CLIPImageProcessorPil(
        size={"shortest_edge": 60}, crop_size={"height": 60, "width": 60}, do_normalize=False
    )
    for size in ((107, 80), (80, 107), (101, 77), (60, 90)):
        frame = Frame.cover(size, 60, 60)
        of = Frame.of(clip, size)
        assert frame.input == of.input and frame.box == pytest.approx(of.box)
        noise = Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        )
        theirs = clip(noise, return_tensors="np", do_rescale=False)["pixel_values"][0].transpose(1, 2, 0)
        ours = np.asarray(frame.apply(noise), np.float64)
        assert np.abs(ours - theirs)[4:-4, 4:-4].mean() < 1.0


def test_sam_pads_at_the_corner():
    from transformers import SamImageProcessorPil

    sam = SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, do_normalize=False, do_rescale=False
    )
    for size in ((107, 80), (80, 107), (101, 77)):
        flat = Image.new("RGB", size, (200, 200, 200))
        theirs = np.asarray(sam(flat, return_tensors="np")["pixel_values"][0])
        ours = np.asarray(Frame.letterbox(size, 64).apply(flat)).transpose(2, 0, 1)
        np.testing.assert_array_equal(ours > 100, theirs > 100)


def test_the_share_that_is_seen():
    frame = Frame.cover((200, 100), 50, 50)  # of 200 columns the middle 100
    assert frame.box == (50.0, 0.0, 150.0, 100.0)
    assert frame.seen([[0, 0, 100, 100], [60, 10, 90, 20], [0, 0, 50, 50], [5, 5, 5, 9]]).tolist() == [
        0.5,
        1.0,
        0.0,
        0.0,
    ]


def test_a_map_comes_back_with_nan_where_nothing_was_seen():
    frame = Frame.cover((8, 4), 4, 4)
    back = frame.back_map(np.arange(16.0).reshape(4, 4))
    assert np.isnan(back[:, [0, 1, 6, 7]]).all()
    np.testing.assert_allclose(back[:, 2:6], np.arange(16.0).reshape(4, 4))
    coarse = Frame.stretch((4, 4), 32, 32).back_map(np.array([[0.0, 1.0], [2.0, 3.0]]), smooth=False)
    assert coarse.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    smooth = Frame.stretch((4, 2), 8, 8).back_map(np.array([[0.0, 4.0]]))
    assert smooth[0].tolist() == [0.0, 1.0, 3.0, 4.0]  # the middles of cells lie at 1 and 3


@given(width=sides, height=sides)
@settings(max_examples=20, deadline=None)
def test_a_slope_comes_back_as_it_was(width, height):
    """A linear map has the value of its place, whatever lies between: here x, read back at each pixel's middle."""
    frame = Frame.letterbox((width, height), 64)
    xs = (np.arange(64) + 0.5) / frame.scale[0] + frame.box[0]
    back = frame.back_map(np.tile(xs, (64, 1)))
    inner = back[:, 2:-2]
    np.testing.assert_allclose(inner, np.tile(np.arange(width) + 0.5, (height, 1))[:, 2:-2], atol=1e-6)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(BadInput, match="of an image of"):
        Frame.stretch((4, 4), 2, 2).apply(Image.new("L", (5, 4)))
