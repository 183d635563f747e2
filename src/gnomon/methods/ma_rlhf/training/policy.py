"""Policy and critic as one module, and the reference that the policy is compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnomon.core.models import Batch, add_lora, new_scorer, token_scores
from gnomon.core.models.architectures.parts import base_of
from gnomon.core.models.load import without_deprecations
from gnomon.core.models.load.scorers import add_scorer_lora
from gnomon.core.models.sampling.decoding import last_logits_only
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig

CHUNK = 1 << 24
"""Numbers over the vocabulary that are worked in float32 at once where logits have 16 bits: 64 MiB."""

REFERENCE = "reference"
"""Name of the frozen copy of an adapter."""

Logprobs = Callable[[Batch, int, float], Float[Tensor, "B A"]]
"""(texts, columns from the right whose logits are needed, temperature) -> log-probability of each token but the first."""


def action_logprobs(model: Any, batch: Batch, keep: int, temperature: float) -> Float[Tensor, "B A"]:
    """Log-probability (nats) of each token but the first, given those before it; 0 left of the columns that are kept.

    Args:
        model: a causal transformers model, with adapters or without.
        batch: texts, padded on either side.
        keep: columns from the right whose logits are made: those before the first answer are not needed.
        temperature: divides the logits.
    """
    keep = min(keep, batch.input_ids.shape[1])
    only = dict.fromkeys(last_logits_only(model), keep)
    logits = model(**batch.inputs("causal", base_of(model)), **only, use_cache=False).logits[:, -keep:-1]
    wanted = batch.input_ids[:, batch.input_ids.shape[1] - keep + 1 :]
    rows, size, words = logits.shape
    if logits.dtype == torch.float32 or logits.numel() <= CHUNK:
        values = _chosen(logits, wanted, temperature)
    else:  # a float32 copy of all of them would be the largest tensor of the training
        step = max(1, CHUNK // (rows * words))
        parts = [
            torch.utils.checkpoint.checkpoint(_chosen, logits[:, i : i + step], wanted[:, i : i + step], temperature,
                                              use_reentrant=False)
            for i in range(0, size, step)
        ]  # fmt: skip
        values = torch.cat(parts, 1)
    return nn.functional.pad(values, (batch.input_ids.shape[1] - keep, 0))


def _chosen(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    heated = logits.float() if temperature == 1 else logits.float() / temperature
    return -nn.functional.cross_entropy(heated.flatten(0, 1), wanted.flatten(), reduction="none").view(
        wanted.shape
    )


class ActorCritic(nn.Module):
    """A policy and its critic, which train together and share no weight.

    Dropout is off, in training as well: it would make the first ratio something else than 1.

    Args:
        policy: a causal model.
        critic: a scorer.
    """

    def __init__(self, policy: Any, critic: Any):
        super().__init__()
        self.policy, self.critic = policy, critic
        self.train()

    def train(self, mode: bool = True) -> ActorCritic:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(
        self, ids: Int[Tensor, "B T"], mask: Int[Tensor, "B T"], keep: int, temperature: float, *, critic_only: bool = False
    ) -> tuple[Float[Tensor, "B A"] | None, Float[Tensor, "B T"]]:  # fmt: skip
        """Log-probability of each token but the first (None for the critic alone), and the value of the text up to each token."""
        batch = Batch(ids, mask.bool())
        values = token_scores(self.critic, batch)
        return None if critic_only else action_logprobs(self.policy, batch, keep, temperature), values


def actor_critic(policy: Any, critic: Any = None, *, rng: Rng, lora_rank: int | None = None) -> ActorCritic:
    """A policy that can be trained, beside a critic.

    An adapter that the policy has is trained on; without one, `lora_rank` adds one, or all weights are trained.

    Args:
        policy: a causal transformers model, or a PEFT model.
        critic: a scorer, copied where it is not to change; None: the policy's backbone under a head of zeros, adapted as the
            policy is.
        rng: names what is drawn for it.
        lora_rank: rank of new adapters.

    Raises:
        BadConfig: `lora_rank`, and the policy has an adapter already.
        ModelMismatch: transformers has no sequence classifier of the policy's type.
    """
    rank = lora_rank
    if is_adapted(policy):
        if lora_rank is not None:
            raise BadConfig(
                "train.lora_rank: the policy has an adapter already, which is trained on. Leave it out."
            )
        _train_adapter(policy)
        rank = getattr(policy.peft_config[policy.active_adapter], "r", 8)
    if critic is None:
        critic = new_scorer(policy, rng)
        if rank is not None:
            critic = add_scorer_lora(critic, rank)
    elif is_adapted(critic):
        _train_adapter(critic)
    if lora_rank is not None:
        policy = add_lora(policy, lora_rank)
    return ActorCritic(policy, critic)


def is_adapted(model: Any) -> bool:
    """Whether a model is one of PEFT's."""
    return hasattr(model, "peft_config")


def _train_adapter(model: Any) -> None:
    """Make the adapter that a checkpoint came with trainable: it is loaded frozen."""
    model.set_adapter(model.active_adapter)
    for parameter in model.get_base_model().parameters():
        if parameter.is_leaf and not any(parameter is p for p in _own(model, model.active_adapter)):
            parameter.requires_grad_(False)


def _own(model: Any, adapter: str) -> list[nn.Parameter]:
    """The parameters of an adapter."""
    return [p for name, p in model.named_parameters() if f".{adapter}." in f"{name}."]


@contextmanager
def reference_of(policy: Any, *, is_new: bool) -> Iterator[Logprobs]:
    """The policy as it is now, frozen, while the `with` lasts.

    Args:
        policy: what will be trained.
        is_new: whether its adapter is new, so that the base alone is the reference. An adapter that came with the policy is part
            of the reference: a second, frozen copy of it stands beside it on the same base.

    Source: addendum 2 (trl#495, trl#4723).
    """
    if not is_adapted(policy):
        frozen = copy.deepcopy(policy).eval().requires_grad_(False)
        yield lambda batch, keep, temperature: action_logprobs(frozen, batch, keep, temperature)
    elif is_new:

        def without(batch: Batch, keep: int, temperature: float) -> Tensor:
            with policy.disable_adapter():
                return action_logprobs(policy, batch, keep, temperature)

        yield without
    else:
        yield from _copied(policy)


def _copied(policy: Any) -> Iterator[Logprobs]:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    name = policy.active_adapter
    with without_deprecations():
        policy.add_adapter(REFERENCE, copy.deepcopy(policy.peft_config[name]))
    set_peft_model_state_dict(
        policy, get_peft_model_state_dict(policy, adapter_name=name), adapter_name=REFERENCE
    )

    def to(adapter: str) -> None:
        # PEFT makes the adapter that it turns to trainable, and the other one not.
        flags = {p: p.requires_grad for p in policy.parameters()}
        policy.set_adapter(adapter)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)

    for parameter in _own(policy, REFERENCE):
        parameter.requires_grad_(False)
    to(name)

    def with_copy(batch: Batch, keep: int, temperature: float) -> Tensor:
        to(REFERENCE)
        try:
            return action_logprobs(policy, batch, keep, temperature)
        finally:
            to(name)

    try:
        yield with_copy
    finally:
        policy.delete_adapter(REFERENCE)
        to(name)
