"""Sampling from a causal model: batched, seeded per row, with the log-probability of every token.

Each completion draws from a random stream of its own, named by its prompt and sample index. It therefore does
not depend on the batch size, on the other prompts or on their order, and a job that is taken up again with
the prompts still missing gives what the uninterrupted one would have given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gnomon.core.models.config import GenConfig
from gnomon.core.models.handle import unpack
from gnomon.core.models.sampler import Prefix, Progress, Row, Sampler, Watch
from gnomon.core.models.text import StopFinder, completion_text, decode, encode_prompts, padding_id
from gnomon.core.rng import Rng

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Completion", "GenConfig", "Progress", "Watch", "generate"]


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt."""

    prompt: str
    """The prompt as text."""
    text: str
    """The completion as text, without special tokens and without the stop text."""
    token_ids: tuple[int, ...]
    """Every sampled token, the end-of-text token and those of the stop text among them."""
    logprobs: tuple[float, ...]
    """Log-probability (nats) of each token under the model itself: temperature 1, no top-p."""
    finish: str
    """Why it ended: `"eos"`, `"stop"` (a stop text), `"watch"` or `"length"` (no room for more)."""


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    prompts: Sequence[str | Sequence[int]],
    gen: GenConfig,
    *,
    generator: Rng,
    watch: Watch | None = None,
) -> list[list[Completion]]:
    """`gen.n` completions of each prompt, in the order of `prompts`.

    Prompts of similar length share a batch, padded on the left; a prompt's keys and values are computed once
    and repeated for its samples.

    Args:
        model: a causal transformers model, or a `ModelHandle`.
        tokenizer: its tokenizer; `None` with a handle.
        prompts: texts, encoded as the tokenizer does by default, or token ids, taken as they are.
        gen: how to sample.
        generator: names the random streams; unused at temperature 0.
        watch: called after each token of a batch; may end rows.

    Raises:
        BadInput: a prompt is empty or fills all positions of the model.
    """
    model, tokenizer = unpack(model, tokenizer)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    encoded = encode_prompts(tokenizer, prompts, positions)
    stops = StopFinder(tokenizer, gen.stop, model.config.get_text_config().vocab_size)
    rows = _plan_rows(encoded, gen, positions, generator)
    was_training = model.training
    model.eval()
    try:
        for group in _plan_groups(rows, gen):
            prefix = Prefix(model, [samples[0].prompt for samples in group], padding_id(tokenizer))
            flat = [(i, row) for i, samples in enumerate(group) for row in samples]
            for start in range(0, len(flat), gen.batch_size):
                sources, part = zip(*flat[start : start + gen.batch_size], strict=True)
                Sampler(model, tokenizer, prefix, sources, part, gen, stops, watch).run()
    finally:
        model.train(was_training)
    texts = [prompt if isinstance(prompt, str) else decode(tokenizer, prompt) for prompt in prompts]
    return [
        [
            Completion(
                text,
                stops.strip(completion_text(tokenizer, row.prompt, row.token_ids)),
                tuple(row.token_ids),
                tuple(row.logprobs),
                row.finish,
            )
            for row in samples
        ]
        for text, samples in zip(texts, rows, strict=True)
    ]


def _plan_rows(
    encoded: list[list[int]], gen: GenConfig, positions: int | None, generator: Rng
) -> list[list[Row]]:
    """The rows of each prompt; equal prompts are told apart by how many came before."""
    seen: Counter[tuple[int, ...]] = Counter()
    plan = []
    for i, prompt in enumerate(encoded):
        stream = generator.child(*prompt, "repeat", seen[tuple(prompt)])
        seen[tuple(prompt)] += 1
        limit = gen.max_new_tokens if positions is None else min(gen.max_new_tokens, positions - len(prompt))
        plan.append([Row((i, k), prompt, limit, stream.child("sample", k)) for k in range(gen.n)])
    return plan


def _plan_groups(rows: list[list[Row]], gen: GenConfig) -> Iterator[list[list[Row]]]:
    """Prompts of similar length, as many together as fill a batch, at least one."""
    by_length = sorted(rows, key=lambda samples: len(samples[0].prompt))
    together = max(1, gen.batch_size // gen.n)
    for start in range(0, len(by_length), together):
        yield by_length[start : start + together]
