"""How fast a model forgets its prompt, for vocabularies too large for an exact chain: by sampling from two prompts.

After n sampled tokens the next-token distributions of M continuations are averaged. If the two averages agree, the n tokens tell
nothing of the prompt any more, as far as the next token is concerned. The averages of M samples differ by chance as well: that
floor is measured on halves of the samples of one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core.models.sampling.cache import new_cache, select_rows
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.markov.chain.chain import Floats

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Forgetting:
    """Total variation between the futures of two prompts, by tokens after the prompt."""

    temperature: float
    """Of the sampling."""
    distance: Floats
    """TV of the averaged next-token distributions after n = 0, 1, ... sampled tokens, `[N + 1]`."""
    floor: Floats
    """What TV two samples of this size from one prompt are expected to have, `[N + 1]`; 0 at n = 0."""

    @property
    def forgotten_at(self) -> int | None:
        """First n at which the distance is no more than twice the floor and below 1/4; None: never."""
        close = np.flatnonzero((self.distance <= 2 * self.floor + 1e-6) & (self.distance <= 0.25))
        return int(close[0]) if len(close) else None


def forgetting(
    model: PreTrainedModel,
    prompts: tuple[Sequence[int], Sequence[int]],
    *,
    temperatures: Sequence[float] = (0.5, 1.0, 1.5),
    samples: int = 64,
    steps: int = 64,
    top: int = 50,
    generator: Rng,
) -> list[Forgetting]:
    """One curve per temperature.

    Args:
        model: a causal model.
        prompts: token ids of the two prompts.
        temperatures: tau, each > 0.
        samples: M, continuations of each prompt, at least 2.
        steps: tokens of each.
        top: likeliest tokens (under both together) compared one by one; the others count as one.
        generator: where samples come from.

    Raises:
        BadInput: a prompt is empty.
        BadConfig: a number is out of range.
        ModelMismatch: a prompt and its continuation do not fit the model's positions.
    """
    if not all(len(prompt) for prompt in prompts):
        raise BadInput("A prompt has no tokens; give each at least one.")
    if samples < 2 or steps < 1 or top < 1 or not all(tau > 0 for tau in temperatures):
        raise BadConfig("forgetting needs samples >= 2, steps >= 1, top >= 1 and temperatures > 0.")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    needed = max(map(len, prompts)) + steps
    if positions is not None and needed > positions:
        raise ModelMismatch(
            f"Prompt and continuation need {needed} tokens and the model has {positions} positions."
        )
    curves = []
    for tau in temperatures:
        halves = [
            _mixtures(model, prompt, tau, samples, steps, generator.child("forget", i, str(tau)))
            for i, prompt in enumerate(prompts)
        ]  # per prompt [2, N + 1, V]
        a, b = (half.mean(0) for half in halves)
        # Two halves of M/2 samples differ sqrt(2) times as much as two samples of M.
        floor = np.mean([distance(half[0], half[1], top) for half in halves], axis=0) / math.sqrt(2)
        curves.append(Forgetting(tau, distance(a, b, top), floor))
    return curves


def distance(p: Floats, q: Floats, top: int) -> Floats:
    """TV over the `top` likeliest tokens of both together and the rest as one, row by row; `[N, V]` each, `[N]`."""
    top = min(top, p.shape[1])
    chosen = np.argpartition(-(p + q), top - 1, axis=1)[:, :top]
    ours, theirs = (np.take_along_axis(x, chosen, 1) for x in (p, q))
    rest = np.abs(ours.sum(1) - theirs.sum(1))
    tv: Floats = (np.abs(ours - theirs).sum(1) + rest) / 2
    return tv


def _mixtures(
    model: Any, prompt: Sequence[int], temperature: float, samples: int, steps: int, rng: Rng
) -> Floats:
    """Averaged next-token distributions after 0..N tokens, for the two halves of the samples, `[2, N + 1, V]`."""
    import torch

    draw = rng.torch(str(model.device.type))
    half = samples // 2
    rows = []
    with torch.no_grad():
        cache = new_cache(model)
        ids = torch.tensor([list(prompt)], device=model.device)
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1]
        cache = select_rows(cache, torch.zeros(samples, dtype=torch.long, device=model.device))
        logits = logits.expand(samples, -1)
        for n in range(steps + 1):
            p = torch.softmax(logits.float() / temperature, -1)
            rows.append(torch.stack([p[:half].double().mean(0), p[half:].double().mean(0)]).cpu().numpy())
            if n < steps:
                tokens = torch.multinomial(p, 1, generator=draw)
                logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
    return np.stack(rows, 1)
