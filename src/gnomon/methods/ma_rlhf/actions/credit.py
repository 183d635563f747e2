"""Rewards, values and advantages of macro actions, as tensors over tokens; every sum is per row, by segment ids."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.methods.ma_rlhf.options import MACRO, Macro

Values = Float[Tensor, "B A"]
Segments = Int[Tensor, "B A"]


def token_rewards(
    rewards: Float[Tensor, " B"], log_ratio: Values, mask: Bool[Tensor, "B A"], beta: float
) -> Values:
    """The reward of each token: -beta (log policy - log reference), and at the last token of the answer its reward.

    Args:
        rewards: of each answer.
        log_ratio: log policy - log reference of each action.
        mask: True at actions.
        beta: weight of the penalty.

    Source: spec point 4.
    """
    per_token = (-beta * log_ratio).where(mask, 0.0)
    rows, last = last_actions(mask)
    return per_token.index_put((rows, last), rewards[rows], accumulate=True)


def last_actions(mask: Bool[Tensor, "B A"]) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Row and column of the last action of every row that has one."""
    rows = mask.any(-1).nonzero().squeeze(-1)
    columns = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return rows, columns.where(mask, -1).amax(-1)[rows]


def _places(segments: Segments) -> tuple[Int[Tensor, "B A"], Int[Tensor, "B A"], Int[Tensor, "B M"]]:
    """A slot for each action (padding has the last one), its place in its segment from 0, and the length of each segment."""
    count = int(segments.max()) + 1 if segments.numel() else 0
    slots = segments.where(segments >= 0, count)
    inside = (segments >= 0).long()
    lengths = torch.zeros(len(segments), count + 1, dtype=torch.long, device=segments.device)
    lengths.scatter_add_(1, slots, inside)
    before = lengths.cumsum(1) - lengths  # actions of earlier segments
    position = inside.cumsum(1) - 1 - before.gather(1, slots)
    return slots, position.where(segments >= 0, 0), lengths


def _summed(values: Values, slots: Int[Tensor, "B A"], count: int) -> Float[Tensor, "B M"]:
    return values.new_zeros(len(values), count).scatter_add(1, slots, values)


def weights_of(segments: Segments, sigma: str) -> Values:
    """The weight of each action in its segment's value; the weights of a segment sum to 1.

    Args:
        segments: ids; -1 outside.
        sigma: equal: 1/|w|; unit: the last one has all; position_decayed: 1/((|w|-i) H), the last one most;
            position_decayed_first: 1/((i+1) H), the first one most.

    Source: section 3.2; spec point 6.
    """
    slots, position, lengths = _places(segments)
    length = lengths.gather(1, slots).clamp(min=1)
    if sigma == "equal":
        raw = torch.ones_like(position, dtype=torch.float32)
    elif sigma == "unit":
        raw = (position == length - 1).float()
    else:
        raw = 1 / (length - position if sigma == "position_decayed" else position + 1).float()
    raw = raw.where(segments >= 0, 0.0)
    return raw / _summed(raw, slots, lengths.shape[1]).gather(1, slots).where(segments >= 0, 1.0)


def macro_values(values: Values, segments: Segments, sigma: str = "equal") -> Float[Tensor, "B M"]:
    """The value of each macro action, V_tau = sum_i sigma_i V(s_i); 0 where a row has fewer.

    Source: spec point 6.
    """
    slots, position, lengths = _places(segments)
    count = lengths.shape[1]
    if sigma == "unit":
        kept = values.where((segments >= 0) & (position == lengths.gather(1, slots) - 1), 0.0)
        return _summed(kept, slots, count)[:, :-1]
    if sigma == "equal":
        # The sum is divided once, so that a segment of one token has exactly its value.
        sums = _summed(values.where(segments >= 0, 0.0), slots, count)
        return (sums / lengths.clamp(min=1))[:, :-1]
    weighted = (values * weights_of(segments, sigma)).where(segments >= 0, 0.0)
    return _summed(weighted, slots, count)[:, :-1]


def macro_rewards(rewards: Values, segments: Segments, macro: Macro = MACRO) -> Float[Tensor, "B M"]:
    """The reward of each macro action: sum_i rho^i r_i, or the mean by sigma as the released code has it.

    Source: spec point 7.
    """
    slots, position, lengths = _places(segments)
    if macro.reward == "mean":
        return macro_values(rewards, segments, macro.sigma)
    discounted = rewards if macro.rho == 1 else rewards * macro.rho**position
    return _summed(discounted.where(segments >= 0, 0.0), slots, lengths.shape[1])[:, :-1]


def macro_gae(
    values: Values,
    rewards: Values,
    segments: Segments,
    macro: Macro = MACRO,
    *,
    beyond: Float[Tensor, " B"] | None = None,
) -> tuple[Values, Values]:
    """Advantage and return of each macro action, at each of its tokens.

        delta_tau = R_tau + gamma V_{tau+1} - V_tau,  A_tau = delta_tau + gamma lambda A_{tau+1},  G_tau = A_tau + V_tau

    With segments of one token this is GAE over tokens, to the last bit.

    Args:
        values: the critic's value before each action.
        rewards: of each action.
        segments: ids; -1 outside.
        macro: gamma, lambda, and what a macro action's reward and value are.
        beyond: the value behind each answer's end; None: 0, its end is an end.

    Returns:
        Advantages, and returns for the critic (by `lam_critic`, where there is one); 0 outside.

    Source: section 3.3; spec points 8 and 9; lam_critic: arXiv 2503.01491.
    """
    slots, _, lengths = _places(segments)
    value, reward = macro_values(values, segments, macro.sigma), macro_rewards(rewards, segments, macro)
    exists = lengths[:, :-1] > 0
    last = exists.sum(1) - 1
    after = torch.zeros_like(value[:, 0]) if beyond is None else beyond.to(value)
    advantages, returns = torch.zeros_like(value), torch.zeros_like(value)
    decay = macro.gamma * macro.lam
    critics_decay = decay if macro.lam_critic is None else macro.gamma * macro.lam_critic
    advantage, critics = torch.zeros_like(after), torch.zeros_like(after)
    for m in reversed(range(value.shape[1])):
        is_end = last == m
        following = after if m + 1 == value.shape[1] else torch.where(is_end, after, value[:, m + 1])
        delta = reward[:, m] + macro.gamma * following - value[:, m]
        advantage = (delta + decay * advantage).where(exists[:, m], 0.0)
        critics = (delta + critics_decay * critics).where(exists[:, m], 0.0)
        advantages[:, m], returns[:, m] = advantage, critics + value[:, m]
    zero = value.new_zeros(len(value), 1)
    return torch.cat([advantages, zero], 1).gather(1, slots), torch.cat([returns, zero], 1).gather(1, slots)
