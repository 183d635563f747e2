"""ProjectAway: worked examples, its algebra, and where and when it acts inside a model."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_vlm import picture, vlm
from gnomon.core.models import GenConfig, ModelHandle, add_lora
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.vl_lens import project_away
from gnomon.methods.vl_lens.erasure import random_like, word_vector
from gnomon.methods.vl_lens.erasure.erase import erase
from gnomon.methods.vl_lens.lens import spell, word_vectors
from gnomon.methods.vl_lens.lens.lens import Reading, lens

IMAGES = [picture(0), picture(1, 25, 60), picture(2, 70, 24)]
QUESTIONS = ["a cat sat", "the dog ran in the park and a bird sang", "x"]
EDIT = {"text_layer": 1, "edit_layer": 0, "alpha": 1.5}
GREEDY = GenConfig(max_new_tokens=6, temperature=0)


def tensor(*rows):
    return torch.tensor(rows)


def test_the_worked_example_of_one_word():
    k, t = tensor((1.0, 2.0), (-1.0, 0.0)), tensor((1.0, 1.0))
    assert project_away(k, t, 1).tolist() == [[-0.5, 0.5], [-1, 0]]
    assert project_away(k, t, 2).tolist() == [[-2, -1], [-1, 0]]


def test_the_worked_example_of_two_words_in_either_order():
    k, a, b = tensor((1.0, 2.0, 0.5)), [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]
    assert project_away(k, tensor(a, b), 1).tolist() == [[-0.5, 0, 0]]
    assert project_away(k, tensor(b, a), 1).tolist() == [[0.125, -0.125, -0.75]]


def test_a_span_by_hand():
    """k on span{(1,1,0), (0,1,1)}: <k,a> = 3, <k,b> = 2.5; 2x + y = 3, x + 2y = 2.5 give x = 7/6, y = 2/3."""
    k, a, b = tensor((1.0, 2.0, 0.5)), [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]
    expected = tensor((1 - 7 / 6, 2 - 7 / 6 - 2 / 3, 0.5 - 2 / 3))
    for order in (tensor(a, b), tensor(b, a)):
        torch.testing.assert_close(project_away(k, order, 1, joint=True), expected)
    # Against b the state points the other way: only a is taken out, and all of it.
    k = tensor((2.0, 0.0, -3.0))
    torch.testing.assert_close(project_away(k, tensor(a, b), 1, joint=True), tensor((1.0, -1.0, -3.0)))


@settings(max_examples=60)
@given(seed=st.integers(0, 999), words=st.integers(1, 4), alpha=st.floats(0.1, 4))
def test_what_projection_means(seed, words, alpha):
    draw = torch.Generator().manual_seed(seed)
    k, t = torch.randn(7, 6, generator=draw), torch.randn(words, 6, generator=draw)
    once = project_away(k, t[:1], alpha)
    before, after = k @ t[0], once @ t[0]
    gated = before > 0
    torch.testing.assert_close(after, torch.where(gated, (1 - alpha) * before, before), atol=1e-4, rtol=1e-4)
    rest = lambda x: x - (x @ t[0])[:, None] * t[0] / (t[0] @ t[0])  # noqa: E731
    torch.testing.assert_close(rest(once), rest(k), atol=1e-4, rtol=1e-4)
    # By the formula, token by token and word by word.
    slow = k.clone()
    for i in range(len(slow)):
        for vector in t:
            p = slow[i] @ vector / (vector @ vector)
            if p > 0:
                slow[i] = slow[i] - alpha * p * vector
    torch.testing.assert_close(project_away(k, t, alpha), slow, atol=1e-4, rtol=1e-4)
    joint = project_away(k, t, 1, joint=True)
    left = (joint @ t.T)[k @ t.T > 0]
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-3, rtol=0)
    # Repeating a word, or one of zeros, changes nothing in a span.
    more = torch.cat([t, t[:1], torch.zeros(1, 6)])
    torch.testing.assert_close(
        project_away(k, more, alpha, joint=True), project_away(k, t, alpha, joint=True), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(project_away(k, torch.zeros(1, 6), alpha), k)


def prompts(handle):
    return [handle.prompt(question) for question in QUESTIONS]


@pytest.fixture(params=["llava", "llava_next", "instructblip", "paligemma", "qwen2_vl", "idefics3"])
def handle(request):
    return vlm(request.param)


def test_image_tokens_alone_change_and_only_behind_the_block(handle):
    batch = handle.encode(prompts(handle), images=IMAGES)
    sites = ["0.resid_pre", "0.resid_post", "1.resid_post"]
    before = handle.capture(batch, sites)
    t = word_vector(handle, "cat", 1)
    with erase(handle, ["cat"], **EDIT):
        after = handle.capture(batch, sites)
    assert torch.equal(after["0.resid_pre"], before["0.resid_pre"])
    mask = batch.image_mask
    assert torch.equal(after["0.resid_post"][~mask], before["0.resid_post"][~mask])
    torch.testing.assert_close(
        after["0.resid_post"][mask], project_away(before["0.resid_post"][mask], t[None], 1.5)
    )
    assert (before["0.resid_post"][mask] @ t > 0).any()
    assert not torch.allclose(after["1.resid_post"][:, -1], before["1.resid_post"][:, -1], atol=1e-4)
    again = handle.capture(batch, sites)
    assert all(torch.equal(again[site], before[site]) for site in sites)


def test_each_text_has_words_of_its_own_in_the_house_s_generation_and_the_librarys(handle):
    """Regression: one image's projection was once applied to the whole batch."""
    own = [["cat"], ["dog", "bird"], []]
    asked = prompts(handle)
    alone = []
    for question, image, words in zip(asked, IMAGES, own, strict=True):
        with erase(handle, words, **EDIT):
            alone += handle.generate([question], GREEDY, generator=Rng(0), images=[image])
    plain = handle.generate(asked, GREEDY, generator=Rng(0), images=IMAGES)
    batch = handle.encode(asked, images=IMAGES)
    with erase(handle, own, **EDIT):
        together = handle.generate(asked, GREEDY, generator=Rng(0), images=IMAGES)
        logits = handle.logits(batch)[:, -1]
        beams = handle.model.generate(**batch.inputs("vlm"), max_new_tokens=4, num_beams=3, do_sample=False)
    for i, ((a,), (b,)) in enumerate(zip(together, alone, strict=True)):
        assert a.token_ids == b.token_ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=2e-3)
        one = handle.encode(asked[i : i + 1], images=IMAGES[i : i + 1])
        with erase(handle, own[i], **EDIT):
            torch.testing.assert_close(handle.logits(one)[0, -1], logits[i], atol=2e-3, rtol=1e-3)
            found = handle.model.generate(**one.inputs("vlm"), max_new_tokens=4, num_beams=3, do_sample=False)
        assert found[0].tolist()[-4:] == beams[i].tolist()[-4:]
    assert together[2] == plain[2]
    assert together[0][0].logprobs != plain[0][0].logprobs


def test_the_edited_state_is_what_is_captured_and_read(handle):
    """Regression: the library records a block's output before a hook replaces it; ours are taken after the edit."""
    batch = handle.encode(prompts(handle)[:1], images=IMAGES[:1])
    t = word_vector(handle, "cat", 1)
    plain = lens(handle, IMAGES[:1], QUESTIONS[0], ["cat"], Reading(layers=[1]))
    with erase(handle, ["cat"], **EDIT | {"alpha": 1}):
        ours = handle.capture(batch, ["0.resid_post"], where=batch.image_mask)["0.resid_post"]
        read = lens(handle, IMAGES[:1], QUESTIONS[0], ["cat"], Reading(layers=[1]))
    assert (ours @ t).max() < 1e-3 * t.norm() * ours.norm(dim=-1).max()
    assert not np.allclose(read.scores[0], plain.scores[0], atol=1e-6)


def test_the_place_of_the_image_in_the_prompt_does_not_matter():
    """Regression: a span fixed once for all edits text under another prompt."""
    handle = vlm("llava")
    texts = ["<image>x", "a much longer story than that, then <image> and more of it", "a <image> cat"]
    batch = handle.encode(texts, images=IMAGES, side="right")
    starts = batch.image_mask.long().argmax(-1).tolist()
    assert len(set(starts)) == 3
    before = handle.capture(batch, ["0.resid_post"])["0.resid_post"]
    with erase(handle, ["cat"], **EDIT):
        after = handle.capture(batch, ["0.resid_post"])["0.resid_post"]
    has_changed = (after != before).any(-1)
    assert not has_changed[~batch.image_mask].any()
    assert has_changed[batch.image_mask].any()
    assert torch.equal(has_changed, batch.image_mask & (before @ word_vector(handle, "cat", 1) > 0))


def test_a_text_without_an_image_is_left_alone(handle):
    batch = handle.encode(QUESTIONS)
    plain = handle.logits(batch)
    with erase(handle, ["cat"], **EDIT):
        assert torch.equal(handle.logits(batch), plain)


def test_hooks_are_gone_after_an_exception():
    handle = vlm("llava")

    def hooks():
        return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in handle.model.modules()]

    before = hooks()
    with pytest.raises(KeyError), erase(handle, ["cat"], **EDIT):
        assert hooks() != before
        raise KeyError
    assert hooks() == before


def test_a_word_is_its_last_pieces_state_read_alone():
    handle = vlm("llava")
    ids = [0, *spell(handle.tokenizer, "zebra")[0].ids]
    assert len(ids) > 3
    with torch.no_grad():
        states = handle.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    for layer, state in enumerate(states):
        torch.testing.assert_close(word_vector(handle, " zebra", layer), state[0, -1])
    table = handle.model.get_input_embeddings().weight
    torch.testing.assert_close(word_vector(handle, " zebra", 0, how="mean_embedding"), table[ids[1:]].mean(0))
    assert torch.equal(word_vectors(handle, ["cat", " zebra"], 1)[1], word_vector(handle, " zebra", 1))


@pytest.mark.parametrize("name", ["llava", "llava_next", "instructblip", "qwen2_vl", "idefics3"])
def test_the_erased_word_has_the_tokens_that_the_lens_scores_and_captions_have(name):
    handle = vlm(name)
    for word in ("cat", "dog", "zebra"):
        spellings = spell(handle.tokenizer, word)
        read = lens(handle, IMAGES[:1], "Describe it.", [word]).spellings[0][0]
        assert read in [form.text for form in spellings]
        in_text = handle.tokenizer(f"a {word}", add_special_tokens=False)["input_ids"]
        assert in_text[-len(spellings[0].ids) :] == list(spellings[0].ids)
        table = handle.model.get_input_embeddings().weight.detach()
        mean = table[list(spellings[0].ids)].mean(0)
        for written in (word, f" {word}"):
            torch.testing.assert_close(word_vector(handle, written, 0, how="mean_embedding"), mean)


def edited_model(handle, way):
    """A copy of the model, with an adapter where that is what changes it."""
    model = copy.deepcopy(handle.model)
    if way == "adapter":
        model = add_lora(model, 4, targets=["q_proj", "v_proj"])
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(generator=torch.Generator().manual_seed(0))
    return ModelHandle(model.eval(), handle.processor)


@pytest.mark.parametrize("way", ["in place", "data", "adapter", "hook"])
def test_words_are_read_by_the_model_as_it_is_then(way):
    """Vectors of an edited or adapted model are its own, by the model's own hidden states; the bare one's come back with it."""
    handle = vlm("llava")
    changed = edited_model(handle, way)
    ids = torch.tensor([[0, *spell(handle.tokenizer, "cat")[0].ids]])

    def own(model):
        with torch.no_grad():
            return model(input_ids=ids, output_hidden_states=True).hidden_states[1][0, -1]

    def compared():
        vector = word_vector(changed, "cat", 1)
        torch.testing.assert_close(vector, own(changed.model))
        return vector

    first = word_vector(handle, "cat", 1)
    block = changed.sites.top.blocks[0]
    if way == "adapter":
        adapted = compared()
        with changed.model.disable_adapter():
            torch.testing.assert_close(compared(), first)
        torch.testing.assert_close(compared(), adapted)
        assert not torch.allclose(adapted, first)
        return
    torch.testing.assert_close(compared(), first)
    if way == "in place":
        with torch.no_grad():
            block.mlp.down_proj.weight.mul_(2)
    elif way == "data":
        block.mlp.down_proj.weight.data.mul_(2)
    else:
        hook = block.mlp.register_forward_hook(lambda module, args, output: 2 * output)
    assert not torch.allclose(compared(), first)
    if way == "hook":
        hook.remove()
        torch.testing.assert_close(compared(), first)


def test_a_word_that_is_named_twice_is_read_once():
    tiny = vlm("llava")
    calls = []
    hook = tiny.model.register_forward_hook(lambda *_: calls.append(1))
    vectors = word_vectors(tiny, ["cat", "dog", " cat"], 1)
    hook.remove()
    assert len(calls) == 2 and torch.equal(vectors[0], vectors[2])


def test_a_random_direction_is_as_long_and_can_be_erased():
    handle = vlm("llava")
    real = word_vector(handle, "cat", 1)
    drawn = random_like(real, Rng(0).child("control"))
    assert drawn.norm() == pytest.approx(real.norm().item(), rel=1e-5)
    assert torch.equal(drawn, random_like(real, Rng(0).child("control")))
    assert not torch.equal(drawn, random_like(real, Rng(1).child("control")))
    batch = handle.encode(prompts(handle), images=IMAGES)
    with erase(handle, [drawn], **EDIT | {"alpha": 1}):
        found = handle.capture(batch, ["0.resid_post"], where=batch.image_mask)["0.resid_post"]
    assert (found @ drawn).max() < 1e-4 * drawn.norm() * found.norm(dim=-1).max()


def test_several_words_at_once_leave_none_of_them():
    handle = vlm("llava")
    batch = handle.encode(prompts(handle), images=IMAGES)
    words = ["cat", "dog", "bird"]
    vectors = word_vectors(handle, words, 1)
    before = handle.capture(batch, ["0.resid_post"], where=batch.image_mask)["0.resid_post"]
    with erase(handle, words, **EDIT | {"alpha": 1, "joint": True}):
        found = handle.capture(batch, ["0.resid_post"], where=batch.image_mask)["0.resid_post"]
    left = (found @ vectors.T)[before @ vectors.T > 0]
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alpha": 0}, "alpha must be above 0; got 0"),
        ({"alpha": -1.0}, "alpha must be above 0; got -1.0"),
        ({"edit_layer": 2}, "edit_layer must be in 0..1, the model's blocks; got 2"),
        ({"text_layer": 3}, "text_layer must be in 0..2 .*; got 3"),
        ({"text_layer": -1}, "text_layer must be in 0..2 .*; got -1"),
        ({"words": [""]}, 'cannot write the word "" without unknown pieces'),
        ({"words": [torch.zeros(32)]}, "A direction has length 0"),
        ({"how": "first"}, 'how must be one of last, mean_embedding; got "first"'),
    ],
)
def test_what_cannot_be_erased_is_named(changes, said):
    arguments = {"words": ["cat"], **EDIT, **changes}
    with pytest.raises(BadInput, match=said), erase(vlm("llava"), **arguments):
        pass


def test_word_lists_that_do_not_go_with_the_batch_are_told():
    handle = vlm("llava")
    batch = handle.encode(prompts(handle), images=IMAGES)
    with (
        pytest.raises(BadInput, match="word lists for 2 texts; the batch has 3 rows"),
        erase(handle, [["cat"], []], **EDIT),
    ):
        handle.logits(batch)
