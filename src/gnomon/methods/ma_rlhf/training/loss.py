"""The clipped losses of policy and critic, over tokens or macro actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnomon.methods.ma_rlhf.options import Macro, Ppo


class PpoLoss:
    """The clipped losses of policy and critic, summed over tokens; what they amount to is counted beside.

    Args:
        macro: whether ratios are of tokens or of macro actions.
        ppo: where they are clipped.
        critic_only: leave the policy out.

    Source: spec points 10 and 11.
    """

    def __init__(self, macro: Macro, ppo: Ppo, *, critic_only: bool = False):
        self.macro, self.ppo, self.critic_only = macro, ppo, critic_only
        self.tally = torch.zeros(5, dtype=torch.float64)

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss of a micro-batch."""
        actions = batch["actions"]
        keep, heat = int(batch["keep"]), self.ppo.logprob_temperature
        if self.critic_only:
            _, values = model(batch["ids"], batch["mask"], keep, heat, critic_only=True)
        else:
            logprobs, values = model(batch["ids"], batch["mask"], keep, heat)
        # Where all answers of a micro-batch were dropped, every weight still takes part, with nothing.
        before = batch["values"]
        value_loss = value_losses(values[:, :-1], before, batch["returns"], self.ppo.value_clip)
        critic = value_loss.where(actions, 0.0).sum()
        if self.critic_only:
            self._count(0.0, critic, 0.0, 0.0, actions)
            return critic
        d = (logprobs - batch["logprobs"]).where(actions, 0.0)
        if self.macro.ratio == "macro":
            policy, clipped = self._by_action(d, batch)
        else:
            losses, is_clipped = clipped_losses(d, batch["advantages"], self.ppo.clip)
            policy, clipped = losses.where(actions, 0.0).sum(), float((is_clipped & actions).sum())
        self._count(
            policy, critic, clipped, float((torch.expm1(d) - d).where(actions, 0.0).detach().sum()), actions
        )
        return policy + critic

    def _by_action(self, d: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, float]:
        """The paper's loss: one ratio for each macro action, the product of its tokens'. Source: section 3.3."""
        segments = batch["segments"]
        inside = segments >= 0
        slots = segments.where(inside, int(segments.max()) + 1)
        count = int(slots.max()) + 1

        def total(values: Tensor) -> Tensor:
            return torch.zeros(len(segments), count, device=d.device).scatter_add(
                1, slots, values.where(inside, 0.0)
            )

        length = total(torch.ones_like(d))
        # All tokens of a macro action have its advantage.
        advantages = total(batch["advantages"]) / length.clamp(min=1)
        losses, is_clipped = clipped_losses(total(d), advantages, self.ppo.clip)
        weight = length if self.macro.weight == "tokens" else (length > 0) * batch["action_weight"]
        return (losses * weight).sum(), float((is_clipped * length).sum())

    def _count(
        self, policy: Tensor | float, critic: Tensor, clipped: float, kl: float, actions: Tensor
    ) -> None:
        self.tally += torch.tensor(
            [
                float(torch.as_tensor(policy).detach()),
                float(critic.detach()),
                clipped,
                kl,
                float(actions.sum()),
            ],
            dtype=torch.float64,
        )

    def numbers(self, processes: int) -> dict[str, float]:
        """The means of the step over all processes; begins anew."""
        total, self.tally = self.tally, torch.zeros(5, dtype=torch.float64)
        if processes > 1:
            shares: list[Any] = [None] * processes
            torch.distributed.all_gather_object(shares, total)
            total = torch.stack(shares).sum(0)
        policy, critic, clipped, kl, count = (float(value) for value in total)
        count = max(1.0, count)
        return {
            "policy_loss": policy / count,
            "value_loss": critic / count,
            "clip_share": clipped / count,
            "kl_to_old": kl / count,
        }


def clipped_losses(d: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """max(-A rho, -A clip(rho, 1-c, 1+c)) with rho = exp(d), and where the clipped one is larger.

    Args:
        d: log policy - log policy at the rollout, of tokens or of macro actions.
        advantages: as many.
        clip: c.
    """
    ratio = d.exp()
    free, bound = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(free, bound), bound > free


def value_losses(values: Tensor, before: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """0.5 max((V - G)^2, (V_clip - G)^2) with V_clip = V_old + clip(V - V_old, -c, c).

    Args:
        values: V, of the critic now.
        before: V_old, at the rollout.
        returns: G.
        clip: c; None: the first square alone.
    """
    free = (values - returns) ** 2
    if clip is None:
        return 0.5 * free
    bound = before + (values - before).clamp(-clip, clip)
    return 0.5 * torch.maximum(free, (bound - returns) ** 2)
