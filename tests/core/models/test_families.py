"""What must hold for every family of models: on a tiny checkpoint of its real class, loaded as a user's would be."""

import pytest
import torch

from fixtures_models import CAUSAL, SEQ2SEQ, logprobs_alone
from gnomon.core.models import GenConfig, ModelHandle
from gnomon.core.rng import Rng
from gnomon.errors import ModelMismatch

TEXTS = ["def add(a, b):\n", "x", "for i in range(10):\n    print(i, i * i)\nWrite a function that keeps"]
TARGETS = ["return a + b\n", "if x > 0:", "y"]
LONGER_THAN_ANY_WINDOW = 20
SHIFT = torch.linspace(-1, 1, 32)  # a LayerNorm does not see the same number added everywhere


@pytest.fixture(params=(*CAUSAL, *SEQ2SEQ))
def handle(request, handle_of):
    return handle_of(request.param)


def encode(handle, side="left"):
    return handle.encode(TEXTS, TARGETS if handle.kind == "seq2seq" else None, side=side)


def prefixes(handle):
    return [f"{name}." if name else "" for name in handle.sites.stacks]


def blocks(handle, prefix):
    return range(len(handle.sites.stacks[prefix.rstrip(".")].blocks))


def test_texts_are_longer_than_the_windows(handle):
    window = getattr(handle.model.config, "sliding_window", None) or 16
    assert encode(handle).mask.sum(-1).max() > LONGER_THAN_ANY_WINDOW > window


def test_capture_is_the_librarys_hidden_states(handle):
    batch = encode(handle)
    with torch.no_grad():
        output = handle.model(**batch.inputs(handle.kind), output_hidden_states=True, use_cache=False)
    for prefix in prefixes(handle):
        states = output[f"{prefix.rstrip('.')}_hidden_states".lstrip("_")]
        assert len(states) == len(blocks(handle, prefix)) + 1
        sites = [f"{prefix}embed", *(f"{prefix}{i}.resid_post" for i in blocks(handle, prefix))]
        found = handle.capture(batch, [*sites, f"{prefix}final_norm"])
        for site, state in zip(sites[:-1], states[:-1], strict=True):
            assert torch.equal(found[site], state), site
        # The library's last state has passed what comes after the last block; apply that to ours.
        stack, last = handle.sites.stacks[prefix.rstrip(".")], found[sites[-1]]
        with torch.no_grad():
            normed = last if stack.final_norm is None else stack.final_norm(last)
            assert torch.equal(found[f"{prefix}final_norm"], normed)
            assert torch.equal(states[-1], normed if stack.project is None else stack.project(normed))


def test_sites_add_up(handle):
    batch, found = encode(handle), None
    found = handle.capture(batch, list(handle.sites))
    assert list(found) == list(handle.sites)
    normalises_after_adding = handle.model.config.to_dict().get("do_layer_norm_before") is False
    for prefix in prefixes(handle):
        stream = found[f"{prefix}embed"]
        for i in blocks(handle, prefix):
            here = {
                name: found.get(f"{prefix}{i}.{name}") for name in ("resid_pre", "resid_mid", "resid_post")
            }
            added = {name: found.get(f"{prefix}{i}.{name}") for name in ("attn_out", "cross_out", "mlp_out")}
            assert torch.equal(here["resid_pre"], stream)
            if not normalises_after_adding:
                mid = stream + added["attn_out"] + (0 if added["cross_out"] is None else added["cross_out"])
                if here["resid_mid"] is not None:
                    torch.testing.assert_close(here["resid_mid"], mid)
                torch.testing.assert_close(here["resid_post"], mid + added["mlp_out"])
            stream = here["resid_post"]


def test_the_lens_of_the_last_block_is_the_models_logits(handle):
    batch, prefix = encode(handle), prefixes(handle)[-1]
    last = f"{prefix}{blocks(handle, prefix)[-1]}.resid_post"
    found, logits = handle.capture(batch, [last, f"{prefix}final_norm"]), handle.logits(batch)
    assert torch.equal(handle.lens(found[last]), logits)
    assert torch.equal(handle.lens(found[f"{prefix}final_norm"], normed=True), logits)


def test_an_edit_that_changes_nothing_changes_no_bit(handle):
    batch, gen = encode(handle), GenConfig(max_new_tokens=6, n=2)
    plain, written = handle.logits(batch), handle.generate(TEXTS, gen, generator=Rng(0))
    with handle.edit({site: lambda hidden, step: hidden.clone() for site in handle.sites}):
        assert torch.equal(handle.logits(batch), plain)
        assert handle.generate(TEXTS, gen, generator=Rng(0)) == written


@pytest.mark.parametrize("name", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])
def test_an_edit_at_any_site_reaches_the_logits_and_is_seen_above(handle, name):
    batch = encode(handle)
    plain = handle.logits(batch)
    for prefix in prefixes(handle):
        site = f"{prefix}0.{name}"
        if site not in handle.sites:
            continue
        above = f"{prefix}0.resid_post"
        before = handle.capture(batch, [site])[site]
        with handle.edit({site: lambda hidden, step: hidden + SHIFT}):
            assert not torch.allclose(handle.logits(batch), plain, atol=1e-3)
            found = handle.capture(batch, [site, above])
            torch.testing.assert_close(found[site], before + SHIFT)
            if name == "resid_mid" and handle.model.config.to_dict().get("do_layer_norm_before") is not False:
                mlp = handle.capture(batch, [f"{prefix}0.mlp_out"])[f"{prefix}0.mlp_out"]
                torch.testing.assert_close(found[above], before + SHIFT + mlp)


def test_an_edit_at_a_position_acts_in_the_prompt_and_while_decoding(handle):
    """Cached decoding with the edit is the plain forward pass over the whole text with the edit."""
    prefix = prefixes(handle)[-1]

    def push(hidden, step):
        is_there = (step.positions == 1) | (step.positions == LONGER_THAN_ANY_WINDOW)
        return hidden + 4 * SHIFT * (is_there & step.mask)[..., None]

    # The third prompt is longer than that, the others reach it while decoding.
    gen = GenConfig(max_new_tokens=22, temperature=0.8)
    plain = handle.generate(TEXTS, gen, generator=Rng(0))
    with handle.edit({f"{prefix}embed": push, f"{prefix}1.resid_pre": push}):
        edited = handle.generate(TEXTS, gen, generator=Rng(0))
        expected = [
            logprobs_alone(handle, text, c.token_ids) for text, (c,) in zip(TEXTS, edited, strict=True)
        ]
    assert all(
        a[0].logprobs != pytest.approx(b[0].logprobs, abs=1e-4) for a, b in zip(plain, edited, strict=True)
    )
    for (completion,), logprobs in zip(edited, expected, strict=True):
        torch.testing.assert_close(torch.tensor(completion.logprobs), logprobs, atol=2e-4, rtol=1e-4)


def test_an_edit_at_a_position_leaves_earlier_tokens_alone(handle):
    batch, prefix = encode(handle, side="right"), prefixes(handle)[-1]
    read = batch.target or batch
    with handle.edit({f"{prefix}embed": lambda h, step: h + SHIFT * (step.positions == 2)[..., None]}):
        edited = handle.logits(batch)
    plain = handle.logits(batch)
    assert torch.equal(edited[:, :2], plain[:, :2])
    assert not torch.allclose(edited[:, 2:][read.mask[:, 2:]], plain[:, 2:][read.mask[:, 2:]], atol=1e-3)


def test_hooks_are_gone_after_an_exception(handle):
    def fail(hidden, step):
        raise RuntimeError("in the middle")

    batch, before = encode(handle), hooks_of(handle.model)
    last = list(handle.sites)[-1]
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        handle.edit(dict.fromkeys(handle.sites, fail)),
    ):
        handle.logits(batch)
    with pytest.raises(RuntimeError, match="in the middle"), handle.edit({last: fail}):
        handle.generate(TEXTS, GenConfig(max_new_tokens=2), generator=Rng(0))
    handle.capture(batch, list(handle.sites))
    assert hooks_of(handle.model) == before


def test_padding_on_either_side_and_alone_agree(handle):
    left, right = encode(handle), encode(handle, side="right")
    sites = [site for site in handle.sites if site.endswith("resid_post")]
    ours, theirs = handle.capture(left, sites), handle.capture(right, sites)
    for site in sites:
        stack = handle.sites[site].stack
        a, b = (batch.target if stack == "decoder" else batch for batch in (left, right))
        torch.testing.assert_close(ours[site][a.mask], theirs[site][b.mask])
    read = [batch.target or batch for batch in (left, right)]
    scores = [handle.logprobs(batch)[tokens.mask] for batch, tokens in zip((left, right), read, strict=True)]
    torch.testing.assert_close(*scores)
    for i, text in enumerate(TEXTS):
        alone = handle.encode([text], TARGETS[i : i + 1] if handle.kind == "seq2seq" else None)
        torch.testing.assert_close(handle.logprobs(alone)[0], handle.logprobs(left)[i][read[0].mask[i]])


def test_the_encoder_of_a_t5_can_be_loaded_alone(checkpoint, handle_of):
    whole, encoder = handle_of("t5"), ModelHandle.load(checkpoint("t5"), kind="encoder", device="cpu")
    assert encoder.kind == "encoder"
    assert list(encoder.sites) == [site for site in whole.sites if site.startswith("encoder.")]
    sites = ["encoder.embed", "encoder.0.resid_post", "encoder.final_norm"]
    ours, theirs = (handle.capture(handle.encode(TEXTS), sites, where="last") for handle in (encoder, whole))
    for site in sites:
        assert ours[site].shape == (3, 32)
        assert torch.equal(ours[site], theirs[site])
    for ask in (
        lambda: encoder.logits(encoder.encode(TEXTS)),
        lambda: encoder.lens(ours["encoder.final_norm"]),
        lambda: encoder.generate(TEXTS, GenConfig(), generator=Rng(0)),
    ):
        with pytest.raises(ModelMismatch, match="T5EncoderModel has no output embedding"):
            ask()


def hooks_of(model):
    """Hooks on any module. The library leaves its own behind once it was asked for hidden states."""
    return [(name, *m._forward_hooks, *m._forward_pre_hooks) for name, m in model.named_modules()]
