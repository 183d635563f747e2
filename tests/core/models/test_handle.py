import pytest
import torch

from fixtures_models import FAMILIES
from gnomon.core.models import Family, GenConfig, ModelHandle, StepInfo, generate
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

TEXTS = ["def add(a, b):\n", "x", "for i in range(10):\n    print(i)"]


@pytest.fixture(params=FAMILIES)
def handle(request, handle_of):
    return handle_of(request.param)


def test_capture_is_the_librarys_hidden_states(handle):
    batch = handle.encode(TEXTS)
    with torch.no_grad():
        states = handle.model(**batch.inputs(), output_hidden_states=True).hidden_states
    # The library's last state has passed the final norm; the last block's own output is not among them.
    sites = ["embed", *(f"{i}.resid_post" for i in range(len(states) - 2)), "final_norm"]
    found = handle.capture(batch, sites)
    for site, state in zip(sites, states, strict=True):
        assert torch.equal(found[site], state), site


def test_the_residual_stream_is_the_sum_of_what_was_added(handle):
    batch = handle.encode(TEXTS)
    sites = ["embed", "0.attn_out", "0.mlp_out", "1.attn_out", "1.mlp_out", "1.resid_post"]
    found = handle.capture(batch, sites)
    total = sum(found[site] for site in sites[:-1])
    torch.testing.assert_close(total, found["1.resid_post"])


def test_last_takes_each_texts_last_token_on_either_side(handle):
    for side in ("left", "right"):
        batch = handle.encode(TEXTS, side=side)
        last = handle.capture(batch, ["1.resid_post"], where="last")["1.resid_post"]
        for i, text in enumerate(TEXTS):
            alone = handle.capture(handle.encode([text]), ["1.resid_post"])["1.resid_post"][0, -1]
            torch.testing.assert_close(last[i], alone)


def test_padding_side_does_not_change_logits(handle):
    left, right = (handle.encode(TEXTS, side=side) for side in ("left", "right"))
    torch.testing.assert_close(handle.logits(left)[left.mask], handle.logits(right)[right.mask])


def test_logprobs_are_the_log_softmax_of_a_text_on_its_own(handle):
    batch = handle.encode(TEXTS)
    found = handle.logprobs(batch)
    assert torch.equal(found[~batch.mask], torch.zeros_like(found[~batch.mask]))
    for i, text in enumerate(TEXTS):
        ids = handle.processor(text, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = (
                handle.model(ids).logits[0].double().log_softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]]
            )
        mine = found[i][batch.mask[i]]
        assert mine[0] == 0
        torch.testing.assert_close(mine[1:].double(), expected, atol=1e-5, rtol=1e-5)


def test_an_edit_that_changes_nothing_changes_no_bit(handle):
    batch = handle.encode(TEXTS)
    plain = handle.logits(batch)
    with handle.edit({site: lambda hidden, step: hidden.clone() for site in handle.sites}):
        edited = handle.logits(batch)
    assert torch.equal(plain, edited)


def test_an_edit_replaces_the_state_for_all_that_follows(handle):
    batch = handle.encode(TEXTS)
    with handle.edit({"1.resid_post": lambda hidden, step: torch.ones_like(hidden)}):
        logits = handle.logits(batch)
    expected = handle.lens(torch.ones(handle.model.config.hidden_size))
    torch.testing.assert_close(logits, expected.expand_as(logits))


def test_hooks_are_gone_after_an_exception(handle):
    def fail(hidden, step):
        raise RuntimeError("in the middle")

    batch = handle.encode(TEXTS)
    before = _hooks(handle.model)
    with pytest.raises(RuntimeError, match="in the middle"), handle.edit({"0.mlp_out": fail, "embed": fail}):
        handle.logits(batch)
    with pytest.raises(BadInput, match="no site"), handle.edit({"embed": fail, "0.nowhere": fail}):
        pass
    with pytest.raises(BadInput, match="no site"):
        handle.capture(batch, ["embed", "0.nowhere"])
    handle.capture(batch, list(handle.sites))
    assert _hooks(handle.model) == before


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


def test_edits_see_positions_in_the_librarys_own_generate(handle):
    seen = []
    ids = handle.processor("abc", return_tensors="pt").input_ids
    with handle.edit({"embed": lambda hidden, step: seen.append(step.positions.tolist()) or hidden}):
        handle.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    width = ids.shape[1]
    assert seen == [[list(range(width))], [[width]]]


def test_the_lens_on_the_last_state_is_the_models_logits(handle):
    batch = handle.encode(TEXTS)
    found = handle.capture(batch, ["1.resid_post", "final_norm"])
    torch.testing.assert_close(handle.lens(found["1.resid_post"]), handle.logits(batch))
    torch.testing.assert_close(handle.lens(found["final_norm"], normed=True), handle.logits(batch))


def test_a_misspelt_site_is_answered_with_the_nearest(handle_of):
    handle = handle_of("llama")
    with pytest.raises(BadInput, match=r'no site "0.mlpout". Did you mean "0.mlp_out"'):
        handle.capture(handle.encode(["x"]), ["0.mlpout"])
    with pytest.raises(BadInput, match='where must be "all" or "last"; got "first"'):
        handle.capture(handle.encode(["x"]), ["embed"], where="first")


def test_an_empty_text_is_named(handle_of):
    with pytest.raises(BadInput, match="Text 1 has no tokens"):
        handle_of("llama").encode(["x", ""])


def test_a_family_that_is_not_in_the_table_can_be_described(tiny_tokenizer):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = GPTNeoXForCausalLM(config).eval()
    with pytest.raises(ModelMismatch, match=r'type "gpt_neox".*Describe it'):
        ModelHandle(model, tiny_tokenizer)
    with pytest.raises(ModelMismatch, match=r'has no module "gpt_neox.block"'):
        ModelHandle(
            model,
            tiny_tokenizer,
            family=Family("gpt_neox.block", "gpt_neox.final_layer_norm", "attention", "mlp"),
        )
    family = Family("gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "mlp")
    handle = ModelHandle(model, tiny_tokenizer, family=family)
    assert list(handle.sites) == ["embed", "0.attn_out", "0.mlp_out", "0.resid_post", "final_norm"]
    batch = handle.encode(["x y"])
    torch.testing.assert_close(
        handle.lens(handle.capture(batch, ["0.resid_post"])["0.resid_post"]), handle.logits(batch)
    )


def _hooks(model):
    """Hooks on any module. The library leaves its own behind once it was asked for hidden states."""
    return [(name, *m._forward_hooks, *m._forward_pre_hooks) for name, m in model.named_modules()]
