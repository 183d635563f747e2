import math

import pytest
import torch

from gnomon.core.train import token_cross_entropy


def test_cross_entropy_by_hand():
    # Two texts over a vocabulary of 2. Logits (0, ln 3) mean probabilities (1/4, 3/4).
    tilt = [0.0, math.log(3)]
    logits = torch.tensor([[tilt, tilt, tilt], [tilt, [0.0, 0.0], tilt]])
    labels = torch.tensor([[0, 1, 0], [0, -100, 1]])
    # Text 0: the first token is predicted by nothing; then -ln 3/4 and -ln 1/4.
    # Text 1: the second token is no target; the third is predicted by even odds, ln 2.
    expected = -math.log(3 / 4) - math.log(1 / 4) + math.log(2)
    assert token_cross_entropy(logits, labels).item() == pytest.approx(expected)
    assert token_cross_entropy(logits, labels, "token_mean").item() == pytest.approx(expected / 3)


def test_no_targets_cost_nothing():
    logits = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.full((1, 3), -100)
    for reduction in ("sum", "token_mean"):
        loss = token_cross_entropy(logits, labels, reduction)
        loss.backward()
        assert loss.item() == 0
        assert not logits.grad.any()


def test_the_library_agrees_on_the_mean():
    from fixtures_training import small_batches, small_model
    from gnomon.core.train import TrainConfig, causal_loss

    model = small_model().eval()
    batch = small_batches(TrainConfig(batch_size=6)).at(0)
    (micro,) = batch.micro
    with torch.no_grad():
        assert causal_loss(model, micro) / batch.targets == pytest.approx(model(**micro).loss.item())
