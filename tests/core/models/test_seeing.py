"""Vision-language models of any architecture: what traced passes find is what the library's own states say, or it is left out."""

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures_seeing import check_seer, check_writing, classes, picture, small_seer, written_alone
from fixtures_vlm import FAMILIES, GRIDLESS, saved_vlm, vlm
from fixtures_walk import walk
from gnomon.core.models import GenConfig, ModelHandle, VLFamily, read_family
from gnomon.core.models.architectures.sight import NO_TOKEN, seen_sites
from gnomon.core.models.images import samples
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

WITHOUT_A_TABLE = (
    "gemma3",
    "qwen3_vl",
    "qwen3_5",
    "smolvlm",
    "internvl",
    "llava_onevision",
    "mistral3",
    "mllama",
    "aya_vision",
    "glm4v",
    "ovis2",
    "janus",
)
"""What people use, and every way in which images reach a language model."""


def seer(kind):
    return ModelHandle(*small_seer(kind, classes()[kind]))


@pytest.mark.parametrize("kind", WITHOUT_A_TABLE)
def test_architectures_of_today(kind, caplog):
    handle = seer(kind)
    assert handle.kind == "vlm"
    check_seer(handle)
    block = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    is_parallel = kind == "aya_vision"  # attention and MLP read the same stream
    names = [name for name in block if name != "resid_mid" or not is_parallel]
    assert [site[2:] for site in handle.sites if site.startswith("0.")] == names
    tower = [site[9:] for site in handle.sites if site.startswith("vision.0.")]
    assert tower == [name for name in block if name in tower] and {"attn_out", "mlp_out"} <= set(tower)
    missing = {"mllama": "no token stands for it", "ovis2": "no module returns what stands at the image tok"}
    assert ("projector" in handle.sites) == (kind not in missing)
    if kind in missing:
        assert any(missing[kind] in reason for reason in handle.sites.missing)
        assert missing[kind] in caplog.text
    check_writing(handle)


def test_several_images_of_a_text_and_texts_alone():
    handle = seer("gemma3")
    one, other = picture(1), picture(2, 25, 60)
    batch = handle.encode(
        [handle.prompt("a", images=2), handle.prompt("a cat")], images=[[one, other], other]
    )
    assert [[layout.n_tokens for layout in row] for row in batch.layouts] == [[4, 4], [4]]
    assert batch.image_mask.sum(-1).tolist() == [8, 4]
    assert [layout.size for layout in batch.layouts[0]] == [(40, 30), (25, 60)]
    alone = handle.generate(["a cat sat", "a"], GenConfig(max_new_tokens=3, temperature=0), generator=Rng(0))
    for (completion,), text in zip(alone, ("a cat sat", "a"), strict=True):
        ids = handle.tokenizer(text)["input_ids"]
        for token in completion.token_ids:
            with torch.no_grad():
                assert token == handle.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
            ids = [*ids, token]


def test_a_model_whose_blocks_look_at_the_image_has_no_image_tokens():
    handle = seer("mllama")
    assert handle.sites.top.image_token == NO_TOKEN
    assert "1.cross_out" in handle.sites and "1.attn_out" not in handle.sites
    batch = handle.encode([handle.prompt("a cat")], images=[picture(0)])
    assert not batch.image_mask.any()
    assert handle.capture(batch, ["vision.0.resid_post"])["vision.0.resid_post"].isfinite().all()
    with pytest.raises(BadInput, match=r"does not run the blocks of 1.resid_post: they look at images"):
        handle.capture(handle.encode(["a cat"]), ["1.resid_post"])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("paligemma", "paligemma2")])
def test_the_same_sites_as_by_the_tables(name):
    """Where there is a table too, the traced passes must say the same, and put image tokens in the same cells."""
    by_table = vlm(name)
    sites = seen_sites(by_table.model, *samples(by_table.model, by_table.processor))
    for site, place in sites.items():
        # In the middle of a block the same stream is seen from either side, and the norm behind a tower may be the projector's.
        if not site.endswith("resid_mid") and site != "vision.final_norm":
            known = by_table.sites[site]
            assert (place.module, place.side) == (known.module, known.side), site
    assert set(by_table.sites) == set(sites)
    assert sites.top.image_token == by_table.sites.top.image_token
    assert sites.top.root is by_table.sites.top.root
    handle = ModelHandle(by_table.model, by_table.processor)
    handle.sites = sites
    for size in ((40, 30), (70, 24), (64, 64)):
        shown = {"images": [picture(0, *size)]}
        ((traced,),) = handle.encode([handle.prompt("a")], **shown).layouts
        ((known,),) = by_table.encode([by_table.prompt("a")], **shown).layouts
        assert (traced.size, traced.n_tokens) == (known.size, known.n_tokens)
        assert bool(traced.tiles) == (name not in GRIDLESS)
        for ours, theirs in zip(traced.tiles, known.tiles, strict=True):
            assert np.array_equal(ours.tokens, theirs.tokens)
            assert ours.box == pytest.approx(theirs.box, abs=0.5)


@pytest.mark.parametrize(
    ("kind", "size", "tiles"),
    [
        # One square of 2 x 2 tokens over the whole image, stretched.
        ("gemma3", (90, 60), [([[0, 1], [2, 3]], (0, 0, 90, 60))]),
        # 32 x 64 pixels are 2 x 4 patches of 8 x 8 merged by twos: 2 rows of 4 cells of 16 x 16.
        ("qwen3_vl", (64, 32), [([[0, 1, 2, 3], [4, 5, 6, 7]], (0, 0, 64, 32))]),
        # Padded to a square of 80 around the middle.
        ("janus", (80, 40), [(np.arange(16).reshape(4, 4).tolist(), (0, -20, 80, 60))]),
        # Two tiles side by side of 2 x 2 tokens each and the whole image last.
        (
            "internvl",
            (64, 32),
            [
                ([[0, 1], [2, 3]], (0, 0, 32, 32)),
                ([[4, 5], [6, 7]], (32, 0, 64, 32)),
                ([[8, 9], [10, 11]], (0, 0, 64, 32)),
            ],
        ),
    ],
)
def test_where_tokens_lie_worked_out_by_hand(kind, size, tiles):
    handle = seer(kind)
    ((layout,),) = handle.encode([handle.prompt("a")], images=[picture(0, *size)]).layouts
    assert [(tile.tokens.tolist(), tile.box) for tile in layout.tiles] == tiles


def test_a_model_that_mixes_its_patches_has_no_places():
    """The queries of a resampler have looked everywhere: no layout holds, and none is given."""
    handle = seer("aria")
    ((layout,),) = handle.encode([handle.prompt("a")], images=[picture(0)]).layouts
    assert layout.n_tokens == 4 and layout.tiles == ()


def test_a_wrong_image_token_of_the_config_is_set_right_by_what_is_seen():
    handle = seer("gemma3")
    right = handle.model.config.image_token_id
    inputs = samples(handle.model, handle.processor)
    assert inputs[0] == right
    assert seen_sites(handle.model, 7, *inputs[1:]).top.image_token == right
    assert seen_sites(handle.model, None, *inputs[1:]).top.image_token == right


def test_what_is_not_found_is_said_and_a_tokenizer_alone_makes_a_text_model():
    model, processor = small_seer("idefics", classes()["idefics"])
    with pytest.raises(
        ModelMismatch, match=r"IdeficsForVisionText2Text were not found in a traced pass .*--family FILE"
    ):
        ModelHandle(model, processor).prompt("a")
    model, processor = small_seer("gemma3", classes()["gemma3"])
    text = ModelHandle(model, processor.tokenizer)
    assert text.kind == "causal"
    batch = text.encode(["a cat"])
    torch.testing.assert_close(
        text.lens(text.capture(batch, ["3.resid_post"])["3.resid_post"]), text.logits(batch)
    )


@pytest.mark.parametrize("kind", ["internvl", "gemma3"])
def test_the_same_is_found_in_16_bits(kind):
    """Layer scale too, whose changes are small beside the stream."""
    model, processor = small_seer(kind, classes()[kind])
    whole = list(ModelHandle(model, processor).sites)
    half = ModelHandle(model.to(torch.bfloat16), processor)
    assert list(half.sites) == whole and not half.sites.missing
    ((layout,),) = half.encode([half.prompt("a")], images=[picture(0)]).layouts
    assert layout.tiles


def test_a_saved_one_loads_as_what_it_is(tmp_path):
    model, processor = small_seer("internvl", classes()["internvl"])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    handle = ModelHandle.load(tmp_path, device="cpu")
    assert handle.kind == "vlm" and "projector" in handle.sites
    prompt, image = handle.prompt("a cat"), Image.new("RGB", (64, 64), "red")
    gen = GenConfig(max_new_tokens=3, temperature=0)
    ((completion,),) = handle.generate([prompt], gen, generator=Rng(0), images=[image])
    assert list(completion.token_ids) == written_alone(handle, prompt, image, 3)


@pytest.mark.slow
def test_every_image_text_class_that_is_installed():
    """Seven of ten of those that can be made small load with their sites verified; no site of any lies."""
    of = walk("image and text")
    assert not of["wrong"], of["wrong"]
    made = len(of["all"]) + len(of["some"]) + len(of["none"])
    assert made >= 45
    assert len(of["all"]) + len(of["some"]) >= 0.7 * made, of["none"]


def test_the_tables_load_as_before():
    assert ModelHandle.load(saved_vlm("llava"), device="cpu").sites.sees.lay_out is not None


GEMMA = """
vision:
  blocks: model.vision_tower.encoder.layers
  attn_out: self_attn
  mlp_out: mlp
  mid_into: layer_norm2
text:
  blocks: model.language_model.layers
  final_norm: model.language_model.norm
  attn_out: post_attention_layernorm
  mlp_out: post_feedforward_layernorm
  reader: model
projector: model.multi_modal_projector
placeholder: <boi>
"""


def test_a_table_may_come_as_a_file(tmp_path):
    """The same sites, tokens and places as the traced passes find."""
    model, processor = small_seer("gemma3", classes()["gemma3"])
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "gemma.yaml").write_text(GEMMA)
    handle = ModelHandle.load(tmp_path / "model", device="cpu", family=tmp_path / "gemma.yaml")
    traced = ModelHandle.load(tmp_path / "model", device="cpu")
    assert isinstance(handle.sites.sees, VLFamily) and not isinstance(traced.sites.sees, VLFamily)
    prompt = handle.prompt("a cat")
    assert prompt == traced.prompt("a cat")
    ours, theirs = (h.encode([prompt], images=[picture(0)]) for h in (handle, traced))
    (tile,), (known,) = ours.layouts[0][0].tiles, theirs.layouts[0][0].tiles
    assert tile.tokens.tolist() == known.tokens.tolist() and tile.box == known.box
    sites = ["0.attn_out", "3.resid_post", "projector", "vision.1.mlp_out"]
    a, b = handle.capture(ours, sites), traced.capture(theirs, sites)
    assert all(torch.equal(a[site], b[site]) for site in sites)
    check_writing(handle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"blocks": "h", "attn_out": "attn"}', r'f.json: field "mlp_out" is missing'),
        ('{"blocks": "h", "attn_out": "a", "mlp_out": "m", "norm": "n"}', r'field "norm" is unknown'),
        ('{"blocks": 3, "attn_out": "a", "mlp_out": "m"}', r'field "blocks" must be a module path; got 3'),
        ('{"encoder": {"blocks": "h"}}', r'encoder: field "attn_out" is missing'),
        ('{"projector": "p", "vision": {}}', r'vision: field "attn_out" is missing'),
        (
            '{"projector": "p", "lay_out": "lava", "vision": {"blocks": "h", "attn_out": "a", "mlp_out": "m"}, '
            '"text": {"blocks": "h", "attn_out": "a", "mlp_out": "m"}}',
            r'lay_out "lava" is unknown. .*llava',
        ),
        ("[1]", "settings are a mapping"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, message):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_family(tmp_path / "f.json")


def test_a_table_in_a_file_that_leaves_something_out_is_noticed_on_load(tmp_path, checkpoint):
    (tmp_path / "f.json").write_text('{"blocks": "model.layers", "attn_out": "self_attn", "mlp_out": "mlp"}')
    with pytest.raises(ModelMismatch, match=r"does not lead to its logits. Check final_norm"):
        ModelHandle.load(checkpoint("llama"), device="cpu", family=tmp_path / "f.json")
