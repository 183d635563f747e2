"""Rewards, values and advantages: by hand, bit for bit against token GAE, and the same for a batch as for its rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.methods.ma_rlhf import Macro, macro_gae, macro_rewards, macro_values, segment, token_rewards
from gnomon.methods.ma_rlhf.actions.credit import weights_of


def gae(values, rewards, gamma, lam, beyond=0.0):
    """Textbook GAE over tokens, one answer at a time, in float32 scalars of numpy."""
    f = np.float32
    advantages, advantage, following = [], f(0), f(beyond)
    for value, reward in zip(values[::-1], rewards[::-1], strict=True):
        delta = f(f(reward + f(f(gamma) * following)) - value)
        advantage = f(delta + f(f(gamma * lam) * advantage))
        advantages.append(advantage)
        following = value
    return advantages[::-1]


@given(st.integers(0, 50), st.floats(0.5, 1), st.floats(0, 1), st.booleans())
def test_n_1_is_token_gae_to_the_last_bit(seed, gamma, lam, bootstraps):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 12, 3)
    mask = torch.zeros(3, 14, dtype=torch.bool)
    values, rewards = torch.zeros(3, 14), torch.zeros(3, 14)
    for i, length in enumerate(lengths):
        mask[i, 2 : 2 + length] = True
        values[i], rewards[i] = torch.randn(2, 14, generator=torch.Generator().manual_seed(seed * 3 + i))
    beyond = torch.randn(3, generator=torch.Generator().manual_seed(seed)) if bootstraps else None
    macro = Macro(n=1, gamma=gamma, lam=lam)
    advantages, returns = macro_gae(values, rewards, segment(mask, macro), macro, beyond=beyond)
    for i, length in enumerate(lengths):
        mine = slice(2, 2 + length)
        expected = gae(
            values[i, mine].numpy(),
            rewards[i, mine].numpy(),
            gamma,
            lam,
            0.0 if beyond is None else beyond[i].numpy(),
        )
        assert advantages[i, mine].numpy().tolist() == [float(a) for a in expected]
        assert torch.equal(returns[i, mine], advantages[i, mine] + values[i, mine])
        assert not advantages[i][~mask[i]].any()


def test_two_macro_actions_by_hand():
    """Values 1 2 3 | 4 5, reward 10 at the end: V = 2 and 4.5, A_1 = 10 - 4.5, A_0 = 4.5 - 2 + .5 * 5.5."""
    ids = torch.tensor([[-1, 0, 0, 0, 1, 1, -1]])
    values = torch.tensor([[9.0, 1, 2, 3, 4, 5, 9]])
    rewards = torch.tensor([[0.0, 0, 0, 0, 0, 10, 0]])
    advantages, returns = macro_gae(values, rewards, ids, Macro(lam=0.5))
    assert advantages.tolist() == [[0.0, 5.25, 5.25, 5.25, 5.5, 5.5, 0.0]]
    assert returns.tolist() == [[0.0, 7.25, 7.25, 7.25, 10.0, 10.0, 0.0]]


def test_a_cut_goes_on_with_the_critics_value():
    ids, values = torch.tensor([[0, 0]]), torch.tensor([[1.0, 3.0]])
    advantages, _ = macro_gae(values, torch.zeros(1, 2), ids, Macro(gamma=0.5), beyond=torch.tensor([8.0]))
    assert advantages.tolist() == [[2.0, 2.0]]  # 0 + .5 * 8 - 2


def test_the_critics_lambda_changes_returns_alone():
    ids = torch.tensor([[0, 1, 2]])
    values, rewards = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 7.0]])
    plain, _ = macro_gae(values, rewards, ids, Macro(n=1, lam=0.5))
    advantages, returns = macro_gae(values, rewards, ids, Macro(n=1, lam=0.5, lam_critic=1.0))
    assert torch.equal(advantages, plain)
    assert returns.tolist() == [[7.0, 7.0, 7.0]]  # the plain sum of rewards


def test_reward_of_the_answer_lies_on_the_end_token_and_not_on_the_padding():
    """Answer [a, b, end, pad, pad], R = 1, beta = 0 (trl#1893, trl#3750)."""
    mask = torch.tensor([[1, 1, 1, 0, 0]], dtype=torch.bool)
    assert token_rewards(torch.tensor([1.0]), torch.randn(1, 5), mask, 0.0).tolist() == [[0, 0, 1, 0, 0]]
    penalised = token_rewards(torch.tensor([1.0]), torch.tensor([[2.0, 0, -1, 9, 9]]), mask, 0.5)
    assert penalised.tolist() == [[-1.0, 0.0, 1.5, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("sigma", "weights"),
    [("equal", [1 / 3] * 3), ("unit", [0, 0, 1]), ("position_decayed", [2 / 11, 3 / 11, 6 / 11]),
     ("position_decayed_first", [6 / 11, 3 / 11, 2 / 11])],
)  # fmt: skip
def test_weights_of_the_values(sigma, weights):
    ids = torch.tensor([[-1, 0, 0, 0, 1]])
    assert weights_of(ids, sigma)[0].tolist() == pytest.approx([0, *weights, 1])
    values = torch.tensor([[5.0, 1, 2, 4, 8]])
    expected = [w * v for w, v in zip(weights, [1, 2, 4], strict=True)]
    assert macro_values(values, ids, sigma)[0].tolist() == pytest.approx([sum(expected), 8])


def test_both_macro_rewards_and_the_discount_within():
    ids, rewards = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1.0, 3.0, 2.0, 4.0]])
    assert macro_rewards(rewards, ids, Macro()).tolist() == [[4.0, 6.0]]
    assert macro_rewards(rewards, ids, Macro(rho=0.5)).tolist() == [[2.5, 4.0]]
    assert macro_rewards(rewards, ids, Macro(reward="mean")).tolist() == [[2.0, 3.0]]
    assert macro_rewards(rewards, ids, Macro(reward="mean", sigma="unit")).tolist() == [[3.0, 4.0]]


def test_the_penalty_of_an_answer_is_the_same_for_every_n_with_sums():
    mask = torch.ones(1, 11, dtype=torch.bool)
    rewards = token_rewards(torch.tensor([2.0]), torch.rand(1, 11), mask, 0.1)
    totals = [float(macro_rewards(rewards, segment(mask, Macro(n=n))).sum()) for n in (1, 3, 5, None)]
    assert totals == pytest.approx([totals[0]] * 4)


@given(st.integers(0, 30), st.sampled_from(["equal", "unit", "position_decayed", "position_decayed_first"]),
       st.sampled_from(["sum", "mean"]), st.integers(1, 5), st.booleans())  # fmt: skip
def test_a_batch_is_its_rows_one_by_one(seed, sigma, reward, n, left):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 9, (4,), generator=draw).tolist()
    mask = torch.zeros(4, 10, dtype=torch.bool)
    for i, length in enumerate(lengths):
        at = 10 - length if left else 1
        mask[i, at : at + length] = True
    macro = Macro(n=n, sigma=sigma, reward=reward, gamma=0.9)
    values, rewards, beyond = (
        torch.randn(4, 10, generator=draw),
        torch.randn(4, 10, generator=draw),
        torch.randn(4, generator=draw),
    )
    ids = segment(mask, macro)
    whole = macro_gae(values, rewards, ids, macro, beyond=beyond)
    for i in range(4):
        row = slice(i, i + 1)
        alone = macro_gae(
            values[row][mask[row]][None],
            rewards[row][mask[row]][None],
            ids[row][mask[row]][None],
            macro,
            beyond=beyond[row],
        )
        for part, single in zip(whole, alone, strict=True):
            assert torch.equal(part[row][mask[row]], single.flatten())
            assert not part[row][~mask[row]].any()
