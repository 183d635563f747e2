"""Images with their masks and regions: paired by name, boxes that cannot be used counted, COCO's outlines decoded."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gnomon.core.vision import read_coco, read_images, with_masks, with_regions
from gnomon.core.vision.outlines import mask_of_outline, unpacked
from gnomon.errors import BadInput


def images(folder, names="abc", size=(20, 10)):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", size).save(folder / f"{name}.jpg")
    return read_images(folder)


def test_masks_are_paired_by_name_and_the_rest_is_named(tmp_path):
    rows = images(tmp_path / "images")
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("c", "a_mask", "z"):
        Image.new("L", (20, 10)).save(masks / f"{name}.png")
    paired, left = with_masks(rows, masks)
    assert [(row.image_id, row.mask) for row in paired] == [
        ("a", str(masks / "a_mask.png")), ("b", None), ("c", str(masks / "c.png")),
    ]  # fmt: skip
    assert left.sentences() == ["1 images without a mask: b.jpg", "1 masks without an image: z.png"]
    Image.new("L", (20, 10)).save(masks / "a.png")
    with pytest.raises(BadInput, match='both the mask of "a"'):
        with_masks(rows, masks)
    (tmp_path / "other").mkdir()
    with pytest.raises(BadInput, match=r"No mask in .* is named as an image"):
        with_masks(rows, tmp_path / "other")


def test_masks_among_the_images_are_no_images(tmp_path):
    images(tmp_path, "ab")
    Image.new("L", (20, 10)).save(tmp_path / "a.png")
    Image.new("L", (20, 10)).save(tmp_path / "b_mask.png")
    rows = read_images(tmp_path, masks=tmp_path)
    assert [row.image_id for row in rows] == ["a", "b"]
    paired, left = with_masks(rows, tmp_path)
    assert [row.mask for row in paired] == [str(tmp_path / "a.png"), str(tmp_path / "b_mask.png")]
    assert not left.counts


def test_ten_names_and_no_more(tmp_path):
    rows = images(tmp_path / "images", [f"i{n:02d}" for n in range(15)])
    (tmp_path / "masks").mkdir()
    Image.new("L", (20, 10)).save(tmp_path / "masks" / "i00.png")
    _, left = with_masks(rows, tmp_path / "masks")
    (sentence,) = left.sentences()
    assert sentence.startswith("14 images") and sentence.count(".jpg") == 10 and sentence.endswith(" ...")


def test_yolo_rows_are_shares_of_the_image(tmp_path):
    rows = images(tmp_path / "images", "ab")
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0 0.1 \n\n0 1.2 0.5 0.2 0.4 0.9\n")
    (boxes / "z.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (a, b), left = with_regions(rows, boxes, names=["cat", "dog"])
    assert [(r.box, r.text) for r in a.regions] == [((8.0, 3.0, 12.0, 7.0), "dog")] and not b.regions
    assert left.counts == {
        "regions left out, without an area": 1,
        "regions left out, less than 50% on the image": 1,
        "files of regions without an image": 1,
        "images without regions": 1,
    }
    (boxes / "a.txt").write_text("7 0.5 0.5 0.2 0.4\n")
    with pytest.raises(BadInput, match=r"a.txt, line 1: class 7 of 2 names"):
        with_regions(rows, boxes, names=["cat", "dog"])
    (boxes / "a.txt").write_text("1 0.5 0.5 0.2\n")
    with pytest.raises(BadInput, match="A row is class x y w h"):
        with_regions(rows, boxes)


def test_regions_from_jsonl_in_any_form(tmp_path):
    rows = images(tmp_path / "images", "a")
    listed = [
        {"image_id": "a", "box": [0.5, 0.5, 0.5, 0.5], "text": "cat", "score": 0.5},
        {"image_id": "q", "box": [0, 0, 1, 1]},
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(row) for row in listed))
    (a,), left = with_regions(rows, tmp_path / "r.jsonl", form="xywh", unit="unit")
    assert a.regions[0].box == (10.0, 5.0, 20.0, 10.0) and a.regions[0].score == 0.5
    assert left.counts == {"regions without an image": 1}


def coco(folder, **changes):
    images(folder / "images", "ab")
    whole = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "bbox": [2, 3, 4, 5], "category_id": 3, "segmentation": [[2, 3, 6, 3, 6, 8, 2, 8]]},
            {"image_id": 7, "bbox": [0, 0, 20, 10], "category_id": 3, "iscrowd": 1,
             "segmentation": {"size": [10, 20], "counts": [0, 100, 100]}},
            {"image_id": 8, "bbox": [2, 3, -4, 5], "category_id": 3},
        ],
    } | changes  # fmt: skip
    (folder / "coco.json").write_text(json.dumps(whole))
    return folder / "coco.json"


def test_a_coco_file_with_polygons_crowds_and_boxes_that_cannot_be(tmp_path):
    (a, b), left = read_coco(coco(tmp_path), tmp_path / "images")
    assert (a.image_id, b.image_id) == ("7", "8") and not b.regions
    cat, crowd = a.regions
    assert cat.box == (2.0, 3.0, 6.0, 8.0) and cat.text == "cat" and not cat.is_crowd and crowd.is_crowd
    mask = cat.mask((20, 10))
    assert mask[5, 4] and not mask[1, 4] and mask.sum() == pytest.approx(4 * 5, abs=10)
    half = crowd.mask((20, 10))  # down the columns: the left half
    assert half[:, :10].all() and not half[:, 10:].any()
    assert left.counts == {"regions left out, corners exchanged": 1}
    rows, _ = with_regions(
        read_images(tmp_path / "images"), tmp_path / "coco.json"
    )  # found by the name of the file
    assert [len(row.regions) for row in rows] == [2, 0]


def test_a_coco_file_does_not_lead_out_of_its_folder_or_to_addresses(tmp_path):
    for name in ("../a.jpg", "http://example.org/a.jpg"):
        with pytest.raises(BadInput, match=r"leads out|address"):
            read_coco(coco(tmp_path, images=[{"id": 1, "file_name": name}]), tmp_path / "images")
    with pytest.raises(BadInput, match="no file"):
        read_coco(coco(tmp_path, images=[{"id": 1, "file_name": "q.jpg"}]), tmp_path / "images")
    with pytest.raises(BadInput, match='needs "id" and "file_name"'):
        read_coco(coco(tmp_path, images=[{"id": 1, "coco_url": "x"}]), tmp_path / "images")
    (tmp_path / "list.jsonl").write_text('{"url": "http://example.org/a.jpg"}\n')
    with pytest.raises(BadInput, match="has a url and no image"):
        read_images(tmp_path / "list.jsonl")


def packed(lengths):
    """COCO's packing, the other way round."""
    out = []
    for i, length in enumerate(lengths):
        value = length - (lengths[i - 2] if i > 2 else 0)
        while True:
            group = value & 0x1F
            value >>= 5
            more = value != (-1 if group & 0x10 else 0)
            out.append(chr(48 + (group | 0x20 if more else group)))
            if not more:
                break
    return "".join(out)


@given(st.lists(st.integers(0, 5000), max_size=20))
def test_packed_run_lengths_are_read(lengths):
    assert unpacked(packed(lengths)) == lengths
    assert unpacked(packed(lengths).encode()) == lengths


@given(width=st.integers(1, 9), height=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_mask_comes_back_from_run_lengths(width, height, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    values = [False, *mask.T.ravel().tolist()]
    starts = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    lengths = np.diff(starts).tolist()
    lengths[0] -= 1  # the False in front is ours
    for counts in (lengths, packed(lengths)):
        decoded = mask_of_outline({"size": [height, width], "counts": counts}, (width, height))
        np.testing.assert_array_equal(decoded, mask)


def test_run_lengths_of_another_image_are_refused():
    with pytest.raises(BadInput, match="Run lengths of 3 x 2"):
        mask_of_outline({"size": [2, 3], "counts": [6]}, (5, 5))
    with pytest.raises(BadInput, match="of 5 pixels"):
        mask_of_outline({"size": [2, 3], "counts": [5]}, (3, 2))


def test_real_photographs_with_boxes_and_masks(shared_data):
    folder = shared_data / "coco128"
    if not folder.is_dir():
        pytest.skip("no photographs beside the repository")
    rows, _ = with_masks(read_images(folder / "images"), folder / "masks")
    rows, boxes = with_regions(rows, folder / "boxes")
    assert len(rows) == 64 and sum(bool(row.mask) for row in rows) > 55
    assert sum(len(row.regions) for row in rows) > 300
    assert sum(boxes.counts.values()) - boxes.counts.get("images without regions", 0) < 70
