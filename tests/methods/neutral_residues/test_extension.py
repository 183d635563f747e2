"""What an extended model is, for every family: its backbone at first, its losses by hand, generation, several extensions."""

import pytest
import torch

from gnomon.core.models import load_model
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, ModelMismatch, UserError
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

    plain, saved = gradients(), gradients({"use_reentrant": False})
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(plain, saved, strict=True))
    with pytest.raises(UserError, match="use_reentrant"):
        gradients({"use_reentrant": True})


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
    with pytest.raises(
        ModelMismatch, match=r'no feed-forward network called "mlp"; it has .*fc1.*--mlp-name'
    ):
        extend(model, Design(**WIDE))
    with pytest.raises(BadConfig, match="extra must be > 0; got 0"):
        Design(extra=0)
    with pytest.raises(BadConfig, match="alpha must be >= 0; got -1"):
        Design(alpha=-1)
    with pytest.raises(BadConfig, match=r"narrowest is 8"):
        extend(load_model(checkpoint("llama"), device="cpu"), Design(extra=1e-4))
