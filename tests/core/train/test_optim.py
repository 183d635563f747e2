import math

import pytest
import torch

from fixtures_training import small_model
from gnomon.core.train import decay_groups, lr_factor, make_adamw
from gnomon.core.train.optim import set_lr
from gnomon.errors import BadInput


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
    def factors(schedule, warmup=0.0):
        return [lr_factor(step, 4, warmup, schedule) for step in range(4)]

    assert factors("linear") == [1, 0.75, 0.5, 0.25]
    assert factors("constant", 0.5) == [0.5, 1, 1, 1]
    assert factors("linear", 0.5) == [0.5, 1, 1, 0.5]
    assert factors("cosine") == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert factors("linear", 1.0) == [0.25, 0.5, 0.75, 1]
    assert lr_factor(0, 1000, 0.001, "linear") == 1  # one step of warm-up is at the peak already, not at 0


def test_a_group_keeps_its_own_peak():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = make_adamw([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    assert set_lr(optimizer, 0.5) == pytest.approx(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.25])
