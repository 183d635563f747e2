"""The block by hand, its gates, its first weights."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.neutral_residues import Block
from gnomon.methods.neutral_residues.extension import ExtendedMLP, Switch, block_width


def by_hand(gate="relu", shape="scalar"):
    """d = 2, r = 1: W_g = (1, 0), W_i = (0, 2), W_o = (3, -1), gate w = (1, -1), b = 0.5."""
    block = Block(2, 1, act="silu", gate=gate, gate_shape=shape)
    with torch.no_grad():
        block.into.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        block.out.weight.copy_(torch.tensor([[3.0], [-1.0]]))
        if block.gate is not None:
            block.gate.weight.copy_(torch.tensor([[1.0, -1.0]]).expand_as(block.gate.weight))
            block.gate.bias.fill_(0.5)
    return block


def silu(x):
    return x / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("gate", "opening"),
    [
        ("relu", lambda z: max(z, 0.0)),
        ("elu", lambda z: z if z > 0 else math.exp(z) - 1),
        ("sigmoid", lambda z: 1 / (1 + math.exp(-z))),
        ("none", lambda z: 1.0),
    ],
)
@pytest.mark.parametrize("x", [(2.0, 1.0), (1.0, 3.0)])
def test_a_block_by_hand(gate, opening, x):
    rho, g = by_hand(gate)(torch.tensor([[x]]))
    z = x[0] - x[1] + 0.5
    inner = silu(x[0]) * 2 * x[1]
    expected = [opening(z) * 3 * inner, opening(z) * -inner]
    assert rho[0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert (g is None) == (gate == "none")


def test_a_vector_gate_has_one_value_a_channel():
    rho, g = by_hand(shape="vector")(torch.tensor([[(2.0, 1.0)]]))
    assert g.shape == (1, 1, 2)
    assert torch.allclose(rho, by_hand()(torch.tensor([[(2.0, 1.0)]]))[0])


@given(st.integers(0, 2**31), st.floats(-2, 1))
def test_leaving_out_shut_tokens_changes_nothing(seed, bias):
    block = Block(6, 8)
    block.start(3, "he", torch.Generator().manual_seed(seed))
    with torch.no_grad():
        block.out.weight.normal_(generator=torch.Generator().manual_seed(seed + 1))
        block.gate.bias.fill_(bias)
        x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(seed + 2))
        skipped, g = block(x)
    whole, _ = block(x)  # with gradients nothing is left out
    assert torch.allclose(skipped, whole, atol=1e-6)
    assert (skipped[g[..., 0] <= 0] == 0).all()


@pytest.mark.parametrize(("init", "variance"), [("low_variance", 1 / (128 * 5)), ("he", 2 / 128)])
def test_first_weights_have_the_stated_variance(init, variance):
    block = Block(128, 256)
    block.start(5, init, Rng(1).torch())
    assert block.into.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert block.gate.bias.item() == 0.5
    assert not block.out.weight.any()


def test_what_does_not_exist_is_refused():
    with pytest.raises(BadConfig, match=r'no gate "rellu".*relu'):
        Block(4, 8, gate="rellu")
    with pytest.raises(BadConfig, match='no activation "silo"'):
        Block(4, 8, act="silo")
    with pytest.raises(BadConfig, match=r"blocks of width 1\.7.*narrowest is 8.*--extra"):
        block_width(120, 8, 3)


def test_the_width_is_the_nearest_multiple_of_eight():
    assert block_width(157_000, 128, 4) == 104  # 157000 / (3 * 128 * 4) = 102.2
    assert block_width(3 * 64 * 2 * 16, 64, 2) == 16


def test_blocks_are_added_to_the_network_unless_switched_off():
    switch = Switch()
    layer = ExtendedMLP(torch.nn.Linear(2, 2, bias=False), 4, switch)
    layer.blocks.append(by_hand())
    layer.blocks.append(by_hand("none"))
    x = torch.tensor([[(2.0, 1.0)]])
    own = layer.mlp(x)
    heard = []
    switch.watch = lambda *seen: heard.append(seen)
    assert torch.allclose(layer(x), own + by_hand()(x)[0] + by_hand("none")(x)[0])
    assert heard[0][0] == 4 and torch.equal(heard[0][1], by_hand("none")(x)[0])  # the newest
    switch.is_on = False
    assert torch.equal(layer(x), own)


def test_blocks_in_float32_stand_beside_a_model_in_half_precision():
    layer = ExtendedMLP(torch.nn.Linear(2, 2, bias=False).bfloat16(), 0, Switch())
    layer.blocks.append(by_hand())
    y = layer(torch.tensor([[(2.0, 1.0)]], dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
