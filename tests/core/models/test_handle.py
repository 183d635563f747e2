import copy

import pytest
import torch

from gnomon.core.models import Family, GenConfig, ModelHandle, StepInfo, as_handle, generate
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

TEXTS = ["def add(a, b):\n", "x", "for i in range(10):\n    print(i)"]
SITES = ["0.resid_post", "1.resid_post"]
STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


@pytest.fixture
def handle(handle_of):
    return handle_of("llama")


@pytest.mark.parametrize("side", ["left", "right"])
def test_capture_keeps_the_tokens_that_are_asked_for(handle, side):
    batch = handle.encode(TEXTS, side=side)
    whole = handle.capture(batch, SITES)
    texts = {site: [whole[site][i][batch.mask[i]] for i in range(3)] for site in SITES}
    last = handle.capture(batch, SITES, where="last")
    some = handle.capture(batch, SITES, where=[[0, -1, 0], [0, 0, -1], [3, -2, 5]])
    same = handle.capture(batch, SITES, where=torch.tensor([[0, -1, 0], [0, 0, -1], [3, -2, 5]]))
    masked = handle.capture(batch, SITES, where=batch.mask)
    for site, (a, b, c) in texts.items():
        assert torch.equal(last[site], torch.stack([a[-1], b[-1], c[-1]]))
        assert torch.equal(some[site], torch.stack([a[[0, -1, 0]], b[[0, 0, -1]], c[[3, -2, 5]]]))
        assert torch.equal(same[site], some[site])
        assert torch.equal(masked[site], torch.cat([a, b, c]))
        # A view would keep the states of all tokens in memory.
        assert some[site].untyped_storage().nbytes() == some[site].numel() * 4
    assert handle.capture(batch, []) == {}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("first", 'where must be "all", "last", positions per text or a mask; got "first"'),
        ([[0], [1], [0]], "Text 1 has 1 tokens and no position 1"),
        ([[0], [-2], [0]], "Text 1 has 1 tokens and no position -2"),
        ([[0], [0]], "Positions must be 3 rows of equal length"),
        ([[0], [0], [0, 1]], "Positions must be 3 rows of equal length"),
        (torch.ones(2, 2, dtype=torch.bool), r"the batch's shape \[3, \d+\]; got \[2, 2\]"),
    ],
)
def test_tokens_that_do_not_exist_are_named(handle, where, said):
    with pytest.raises(BadInput, match=said):
        handle.capture(handle.encode(TEXTS), ["embed"], where=where)


def test_positions_in_a_decoder_are_those_of_the_target(handle_of):
    handle = handle_of("t5")
    batch = handle.encode(["abc", "a"], ["x = 1", "y"])
    sites = ["encoder.1.resid_post", "decoder.1.resid_post"]
    whole, last = handle.capture(batch, sites), handle.capture(batch, sites, where="last")
    for site, read in zip(sites, (batch, batch.target), strict=True):
        for i in range(2):
            assert torch.equal(last[site][i], whole[site][i][read.mask[i]][-1])
    assert batch.target.input_ids[:, 0].tolist() == [handle.processor.pad_token_id] * 2
    untold = handle.encode(["abc", "a"])  # nothing is written yet: the decoder reads its start token alone
    torch.testing.assert_close(handle.logits(untold), handle.logits(batch)[:, :1])


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_logprobs_are_the_log_softmax_of_a_text_on_its_own(name, handle_of):
    handle = handle_of(name)
    batch = handle.encode(TEXTS, TEXTS[::-1] if name == "t5" else None)
    read, found = batch.target or batch, handle.logprobs(batch)
    assert torch.equal(found[~read.mask], torch.zeros_like(found[~read.mask]))
    for i, text in enumerate(TEXTS):
        ids = read.input_ids[i][read.mask[i]]
        inputs = {"input_ids": handle.processor(text, return_tensors="pt").input_ids}
        if name == "t5":
            inputs["decoder_input_ids"] = ids[None]
        with torch.no_grad():
            logprobs = handle.model(**inputs).logits[0].double().log_softmax(-1)
        mine = found[i][read.mask[i]]
        assert mine[0] == 0
        torch.testing.assert_close(
            mine[1:].double(), logprobs[range(len(ids) - 1), ids[1:]], atol=1e-5, rtol=1e-5
        )


def test_an_edit_replaces_the_state_for_all_that_follows(handle):
    batch = handle.encode(TEXTS)
    with handle.edit({"1.resid_post": lambda hidden, step: torch.ones_like(hidden)}):
        logits = handle.logits(batch)
    expected = handle.lens(torch.ones(handle.model.config.hidden_size))
    torch.testing.assert_close(logits, expected.expand_as(logits))


# Llama's norm computes in float32 whatever the model does.
@pytest.mark.parametrize(("name", "step", "error"), [("llama", 3e-4, 2e-3), ("opt", 1e-6, 1e-5)])
def test_a_gradient_flows_through_an_edit_in_place(name, step, error, handle_of):
    """By a change of the stream between attention and MLP the loss moves as finite differences say."""
    tiny, direction = handle_of(name), torch.linspace(-1, 1, 32, dtype=torch.float64)
    handle = ModelHandle(copy.deepcopy(tiny.model).double(), tiny.processor)
    batch = handle.encode(["def add"])

    def loss(size):
        def push(hidden, _):
            return hidden * hidden + hidden + size * direction  # its gradient needs what the edit saw

        with handle.edit({"0.resid_mid": push}):
            return handle.model(**batch.inputs()).logits.square().mean()

    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(size), size)
    with torch.no_grad():
        expected = (loss(torch.tensor(step)) - loss(torch.tensor(-step))) / (2 * step)
    assert slope.item() == pytest.approx(expected.item(), rel=error)


def test_edits_see_absolute_positions_while_generating(handle):
    seen = []

    def note(hidden, step: StepInfo):
        assert hidden.shape[:2] == step.positions.shape == step.mask.shape
        seen.append([row[mask].tolist() for row, mask in zip(step.positions, step.mask, strict=True)])
        return hidden

    prompts = ["abc", "a"]
    lengths = [len(handle.processor(prompt)["input_ids"]) for prompt in prompts]
    short, long = sorted(lengths)
    with handle.edit({"0.resid_post": note}):
        generate(handle, None, prompts, GenConfig(max_new_tokens=3, temperature=0), generator=Rng(0))
    assert seen[0] == [list(range(short)), list(range(long))]
    assert seen[1] == [[short], [long]]
    assert seen[2] == [[short + 1], [long + 1]]


@pytest.mark.parametrize(("name", "site"), [("gpt2", "embed"), ("t5", "decoder.embed"), ("mistral", "embed")])
def test_edits_see_positions_in_the_librarys_own_generate(name, site, handle_of):
    handle, seen = handle_of(name), []
    ids = handle.processor("abc", return_tensors="pt").input_ids
    with handle.edit({site: lambda hidden, step: seen.append(step.positions.tolist()) or hidden}):
        handle.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    width = 1 if name == "t5" else ids.shape[1]
    assert seen == [[list(range(width))], [[width]]]


def test_the_lens_may_be_used_inside_an_edit(handle):
    batch, seen = handle.encode(TEXTS), []
    expected = handle.lens(handle.capture(batch, ["0.resid_post"])["0.resid_post"][:1, :2])
    looks = {
        "0.resid_post": lambda hidden, step: seen.append(handle.lens(hidden[:1, :2])) or hidden,
        "final_norm": lambda hidden, step: hidden + 1,
    }
    with handle.edit(looks):
        handle.logits(batch)
    assert torch.equal(seen[0], expected)


def test_a_misspelt_site_is_answered_with_the_nearest(handle):
    for ask in (
        lambda: handle.capture(handle.encode(["x"]), ["0.mlpout"]),
        lambda: handle.edit({"0.mlpout": lambda hidden, step: hidden}).__enter__(),
    ):
        with pytest.raises(BadInput, match=r'no site "0.mlpout". Did you mean "0.mlp_out"'):
            ask()


def test_texts_and_targets_that_do_not_fit_are_named(handle, handle_of):
    with pytest.raises(BadInput, match="Text 1 has no tokens"):
        handle.encode(["x", ""])
    with pytest.raises(BadInput, match="2 texts and 1 targets for a causal model"):
        handle.encode(["x", "y"], ["z"])
    t5 = handle_of("t5")
    with pytest.raises(BadInput, match="2 texts and 1 targets for a seq2seq model"):
        t5.encode(["x", "y"], ["z"])
    with pytest.raises(BadInput, match="no target for the decoder"):
        t5.capture(handle.encode(["x"]), ["decoder.embed"])


def test_a_plain_model_and_its_tokenizer_become_a_handle(handle):
    again = as_handle(handle.model, handle.processor)
    assert (again.model, again.processor) == (handle.model, handle.processor)
    assert as_handle(handle) is handle
    with pytest.raises(BadInput, match="plain LlamaForCausalLM needs its tokenizer"):
        as_handle(handle.model)


def test_a_family_that_is_not_in_the_table_can_be_described(tiny_tokenizer):
    from transformers import FalconConfig, FalconForCausalLM

    config = FalconConfig(vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    model = FalconForCausalLM(config).eval()

    def describe(blocks="transformer.h", norm="transformer.ln_f", attn="self_attention"):
        return ModelHandle(model, tiny_tokenizer, family=Family(blocks, norm, attn, "mlp"))

    assert list(ModelHandle(model, tiny_tokenizer).sites) == list(
        describe().sites
    )  # as a traced pass finds it
    with pytest.raises(
        ModelMismatch, match=r'FalconForCausalLM.transformer has no module "hh".*Did you mean "h"'
    ):
        describe(blocks="transformer.hh")
    with pytest.raises(
        ModelMismatch, match=r'FalconDecoderLayer has no module "self_attn".*Did you mean "self_attention"'
    ):
        describe(attn="self_attn")
    with pytest.raises(
        ModelMismatch,
        match=r"the last block of FalconForCausalLM does not lead to its logits.* Check final_norm",
    ):
        describe(norm=None)
    handle = describe()
    assert list(handle.sites)[:5] == ["embed", "0.resid_pre", "0.attn_out", "0.mlp_out", "0.resid_post"]
    batch = handle.encode(["x y", "for i in range"])
    found = handle.capture(batch, ["1.resid_post"])["1.resid_post"]
    torch.testing.assert_close(handle.lens(found)[batch.mask], handle.logits(batch)[batch.mask])
    with handle.edit({"0.resid_post": lambda hidden, step: hidden.clone()}):
        assert torch.equal(handle.capture(batch, ["1.resid_post"])["1.resid_post"], found)


def test_a_stack_of_a_vision_language_model_is_one_more_row_of_the_table(tiny_tokenizer):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=8, patch_size=4),
        text_config=LlamaConfig(**size, vocab_size=300),
        image_token_index=299,
    )
    model = LlavaForConditionalGeneration(config).eval()
    vision = Family("model.vision_tower.encoder.layers", None, "self_attn", "mlp", mid_into="layer_norm2")
    text = Family(
        "model.language_model.layers",
        "model.language_model.norm",
        "self_attn",
        "mlp",
        mid_into="post_attention_layernorm",
    )
    handle = ModelHandle(model, tiny_tokenizer, family={"vision": vision, "": text})
    assert {"vision.1.resid_mid", "1.resid_mid", "final_norm"} <= set(handle.sites)
    batch = handle.encode(["x y", "for i in range"])
    found = handle.capture(batch, ["1.resid_post"])["1.resid_post"]
    torch.testing.assert_close(handle.lens(found)[batch.mask], handle.logits(batch)[batch.mask])


def test_a_real_pretrained_model_keeps_the_promises(shared_data):
    handle = ModelHandle.load(shared_data / "models" / "stories260K", device="cpu")
    gen = GenConfig(max_new_tokens=60, temperature=0)
    ((story,),) = handle.generate([[handle.processor.bos_token_id]], gen, generator=Rng(0))
    assert story.text.lstrip().startswith(STORY)
    batch = handle.encode([STORY, "Once upon a time"])
    with torch.no_grad():
        states = handle.model(**batch.inputs(), output_hidden_states=True).hidden_states
    sites = [f"{i}.resid_post" for i in range(len(states) - 1)]
    found = handle.capture(batch, sites)
    assert all(torch.equal(found[site], state) for site, state in zip(sites[:-1], states[1:-1], strict=True))
    assert torch.equal(handle.lens(found[sites[-1]]), handle.logits(batch))
    with handle.edit({site: lambda hidden, step: hidden.clone() for site in handle.sites}):
        assert handle.generate([[handle.processor.bos_token_id]], gen, generator=Rng(0)) == [[story]]
