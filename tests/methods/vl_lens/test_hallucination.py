"""CHAIR and ground truth: values by hand, and the published captions' numbers."""

import json
import math
from collections import Counter

import pytest

from gnomon.errors import BadInput
from gnomon.methods.vl_lens import Vocabulary, chair, read_objects

COCO = Vocabulary.read()


def test_by_hand():
    """Six mentions, two of them wrong, in two of three captions; three of five true objects are found."""
    captions = [(1, "a cat, a cat and a dog"), ("2", "a cup and a fork"), (3, "a kite")]
    truth = {"1": ["cat", "bed"], 2: ["cup", "oven"], 3: ["kite"]}
    found = chair(captions, truth, COCO)
    assert (found["chair_i"], found["chair_s"], found["recall"]) == (2 / 6, 2 / 3, 3 / 5)
    assert (found["captions"], found["mentions"], found["hallucinated"]) == (3, 6, 2)
    assert found["rows"][0] == {
        "image_id": 1,
        "mentions": ["cat", "cat", "dog"],
        "hallucinated": ["dog"],
        "found": ["cat"],
        "missed": ["bed"],
    }


def test_a_share_of_nothing_is_not_a_number():
    found = chair([(1, "nothing to see")], {1: []}, COCO)
    assert math.isnan(found["chair_i"]) and math.isnan(found["recall"]) and found["chair_s"] == 0


def test_errors():
    with pytest.raises(BadInput, match="no captions"):
        chair([], {1: []}, COCO)
    with pytest.raises(BadInput, match="Image 7 has a caption and no list of objects"):
        chair([(7, "a cat")], {1: []}, COCO)


@pytest.fixture(scope="module")
def published(shared_data):
    return Vocabulary.read(shared_data / "vl-lens" / "chair_vocab.json")


@pytest.mark.parametrize(
    ("model", "chair_s", "chair_i", "recall"),
    [
        ("llava7b", (42.0, 42.0), (12.0, 12.2), (78.4, 79.0)),
        ("blip7b", (43.8, 44.0), (12.3, 12.5), (72.9, 73.6)),
    ],
)
@pytest.mark.slow
def test_published_captions(shared_data, published, model, chair_s, chair_i, recall):
    lines = (shared_data / "vl-lens" / f"{model}_ours.jsonl").read_text().splitlines()
    captions = [(row["image_id"], row["caption"]) for row in map(json.loads, lines)]
    truth = read_objects([shared_data / "vl-lens" / "chair_gt.json"], published)
    found = chair(captions, truth, published)
    for name, (low, high) in {"chair_s": chair_s, "chair_i": chair_i, "recall": recall}.items():
        assert low <= round(100 * found[name], 1) <= high, name


@pytest.fixture
def coco_files(tmp_path):
    images = [{"id": 1}, {"id": 2}, {"id": 3}]
    instances = {
        "images": images,
        "categories": [{"id": 18, "name": "dog"}, {"id": 5, "name": "airplane"}, {"id": 99, "name": "moon"}],
        "annotations": [
            {"image_id": 1, "category_id": 18, "bbox": [0, 0, 1, 1]},
            {"image_id": 1, "category_id": 18, "bbox": [0, 0, 1, 1]},
            {"image_id": 2, "category_id": 5, "bbox": [0, 0, 1, 1]},
            {"image_id": 2, "category_id": 99, "bbox": [0, 0, 1, 1]},
        ],
    }
    captions = {
        "images": images,
        "annotations": [{"image_id": 1, "id": 7, "caption": "A puppy on two chairs."}],
    }
    for name, content in {"instances": instances, "captions": captions, "plain": {"2": ["kitten"]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_files_as_they_are(coco_files):
    """Boxes, captions and lists add up; an image without a box is there and empty; unknown names are left out."""
    files = [coco_files / f"{name}.json" for name in ("instances", "captions", "plain")]
    assert read_objects(files[:1], COCO) == {"1": {"dog"}, "2": {"airplane"}, "3": set()}
    assert read_objects(files, COCO) == {"1": {"dog", "chair"}, "2": {"airplane", "cat"}, "3": set()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "must hold one JSON object; got list"),
        ("{", "cannot be read as JSON"),
        ('{"annotations": [{"image_id": 1}], "images": []}', "not a COCO file of boxes or captions"),
        ('{"annotations": [{"image_id": 1, "caption": "x"}]}', "not a COCO file"),
        (
            '{"annotations": [{"image_id": 1, "category_id": 4}], "images": [], "categories": []}',
            "not a COCO",
        ),
        ('{"1": "cat"}', 'image "1" needs a list of names; got str'),
        ('{"1": [3]}', 'image "1" needs a list of names'),
    ],
)
def test_files_that_are_no_ground_truth(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        read_objects([tmp_path / "x.json"], COCO)


def test_names_that_the_vocabulary_does_not_know_are_reported(tmp_path, caplog):
    (tmp_path / "x.json").write_text('{"1": ["dog", "moon"], "2": ["star"]}')
    assert read_objects([tmp_path / "x.json"], COCO) == {"1": {"dog"}, "2": set()}
    assert '2 names are not in the vocabulary and left out, such as "moon", "star"' in caplog.text
    (tmp_path / "y.json").write_text('{"1": ["chien", "chat"]}')
    with pytest.raises(BadInput, match=r'y.json: none of its names is in the vocabulary.*"chien", "chat"'):
        read_objects([tmp_path / "y.json"], COCO)


def test_real_boxes(shared_data):
    """COCO's first images: boxes written in the style of COCO give what a count of the rows gives."""
    folder = shared_data / "coco128" / "boxes"
    boxes = {path.stem: [int(line.split()[0]) for line in path.read_text().splitlines()] for path in folder.iterdir()}  # fmt: skip
    truth = {image: {COCO.names[kind] for kind in kinds} for image, kinds in boxes.items()}
    everything = [(image, " and ".join(COCO.names)) for image in boxes]
    found = chair(everything, truth, COCO)
    there = sum(len(names) for names in truth.values())
    assert found["recall"] == 1 and found["mentions"] == 80 * len(boxes)
    assert found["hallucinated"] == 80 * len(boxes) - there
    assert Counter(name for row in found["rows"] for name in row["found"]).most_common(1)[0][0] == "person"
