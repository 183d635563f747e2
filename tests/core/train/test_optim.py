import math
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures_training import small_model
from gnomon.core.train import decay_groups, lr_factor, make_adamw
from gnomon.core.train.config import TrainConfig
from gnomon.core.train.optim import set_lr, warmup_of
from gnomon.errors import BadConfig, BadInput, MissingExtra


def test_norms_and_biases_do_not_decay():
    model = small_model()
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, spared = ([names[id(p)] for p in group["params"]] for group in decay_groups(model, 0.1))
    assert set(decayed) | set(spared) == set(names.values())
    assert all(name.endswith("bias") or ".ln_" in name for name in spared)
    assert not any(name.endswith("bias") or ".ln_" in name for name in decayed)


def test_frozen_parameters_are_in_no_group():
    model = torch.nn.Linear(2, 2)
    model.weight.requires_grad = False
    (group,) = decay_groups(model, 0.1)
    assert group["weight_decay"] == 0 and group["params"] == [model.bias]
    model.bias.requires_grad = False
    with pytest.raises(BadInput, match="Linear has no trainable parameter"):
        decay_groups(model, 0.1)


def test_one_step_of_adamw_by_hand():
    weight = torch.nn.Parameter(torch.tensor([[2.0]]))
    optimizer = make_adamw([{"params": [weight], "weight_decay": 0.5}], lr=0.1)
    weight.grad = torch.tensor([[3.0]])
    optimizer.step()
    # Decay: 2 * (1 - 0.1 * 0.5) = 1.9; the first step of Adam has length lr whatever the gradient: 1.9 - 0.1.
    assert weight.item() == pytest.approx(1.8)


def test_schedules_by_hand():
    def factors(schedule, warmup=0.0, floor=0.0):
        steps = warmup_of(TrainConfig(warmup_ratio=warmup), 4)
        return [lr_factor(step, 4, steps, schedule, floor) for step in range(4)]

    assert factors("linear") == [1, 0.75, 0.5, 0.25]
    assert factors("constant", 0.5) == [0.5, 1, 1, 1]
    assert factors("linear", 0.5) == [0.5, 1, 1, 0.5]
    assert factors("cosine") == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert factors("linear", 1.0) == [0.25, 0.5, 0.75, 1]
    assert factors("linear", floor=0.2) == pytest.approx([1, 0.8, 0.6, 0.4])
    assert factors("cosine", 0.5, 0.5) == pytest.approx([0.5, 1, 1, 0.75])
    assert factors("constant", floor=0.2) == [1, 1, 1, 1]
    one = warmup_of(TrainConfig(warmup_ratio=0.001), 1000)
    assert lr_factor(0, 1000, one, "linear") == 1  # one step of warm-up is at the peak already, not at 0
    assert warmup_of(TrainConfig(warmup_ratio=0.5, warmup_steps=3), 100) == 3


def test_a_group_keeps_its_own_peak():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = make_adamw([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    assert set_lr(optimizer, 0.5) == pytest.approx(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.25])


@pytest.mark.scale
@pytest.mark.filterwarnings("default")  # the compiler warns of itself
def test_moments_in_8_bit_train_alike_and_go_on_exactly(tmp_path):
    pytest.importorskip("torchao")
    from fixtures_training import SmallRun
    from gnomon.core.rng import Rng
    from gnomon.core.train import Batches, Example, causal_loss, fit

    rows = [[(7 * i + j * j) % 90 for j in range(12)] for i in range(12)]
    batches = Batches([Example(row, row) for row in rows], 4, pad_id=0, generator=Rng(0))

    def trained(folder, kind, last=6):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=90, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=2
        )
        cfg = TrainConfig(
            lr=1e-2,
            batch_size=4,
            epochs=2,
            max_steps=last,
            optimizer=kind,
            schedule="constant",
            checkpoint_every=2,
        )
        model = LlamaForCausalLM(config)
        return model, fit(model, batches, causal_loss, cfg, run=SmallRun(folder)).curve("loss")

    _, plain = trained(tmp_path / "plain", "adamw")
    model, curve = trained(tmp_path / "small", "adamw8bit")
    assert curve == pytest.approx(plain, rel=0.02) and curve != plain
    trained(tmp_path / "part", "adamw8bit", 4)
    again, longer = trained(tmp_path / "part", "adamw8bit")
    assert longer == curve
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    sizes = [
        (tmp_path / name / "checkpoints/step-00000006/optimizer.pt").stat().st_size
        for name in ("plain", "small")
    ]
    assert sizes[1] < 0.4 * sizes[0]


def test_a_missing_package_of_8_bit_moments_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(MissingExtra, match=r"torchao is not installed.*gnomon\[quant\]"):
        make_adamw([{"params": [torch.nn.Parameter(torch.zeros(1))]}], 0.1, kind="adamw8bit")


def test_a_model_in_few_bits_is_not_trained_itself(checkpoint):
    from gnomon.core.models import add_lora, load_model

    model = load_model(checkpoint("llama"), device="cpu")
    model.is_quantized = True
    with pytest.raises(
        BadConfig, match=r"LlamaForCausalLM is loaded in 8 or 4 bits.*LoRA.*without --quantize"
    ):
        decay_groups(model, 0.0)
    adapted = add_lora(model, 2)
    groups = decay_groups(adapted, 0.0)
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(
        p.numel() for name, p in adapted.named_parameters() if "lora_" in name
    )
