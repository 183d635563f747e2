"""The focal loss: values worked by hand, slopes by finite differences, extremes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.methods.sieve.students import focal_loss, focal_parts


def both(logits, labels, weights, gamma):
    """The loss of each label by the two forms, which must agree."""
    by_numpy = focal_parts(logits, labels, weights, gamma)[0]
    tensors = (torch.tensor(logits), torch.tensor(labels), torch.tensor(weights))
    by_torch = focal_loss(*tensors, gamma)
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, rtol=2e-6)
    return by_numpy


def test_values_worked_by_hand():
    # p_1 = sigmoid(log 3) = 3/4. Pass: 0.9 (1/4)^2 log(4/3) = 0.0161821; fail: p_0 = 1/4, 0.1 (3/4)^2 log 4 = 0.0779791.
    logit = math.log(3)
    found = both([logit, logit], [1, 0], [0.9, 0.1], 2.0)
    np.testing.assert_allclose(found, [0.01618212, 0.07797906], rtol=1e-6)


def test_a_coin_toss_costs_log_two_times_alpha_times_half_to_the_gamma():
    assert both([0.0], [1], [1.0], 3.0)[0] == pytest.approx(math.log(2) / 8)


def test_gamma_zero_and_alpha_one_is_cross_entropy():
    logits, labels = torch.linspace(-20, 20, 9), torch.tensor([1, 0, 1, 0, 1, 0, 1, 0, 1])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    torch.testing.assert_close(focal_loss(logits, labels, torch.ones(9), 0.0), wanted)


numbers = st.floats(-12, 12)


@given(numbers, st.sampled_from([0, 1]), st.floats(0.01, 5), st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
def test_slope_and_curvature_are_those_of_finite_differences(logit, label, alpha, gamma):
    step = 1e-3
    below, here, above = (focal_parts(logit + d, label, alpha, gamma) for d in (-step, 0, step))
    slope, second = (above[0] - below[0]) / (2 * step), (above[1] - below[1]) / (2 * step)
    assert here[1] == pytest.approx(slope, rel=1e-4, abs=1e-6)
    assert here[2] > 0
    assert here[2] >= second - 1e-6
    if gamma == 0:
        assert here[2] == pytest.approx(second, rel=1e-4, abs=1e-6)


def test_the_true_curvature_is_used_where_it_is_safe():
    # p = q = 1/2, gamma = 2: q^2 (-2 p (2 p log p - q) + 2 p q (log p + 1) + p q)
    log_half = math.log(0.5)
    pull = 2 * 0.5 * log_half - 0.5
    wanted = 0.25 * (-2 * 0.5 * pull + 2 * 0.25 * (log_half + 1) + 0.25)
    assert focal_parts(0.0, 1, 1.0, 2.0)[2] == pytest.approx(wanted)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_no_logit_is_too_large(gamma):
    logits = torch.tensor([-1e4, -200.0, 200.0, 1e4] * 2, requires_grad=True)
    labels = torch.tensor([1] * 4 + [0] * 4)
    loss = focal_loss(logits, labels, torch.ones(8), gamma)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()
    # Far on the wrong side the loss is the distance; far on the right side it is nothing.
    assert loss.tolist() == [1e4, 200.0, 0.0, 0.0, 0.0, 0.0, 200.0, 1e4]
    for part in focal_parts(logits.detach().numpy(), labels.numpy(), np.ones(8), gamma):
        assert np.isfinite(part).all()
