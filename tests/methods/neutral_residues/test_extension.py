"""What an extended model is, for every family: its backbone at first, its losses by hand, generation, several extensions."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gnomon.core.models import load_model
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.neutral_residues import Design, extend
from gnomon.methods.neutral_residues.extension import wrapped

FAMILIES = ["llama", "mistral", "qwen2", "gemma", "gemma2", "gpt_neox", "gpt2", "phi3"]
WIDE = {"extra": 2.0}


def opened(model, **design):
    """An extension whose blocks say something, as after training."""
    extended = extend(model, Design(**WIDE, **design), generator=Rng(4)).eval()
    with torch.no_grad():
        for i, block in enumerate(extended.blocks):
            block.out.weight.normal_(std=0.3, generator=Rng(5).child(i).torch())
    return extended


@pytest.fixture
def ids():
    return torch.randint(3, 200, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_extension_is_its_backbone_and_a_detached_one_too(checkpoint, ids, family):
    model = load_model(checkpoint(family), device="cpu")
    before = model(ids, use_cache=False).logits
    fresh = extend(model, Design(**WIDE)).eval()
    assert torch.equal(fresh(ids).logits, before)
    assert {id(p) for p in model.parameters() if p.requires_grad} == {
        id(p) for p in fresh.extension_parameters()
    }
    trained = opened(load_model(checkpoint(family), device="cpu"))
    assert not torch.allclose(trained(ids).logits, before, atol=1e-4)
    with trained.extension_disabled():
        assert torch.equal(trained(ids).logits, before)
    with pytest.raises(ZeroDivisionError), trained.extension_disabled():
        1 / 0  # noqa: B018
    assert trained.switch.is_on


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_needs_nothing_new(checkpoint, ids, family):
    extended = opened(load_model(checkpoint(family), device="cpu"))
    options = {
        "max_new_tokens": 6,
        "do_sample": False,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(ids),
    }
    cached = extended.model.generate(ids, **options)
    assert torch.equal(cached, extended.model.generate(ids, use_cache=False, **options))
    again = ids
    for _ in range(cached.shape[1] - ids.shape[1]):
        with torch.no_grad():
            again = torch.cat([again, extended(again).logits[:, -1:].argmax(-1)], 1)
    same = (cached == again).all(1) | (cached == extended.model.config.get_text_config().eos_token_id).any(1)
    assert same.all()


def test_the_losses_by_hand(checkpoint, ids):
    extended = opened(load_model(checkpoint("llama"), device="cpu"), alpha=0.5)
    mask = torch.ones_like(ids)
    mask[2, 6:] = 0
    domain = torch.tensor([0, 1, 0])
    seen = []
    extended.switch.watch = lambda layer, rho, g: seen.append(rho)
    extended.model(ids, attention_mask=mask, use_cache=False)
    extended.switch.watch = None
    old = [rho[0].abs().sum() + rho[2, :6].abs().sum() for rho in seen]
    d = seen[0].shape[-1]
    expected = sum(old) / len(old) / 15 / d
    out = extended(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100), domain=domain)
    assert out.local_loss.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = torch.nn.functional.cross_entropy(
        out.logits[:, :-1][mask[:, 1:] == 1], ids[:, 1:][mask[:, 1:] == 1]
    )
    assert out.lm_loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert out.loss.item() == pytest.approx((plain + 0.5 * expected).item(), rel=1e-5)
    norms = [rho[mask == 1].abs().mean().item() for rho in seen]
    assert out.residual_norms.tolist() == pytest.approx(norms, rel=1e-5)
    flipped = extended(ids, attention_mask=mask, domain=1 - domain)
    assert flipped.local_loss.item() == pytest.approx(
        (sum(rho[1].abs().mean() for rho in seen) / len(seen)).item(), rel=1e-5
    )
    by_token = extended(ids, attention_mask=mask, domain=domain[:, None].expand_as(ids))
    assert by_token.local_loss.item() == pytest.approx(out.local_loss.item(), rel=1e-6)


def test_new_text_and_padding_leave_no_local_gradient(checkpoint, ids):
    extended = opened(load_model(checkpoint("llama"), device="cpu"))
    out = extended.train()(ids, domain=torch.ones(3, dtype=torch.long))
    assert out.local_loss.item() == 0
    out.local_loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in extended.extension_parameters())


def test_cross_entropy_teaches_sigmoid_gates_the_domain(checkpoint, ids):
    extended = opened(load_model(checkpoint("llama"), device="cpu"), gate="sigmoid", local="ce")
    gates = []
    extended.switch.watch = lambda layer, rho, g: gates.append(g[..., 0])
    extended.model(ids, use_cache=False)
    extended.switch.watch = None
    wanted = torch.tensor([0.0, 1.0, 1.0])[:, None]
    expected = sum(-(wanted * g.log() + (1 - wanted) * (1 - g).log()).mean() for g in gates) / len(gates)
    out = extended(ids, domain=wanted[:, 0].long())
    assert out.local_loss.item() == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(BadConfig, match="gate must be sigmoid"):
        Design(local="ce")


def test_gradient_checkpointing_changes_no_gradient(checkpoint, ids):
    def gradients(*options):
        extended = opened(load_model(checkpoint("llama"), device="cpu"), alpha=1.0)
        if options:
            extended.model.activation_checkpointing_enable(*options)
        extended.train()(ids, labels=ids, domain=torch.tensor([0, 1, 0])).loss.backward()
        return [p.grad for p in extended.extension_parameters()]

    plain = gradients()
    for options in {"use_reentrant": False}, {"use_reentrant": True}:  # the second would lose the local loss
        saved = gradients(options)
        assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(plain, saved, strict=True))


def test_gradient_checkpointing_turns_no_dropout_on():
    config = GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32
    )  # dropout .1, as published
    ids = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(0))

    def gradients(is_checkpointed):
        torch.manual_seed(0)
        extended = opened(GPT2LMHeadModel(config), alpha=1.0)
        if is_checkpointed:
            extended.model.activation_checkpointing_enable()
        extended.train()(ids, labels=ids, domain=torch.tensor([0, 1])).loss.backward()
        return [p.grad for p in extended.extension_parameters()]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=0)


def test_the_frozen_backbone_has_no_dropout_while_blocks_train(checkpoint, ids):
    model = load_model(checkpoint("gpt2"), device="cpu")
    assert any(m.p > 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))
    extended = opened(model).train()
    assert torch.equal(extended(ids).logits, extended(ids).logits)
    assert extended.training and not extended.model.training


def test_one_extension_on_another_freezes_the_first(checkpoint, ids):
    first = opened(load_model(checkpoint("llama"), device="cpu"))
    before = first(ids).logits
    second = extend(first, Design(extra=1.0)).eval()
    assert torch.equal(second(ids).logits, before)
    assert [len(layer.blocks) for layer in wrapped(second)] == [2, 2]
    trained = {id(p) for p in second.model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in second.extension_parameters()}
    assert first.layers[0].stacked[0].r < second.blocks[0].r * 4  # the first counts as backbone
    with second.extension_disabled():
        base = load_model(checkpoint("llama"), device="cpu")
        assert torch.equal(second(ids).logits, base(ids, use_cache=False).logits)


def test_what_cannot_be_extended_says_why(checkpoint):
    model = load_model(checkpoint("opt"), device="cpu")
    with pytest.raises(ModelMismatch, match=r"has no module of its own .*; it has .*fc1.*--method lora"):
        extend(model, Design(**WIDE))
    with pytest.raises(BadConfig, match="extra must be > 0; got 0"):
        Design(extra=0)
    with pytest.raises(BadConfig, match="alpha must be >= 0; got -1"):
        Design(alpha=-1)
    with pytest.raises(BadConfig, match=r"narrowest is 8"):
        extend(load_model(checkpoint("llama"), device="cpu"), Design(extra=1e-4))


MIXTURES = {
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gpt_oss": "GptOssForCausalLM",  # its network returns a pair
    "llama4_text": "Llama4ForCausalLM",  # named otherwise, and flat in its pair
    "granitemoe": "GraniteMoeForCausalLM",
    "jamba": "JambaForCausalLM",
}


@pytest.mark.parametrize("kind", MIXTURES)
def test_mixtures_of_experts_are_extended_as_other_models_are(kind, tmp_path, caplog):
    from fixtures_architectures import small_model
    from gnomon.methods.neutral_residues import open_extended

    model = small_model(kind, MIXTURES[kind])
    ids = torch.tensor([[5, 9, 40, 3, 77, 12]])
    with torch.no_grad():
        before = model(ids, use_cache=False).logits
    extended = extend(model, Design(extra=1.0)).eval()
    with torch.no_grad():
        assert torch.allclose(extended(ids).logits, before, atol=1e-6)
        for block in extended.blocks:
            block.out.weight.normal_()
        moved = extended(ids, labels=ids, domain=torch.tensor([0]))
    assert not torch.allclose(moved.logits, before)
    assert "a share of all of them" in caplog.text  # what blocks sized by all experts cost
    assert (moved.residual_norms > 0).all() and moved.local_loss > 0
    with extended.extension_disabled(), torch.no_grad():
        assert torch.allclose(extended(ids).logits, before, atol=1e-6)  # Jamba: to rounding
    extended.train()
    extended(ids, labels=ids, domain=torch.tensor([0])).loss.backward()
    assert all(block.out.weight.grad.abs().sum() > 0 for block in extended.blocks)
    extended.eval().save_pretrained(tmp_path / "whole")
    with torch.no_grad():
        assert torch.allclose(open_extended(tmp_path / "whole")(ids).logits, moved.logits, atol=1e-5)


def test_what_cannot_be_extended_is_refused_with_advice_that_works():
    from fixtures_architectures import small_model

    opt = small_model("opt", "OPTForCausalLM")
    with pytest.raises(ModelMismatch, match="no module of its own for the feed-forward network") as refused:
        extend(opt, Design(extra=1.0))
    assert "--mlp-name" not in str(refused.value)  # no name would help
    shared = small_model("granitemoeshared", "GraniteMoeSharedForCausalLM")
    with pytest.raises(ModelMismatch, match=r"block_sparse_moe or shared_mlp.*--mlp-name"):
        extend(shared, Design(extra=1.0))
    for name in ("block_sparse_moe", "shared_mlp"):  # and both names do
        extend(
            small_model("granitemoeshared", "GraniteMoeSharedForCausalLM"), Design(extra=1.0, mlp_name=name)
        )
    falcon = small_model("falcon", "FalconForCausalLM")
    extend(falcon, Design(extra=1.0))  # its activation is known by the config's other name for it


def test_a_module_that_is_no_feed_forward_network_is_refused_and_left_as_it_was(checkpoint):
    model = load_model(checkpoint("llama"), device="cpu")
    with pytest.raises(ModelMismatch, match='"self_attn" of LlamaForCausalLM'):
        extend(model, Design(extra=1.0, mlp_name="self_attn"))
    assert not wrapped(model)
    assert all(p.requires_grad for p in model.parameters())
