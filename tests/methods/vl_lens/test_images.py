"""Where images come from, and what they are called."""

import json

import pytest
from PIL import Image

from gnomon.core.vision.rows import ImageRow, read_images
from gnomon.errors import BadInput


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "COCO_val2014_000000391895.jpg", "000000000009.jpg", "notes.txt"):
        if not name.endswith("txt"):
            Image.new("RGB", (4, 3)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_in_the_order_of_names_with_the_ids_of_coco(folder):
    assert [row.image_id for row in read_images(folder)] == ["9", "391895", "a", "b"]


def test_a_single_file(folder):
    assert read_images(folder / "b.png") == [ImageRow("b", str(folder / "b.png"))]


def test_a_list(folder):
    rows = [{"image": "b.png", "image_id": 7, "caption": "a cat"}, {"image": "a.JPG", "other": 1}]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_images(folder / "list.jsonl")
    assert [(row.image_id, row.caption) for row in found] == [("7", "a cat"), ("a", None)]
    assert found[0].path == str(folder / "b.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.jsonl", '{"image": "../x.png"}', r'line 1: "../x.png" leads out of the folder'),
        ("list.jsonl", '{"image": "/etc/x.png"}', r"leads out of the folder"),
        ("list.jsonl", '{"picture": "x.png"}', r'field "image" is missing'),
        ("list.jsonl", "", r"lists no images"),
        ("list.jsonl", '{"image": "b.png"}\n{"image": "b.png"}', r'two images have the id "b"'),
        ("x.txt", "x", r"not an image .* and not a list of images"),
        (None, None, r"missing.png does not exist"),
    ],
)
def test_sources_that_are_no_images(folder, name, content, message):
    if name:
        (folder / name).write_text(content)
    with pytest.raises(BadInput, match=message):
        read_images(folder / (name or "missing.png"))


def test_a_folder_without_images(tmp_path):
    with pytest.raises(BadInput, match="holds no images"):
        read_images(tmp_path)


def test_photographs(shared_data):
    rows = read_images(shared_data / "coco128" / "images")
    assert len(rows) == 64 and rows[0].image_id == "9"
