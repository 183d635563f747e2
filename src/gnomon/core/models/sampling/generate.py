"""Sampling from a causal or sequence-to-sequence model: batched, seeded per row, with the log-probability of every token.

Each completion draws from a random stream of its own, named by its prompt and sample index. It therefore does
not depend on the batch size, on the other prompts or on their order, and a job that is taken up again with
the prompts still missing gives what the uninterrupted one would have given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from gnomon.core.models.images.seen import SeenText
from gnomon.core.models.reading import say_ignored
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.models.sampling.decoding import Decoding, read_prompts
from gnomon.core.models.sampling.sampler import Row, Sampler, Watch
from gnomon.core.models.sampling.text import StopFinder, completion_text, decode, encode_prompts, padding_id
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
    """Log-probability (nats) of each token under the model itself: temperature 1, no top-p, no top-k. Where the probability with
    which it was drawn is needed, it has to be worked out from logits."""
    finish: str
    """Why it ended: `"eos"`, `"stop"` (a stop text), `"watch"` or `"length"` (no room for more)."""
    logits: tuple[float, ...] = ()
    """Raw logit of each token, before temperature."""


Read = Callable[[Sequence[Sequence[int]], Sequence[int]], Decoding]
"""(prompts as token ids, which prompt of the call each is) -> the prompts, read by the model."""

More = Callable[[int, list[Completion]], int]
"""(number of a prompt, its completions so far) -> how many further samples it gets."""


@dataclass(frozen=True)
class Reader:
    """How prompts are read; by default texts alone, each whole."""

    read: Read | None = None
    seen: Sequence[SeenText] | None = None
    """The prompts with their images, processed; None where they have none."""


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Sequence[int]],
    gen: GenConfig,
    *,
    generator: Rng | Sequence[Rng],
    reader: Reader | None = None,
    watch: Watch | None = None,
    more: More | None = None,
) -> list[list[Completion]]:
    """`gen.n` completions of each prompt, or more where more are wanted, in the order of `prompts`.

    Prompts of similar length share a batch, padded on the left; a prompt's keys and values are computed once
    and repeated for its samples.

    Args:
        model: a transformers model that writes text.
        tokenizer: its tokenizer.
        prompts: texts, encoded as the tokenizer does by default, or token ids, taken as they are.
        gen: how to sample.
        generator: names the random streams; unused at temperature 0. One for all prompts, of which equal ones then differ;
            or one per prompt, and each gets what it would get alone with its own.
        reader: how the model reads prompts; None reads texts alone.
        watch: called after each token of a batch; may end rows.
        more: asked when all rows of a prompt have ended, and again after those that it wanted; 0 ends the prompt. Sample k is
            the same text whether it was drawn at once or on demand. The next samples of all prompts share batches.

    Raises:
        BadInput: a prompt is empty or fills all positions of the model; not one generator per prompt; `more` gave no whole number
            from 0.
        ModelMismatch: the model writes no text.
    """
    reader = reader or Reader()
    if model.get_output_embeddings() is None:
        raise ModelMismatch(f"{type(model).__name__} has no output embedding and writes no text.")
    read, seen = reader.read or partial(read_prompts, model, pad_id=padding_id(tokenizer)), reader.seen
    continues = not model.config.is_encoder_decoder
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    encoded = encode_prompts(tokenizer, [text.ids for text in seen] if seen else prompts, positions)
    stops = StopFinder(tokenizer, gen.stop, model.config.get_text_config().vocab_size)
    ends = _end_ids(model, tokenizer)
    say_ignored(model, gen)
    limits = [_limit(gen, positions, len(prompt) if continues else 1) for prompt in encoded]
    streams = _streams(encoded, seen, generator)
    texts = [prompt if isinstance(prompt, str) else decode(tokenizer, prompt) for prompt in prompts]
    completions: list[list[Completion]] = [[] for _ in encoded]
    wanted = [gen.n] * len(encoded)
    was_training = model.training
    model.eval()
    try:
        while any(wanted):
            rows = [
                [
                    Row((i, k), encoded[i], limits[i], streams[i].child("sample", k))
                    for k in range(len(completions[i]), len(completions[i]) + count)
                ]
                for i, count in enumerate(wanted)
                if count
            ]
            for group in _plan_groups(rows, gen):
                prefix = read(
                    [samples[0].prompt for samples in group], [samples[0].key[0] for samples in group]
                )
                flat = [(i, row) for i, samples in enumerate(group) for row in samples]
                for start in range(0, len(flat), gen.batch_size):
                    sources, part = zip(*flat[start : start + gen.batch_size], strict=True)
                    Sampler(prefix, sources, part, gen, stops, ends, watch).run()
            for row in (row for samples in rows for row in samples):
                done = stops.strip(completion_text(tokenizer, row.prompt if continues else [], row.token_ids))
                tokens = tuple(row.token_ids), tuple(row.logprobs)
                completions[row.key[0]].append(
                    Completion(texts[row.key[0]], done, *tokens, row.finish, tuple(row.logits))
                )
            wanted = [
                _asked_for(more, i, completions[i]) if more and count else 0 for i, count in enumerate(wanted)
            ]
    finally:
        model.train(was_training)
    return completions


def _asked_for(more: More, number: int, completions: list[Completion]) -> int:
    count = more(number, list(completions))
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise BadInput(f"more gave {count!r} for prompt {number}; wanted a whole number of samples, from 0.")
    return count


def _streams(
    encoded: list[list[int]], seen: Sequence[SeenText] | None, generator: Rng | Sequence[Rng]
) -> list[Rng]:
    """The random stream of each prompt; under one generator equal prompts are told apart by how many came before."""
    shown = [text.fingerprint() for text in seen] if seen else [()] * len(encoded)
    if not isinstance(generator, Rng):
        if len(generator) != len(encoded):
            raise BadInput(f"{len(encoded)} prompts need as many generators; got {len(generator)}.")
        named = zip(generator, encoded, shown, strict=True)
        return [rng.child(*prompt, *mark, "repeat", 0) for rng, prompt, mark in named]
    before: Counter[tuple[int | str, ...]] = Counter()
    streams = []
    for prompt, mark in zip(encoded, shown, strict=True):
        streams.append(generator.child(*prompt, *mark, "repeat", before[*prompt, *mark]))
        before[*prompt, *mark] += 1
    return streams


def _limit(gen: GenConfig, positions: int | None, used: int) -> int:
    """The most tokens that may be written where so many positions are used already."""
    return gen.max_new_tokens if positions is None else min(gen.max_new_tokens, positions - used)


def _plan_groups(rows: list[list[Row]], gen: GenConfig) -> Iterator[list[list[Row]]]:
    """Prompts of similar length, as many together as fill a batch, at least one."""
    group: list[list[Row]] = []
    for samples in sorted(rows, key=lambda samples: len(samples[0].prompt)):
        if group and sum(map(len, group)) + len(samples) > gen.batch_size:
            yield group
            group = []
        group.append(samples)
    if group:
        yield group


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that end a text: the tokenizer's and those the checkpoint names for generation."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = set(named) if isinstance(named, list) else {named}
    return {i for i in (*ids, tokenizer.eos_token_id) if i is not None}
