import copy

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from fixtures_training import small_batches, small_examples, small_model, train_small
from gnomon.core.models import add_lora
from gnomon.core.rng import Rng
from gnomon.core.train import Batches, TrainConfig, causal_loss, reads_packed, token_cross_entropy
from gnomon.core.train import losses as losses_module
from gnomon.core.train.memory import blocks_of, recomputed
from gnomon.errors import BadConfig

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 40}


def llama(dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).to(dtype)


def gradients(model, batch):
    model.zero_grad()
    torch.manual_seed(1)
    causal_loss(model, batch).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def kept_bytes(model, batch):
    """Bytes that a forward pass keeps for the backward pass, weights left out."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def note(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        causal_loss(model, batch)
    return sum(kept.values())


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_blocks_that_are_computed_again_change_no_gradient(mode):
    """With dropout, in training mode; and in evaluation mode, where a frozen base must stay without it."""
    model = add_lora(small_model(dropout=0.3), 2).train(mode)
    batch = small_batches(TrainConfig(batch_size=6)).at(0).micro[0]
    plain, size = gradients(model, batch), kept_bytes(model, batch)
    with recomputed(model):
        again, smaller = gradients(model, batch), kept_bytes(model, batch)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert any(a.any() for a in plain)
    assert smaller < 0.7 * size
    assert all("forward" not in vars(block) for block in blocks_of(model))  # nothing stays behind
    assert kept_bytes(model, batch) == size


def test_blocks_are_found_where_nothing_marks_them():
    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(2, 2)
            self.within = torch.nn.Sequential(
                torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
            )

    model = Stack()
    assert blocks_of(model) == list(model.within[0])


def test_training_with_recomputed_blocks_is_the_same_training(tmp_path):
    cfg = TrainConfig(lr=1e-2, batch_size=8, epochs=2)
    plain, curve, _ = train_small(tmp_path / "a", cfg, dropout=0.2)
    again, other, _ = train_small(
        tmp_path / "b", TrainConfig(lr=1e-2, batch_size=8, epochs=2, gradient_checkpointing=True), dropout=0.2
    )
    assert other.curve("loss") == pytest.approx(curve.curve("loss"), rel=1e-5)
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [llama, small_model])
def test_examples_in_a_packed_row_do_not_see_each_other(make):
    model = make(dtype=torch.float64).eval()
    examples = small_examples(11)
    packed = Batches(
        examples, 11, pad_id=2, generator=Rng(0), max_length=32, packing=True, micro_batch_size=2
    )
    padded = Batches(examples, 11, pad_id=2, generator=Rng(0), max_length=32)
    assert reads_packed(model)
    together, apart = packed.at(0), padded.at(0)
    assert together.targets == apart.targets and together.tokens == apart.tokens
    assert sum(len(micro["input_ids"]) for micro in together.micro) < 11  # rows were saved
    assert max(micro["input_ids"].shape[1] for micro in together.micro) <= 32
    loss = sum(causal_loss(model, micro) for micro in together.micro)
    expected = causal_loss(model, apart.micro[0])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)  # losses are summed in float32
    loss.backward()
    mine = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    expected.backward()
    for a, b in zip(mine, (p.grad for p in model.parameters()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_model_that_carries_a_state_from_token_to_token_is_not_packed(tmp_path):
    from fixtures_training import SmallRun
    from gnomon.core.train import fit

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(**SIZES, state_size=4, intermediate_size=32)).eval()
    assert not reads_packed(model)
    cfg = TrainConfig(batch_size=4, packing=True, max_steps=1)
    with pytest.raises(BadConfig, match="does not keep the examples of a row apart"):
        fit(model, small_batches(cfg), causal_loss, cfg, run=SmallRun(tmp_path))
    unpacked = Batches(small_examples(8), 4, pad_id=2, generator=Rng(0))
    with pytest.raises(BadConfig, match="cannot be packed"):
        fit(llama(), unpacked, causal_loss, cfg, run=SmallRun(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_logits_have_the_loss_and_the_gradient_of_small_ones(dtype, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 11, generator=draw).to(dtype).requires_grad_()
    labels = torch.randint(0, 11, (3, 7), generator=draw)
    labels[0, 2:] = -100
    expected = token_cross_entropy(logits, labels)
    (wanted,) = torch.autograd.grad(3 * expected, logits)
    sizes = []
    whole = torch.Tensor.float

    def noted(tensor):
        sizes.append(tensor.numel())
        return whole(tensor)

    monkeypatch.setattr(losses_module, "CHUNK", 4 * 11)
    monkeypatch.setattr(torch.Tensor, "float", noted)
    loss = token_cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, wanted)
    assert gradient.dtype == dtype
    assert dtype == torch.float32 or max(sizes) == 4 * 11  # no float32 copy of all
    with torch.no_grad():
        assert token_cross_entropy(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_model_that_was_sharded_is_whole_again(tmp_path):
    """One process is a world, too: parameters, classes and hooks are those of before, and the object is the same."""
    import torch.distributed as dist

    from gnomon.core.train.memory import gathered, is_sharded, sharded

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model = llama()
        before, kept = copy.deepcopy(model.state_dict()), list(model.parameters())
        ids = torch.arange(6)[None]
        expected = model(input_ids=ids).logits
        with sharded(model, torch.device("cpu")):
            assert is_sharded(model) and not is_sharded(model.model)
            assert torch.equal(model(input_ids=ids).logits, expected)
            with gathered(model):
                model.model(input_ids=ids)
        assert not is_sharded(model) and type(model) is LlamaForCausalLM
        assert all(a is b for a, b in zip(kept, model.parameters(), strict=True))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.equal(model(input_ids=ids).logits, expected)
        with sharded(model, torch.device("cpu")):  # and again
            assert is_sharded(model)
    finally:
        dist.destroy_process_group()


def test_gpt2_with_its_own_dropout_as_a_frozen_base_reads_alike():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    model = add_lora(GPT2LMHeadModel(config), 2).eval()
    batch = small_batches(TrainConfig(batch_size=6)).at(0).micro[0]
    plain = gradients(model, batch)
    with recomputed(model):
        again = gradients(model, batch)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))
