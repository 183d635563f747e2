"""Texts with images in reading order, and states without logits: equal to what the library makes of the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_seeing import classes, small_seer
from fixtures_vlm import picture, vlm
from gnomon.core.models import ModelHandle, add_lora, add_token
from gnomon.core.models.images import Markup, see_pieces, text_ids
from gnomon.core.models.images.seen import image_sign, processed
from gnomon.core.models.sampling.states import States, inputs_of
from gnomon.errors import BadInput, ModelMismatch

INLINE = ("llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "idefics3", "idefics2-split")
FOUND = ("qwen3_vl", "smolvlm", "llava_onevision")


def opened(name):
    return ModelHandle(*small_seer(name, classes()[name])) if name in FOUND else vlm(name)


@pytest.fixture(scope="module", params=(*INLINE, *FOUND))
def handle(request):
    return opened(request.param)


def pieces(handle, seed=0):
    return ["a cat sat ", picture(seed), " while a dog ", picture(seed + 1, 33, 50), " ran"]


def test_images_stand_where_they_were_put_and_have_the_library_s_pixels(handle):
    (seen,) = handle.see([pieces(handle)])
    sign = handle.sites.sees.placeholder.format(token=image_sign(handle.processor))
    text = f"a cat sat {sign} while a dog {sign} ran"
    theirs = processed(handle.processor, text, [picture(0), picture(1, 33, 50)])
    assert seen.ids == theirs["input_ids"][0].tolist()
    for key, value in theirs.items():
        if key not in ("input_ids", "attention_mask"):
            torch.testing.assert_close(seen.pixels[key], value)


def states(handle, texts, side, pick="last"):
    batch = handle.gather(handle.see(texts), side=side)
    with torch.no_grad():
        return States(handle.model, pick)(*inputs_of(batch, handle.kind, handle.model))


def test_left_and_right_padding_give_the_vector_of_the_text_alone(handle):
    short = ["a ", picture(4), " bird sang"]
    texts = [pieces(handle), short]
    left, right = states(handle, texts, "left"), states(handle, texts, "right")
    alone = torch.cat([states(handle, [text], "right") for text in texts])
    size = float(alone.abs().mean())
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4 * size)
    torch.testing.assert_close(right, alone, rtol=1e-4, atol=1e-4 * size)


def test_the_state_is_that_of_the_final_norm(handle):
    batch = handle.gather(handle.see([pieces(handle)]))
    captured = handle.capture(batch, ["final_norm"], where="last")["final_norm"]
    torch.testing.assert_close(
        states(handle, [pieces(handle)], "left"), captured.float(), rtol=1e-5, atol=1e-5
    )


def test_texts_alone_and_mixed_batches():
    handle = vlm("llava")
    seen = handle.see([["a cat"], ["a ", picture(0)]])
    assert not seen[0].layouts and len(seen[1].layouts) == 1
    assert handle.gather(seen[:1]).images is None
    with pytest.raises(BadInput, match="cannot be in one batch"):
        handle.gather(seen)
    with pytest.raises(BadInput, match="Text 0 has no tokens"):
        handle.see([[""]])


def test_a_model_with_one_fixed_place_is_refused():
    for name in ("blip2", "paligemma"):
        with pytest.raises(ModelMismatch, match="one fixed place for images"):
            vlm(name).see([["a ", picture(0), " cat"]])


@pytest.mark.parametrize("marker", ["<image>", "<s>", "</s>", "[EoS]", "<im<image>age>", "<image><image>"])
def test_a_marker_in_a_user_s_text_stays_text(marker):
    handle = vlm("llava")
    tokenizer = handle.tokenizer
    end = tokenizer.convert_tokens_to_ids("<image>")
    ids = text_ids(tokenizer, f"see {marker} here", reserved=["[EoS]"])
    special = set(tokenizer.all_special_ids) | {end}
    assert not special & set(ids)
    assert tokenizer.decode(ids) == f"see {marker} here"


def test_a_learned_end_that_a_user_types_is_not_the_learned_end():
    import copy

    handle = vlm("llava")
    model, tokenizer = copy.deepcopy(handle.model), copy.deepcopy(handle.tokenizer)
    token = add_token(model, tokenizer, "[EoS]")
    assert tokenizer("x [EoS]")["input_ids"].count(token) == 1
    (seen,) = [see_pieces(tokenizer, model.config, None, ["x [EoS]", token], "t", reserved=["[EoS]"])]
    assert seen.ids.count(token) == 1 and seen.ids[-1] == token
    marked = see_pieces(tokenizer, model.config, None, [Markup("<s>"), "<s>"], "t")
    assert marked.ids.count(tokenizer.bos_token_id) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<", "image", ">", "<image>", "</s>", " ", "a", "<s", "/", "[EoS]"]), max_size=12
    )
)
def test_no_text_makes_a_special_token(parts):
    tokenizer, text = vlm("llava").tokenizer, "".join(parts)
    ids = text_ids(tokenizer, text, reserved=["[EoS]"])
    assert tokenizer.decode(ids) == text
    assert not set(ids) & {*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids("<image>")}


def test_gradients_reach_tower_and_adapters_and_no_logits_are_made():
    import copy

    handle = ModelHandle(copy.deepcopy(vlm("llava").model), vlm("llava").processor)
    batch = handle.gather(handle.see([pieces(handle)]))
    handle.model.lm_head.register_forward_hook(lambda *_: pytest.fail("logits were made"))
    States(handle.model)(*inputs_of(batch, "vlm", handle.model)).sum().backward()
    assert handle.model.model.vision_tower.embeddings.patch_embedding.weight.grad.abs().sum() > 0
    adapted = add_lora(copy.deepcopy(vlm("llava").model), 2, new_tokens=[5])
    States(adapted)(*inputs_of(batch, "vlm", adapted)).sum().backward()
    assert sum(p.grad is not None for p in adapted.parameters() if p.requires_grad) > 4


def test_other_picks():
    handle = vlm("llava")
    batch = handle.gather(handle.see([["a cat sat"], ["a bird"]]), side="left")
    inputs = inputs_of(batch, handle.kind, handle.model)
    with torch.no_grad():
        whole = handle.model.base_model(**inputs[0], use_cache=False).last_hidden_state
    np.testing.assert_allclose(
        States(handle.model, "mean")(*inputs)[0].detach(), whole[0].mean(0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        States(handle.model, "before")(*inputs).detach(), whole[:, -2], rtol=1e-4, atol=1e-5
    )
