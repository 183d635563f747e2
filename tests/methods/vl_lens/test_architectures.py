"""The verbs on models without a table: their image tokens, heat maps and edits are right, or refused in one sentence."""

import numpy as np
import pytest
from PIL import Image

from fixtures_seeing import classes, picture, small_seer
from fixtures_vl_lens import rows_of, vl_lens
from gnomon.core.models import ModelHandle
from gnomon.errors import ModelMismatch
from gnomon.methods.vl_lens.lens.lens import Reading, lens

KINDS = ("qwen2_5_vl", "gemma3", "smolvlm", "internvl", "llava_onevision")
SIZES = {"wide": (64, 32), "tall": (30, 60)}
WRITES = ("--device", "cpu", "--beams", "2", "--max-new-tokens", "3")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folder of a saved model of a kind, with a folder of images."""
    folder = tmp_path_factory.mktemp("seers")
    (folder / "images").mkdir()
    for i, (name, size) in enumerate(SIZES.items()):
        picture(i, *size).save(folder / "images" / f"{name}.png")

    def save(kind):
        if not (folder / kind).exists():
            model, processor = small_seer(kind, classes()[kind])
            model.save_pretrained(folder / kind)
            processor.save_pretrained(folder / kind)
        return folder / kind

    save.images = folder / "images"
    return save


@pytest.mark.parametrize("kind", KINDS)
def test_lens_and_maps(kind, checkpoint, tmp_path):
    words = ("--words", "cat", "dog", "--device", "cpu", "--read.lens", "norm")
    assert vl_lens("lens", checkpoint.images, "--model", checkpoint(kind), *words, "--out", tmp_path) == 0
    handle = ModelHandle.load(checkpoint(kind), device="cpu")
    for row in rows_of(tmp_path / "lens.jsonl"):
        # By hand: the states at the image tokens of every layer through the model's own head.
        prompt = handle.prompt("Write a detailed description.")
        batch = handle.encode([prompt], images=[checkpoint.images / f"{row['image_id']}.png"])
        sites = ["embed", *(f"{i}.resid_post" for i in range(len(handle.sites.top.blocks)))]
        states = handle.capture(batch, sites, where=batch.image_mask)
        ids = handle.tokenizer(row["word"])["input_ids"], handle.tokenizer(f" {row['word']}")["input_ids"]
        probs = [
            handle.lens(states[site]).softmax(-1)[:, sorted({i for form in ids for i in form})]
            for site in sites
        ]
        highest = [float(p.max()) for p in probs]
        assert row["confidence"] == pytest.approx(max(highest), rel=1e-3)
        assert row["token"] < int(batch.image_mask.sum())
        with Image.open(tmp_path / "maps" / f"{row['image_id']}.{row['word']}.png") as heat:
            assert heat.size == SIZES[row["image_id"]]


@pytest.mark.parametrize("kind", KINDS)
def test_captions_and_edits(kind, checkpoint, tmp_path):
    model, images = checkpoint(kind), checkpoint.images
    assert vl_lens("caption", images, "--model", model, *WRITES, "--out", tmp_path / "c") == 0
    captions = {row["image_id"]: row["caption"] for row in rows_of(tmp_path / "c" / "captions.jsonl")}
    handle = ModelHandle.load(model, device="cpu")
    for name, caption in captions.items():
        batch = handle.encode(
            [handle.prompt("Write a detailed description.")], images=[images / f"{name}.png"]
        )
        ids = handle.model.generate(**batch.inputs("vlm"), num_beams=2, max_new_tokens=3, do_sample=False)
        written = handle.tokenizer.decode(ids[0, batch.input_ids.shape[1] :], skip_special_tokens=True)
        assert caption == written.strip()
    edit = ("--edit.text-layer", "1", "--edit.edit-layer", "1", "--edit.alpha", "5", "--words", "cat")
    assert vl_lens("erase", images, "--model", model, *WRITES, *edit, "--out", tmp_path / "e") == 0
    assert len(rows_of(tmp_path / "e" / "captions.jsonl")) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_masks(kind, checkpoint, tmp_path):
    assert (
        vl_lens(
            "segment", checkpoint.images, "--model", checkpoint(kind), "--word", "cat", "--device", "cpu", "--out", tmp_path
        )
        == 0
    )  # fmt: skip
    for name, size in SIZES.items():
        with Image.open(tmp_path / "masks" / f"{name}.cat.png") as image:
            mask = np.asarray(image)
        assert mask.shape == size[::-1] and set(np.unique(mask)) <= {0, 255}


def test_what_has_no_places_is_refused_in_one_sentence():
    aria = ModelHandle(*small_seer("aria", classes()["aria"]))
    result = lens(aria, [picture()], "a", ["cat"], Reading())
    assert 0 < result.confidence[0, 0] < 1
    with pytest.raises(ModelMismatch, match=r"no place on it .* or it is not known which"):
        result.heatmap(0, "cat")


def test_a_model_without_image_tokens_is_refused_in_one_sentence():
    mllama = ModelHandle(*small_seer("mllama", classes()["mllama"]))
    with pytest.raises(ModelMismatch, match="no image tokens"):
        lens(mllama, [picture()], "a", ["cat"], Reading())
