"""Images of every kind against pixels worked out by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gnomon.core.vision import MOST_PIXELS, open_image
from gnomon.errors import BadInput


def pixels(source, **how):
    image = open_image(source, **how)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def grey(rows):
    return [[[v] * 3 for v in row] for row in rows]


RAMP = np.array([[0, 255, 256, 511], [0x7FFF, 0x8000, 0xFE00, 0xFFFF]], dtype=np.uint16)
RAMP_8 = grey([[0, 0, 1, 1], [127, 128, 254, 255]])


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_grey_ramp_of_16_bits(tmp_path, ending):
    Image.fromarray(RAMP).save(tmp_path / f"a.{ending}")
    assert pixels(tmp_path / f"a.{ending}") == RAMP_8
    whole = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(whole).save(tmp_path / f"b.{ending}")
    assert pixels(tmp_path / f"b.{ending}") == grey([[row] * 256 for row in range(256)])


def test_16_bits_in_memory_and_of_either_byte_order(tmp_path):
    assert pixels(Image.fromarray(RAMP)) == RAMP_8
    # A big-endian TIFF by hand: 2 x 1, one strip, 0x80FF and 0x01FF.
    tags = [(256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, 4)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in tags
    )  # fmt: skip
    data = b"MM\0*" + struct.pack(">I", 12) + b"\x80\xff\x01\xff"
    (tmp_path / "a.tif").write_bytes(data + struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0))
    assert pixels(tmp_path / "a.tif") == grey([[0x80, 0x01]])


def png(width, height, bits, kind, raw, *extra):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*e) for e in extra) + (
        chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_colours_of_16_bits_lose_their_lower_half(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, 2, b"\0" + bytes.fromhex("12ff 80ff fe01")))
    assert pixels(tmp_path / "a.png") == [[[0x12, 0x80, 0xFE]]]
    # The same with alpha, here opaque and then invisible.
    row = b"\0" + bytes.fromhex("12ff 80ff fe01 ffff 12ff 80ff fe01 0000")
    (tmp_path / "b.png").write_bytes(png(2, 1, 16, 6, row))
    assert pixels(tmp_path / "b.png") == [[[0x12, 0x80, 0xFE], [255, 255, 255]]]


def test_one_grey_value_may_stand_for_transparency(tmp_path):
    row = b"\0" + bytes.fromhex("1234 5678")
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 0, row, (b"tRNS", b"\x12\x34")))
    assert pixels(tmp_path / "a.png") == grey([[255, 0x56]])
    (tmp_path / "b.png").write_bytes(png(2, 1, 8, 0, b"\0\x12\x56", (b"tRNS", b"\0\x12")))
    assert pixels(tmp_path / "b.png") == grey([[255, 0x56]])


def test_transparent_parts_lie_over_the_named_colour(tmp_path):
    image = Image.new("RGBA", (3, 1))
    image.putdata([(200, 0, 0, 51), (200, 0, 0, 0), (1, 2, 3, 255)])
    image.save(tmp_path / "a.png")
    # A fifth of 200 and four fifths of 255; of black four fifths are nothing.
    assert pixels(tmp_path / "a.png") == [[[244, 204, 204], [255, 255, 255], [1, 2, 3]]]
    assert pixels(tmp_path / "a.png", alpha="black") == [[[40, 0, 0], [0, 0, 0], [1, 2, 3]]]
    assert pixels(image, alpha="#0000ff") == [[[40, 0, 204], [0, 0, 255], [1, 2, 3]]]
    grey_alpha = Image.new("LA", (2, 1))
    grey_alpha.putdata([(100, 255), (100, 0)])
    assert pixels(grey_alpha) == grey([[100, 255]])


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([2, 1, 0])
    for ending in ("png", "gif", "bmp"):
        image.save(tmp_path / f"a.{ending}")
        assert pixels(tmp_path / f"a.{ending}") == [[[0, 0, 255], [0, 255, 0], [255, 0, 0]]]
    image.save(tmp_path / "b.png", transparency=1)
    assert pixels(tmp_path / "b.png") == [[[0, 0, 255], [255, 255, 255], [255, 0, 0]]]


def test_black_and_white_alone(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == grey([[255, 0]])


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_four_inks(tmp_path, ending):
    image = Image.new("CMYK", (24, 8))
    for i, ink in enumerate([(0, 0, 0, 0), (0, 0, 0, 255), (0, 255, 255, 0)]):
        image.paste(ink, (8 * i, 0, 8 * i + 8, 8))
    image.save(tmp_path / f"a.{ending}", **({"quality": 100} if ending == "jpg" else {}))
    row = np.array(pixels(tmp_path / f"a.{ending}"))[4, [4, 12, 20]]
    # No ink is white, black ink is black, magenta and yellow are red.
    np.testing.assert_allclose(row, [[255, 255, 255], [0, 0, 0], [255, 0, 0]], atol=2)


# What each orientation does to the picture 1 2 / 3 4 / 5 6 as it is stored, by the EXIF standard.
UPRIGHT = {
    1: [[1, 2], [3, 4], [5, 6]],
    2: [[2, 1], [4, 3], [6, 5]],
    3: [[6, 5], [4, 3], [2, 1]],
    4: [[5, 6], [3, 4], [1, 2]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[5, 3, 1], [6, 4, 2]],
    7: [[6, 4, 2], [5, 3, 1]],
    8: [[2, 4, 6], [1, 3, 5]],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_every_orientation_from_a_file_and_in_memory(tmp_path, orientation, ending):
    stored = Image.fromarray(np.array(UPRIGHT[1], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{ending}", exif=exif)
    assert pixels(tmp_path / f"a.{ending}") == grey(UPRIGHT[orientation])
    with Image.open(tmp_path / f"a.{ending}") as image:
        assert pixels(image) == grey(UPRIGHT[orientation])
        again = open_image(open_image(image))  # once upright it stays so
    assert np.asarray(again).tolist() == grey(UPRIGHT[orientation])


def test_a_turned_image_of_16_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    assert pixels(tmp_path / "a.png") == grey([[127, 0], [128, 0], [254, 1], [255, 1]])


@pytest.mark.parametrize("ending", ["gif", "png", "tif", "webp"])
def test_the_first_of_several_frames(tmp_path, ending, caplog):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    how = {"lossless": True} if ending == "webp" else {}
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], **how)
    assert pixels(tmp_path / f"a.{ending}") == [[[255, 0, 0]] * 2] * 2
    assert "has 2 frames; the first is taken" in caplog.text
    with Image.open(tmp_path / f"a.{ending}") as image:
        image.seek(1)
        assert pixels(image)[0][0] == [255, 0, 0]


def test_numbers_without_black_and_white_are_refused(tmp_path):
    Image.fromarray(np.array([[0.25, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadInput, match=r'a.tif" has values in 0.25..1 of mode F.*Save it with 8 or 16 bits'):
        open_image(tmp_path / "a.tif")
    Image.fromarray(np.array([[3, 90000]], dtype=np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(BadInput, match=r"values in 3..90000 of mode I"):
        open_image(tmp_path / "b.tif")
    with pytest.raises(BadInput, match=r"Photo 3 has values in 3..90000 of mode I"):
        open_image(Image.fromarray(np.array([[3, 90000]], dtype=np.int32)), "Photo 3")


@pytest.mark.parametrize("side", [9_000, 10_000, 60_000])
def test_what_is_too_large_is_refused_before_it_is_unpacked(tmp_path, side):
    """On either side of Pillow's own warning and its error."""
    assert side**2 > MOST_PIXELS
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 0, b"\0"))
    with pytest.raises(BadInput, match=r"a.png\" has more than 80 million pixels.* Make it smaller first"):
        open_image(tmp_path / "a.png")


def test_files_that_are_no_images(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    for name, data in (("half", buffer.getvalue()[:900]), ("empty", b""), ("text", b"no image")):
        (tmp_path / f"{name}.png").write_bytes(data)
        with pytest.raises(BadInput, match=rf'Image 4: ".*{name}.png" cannot be read as an image'):
            open_image(tmp_path / f"{name}.png", "Image 4")
    with pytest.raises(BadInput, match="cannot be read as an image"):
        open_image(tmp_path)
    with pytest.raises(BadInput, match=r'there is no file ".*none.png"'):
        open_image(tmp_path / "none.png")
    with pytest.raises(BadInput, match="The image is a int; give a PIL image or the path of a file"):
        open_image(7)
