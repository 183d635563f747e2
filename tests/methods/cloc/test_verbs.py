"""The verbs on a user's images: what files hold, bad boxes and images, a killed job, forms of regions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gnomon import cli
from gnomon.core import records
from gnomon.core.vision.outlines import Region
from gnomon.methods.cloc import load_cloc
from gnomon.methods.cloc.labelling.phrases import light_tags, phrases, thinned
from gnomon.methods.cloc.labelling.vesl import greedy
from gnomon.methods.cloc.training.data import Source, labelled, read_names, read_rows


def command(verb, *words, fails=0):
    assert cli.main(["cloc", verb, *map(str, words), "--quiet"]) == fails


def rows_of(path):
    return [raw for _, raw in records.read_raw(path)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dual, scenes):
    out = tmp_path_factory.mktemp("train") / "run"
    command("train", scenes / "images.jsonl", "--regions", scenes / "regions.jsonl", "--model", dual("clip"), "--loss.regions", 2,
            "--loss.text-filter", "None", "--train.batch-size", 8, "--train.epochs", 10, "--train.lr", 3e-3,
            "--train.warmup-steps", 2, "--out", out)  # fmt: skip
    return out


def test_training_lowers_the_loss_and_leaves_a_drop_in_checkpoint(trained):
    import transformers

    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in lines if "loss" in row]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    terms = [row for row in lines if "region_loss" in row]
    assert len(terms) == len(losses) and {"filter_dropped", "lambda", "image_loss", "box_loss"} <= set(
        terms[0]
    )
    plain = transformers.CLIPModel.from_pretrained(trained / "model")
    ours = load_cloc(str(trained))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[name]), name


def test_boxes_of_a_user_s_file_are_embedded_and_bad_ones_counted(trained, scenes, tmp_path):
    boxes = tmp_path / "boxes.jsonl"
    good = [
        {"image_id": "s0", "box": [1, 1, 20, 20], "text": "red"},
        {"image": "s1.png", "box": [5, 5, 9, 9]},
    ]
    more = [{"image_id": "s1", "box": [i, i, i + 9, i + 9]} for i in range(12)]
    bad = [
        {"image_id": "s0", "box": [9, 9, 3, 3]},
        {"image_id": "s1", "box": [1, 2]},
        {"image_id": "nowhere", "box": [1, 1, 2, 2]},
    ]
    records.write(boxes, [*good, *more, *bad])
    words = ["--boxes", boxes, "--limit", 2, "--npz", "--phrases", "red", "blue"]
    command("apply", scenes / "images.jsonl", "--model", trained, *words, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "regions.jsonl")
    kept = [(r["image_id"], r["box"], r["text"]) for r in rows]
    assert kept[0] == ("s0", [1, 1, 20, 20], "red") and ("s1", [5, 5, 9, 9], None) in kept and len(kept) == 14
    vectors = load_file(tmp_path / "out" / "embeddings.safetensors")["embeddings"]
    model = load_cloc(str(trained))
    image = model.encode_image([Image.open(scenes / "s0.png").convert("RGB")])
    torch.testing.assert_close(vectors[:1], model.encode_regions(image, [[[1, 1, 20, 20]]])[0])
    stored = np.load(tmp_path / "out" / "embeddings.npz")
    assert stored["image"].tolist() == ["s0", *["s1"] * 13] and stored["box"].shape == (14, 4)
    assert len(rows_of(tmp_path / "out" / "grounded.jsonl")) == 4
    shortfalls = json.loads((tmp_path / "out" / "report.json").read_text())["shortfalls"]
    assert {s["what"] for s in shortfalls} == {
        "regions left out, corners exchanged", "regions left out, no box of four numbers", "regions without an image",
    }  # fmt: skip


def test_a_model_without_a_prompter_is_refused_where_regions_would_be_random(dual, scenes, tmp_path, capsys):
    for verb in ("apply", "ground"):
        command(
            verb,
            scenes / "images.jsonl",
            "--model",
            dual("clip"),
            "--phrases",
            "red",
            "--out",
            tmp_path / verb,
            fails=2,
        )
        assert "no trained Prompter" in capsys.readouterr().err


def test_eval_puts_controls_beside_every_number_and_chooses_a_threshold(trained, dual, scenes, tmp_path):
    words = [scenes / "images.jsonl", "--regions", scenes / "regions.jsonl"]
    command("eval", *words, "--model", trained, "--out", tmp_path / "own")
    summary = json.loads((tmp_path / "own" / "summary.json").read_text())
    by = {row["regions by"]: row for row in summary["regions"]}
    assert set(by) == {
        "Prompter",
        "RoI-Align",
        "mean of tokens in the box",
        "crop and encode",
        "the whole image",
        "the commonest text",
    }
    assert by["Prompter"]["accuracy"] > by["the commonest text"]["accuracy"]
    assert "accuracy, shuffled boxes" in by["Prompter"] and {r["boxes by"] for r in summary["grounding"]} == {
        "Prompter",
        "the mean box",
    }
    assert load_cloc(str(trained)).threshold is None
    command(
        "eval", *words, "--model", trained, "--no-crops", "--store-threshold", "--out", tmp_path / "stored"
    )
    assert load_cloc(str(trained)).threshold == summary["threshold"]
    command(
        "ground", scenes / "images.jsonl", "--model", trained, "--phrases", "red", "--out", tmp_path / "found"
    )
    grounded = rows_of(tmp_path / "found" / "grounded.jsonl")
    assert all(row["is_there"] == (row["score"] >= summary["threshold"]) for row in grounded)
    # A plain CLIP is measured by its tokens and crops alone.
    command("eval", *words, "--model", dual("siglip"), "--no-crops", "--out", tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "summary.json").read_text())
    assert "Prompter" not in {row["regions by"] for row in plain["regions"]} and plain["grounding"] == []


def test_an_image_that_cannot_be_read_costs_itself_alone(trained, scenes, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in [f"s{i}.png" for i in range(8)]:
        (folder / name).write_bytes((scenes / name).read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    command("ground", folder, "--model", trained, "--phrases", "red", "--out", tmp_path / "out")
    assert {row["image_id"] for row in rows_of(tmp_path / "out" / "grounded.jsonl")} == {
        f"s{i}" for i in range(8)
    }
    (skipped,) = rows_of(tmp_path / "out" / "skipped.jsonl")
    assert skipped["image_id"] == "broken"


def test_regions_are_read_from_what_users_have(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    wanted = [((4.0, 2.0, 14.0, 12.0), "dog")]

    def regions_of(source):
        (row,), left = read_rows(source)
        return [(tuple(map(float, region.box)), region.text) for region in row.regions], left

    lists = tmp_path / "lists"
    lists.mkdir()
    Image.new("RGB", (40, 20)).save(lists / "a.png")
    (lists / "own.jsonl").write_text(json.dumps({"image": "a.png", "caption": "a dog", "regions": [
        {"box": [4, 2, 14, 12], "text": "dog"}, {"box": [9, 9, 2, 2], "text": "bad"}, {"text": "none"}]}) + "\n")  # fmt: skip
    own, left = regions_of(Source(str(lists / "own.jsonl")))
    assert own == wanted and left.counts == {
        "regions left out, corners exchanged": 1, "regions left out, no box of four numbers": 1,
    }  # fmt: skip
    (lists / "grit.jsonl").write_text(json.dumps({"image": "a.png", "caption": "a dog here", "ref_exps": [
        [2, 5, 0.1, 0.1, 0.35, 0.6, 0.9]]}) + "\n")  # fmt: skip
    grit, _ = regions_of(Source(str(lists / "grit.jsonl")))
    assert grit[0][1] == "dog" and grit[0][0] == pytest.approx(wanted[0][0])
    (tmp_path / "genome.json").write_text(json.dumps([{"id": "a", "regions": [
        {"image_id": "a", "x": 4, "y": 2, "width": 10, "height": 10, "phrase": "dog"}]}]))  # fmt: skip
    assert regions_of(Source(str(tmp_path / "a.png"), str(tmp_path / "genome.json")))[0] == wanted
    masks = tmp_path / "masks"
    masks.mkdir()
    values = np.zeros((20, 40), np.uint8)
    values[2:12, 4:14] = 2
    values[0, 30] = 2  # too small a part
    Image.fromarray(values).save(masks / "a.png")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "names.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    (tmp_path / "classes.yml").write_text("classes:\n  0: unlabeled\n  1: cat\n  2: dog\n  4: cow\n")
    assert read_names(tmp_path / "classes.yml") == ["cat", "dog", "2", "cow"]
    assert read_names(tmp_path / "names.yaml") == read_names(tmp_path / "names.txt") == ["cat", "dog"]
    by_mask, left = regions_of(Source(str(tmp_path / "a.png"), str(masks), str(tmp_path / "names.txt")))
    assert by_mask == wanted and left.counts == {"parts of fewer than 16 pixels": 1}
    yolo = tmp_path / "yolo"
    yolo.mkdir()
    (yolo / "a.txt").write_text("1 0.225 0.35 0.25 0.5\n")
    assert (
        regions_of(Source(str(tmp_path / "a.png"), str(yolo), str(tmp_path / "names.yaml")))[0][0][1] == "dog"
    )
    (row,), _ = read_rows(Source(str(tmp_path / "a.png"), str(yolo), str(tmp_path / "names.yaml")))
    (item,), _ = labelled([row])
    assert item.caption == "dog"  # an image without a caption is described by its regions


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("A man riding a brown horse near the old barn", ["man", "brown horse", "old barn"]),
        ("Stock photo: wallpaper of a red car, HD download", ["red car"]),
        ("two dogs and the cat", ["dogs", "cat"]),
        ("An orange and an orange cat.", ["orange", "orange cat"]),
        ("free download", []),
    ],
)
def test_phrases_are_the_noun_phrases_without_words_of_the_web(caption, wanted):
    assert phrases(caption, tag=light_tags) == wanted


def test_at_most_so_many_phrases_and_none_within_another():
    assert len(phrases(" and ".join(f"dog{i}" for i in range(30)), tag=light_tags)) == 20
    assert thinned(["dog", "black dog", "dogs"], "longest") == ["black dog", "dogs"]


def tiny_detector(kind, folder):
    """An OWLv2 or a Grounding DINO of the real class, too small to know anything."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    from gnomon.core.models import whole_words

    tokenizer = whole_words(["red", "blue", "square", "green", "yellow"])
    assert kind == "owlv2"
    torch.manual_seed(0)
    config = Owlv2Config(
        text_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                     "vocab_size": len(tokenizer), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1,
                     "pad_token_id": 2},
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    model = Owlv2ForObjectDetection(config).eval()
    with torch.no_grad():  # each patch then sees itself: a box on its own place, as large as it is
        model.box_head.dense2.weight.zero_()
        model.box_head.dense2.bias.zero_()
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(
        folder
    )
    return folder


def test_labels_are_the_detector_s_boxes_of_the_caption_s_phrases(scenes, tmp_path):
    detector = tiny_detector("owlv2", tmp_path / "owl")
    words = [scenes / "images.jsonl", "--detector", detector, "--threshold", 0, "--shard-rows", 5]
    command("label", *words, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "labelled")
    assert len(rows) == 24
    for row in rows:
        assert {region["text"] for region in row["regions"]} <= set(row["phrases"])
        assert row["regions"] and row["width"] == 48 and row["height"] == 36
        # Such boxes lie around the far corners of 4 x 4 patches of the padded square, 48 pixels wide; half of one is enough.
        boxes = {tuple(round(n) for n in region["box"]) for region in row["regions"]}
        places = {(x, y) for x in (6, 18, 30, 42) for y in (6, 18, 30)} - {(42, 30)}
        assert boxes == {(x, y, min(x + 12, 48), min(y + 12, 36)) for x, y in places}
    figures = json.loads((tmp_path / "out" / "report.json").read_text())["figures"]
    assert figures["tagger"] in ("light", "nltk") and figures["images"] == 24
    # The labels are what train reads.
    source = tmp_path / "labelled.jsonl"
    records.write(
        scenes / "labelled.jsonl", [{**row, "image": row["image"].rpartition("/")[2]} for row in rows]
    )
    rows, _ = read_rows(Source(str(scenes / "labelled.jsonl")))
    assert all(row.regions for row in rows) and not source.exists()


def test_boxes_are_thinned_greedily_by_score_and_overlap():
    boxes = [((0, 0, 10, 10), "dog", 0.4), ((1, 0, 10, 10), "black dog", 0.9), ((20, 0, 30, 10), "cat", 0.2)]
    kept = greedy([Region(*entry) for entry in boxes])
    assert [region.text for region in kept] == ["black dog", "cat"]


def test_images_without_captions_need_a_captioner(scenes, tmp_path, capsys):
    detector = tiny_detector("owlv2", tmp_path / "owl")
    command("label", scenes / "s0.png", "--detector", detector, "--out", tmp_path / "no", fails=2)
    assert "--captioner" in capsys.readouterr().err
    writer = tmp_path / "writer.py"
    writer.write_text("def write(prompt):\n    return 'a red square and a blue square'\n")
    command("label", scenes / "s0.png", "--detector", detector, "--threshold", 0, "--captioner", f"script:{writer}:write",
            "--out", tmp_path / "yes")  # fmt: skip
    (row,) = rows_of(tmp_path / "yes" / "labelled")
    assert row["phrases"] == ["red square", "blue square"]
