"""Boxes and phrases on an image that was encoded once, on CLIP and SigLIP of the real classes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.cloc import Prompter, Shape, box_mean, load_cloc, roi_align
from gnomon.methods.cloc.regions.model import load_dual
from gnomon.methods.cloc.regions.prompter import by_image
from gnomon.methods.cloc.regions.towers import Towers

KINDS = ["clip", "siglip"]


def test_towers_are_read_structurally(dual):
    clip, siglip = (load_cloc(str(dual(kind))).towers for kind in KINDS)
    assert (clip.is_normed, clip.n_extra, clip.has_bias, clip.joint) == (False, 1, False, 24)
    assert (siglip.is_normed, siglip.n_extra, siglip.has_bias, siglip.joint) == (True, 0, True, 32)
    # SigLIP reads its texts at full length and in lower case, whoever calls it.
    ids = siglip.ids_of(["Red Square"])
    assert ids["input_ids"].shape == (1, 12) and "attention_mask" not in ids
    assert torch.equal(siglip.texts(["RED"]), siglip.texts(["red"])) and not torch.equal(
        *siglip.texts(["red", "blue"])
    )
    assert clip.n_cut == 0
    clip.texts(["red " * 20])
    assert clip.n_cut == 1
    assert not torch.equal(*clip.texts(["red blue", "red green"]))  # the last word counts too
    blunt = load_dual(str(dual("clip")))
    blunt[1].tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ModelMismatch, match="does not put behind its texts"):
        Towers(*blunt)
    with pytest.raises(ModelMismatch, match="no class token"):
        load_cloc(str(dual("siglip")), shape=Shape(class_token=True))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_images_have_the_checkpoint_s_own_embeddings(kind, dual, scene):
    model = load_cloc(str(dual(kind)))
    picture, _, _ = scene(Rng(1).numpy())
    pixels, _ = model.towers.pixels([picture])
    output = model.model.get_image_features(pixels)
    wanted = torch.nn.functional.normalize(output.pooler_output, dim=-1)
    torch.testing.assert_close(model.encode_image([picture]).embeds, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("corners", ["two", "one"])
@pytest.mark.parametrize("heads", [1, 2])
def test_many_prompts_at_once_are_each_alone(kind, corners, heads, dual, scene):
    """Keys and values once per image give what a layer over prompt and image tokens gives for each prompt."""
    model = load_cloc(str(dual(kind)), shape=Shape(corners=corners, heads=heads), rng=Rng(5))
    draw = Rng(2).numpy()
    pictures = [scene(draw)[0] for _ in range(3)]
    image = model.encode_image(pictures)
    boxes = torch.tensor(draw.random((3, 4, 4)), dtype=torch.float32)
    prompter = model.prompter
    with torch.no_grad():
        at_once = prompter(prompter.box_prompts(boxes), image.tokens)
        for i in range(3):
            for k in range(4):
                prompt = prompter.box_prompts(boxes[i, k])  # [P, d]
                rows = torch.cat([prompt, image.tokens[i]])
                normed = prompter.norm_in(rows)
                query, keys, values = prompter.query(normed), prompter.key(normed), prompter.value(normed)
                mixed = []
                for q, key, value in zip(
                    query.chunk(heads, -1), keys.chunk(heads, -1), values.chunk(heads, -1), strict=True
                ):
                    mixed.append((q @ key.T / q.shape[-1] ** 0.5).softmax(-1) @ value)
                states = rows + prompter.mix(torch.cat(mixed, -1))
                states = prompter.norm_out(states + prompter.mlp(prompter.norm_mlp(states)))
                alone = prompter.project(states[: len(prompt)].mean(0))
                torch.testing.assert_close(at_once[i, k], alone, atol=1e-5, rtol=1e-5)
                whole = Prompter(prompter.width, prompter.joint, Shape("all", corners, heads=heads))
                whole.load_state_dict(prompter.state_dict())
                literal = whole(prompter.box_prompts(boxes[i : i + 1, k : k + 1]), image.tokens[i : i + 1])[
                    0, 0
                ]
                torch.testing.assert_close(literal, prompter.project(states.mean(0)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_the_checkpoint_plain_transformers_opens(kind, dual, tmp_path, scene):
    import transformers

    model = load_cloc(str(dual(kind)), rng=Rng(3))
    model.threshold = 0.25
    model.save_pretrained(tmp_path)
    again = load_cloc(str(tmp_path))
    picture, _, boxes = scene(Rng(4).numpy())
    image, other = model.encode_image([picture]), again.encode_image([picture])
    assert torch.equal(image.embeds, other.embeds) and again.threshold == 0.25
    assert torch.equal(model.encode_regions(image, [boxes])[0], again.encode_regions(other, [boxes])[0])
    pixels, _ = model.towers.pixels([picture])
    names = {
        "clip": ("CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection"),
        "siglip": ("SiglipModel", "SiglipVisionModel"),
    }
    for name in names[kind]:
        plain, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        with torch.no_grad():
            if hasattr(plain, "get_image_features"):
                output = plain.get_image_features(pixels).pooler_output
            else:
                output = getattr(plain(pixels), "image_embeds", None)
        if output is not None:
            assert torch.equal(torch.nn.functional.normalize(output, dim=-1), image.embeds)
    (tmp_path / "prompter.safetensors").unlink()
    with pytest.raises(BadInput, match="and no prompter"):
        load_cloc(str(tmp_path))


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 400), st.integers(20, 400), st.integers(0, 10**6))
def test_boxes_follow_the_image_through_its_padding(width, height, seed):
    """The shares of a box are those of its pixels on the padded square, whichever form it comes in."""
    from gnomon.core.vision.frames import Frame

    draw = np.random.default_rng(seed)
    x, y = sorted(draw.uniform(0, width, 2)), sorted(draw.uniform(0, height, 2))
    frame = Frame.letterbox((width, height), 32)
    shares = frame.into([x[0], y[0], x[1], y[1]])[0] / 32
    new = [max(1, int(n * 32 / max(width, height) + 0.5)) / 32 for n in (width, height)]
    wanted = [x[0] / width * new[0], y[0] / height * new[1], x[1] / width * new[0], y[1] / height * new[1]]
    assert shares == pytest.approx(wanted, abs=1e-9)


def test_forms_of_boxes_are_one_box_and_bad_boxes_are_named(dual, scene):
    model = load_cloc(str(dual("clip")), rng=Rng(3))
    picture, _, _ = scene(Rng(4).numpy())
    image = model.encode_image([picture])
    rows = [
        model.encode_regions(image, [[box]], form, unit)[0]
        for box, form, unit in (
            ([4, 6, 16, 18], "xyxy", False), ([4, 6, 12, 12], "xywh", False), ([10, 12, 12, 12], "cxcywh", False),
            ([4 / 48, 6 / 36, 16 / 48, 18 / 36], "xyxy", True),
        )
    ]  # fmt: skip
    for row in rows[1:]:
        torch.testing.assert_close(row, rows[0])
    assert model.encode_regions(image, [[]])[0].shape == (0, 24)
    for box, reason in (
        ([10, 10, 4, 20], "exchanged"),
        ([0, 0, float("nan"), 4], "finite"),
        ([3, 3, 3, 9], "without an area"),
    ):
        with pytest.raises(BadInput, match=f"Image 0, box 1: .*{reason}"):
            model.encode_regions(image, [[[1, 1, 5, 5], box]])


def test_grounding_returns_boxes_of_the_original_and_says_what_is_not_there(dual, scene):
    model = load_cloc(str(dual("clip")), rng=Rng(3))
    picture, _, _ = scene(Rng(4).numpy(), (60, 30))
    image = model.encode_image([picture])
    ((red, blue),) = model.ground(image, [["red", "blue"]])
    for result in (red, blue):
        left, top, right, bottom = result.box
        assert 0 <= left <= right <= 60 and 0 <= top <= bottom <= 30 and result.is_there
        (row,) = model.encode_regions(image, [[result.box]])
        phrase = model.encode_text(["red" if result is red else "blue"])
        assert result.score == pytest.approx(float((row @ phrase.T)[0, 0]), abs=1e-5)
    model.threshold = max(red.score, blue.score) - 1e-6
    assert sorted(r.is_there for r in model.ground(image, [["red", "blue"]])[0]) == [False, True]
    assert model.ground(image, [[]]) == [[]]


def test_pooled_tokens_are_worked_out_by_hand():
    """Four patches 0 1 / 2 3 of one channel."""
    tokens = torch.tensor([[[0.0], [1.0], [2.0], [3.0]]])
    first = torch.tensor([0, 0, 0])
    boxes = torch.tensor([[0, 0, 1, 1], [0.5, 0.0, 1.0, 0.5], [0.25, 0.0, 0.75, 0.5]])
    assert box_mean(tokens, boxes, first).squeeze(1).tolist() == pytest.approx([1.5, 1.0, 0.5])
    # Between the middles values are bilinear, beyond them they stay: on the whole grid as on the inner square the mean is 1.5.
    assert roi_align(tokens, boxes, first, bins=1, samples=1).squeeze(1).tolist() == pytest.approx(
        [1.5, 1.0, 0.5]
    )
    inner = torch.tensor([[0.25, 0.25, 0.75, 0.75]])
    cells = roi_align(tokens, inner, first[:1], bins=2, samples=1)
    assert cells.item() == pytest.approx(1.5)
    ramp = torch.arange(16.0).reshape(1, 16, 1)  # row r, column c: 4 r + c
    point = torch.tensor([[0.5, 0.25, 0.75, 0.5]])  # its middle: column 2.5 - .5, row 1.5 - .5
    assert roi_align(ramp, point, first[:1], bins=1, samples=1).item() == pytest.approx(4 * 1.0 + 2.0)


def test_rows_of_several_images_become_a_block():
    rows = torch.arange(5.0)[:, None]
    block, is_row = by_image(rows, torch.tensor([0, 2, 2, 2, 0]).sort().values, 3)
    assert is_row.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert block[is_row].squeeze(1).tolist() == [0, 1, 2, 3, 4]
    empty, is_row = by_image(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 2)
    assert empty.shape == (2, 1, 4) and not is_row.any()
