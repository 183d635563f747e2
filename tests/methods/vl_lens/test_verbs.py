"""The verbs as a user types them."""

import json
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

import fixtures_process
from fixtures_vl_lens import WORDS, WORLD, checkpoint, rows_of, scenes, seer, vl_lens, write_images
from fixtures_vlm import picture, saved_vlm, vlm
from gnomon.errors import BadInput, UserError
from gnomon.methods.vl_lens import Writing
from gnomon.methods.vl_lens.captions import describe
from gnomon.methods.vl_lens.mini import PROMPT

EDIT = ("--edit.text-layer", 0, "--edit.edit-layer", 1, "--edit.alpha", 2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_images(folder)
    (folder / "words.txt").write_text("\n".join(WORLD.classes))
    return folder


def run(verb, world, out, *words):
    assert vl_lens(verb, world / "images", "--model", checkpoint(), *words, "--out", out) == 0
    found = json.loads((out / "report.json").read_text())
    assert found["status"] == "done"
    assert all((out / path).exists() for path in found["artifacts"].values())
    return found


def test_caption_and_chair(world, tmp_path):
    out = tmp_path / "captions"
    run("caption", world, out, *WORDS)
    rows = rows_of(out / "captions.jsonl")
    assert [row["image_id"] for row in rows] == [f"scene-{i}" for i in range(4)]
    pictures = [scene.picture() for scene in scenes()]
    assert [row["caption"] for row in rows] == describe(
        seer(), pictures, PROMPT, Writing(beams=1, max_new_tokens=8)
    )
    said = json.loads((out / "captions.json").read_text())
    assert said["model"] == str(checkpoint()) and said["dtype"] == "float32" and said["layers"] == 3
    assert said["settings"]["prompt"] == PROMPT and said["versions"]["packages"]["torch"]

    chair = tmp_path / "chair"
    assert vl_lens("chair", out, "--objects", world / "truth.json", "--out", chair) == 0
    found = json.loads((chair / "chair.json").read_text())
    mentions = [(name, name in scenes()[i].names) for i, row in enumerate(rows) for name in row["objects"]]
    assert found["mentions"] == len(mentions) and found["hallucinated"] == sum(not ok for _, ok in mentions)
    assert len(rows_of(chair / "rows.jsonl")) == 4


def test_lens(world, tmp_path):
    out = tmp_path / "lens"
    run(
        "lens",
        world,
        out,
        "--words",
        "dog",
        "cup",
        "--prompt",
        PROMPT,
        "--device",
        "cpu",
        "--read.lens",
        "norm",
    )
    rows = rows_of(out / "lens.jsonl")
    assert [(row["image_id"], row["word"]) for row in rows[1:3]] == [("scene-0", "cup"), ("scene-1", "dog")]
    for row in rows:
        assert row["confidence"] == max(row["by_layer"]) == row["by_layer"][row["layer"]]
        assert 0 <= row["token"] < 36
    assert np.asarray(Image.open(out / "maps" / "scene-0.dog.png")).shape == (48, 48, 3)
    said = json.loads((out / "maps" / "scene-0.dog.json").read_text())
    assert said["settings"]["read"]["lens"] == "norm" and said["word"] == "dog"
    assert (out / "report.html").read_text().count('class="wide explore"') == 4


def test_detect_measures_against_the_truth(world, tmp_path):
    out = tmp_path / "detect"
    found = run(
        "detect", world, out, *WORDS, "--synonyms", world / "words.txt", "--objects", world / "truth.json"
    )
    rows = rows_of(out / "detections.jsonl")
    names = [set(scene.names) for scene in scenes()]
    assert rows and all(
        r["is_hallucinated"] == (r["object"] not in names[int(r["image_id"][-1])]) for r in rows
    )
    assert all(r["is_supported"] == (r["confidence"] >= 0.1) for r in rows)
    assert found["figures"]["mentions"] == len(rows)
    assert any("average precision" in table["caption"] for table in found["tables"])


def test_captions_that_come_with_the_images_are_read_instead_of_written(world, tmp_path):
    listed = world / "images" / "list.jsonl"
    listed.write_text('{"image": "scene-0.png", "caption": "a dog and a cup"}\n')
    out = tmp_path / "detect"
    assert vl_lens("detect", listed, "--model", checkpoint(), *WORDS, "--out", out) == 0
    listed.unlink()
    found = [(row["image_id"], row["object"]) for row in rows_of(out / "detections.jsonl")]
    assert found == [("scene-0", "dog"), ("scene-0", "cup")]


def test_erase_and_mitigate(world, tmp_path):
    for verb, words in (("erase", ["--words", "kite", "spoon"]), ("mitigate", ["--threshold", 0.5])):
        out = tmp_path / verb
        found = run(verb, world, out, *WORDS, *words, *EDIT, "--synonyms", world / "words.txt")
        rows = rows_of(out / "captions.jsonl")
        assert set(rows[0]) == {"image_id", "caption", "caption_edited", "erased", "removed", "kept", "new"}
        assert sum(len(row["removed"]) for row in rows) == found["figures"]["removed"] > 0
        said = json.loads((out / "captions.json").read_text())
        assert said["settings"]["edit"] == {"text_layer": 0, "edit_layer": 1, "alpha": 2.0, "joint": False}
        assert 'class="removed"' in (out / "report.html").read_text()


def test_segment(world, tmp_path):
    out = tmp_path / "segment"
    run("segment", world, out, "--word", "dog", "--prompt", PROMPT, "--device", "cpu")
    mask, heat = (
        np.asarray(Image.open(out / "masks" / "scene-1.dog.png")),
        np.load(out / "masks" / "scene-1.dog.npy"),
    )
    assert mask.shape == heat.shape == (48, 48) and set(np.unique(mask)) <= {0, 255}
    np.testing.assert_array_equal(mask > 0, heat > heat.mean())
    row = rows_of(out / "segments.jsonl")[1]
    assert row["share"] == pytest.approx((mask > 0).mean()) and row["peak"] == pytest.approx(heat.max())
    assert np.asarray(Image.open(out / "masks" / "scene-1.dog.overlay.png")).shape == (48, 48, 3)
    assert json.loads((out / "masks" / "scene-1.dog.json").read_text())["image_id"] == "scene-1"


def test_sweep(world, tmp_path):
    out = tmp_path / "sweep"
    words = ["--text-layers", 2, 3, "--edit-layers", 0, "--alphas", 8, "--mentions", 2]
    run(
        "sweep",
        world,
        out,
        *WORDS,
        *words,
        "--objects",
        world / "truth.json",
        "--synonyms",
        world / "words.txt",
    )
    found = json.loads((out / "sweep.json").read_text())
    assert [row["text_layer"] for row in found["tried"]] == [2, 3]
    assert found["chosen"] in found["tried"]
    for name in ("text_layer", "edit_layer", "alpha"):
        assert found["measured"][name] == found["chosen"][name]
    assert found["model"] == str(checkpoint()) and found["settings"]["alphas"] == [8.0]


def test_a_killed_run_goes_on_and_gives_what_an_uninterrupted_one_gives(world, tmp_path):
    """kill -9 as soon as the first batch is done; nothing is lost, doubled or asked again."""
    words = [
        str(w) for w in ("caption", world / "images", "--model", checkpoint(), *WORDS, "--batch-size", 1)
    ]
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom fixtures_vl_lens import vl_lens\n"
    code += "sys.exit(vl_lens(*sys.argv[1:]))"
    out = tmp_path / "killed"
    command = [sys.executable, "-c", code, *words, "--out", str(out)]
    job = fixtures_process.start(command)
    marks = out / "_parts" / "captions" / "_done"
    while not list(marks.glob("part-*.json")):
        assert job.poll() is None, "it ended before it was killed"
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.wait()
    finished = {path: path.stat().st_mtime_ns for path in marks.glob("part-*.json")}
    assert fixtures_process.run(command).returncode == 0
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    run("caption", world, tmp_path / "whole", *WORDS, "--batch-size", 1)
    assert rows_of(out / "captions.jsonl") == rows_of(tmp_path / "whole" / "captions.jsonl")


test_a_killed_run_goes_on_and_gives_what_an_uninterrupted_one_gives = pytest.mark.slow(
    test_a_killed_run_goes_on_and_gives_what_an_uninterrupted_one_gives
)


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("lens", ["--words", ""], "words must be words that are not empty"),
        ("lens", [], "words must be one or more words"),
        ("erase", [], "words must be one or more words"),
        ("sweep", [], "objects must be one or more files"),
        ("lens", ["--words", "dog", "--read.layers", 9], "9"),
        ("lens", ["--words", "zebra"], "zebra"),
        ("lens", ["--words", "dog", "--read.topk", 0], r"read.topk must be >= 1"),
        ("erase", ["--words", "dog", "--edit.alpha", 0], r"edit.alpha must be > 0; got 0"),
        ("erase", ["--words", "dog", "--edit.edit-layer", 7, "--edit.text-layer", 1], "7"),
        ("erase", ["--words", "dog", "--edit.text-layer", 7, "--edit.edit-layer", 1], "7"),
        ("mitigate", ["--threshold", 2], r"threshold must be in 0\.\.1"),
        ("segment", ["--word", " "], "word must be a word"),
        ("segment", ["--word", "dog", "--threshold", "median"], "median"),
        ("caption", ["--beams", 0], "beams must be >= 1"),
        ("caption", ["--synonyms", "missing.txt"], "missing.txt: cannot be read"),
        ("detect", ["--objects", "missing.json"], "missing.json: cannot be read as JSON"),
    ],
)
def test_bad_requests(world, tmp_path, verb, words, message):
    common = ["--device", "cpu", "--prompt", PROMPT]
    if verb not in ("lens", "segment") and "--beams" not in words:
        common += ["--beams", 1, "--max-new-tokens", 2]
    with pytest.raises(UserError, match=message) as caught:
        vl_lens(verb, world / "images", "--model", checkpoint(), *common, *words, "--out", tmp_path / "run")
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_images_that_cannot_be_used(world, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "x.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r'"x".*x\.png'):
        vl_lens("caption", broken, "--model", checkpoint(), *WORDS, "--out", tmp_path / "a")
    truth = tmp_path / "truth.json"
    truth.write_text('{"scene-0": ["dog"]}')
    words = [world / "images", "--model", checkpoint(), *WORDS, "--objects", truth]
    with pytest.raises(UserError, match=r'Image "scene-1" .* is not in the given --objects'):
        vl_lens("detect", *words, "--out", tmp_path / "b")


def test_captions_without_their_columns(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"image": 1, "text": "a dog"}\n')
    (tmp_path / "t.json").write_text('{"1": ["dog"]}')
    words = ["chair", tmp_path / "c.jsonl", "--objects", tmp_path / "t.json"]
    with pytest.raises(UserError, match=r'c.jsonl, line 1: field "image_id" is missing'):
        vl_lens(*words, "--out", tmp_path / "a")
    assert vl_lens(*words, "--id-key", "image", "--caption-key", "text", "--out", tmp_path / "b") == 0
    (tmp_path / "c.jsonl").write_text("")
    with pytest.raises(UserError, match="There are no captions to measure"):
        vl_lens(*words, "--out", tmp_path / "c")


def test_a_dry_run_says_what_it_would_cost_and_loads_nothing(world, tmp_path, capsys):
    words = [world / "images", "--model", "no/such-model", "--objects", world / "truth.json"]
    assert vl_lens("sweep", *words, "--dry-run", "--json", "--out", tmp_path / "x") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["images"] == 4 and plan["settings"] == 75 and not (tmp_path / "x").exists()


def test_an_image_that_cannot_be_read_is_left_out_with_its_id_and_reason(world, tmp_path):
    """The others are captioned as they would be without it, and the run says what it lacks."""
    folder, out = tmp_path / "images", tmp_path / "captions"
    shutil.copytree(world / "images", folder)
    whole = (folder / "scene-1.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    assert vl_lens("caption", folder, "--model", checkpoint(), *WORDS, "--out", out) == 0
    assert (
        vl_lens("caption", world / "images", "--model", checkpoint(), *WORDS, "--out", tmp_path / "all") == 0
    )
    assert rows_of(out / "captions.jsonl") == rows_of(tmp_path / "all" / "captions.jsonl")
    ((row),) = rows_of(out / "skipped.jsonl")
    assert row["image_id"] == "broken" and "cannot be read as an image" in row["reason"]
    report = json.loads((out / "report.json").read_text())
    assert report["status"] == "incomplete"
    assert report["shortfalls"][0] | {"reason": ""} == {
        "what": "images", "failed": 1, "of": 5, "not_asked": 0, "reason": "", "stopped": False, "final": False, "too_much": False,
    }  # fmt: skip
    for path in folder.glob("scene-*.png"):
        path.unlink()
    with pytest.raises(BadInput, match=r'None of 1 images can be read. Image "broken"'):
        vl_lens("caption", folder, "--model", checkpoint(), *WORDS, "--out", tmp_path / "none")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A model that reads one small picture with the prompt and two tokens more, and pictures of which one is larger."""
    at = tmp_path_factory.mktemp("narrow")
    folder, images = shutil.copytree(saved_vlm("qwen2_5_vl"), at / "model"), at / "images"
    images.mkdir()
    for number, size in enumerate([(40, 30), (200, 200), (40, 30)]):
        picture(number, *size).save(images / f"photo-{number}.png")
    handle = vlm("qwen2_5_vl")
    small = len(handle.see([handle.prompt("Name it.")], [picture(0)])[0].ids)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = small + 2
    (folder / "config.json").write_text(json.dumps(config))
    return folder, images, small


SHORTLY = ("--beams", 1, "--max-new-tokens", 2, "--prompt", "Name it.")


def test_an_image_of_too_many_tokens_is_left_out_and_changes_no_other(narrow, tmp_path):
    model, images, small = narrow
    words = ["--model", model, *SHORTLY]
    assert vl_lens("caption", images, *words, "--out", tmp_path / "all") == 0
    (row,) = rows_of(tmp_path / "all" / "too_long.jsonl")
    assert row["id"] == "photo-1" and row["tokens"] > small + 1 == row["room"] and not row["cut"]
    report = json.loads((tmp_path / "all" / "report.json").read_text())
    assert report["status"] == "done" and report["shortfalls"][0]["failed"] == 1
    few = shutil.copytree(images, tmp_path / "few")
    (few / "photo-1.png").unlink()
    assert vl_lens("caption", few, *words, "--out", tmp_path / "without") == 0
    left = rows_of(tmp_path / "all" / "captions.jsonl")
    assert left == rows_of(tmp_path / "without" / "captions.jsonl") and len(left) == 2
    with pytest.raises(BadInput, match=r'"photo-1" has \d+ tokens and .* set --too-long'):
        vl_lens("caption", images, *words, "--too-long", "error", "--out", tmp_path / "error")
    for path in images.glob("photo-[02].png"):
        (few / path.name).unlink()
    shutil.copy(images / "photo-1.png", few)
    with pytest.raises(BadInput, match=r'None of 1 images fits: "photo-1" takes'):
        vl_lens("caption", few, *words, "--out", tmp_path / "none")


def test_a_caption_from_the_list_counts_too(narrow, tmp_path):
    model, images, _ = narrow
    shutil.copy(images / "photo-0.png", tmp_path)
    rows = [
        {"image": "photo-0.png", "image_id": "short", "caption": "a"},
        {"image": "photo-0.png", "image_id": "long", "caption": "a dog and a cat on a mat"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--model", model, *SHORTLY, "--out", tmp_path / "out"]
    assert vl_lens("detect", tmp_path / "list.jsonl", *words) == 0
    assert [row["id"] for row in rows_of(tmp_path / "out" / "too_long.jsonl")] == ["long"]
