"""Batches that the policy makes itself, and gradients clipped apart."""

import pytest
import torch
from torch import nn

from fixtures_training import SmallRun
from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch, TrainConfig, clip_gradients, fit, make_adamw
from gnomon.errors import BadConfig


class Rollouts:
    """Numbers around what the policy says now, from a stream of their own; two steps share a rollout."""

    steps_per_rollout = 2

    def __init__(self, model, steps, rng, dies_at=None):
        self.model, self.steps, self.rng, self.dies_at = model, steps, rng, dies_at
        self.made = []
        self.rollout = None

    def __len__(self):
        return self.steps

    def digest(self):
        return [[self.steps]]

    def at(self, step, process, processes):
        number = step // self.steps_per_rollout
        if self.rollout is None or self.rollout[0] != number:
            noise = torch.randn(4, 3, generator=self.rng.child("rollout", number).torch())
            with torch.no_grad():
                self.rollout = number, noise, self.model(noise)
            self.made.append(number)
        if step == self.dies_at:
            raise KeyboardInterrupt
        _, noise, said = self.rollout
        return GlobalBatch([{"x": noise, "said": said}], targets=4)


def loss(model, micro):
    return ((model(micro["x"]) - 0.5 * micro["said"] - 1) ** 2).sum()


def new_model():
    torch.manual_seed(0)
    return nn.Linear(3, 3)


CFG = TrainConfig(lr=0.05, epochs=1, checkpoint_every=2, grad_clip=None)


def test_a_killed_training_goes_on_bit_for_bit_and_rolls_out_with_its_own_weights(tmp_path):
    whole = new_model()
    source = Rollouts(whole, 8, Rng(5))
    curve = fit(whole, source, loss, CFG, run=SmallRun(tmp_path / "whole")).curve("loss")
    assert source.made == [0, 1, 2, 3]
    for dies_at in (5, 6):
        parted, folder = new_model(), tmp_path / f"parted{dies_at}"
        with pytest.raises(KeyboardInterrupt):
            fit(parted, Rollouts(parted, 8, Rng(5), dies_at), loss, CFG, run=SmallRun(folder))
        again = new_model()
        source = Rollouts(again, 8, Rng(5))
        history = fit(again, source, loss, CFG, run=SmallRun(folder))
        assert source.made == ([2, 3] if dies_at == 5 else [3])  # nothing before the weights are restored
        assert history.curve("loss") == curve
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_within_a_rollout_is_refused(tmp_path):
    model = new_model()
    cfg = TrainConfig(lr=0.05, checkpoint_every=3)
    with pytest.raises(
        BadConfig, match="checkpoint_every must be a multiple of 2, the updates of a rollout; got 3"
    ):
        fit(model, Rollouts(model, 8, Rng(5)), loss, cfg, run=SmallRun(tmp_path))
    only_at_the_end = TrainConfig(lr=0.05, checkpoint_every=0)
    fit(model, Rollouts(model, 4, Rng(5)), loss, only_at_the_end, run=SmallRun(tmp_path / "b"))


def grouped(*gradients):
    parameters = [nn.Parameter(torch.zeros(len(values))) for values in gradients]
    for parameter, values in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(values)
    return parameters


def test_a_group_is_clipped_by_its_own_length_alone():
    """By hand: lengths 5, 50 and 13; the second and the third are clipped apart to 10 and not at all."""
    first, second, third = grouped([3.0, 4.0], [30.0, 40.0], [5.0, 12.0])
    groups = [
        {"params": [first]},
        {"params": [second], "grad_clip": 10.0},
        {"params": [third], "grad_clip": None},
    ]
    norm = clip_gradients(groups, 1.0)
    assert float(norm) == pytest.approx((25 + 2500 + 169) ** 0.5)
    torch.testing.assert_close(first.grad, torch.tensor([0.6, 0.8]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second.grad, torch.tensor([6.0, 8.0]), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(third.grad, torch.tensor([5.0, 12.0]))


def test_groups_without_one_of_their_own_are_clipped_together_as_before():
    a, b = grouped([3.0], [4.0])
    c, d = grouped([3.0], [4.0])
    norm = clip_gradients([{"params": [a]}, {"params": [b]}], 1.0)
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_([c, d], 1.0))
    assert torch.equal(a.grad, c.grad) and torch.equal(b.grad, d.grad)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.policy, self.critic = nn.Linear(3, 2), nn.Linear(3, 1)

    def forward(self, x):
        return self.policy(x), self.critic(x)


def test_a_critics_large_loss_does_not_shrink_the_policys_step(tmp_path):
    """The policy takes the same steps whatever the size of the value loss, as it does not under one joint norm."""

    class Data:
        def __len__(self):
            return 3

        def at(self, step, process, processes):
            return GlobalBatch([{"x": torch.randn(5, 3, generator=Rng(1).child(step).torch())}], targets=5)

    def trained(scale, apart):
        model = TwoHeads()
        both = [
            {"params": list(model.policy.parameters())},
            {"params": list(model.critic.parameters()), "lr": 0.001},
        ]
        if apart:
            both = [{**group, "grad_clip": 0.1} for group in both]

        def joint(wrapped, micro):
            logits, values = wrapped(micro["x"])
            return (logits**2).sum() + scale * ((values - 3) ** 2).sum()

        # epsilon large, so that Adam does not undo the scale of a gradient
        for group in both:
            group["eps"] = 1.0
        cfg = TrainConfig(lr=0.1, grad_clip=0.1, checkpoint_every=0, schedule="constant", warmup_ratio=0)
        fit(model, Data(), joint, cfg, run=SmallRun(tmp_path / f"{scale}{apart}"), groups=both)
        return model.policy.weight.detach()

    assert torch.equal(trained(1.0, True), trained(1000.0, True))
    assert not torch.allclose(trained(1.0, False), trained(1000.0, False))


def test_a_group_keeps_its_own_rate_and_betas():
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": 0.5, "betas": (0.9, 0.95), "grad_clip": 1.0}]
    optimizer = make_adamw(groups, 0.1)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95) and optimizer.param_groups[0]["grad_clip"] == 1.0


def test_groups_of_one_clip_name_are_clipped_by_their_common_length():
    first, second, third = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    for parameter, gradient in zip((first, second, third), (3.0, 4.0, 100.0), strict=True):
        parameter.grad = torch.tensor([gradient])
    apart = {"grad_clip": 1.0, "clip_name": "critic"}
    groups = [{"params": [third]}, {"params": [first], **apart}, {"params": [second], **apart}]
    clip_gradients(groups, None)
    assert torch.allclose(torch.cat([first.grad, second.grad, third.grad]), torch.tensor([0.6, 0.8, 100.0]))
