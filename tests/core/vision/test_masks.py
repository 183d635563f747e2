"""Masks of every kind of file, turned with their image or not."""

import logging

import numpy as np
import pytest
from PIL import Image

from gnomon.core.vision import Stored, frames_of, open_image, open_mask
from gnomon.errors import BadInput

TRUTH = np.zeros((4, 6), bool)
TRUTH[1:3, 2:5] = True


def files(folder):
    """The same mask in all the ways in which people save one."""
    ones = TRUTH.astype(np.uint8)
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[TRUTH] = (255, 255, 255, 255)
    rgba[~TRUTH] = (255, 255, 255, 0)  # white, and transparent
    palette = Image.fromarray(ones).convert("P")
    palette.putdata(ones.ravel().tolist())
    palette.putpalette([0, 0, 0, 128, 0, 0])
    inverse = palette.copy()
    inverse.putdata((1 - ones).ravel().tolist())
    inverse.putpalette([128, 0, 0, 0, 0, 0])  # number 0 is the bright one
    kinds = {
        "0 and 1": Image.fromarray(ones),
        "0 and 255": Image.fromarray(ones * 255),
        "one bit": Image.fromarray(TRUTH),
        "palette": palette,
        "palette the other way round": inverse,
        "red": Image.fromarray(np.stack([ones * 255, ones * 0, ones * 0], -1)),
        "transparent": Image.fromarray(rgba),
        "16 bits": Image.fromarray(ones.astype(np.uint16) * 65535),
        "16 bits, 1": Image.fromarray(ones.astype(np.uint16)),
    }
    for name, image in kinds.items():
        image.save(folder / f"{name}.png")
    return list(kinds)


def test_every_kind_of_file_says_the_same(tmp_path, caplog):
    for name in files(tmp_path):
        np.testing.assert_array_equal(open_mask(tmp_path / f"{name}.png", (6, 4)), TRUTH, err_msg=name)
    np.testing.assert_array_equal(open_mask(TRUTH, (6, 4)), TRUTH)
    assert not caplog.records


def test_an_empty_mask_is_one(tmp_path):
    Image.new("L", (6, 4)).save(tmp_path / "a.png")
    assert not open_mask(tmp_path / "a.png", (6, 4)).any()


def test_more_than_two_values_are_warned_of(tmp_path, caplog):
    values = np.array([[0, 100, 200, 201]], np.uint8)
    with caplog.at_level(logging.WARNING):
        assert open_mask(Image.fromarray(values), (4, 1)).tolist() == [[False, False, True, True]]
    assert "4 values" in caplog.text
    assert open_mask(values, (4, 1), label=100).tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_with_its_image_where_it_has_the_stored_size(tmp_path, orientation):
    """The image is dark but where the mask is; after both are opened they must still agree."""
    picture = Image.fromarray(np.where(TRUTH[..., None], 255, 0).astype(np.uint8).repeat(3, -1))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    stored = Stored.of(tmp_path / "a.png")
    upright = np.asarray(open_image(tmp_path / "a.png"))[..., 0] > 100
    assert stored.upright == upright.shape[::-1]
    np.testing.assert_array_equal(open_mask(TRUTH, stored), upright)
    if stored.upright != stored.size:  # drawn on the upright image: it stays
        np.testing.assert_array_equal(open_mask(upright, stored), upright)


def test_another_size_is_refused_with_both():
    with pytest.raises(BadInput, match="The mask is 6 x 4 and its image 60 x 40, upright 40 x 60"):
        open_mask(TRUTH, Stored((60, 40), 6))
    with pytest.raises(BadInput, match="not finite"):
        open_mask(np.full((4, 6), np.nan), (6, 4))
    with pytest.raises(BadInput, match="is a list"):
        open_mask([1], (6, 4))
    with pytest.raises(BadInput, match="shape"):
        open_mask(np.zeros((4, 6, 3)), (6, 4))


def test_a_truncated_mask_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (40, 60)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:150])
    with pytest.raises(BadInput, match="cannot be read as an image"):
        open_mask(tmp_path / "a.png", (60, 40))


def test_frames_of_an_animation(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    first, *rest = [Image.new("RGB", (5, 4), colour) for colour in colours]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    shown = [np.asarray(frame)[0, 0].tolist() for frame in frames_of(tmp_path / "a.gif")]
    assert shown == [list(colour) for colour in colours]
    assert len(list(frames_of(first))) == 1
