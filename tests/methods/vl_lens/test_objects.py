"""Captions to objects: every rule by hand, and nothing outside the vocabulary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadInput
from gnomon.methods.vl_lens import Vocabulary

COCO = Vocabulary.read()


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("A cat.", ["cat"]),
        ("CATS, Kittens and a cat!", ["cat", "cat", "cat"]),
        ("Two hot dogs beside a dog", ["hot dog", "dog"]),
        ("cell phones on a dining table", ["cell phone", "dining table"]),
        ("wine glasses and glasses", ["wine glass"]),
        ("a traffic light and another light", ["traffic light"]),
        ("a baby elephant with a baby", ["elephant", "person"]),
        ("adult sheep", ["sheep"]),
        ("a baby goat", ["sheep"]),
        ("baby animals and bear cubs", ["bear"]),
        ("a passenger jet and a passenger train with a passenger", ["airplane", "train", "person"]),
        ("train tracks", []),
        ("a train on the train track", ["train"]),
        ("a bow tie", ["tie"]),
        ("a toilet with the seat up", ["toilet"]),
        ("a toilet seat", ["toilet"]),
        ("a toilet, two seats and a chair", ["toilet", "chair"]),
        ("a seat", ["chair"]),
        ("knives, mice, geese, a goose and oxen", ["knife", "mouse", "bird", "bird", "cow"]),
        ("people, firemen, men, women, children", ["person"] * 4),
        ("skis, scissors, a bus, buses", ["skis", "scissors", "bus", "bus"]),
        ("benches, sandwiches, puppies", ["bench", "sandwich", "dog"]),
        ("a man's dog", ["person", "dog"]),
        ("category, concatenate, dogma", []),
        ("", []),
    ],
)  # fmt: skip
def test_captions_by_hand(caption, objects):
    assert COCO.objects(caption) == objects


def test_a_mention_knows_its_place():
    caption = "Some hot dogs, and a Cat."
    places = [(m.object, caption[m.start : m.end]) for m in COCO.mentions(caption)]
    assert places == [("hot dog", "hot dogs"), ("cat", "Cat")]


def test_the_longest_phrase_wins():
    vocabulary = Vocabulary.of([["oven", "stove top oven"], ["stove"], ["stove top"]])
    assert vocabulary.objects("a stove top oven, a stove top, a stove") == ["oven", "stove top", "stove"]


def test_a_rule_needs_its_word_in_the_vocabulary():
    """Without ties "bow tie" is no phrase; without jets the passenger stays one."""
    assert Vocabulary.of([["bow"], ["passenger"]]).objects("a bow tie, a passenger jet") == [
        "bow",
        "passenger",
    ]


def test_names_in_any_number_and_case():
    assert COCO.name("Hot Dogs") == "hot dog"
    assert COCO.name("kittens") == "cat"
    assert COCO.name("unicorn") is None
    assert COCO.name("") is None


def test_the_vocabulary_of_coco_has_its_80_names(shared_data):
    import yaml

    lists = yaml.safe_load((shared_data / "coco128" / "object_detection.yaml").read_text())
    assert list(COCO.names) == list(lists["names"].values())


@given(st.text())
def test_any_text_is_read_and_every_mention_is_a_piece_of_it(text):
    end = 0
    for mention in COCO.mentions(text):
        assert end <= mention.start < mention.end <= len(text)
        assert mention.object in COCO.names
        end = mention.end


@given(st.lists(st.sampled_from(COCO.names), max_size=6))
def test_canonical_names_come_back(names):
    assert COCO.objects(", ".join(names)) == names


def test_a_file_of_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("Auto, Wagen\n\n  , \nStraßenlaterne\n")
    vocabulary = Vocabulary.read(path)
    assert vocabulary.objects("Ein wagen an der Straßenlaterne") == ["auto", "straßenlaterne"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\ndog, cat\n", r'words.txt, line 2: "cat" stands for cat already'),
        ("\n , \n", r"words.txt names no object"),
        (b"\xff\xfe", r"words.txt: cannot be read as a list of words"),
        (None, r"words.txt: cannot be read as a list of words"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path, text, message):
    path = tmp_path / "words.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=message):
        Vocabulary.read(path)


PUBLISHED = """{"synonyms": {"": [""], "dog": ["dog", "puppy"], "motorcycle": ["motorcycle", " motor bike"], "tie": ["tie", "bow"]},
"double_words": {"motor bike": "motor bike", "bow tie": "tie", "home plate": "home plate"}}"""


@pytest.mark.parametrize(
    ("content", "objects"),
    [
        (PUBLISHED, ["dog", "tie"]),
        ('{"dog": ["puppy"], "tie": ["bow tie"], "motorcycle": ["motor bike"]}', ["motorcycle", "dog", "tie"]),
        ("dog, puppy\ntie, bow tie\nmotorcycle, motor bike\n", ["motorcycle", "dog", "tie"]),
    ],
)  # fmt: skip
def test_every_form_of_a_vocabulary(tmp_path, content, objects):
    (tmp_path / "v.json").write_text(content)
    vocabulary = Vocabulary.read(tmp_path / "v.json")
    assert vocabulary.objects("A motor bike, two puppies and a bow tie near home plate") == objects
    assert set(vocabulary.names) == {"dog", "motorcycle", "tie"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"dog": ["puppy"], "cat": "kitten"}', "no object of lists of words"),
        ('{"757": ["elephant"], "1029": ["airplane"]}', '"757" is no name'),
        ('[["dog", "puppy"]]', "no object of lists of words"),
        ('[{"image_id": 1, "caption": "a dog"}]', "no object of lists of words"),
        ('{"image_id": 1, "caption": "a dog"}\n{"image_id": 2, "caption": "a cat"}', "cannot be read as JSON"),
        ('{"synonyms": {"dog": ["puppy"]}, "images": []}', '"images" is no part of a vocabulary'),
        ('{"synonyms": {"dog": ["puppy"]}, "double_words": ["bow tie"]}', '"double_words" must be an object'),
        ('{"synonyms": {"dog": ["puppy: small"]}}', '"puppy: small" is no name'),
        ('{"info": {}, "images": [], "annotations": [], "categories": []}', "no object of lists of words"),
        ("dog: puppy\ncat: kitten\n", 'line 1: "dog: puppy" is no name'),
        ("dog\tpuppy\n", "line 1: .* is no name"),
        ("dog;puppy\n", "line 1: .* is no name"),
        ("- dog\n- cat\n", "line 1: .* is no name"),
        ("cat\n<html>\n", "line 2: .* is no name"),
        ("A dog runs after the ball, and a man looks on\n", "line 1: .* is no name"),
        ("1,2,3\n", "line 1: .* is no name"),
        ("import json\nfor x in y:\n", "line 2: .* is no name"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_and_not_read_as_words(tmp_path, content, message):
    (tmp_path / "v").write_text(content)
    with pytest.raises(BadInput, match=message):
        Vocabulary.read(tmp_path / "v")


def test_every_other_file_beside_the_published_vocabulary_is_refused(shared_data):
    for path in sorted((shared_data / "vl-lens").iterdir()):
        if path.name != "chair_vocab.json":
            with pytest.raises(BadInput):
                Vocabulary.read(path)
