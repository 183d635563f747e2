"""Images into batches: prompts, files, errors; loading what sees; describing what is not known."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import fixtures_process
from fixtures_vlm import (
    LLAMA,
    MAKERS,
    QFORMER,
    VISION,
    clip,
    picture,
    saved_vlm,
    text_config,
    tokenizer,
    vlm,
    with_tokens,
)
from gnomon.core.models import (
    Family,
    GenConfig,
    LlavaSizes,
    ModelHandle,
    VLFamily,
    as_handle,
    generate,
    tiny_llava,
)
from gnomon.core.models.adapters import without_deprecations
from gnomon.core.models.architectures.geometry import llava
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

SRC = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture
def handle():
    return vlm("llava")


def test_prompts_are_in_the_models_own_form(handle):
    assert handle.prompt("what?") == "USER: <image>\nwhat? ASSISTANT:"
    assert handle.prompt("what?", images=2) == "USER: <image><image>\nwhat? ASSISTANT:"
    assert vlm("instructblip").prompt("what?") == "what?"
    assert vlm("blip2").prompt("what?") == "Question: what? Answer:"
    assert vlm("paligemma").prompt("what?") == "<image>what?"
    assert vlm("qwen2_vl").prompt("x") == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>x<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_chat_template_goes_first_and_begins_a_text_once():
    model, processor = tiny_llava(tokenizer(), generator=Rng(0))
    processor.tokenizer.post_processor = None
    processor.chat_template = (
        "<s>{% for m in messages %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}[{{ c['text'] }}]{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}"
    )
    handle = ModelHandle(model, processor)
    assert handle.prompt("a cat") == "<s><image>[a cat]>"
    from tokenizers.processors import TemplateProcessing

    processor.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    ids = handle.encode([handle.prompt("a cat"), "<image> a cat"], images=[picture(0)] * 2)
    assert [(row == 0).sum().item() for row in ids.input_ids] == [1, 1]


def test_images_come_as_files_or_in_memory_and_several_to_a_text(handle, tmp_path):
    picture(0).save(tmp_path / "a.png")
    texts = ["<image> and <image>", "no, <image>"]
    batch = handle.encode(texts, images=[[tmp_path / "a.png", picture(1, 25, 60)], str(tmp_path / "a.png")])
    assert batch.image_mask.sum(-1).tolist() == [18, 9]
    assert [[layout.size for layout in row] for row in batch.layouts] == [[(40, 30), (25, 60)], [(40, 30)]]
    assert batch.pixels["pixel_values"].shape == (3, 3, 24, 24)
    first = handle.capture(batch, ["embed"])["embed"]
    alone = handle.encode(["<image>"], images=[picture(1, 25, 60)])
    torch.testing.assert_close(
        first[0][batch.image_mask[0]][9:], handle.capture(alone, ["embed"])["embed"][0][alone.image_mask[0]]
    )


def test_a_rotated_photograph_is_put_upright(handle, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture(0, 40, 30).save(tmp_path / "a.jpg", exif=exif)
    ((layout,),) = handle.encode(["<image>"], images=[tmp_path / "a.jpg"]).layouts
    assert layout.size == (30, 40)


def test_the_processors_own_batch_is_ours(handle):
    texts, images = ["<image> a cat", "the <image> dog ran in the park"], [picture(0), picture(1)]
    ours = handle.encode(texts, images=images)
    theirs = handle.processor(
        images=images, text=texts, padding=True, padding_side="left", return_tensors="pt"
    )
    assert torch.equal(ours.input_ids, theirs["input_ids"])
    assert torch.equal(ours.mask.long(), theirs["attention_mask"])
    assert torch.equal(ours.pixels["pixel_values"], theirs["pixel_values"])


def test_what_cannot_be_encoded_is_named(handle, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    whole = tmp_path / "whole.png"
    picture(0, 300, 300).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:5000])
    for images, said in (
        ([picture(0)], "2 texts need as many entries in images, one or a list each; got 1"),
        ([picture(0), tmp_path / "none.png"], 'Image 0 of text 1: there is no file ".*none.png"'),
        ([[tmp_path / "text.png"], picture(0)], 'Image 0 of text 0: ".*text.png" cannot be read as an image'),
        ([picture(0), tmp_path / "half.png"], 'Image 0 of text 1: ".*half.png" cannot be read as an image'),
        ([picture(0), 7], "Image 0 of text 1 is a int; give a PIL image or the path of a file"),
        ([[picture(0)] * 2, picture(0)], r'Text 0 has 1 places for images \("<image>"\) and 2 images'),
        ([[], picture(0)], r'Text 0 has 1 places for images \("<image>"\) and 0 images'),
    ):
        with pytest.raises(BadInput, match=said):
            handle.encode(["<image> a", "<image> b"], images=images)
    with pytest.raises(
        BadInput, match=r"Text 0 has 0 places .* handle.prompt\(text, images=...\) puts them in"
    ):
        handle.encode(["a cat"], images=[picture(0)])
    with pytest.raises(
        BadInput, match=r"Text 0 has 1 places for images .a fixed place before the text. and 2 im"
    ):
        vlm("blip2").encode(["a cat"], images=[[picture(0)] * 2])
    with pytest.raises(BadInput, match="see images, not texts: give the batch images and leave where"):
        handle.capture(handle.encode(["a cat"]), ["projector"])
    with pytest.raises(BadInput, match="see images, not texts"):
        handle.capture(handle.encode(["<image>"], images=[picture(0)]), ["vision.embed"], where="last")


def test_a_text_model_refuses_images(handle_of, handle):
    text = handle_of("llama")
    assert text.tokenizer is text.processor
    for ask in (
        lambda: text.encode(["x"], images=[picture(0)]),
        lambda: text.prompt("x"),
        lambda: text.generate(["x"], GenConfig(), generator=Rng(0), images=[picture(0)]),
        lambda: ModelHandle(handle.model, handle.tokenizer).encode(["<image>"], images=[picture(0)]),
    ):
        with pytest.raises(ModelMismatch, match="images need a vision-language model and its processor"):
            ask()


def test_a_config_that_does_not_fit_its_processor_is_told(handle):
    model, processor = tiny_llava(tokenizer(), generator=Rng(0))
    model.config.image_token_index = 7
    with pytest.raises(ModelMismatch, match=r"Text 0 has 0 image tokens \(id 7\) and its images take 36"):
        ModelHandle(model, processor).encode(["<image>"], images=[picture(0)])
    blip, processor = MAKERS["blip2"]()
    blip.config.image_token_index = None  # as in checkpoints of older days
    with pytest.raises(
        ModelMismatch, match=r"does not say which token stands for an image. Set model.config"
    ):
        ModelHandle(blip, processor)


def test_a_plain_model_and_its_processor_generate(handle):
    gen, ask = GenConfig(max_new_tokens=4, n=2), ["<image> a cat", "<image> a cat"]
    images = [picture(0), picture(1)]
    found = generate(handle.model, handle.processor, ask, gen, generator=Rng(0), images=images)
    assert found == handle.generate(ask, gen, generator=Rng(0), images=images)
    turned = handle.generate(ask, gen, generator=Rng(0), images=images[::-1])
    assert turned == found[::-1]  # a completion does not depend on its company
    assert as_handle(handle.model, handle.processor).kind == "vlm"
    assert found[0][0].prompt == "<image> a cat"


def test_a_batch_goes_where_it_is_sent(handle):
    batch = handle.encode(["<image>"], images=[picture(0)]).to("meta")
    assert {t.device.type for t in (batch.image_mask, *batch.inputs("vlm").values())} == {"meta"}


@pytest.mark.slow
def test_a_saved_handle_says_the_same_in_a_fresh_process(tmp_path):
    picture(0).save(tmp_path / "a.png")
    handle = vlm("llava_next")
    logits = handle.logits(handle.encode(["<image> a"], images=[tmp_path / "a.png"]))
    code = (
        "import torch; from gnomon.core.models import ModelHandle\n"
        f"h = ModelHandle.load({str(saved_vlm('llava_next'))!r}, device='cpu'); assert h.kind == 'vlm'\n"
        f"torch.save(h.logits(h.encode(['<image> a'], images=[{str(tmp_path / 'a.png')!r}])), {str(tmp_path / 'l')!r})"
    )
    environment = {"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = fixtures_process.run([sys.executable, "-c", code], env=environment)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "l"), logits)


def test_a_folder_without_a_processor_is_told(tmp_path, handle):
    handle.model.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"No processor could be loaded from .* processor.save_pretrained"):
        ModelHandle.load(tmp_path, device="cpu")
    handle.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="No processor could be loaded"):
        ModelHandle.load(tmp_path, device="cpu")


def test_a_text_model_is_no_vision_language_model(checkpoint):
    with pytest.raises(ModelMismatch, match="LlamaForCausalLM; this needs a vision-language model"):
        ModelHandle.load(checkpoint("llama"), kind="vlm", device="cpu")


def test_language_models_and_towers_that_are_not_supported_are_named():
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    t5 = {
        "model_type": "t5",
        "vocab_size": 300,
        "d_model": 16,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "d_kv": 8,
    }
    config = Blip2Config(
        vision_config={**VISION, "image_size": 24, "patch_size": 8},
        qformer_config=QFORMER,
        text_config=t5,
        image_token_index=299,
    )
    with pytest.raises(
        ModelMismatch, match='A "blip-2" model with a language model of type "t5" is not supported'
    ):
        ModelHandle(Blip2ForConditionalGeneration(config), None)
    words = with_tokens("<image>")
    config = LlavaConfig(
        vision_config={**clip(), "model_type": "dinov2"},
        text_config=text_config(LLAMA, words),
        image_token_index=300,
    )
    with pytest.raises(
        ModelMismatch, match=r'vision tower of type "dinov2" is not known .*VLFamily\(vision='
    ):
        ModelHandle(LlavaForConditionalGeneration(config), None)


def test_an_architecture_that_is_not_in_the_table_can_be_described(handle):
    from transformers import VipLlavaConfig, VipLlavaForConditionalGeneration

    config = VipLlavaConfig(
        vision_config=clip(),
        text_config=text_config(LLAMA, handle.tokenizer),
        image_token_index=handle.model.config.image_token_id,
        vision_feature_layers=[-1, -2],
    )
    config.vision_feature_select_strategy = "default"
    model = VipLlavaForConditionalGeneration(config).eval()
    traced = ModelHandle(model, handle.processor)
    assert "projector" in traced.sites and not traced.sites.missing
    vision = Family("model.vision_tower.encoder.layers", None, "self_attn", "mlp", mid_into="layer_norm2")
    text = Family(
        "model.language_model.layers", "model.language_model.norm", "self_attn", "mlp", reader="model"
    )
    described = ModelHandle(
        model,
        handle.processor,
        family=VLFamily(vision=vision, text=text, projector="model.multi_modal_projector", lay_out=llava),
    )
    batch = described.encode(["<image> a"], images=[picture(0)])
    assert batch.image_mask.sum() == 9
    last = described.capture(batch, ["1.resid_post"])["1.resid_post"]
    assert torch.equal(described.lens(last), described.logits(batch))
    assert described.sites["projector"].module is traced.sites["projector"].module


def test_adapters_on_a_vision_language_model_are_seen_through(handle):
    from peft import LoraConfig, get_peft_model

    model, processor = tiny_llava(tokenizer(), LlavaSizes(layers=2), generator=Rng(0))
    batch = ModelHandle(model, processor).encode(["<image> a"], images=[picture(0)])
    plain = ModelHandle(model, processor).logits(batch)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with without_deprecations():
        adapted = ModelHandle(get_peft_model(model, lora), processor)
    assert adapted.kind == "vlm"
    seen = []
    with adapted.edit({"0.resid_post": lambda h, step: seen.append(step.is_image.sum().item()) or h}):
        assert not torch.allclose(adapted.logits(batch), plain, atol=1e-4)
        adapted.generate(["<image> a"], GenConfig(max_new_tokens=2), generator=Rng(0), images=[picture(0)])
    assert seen == [36, 36, 0]


def test_a_tiny_llava_has_the_sizes_it_was_given():
    model, processor = tiny_llava(tokenizer(), generator=Rng(0))
    again, _ = tiny_llava(tokenizer(), generator=Rng(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    config = model.config
    assert (config.vision_config.hidden_size, config.text_config.hidden_size) == (64, 96)
    assert (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers) == (2, 4)
    assert config.vision_feature_layer == -1
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert "<image>" not in tokenizer().get_vocab()
    ((layout,),) = ModelHandle(model, processor).encode(["<image>"], images=[picture(0, 48, 48)]).layouts
    assert layout.tiles[0].tokens.shape == (6, 6)
    with pytest.raises(BadInput, match="Patches of 7 pixels do not divide an image of 48"):
        tiny_llava(tokenizer(), LlavaSizes(patch=7), generator=Rng(0))
