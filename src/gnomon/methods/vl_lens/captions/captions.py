"""Captions: what a model writes about images, and how sure it was of every word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gnomon.core.models import GenConfig, ModelHandle
from gnomon.core.models.images import SeenText
from gnomon.core.models.sampling.text import completion_text
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

_WRITTEN = {"token_type_ids": 1, "mm_token_type_ids": 0}
"""What processors say about every token -> its value for text that the model writes."""


@torch.no_grad()
def describe(
    handle: ModelHandle,
    images: Sequence[Any],
    prompt: str,
    *,
    beams: int = 5,
    max_new_tokens: int = 512,
    batch_size: int = 8,
) -> list[str]:
    """A caption of each image, without sampling.

    Args:
        handle: a vision-language model.
        images: PIL images or paths.
        prompt: what is asked; goes into the model's own form of a question.
        beams: beams of the search, one image after another; 1 takes the likeliest token at every step, many images at once.
        max_new_tokens: longest caption.
        batch_size: images at once.
    """
    if not images:
        return []
    asked = handle.prompt(prompt)
    if beams == 1:
        gen = GenConfig(max_new_tokens=max_new_tokens, temperature=0, batch_size=batch_size)
        written = handle.generate([asked] * len(images), gen, generator=Rng(0), images=images)
        return [completions[0].text.strip() for completions in written]
    return [_searched(handle, image, asked, beams, max_new_tokens) for image in images]


def _searched(handle: ModelHandle, image: Any, asked: str, beams: int, max_new_tokens: int) -> str:
    batch = handle.encode([asked], images=[image])
    model: Any = handle.model
    found = model.generate(
        **batch.inputs(handle.kind),
        num_beams=beams,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=handle.tokenizer.pad_token_id,
    )[0].tolist()
    read = batch.input_ids[0].tolist()
    # Models that are given vectors for their images return the new tokens alone.
    new = found[len(read) :] if found[: len(read)] == read else found
    return completion_text(handle.tokenizer, read, new).strip()


def token_probabilities(
    handle: ModelHandle, images: Sequence[Any], prompt: str, captions: Sequence[str], *, batch_size: int = 8
) -> list[list[tuple[int, int, float]]]:
    """For each caption its tokens: first character, first character behind, and the probability that the model gives it.

    Args:
        handle: a vision-language model.
        images: one per caption.
        prompt: what was asked.
        captions: the model's own or anybody's.
        batch_size: captions at once.

    Raises:
        ModelMismatch: the tokenizer does not say where its tokens lie.
    """
    asked = handle.prompt(prompt)
    found = []
    for start in range(0, len(captions), batch_size):
        part = slice(start, start + batch_size)
        told = [_spans(handle.tokenizer, asked, caption) for caption in captions[part]]
        seen = handle.see([asked] * len(told), images[part])
        batch = handle.gather(
            [_continued(one, [i for i, *_ in row]) for one, row in zip(seen, told, strict=True)]
        )
        logprobs = handle.logprobs(batch)
        for i, (one, row) in enumerate(zip(seen, told, strict=True)):
            values = logprobs[i][batch.mask[i]][len(one.ids) :].exp().tolist()
            found.append([(first, behind, p) for (_, first, behind), p in zip(row, values, strict=True)])
    return found


def _spans(tokenizer: Any, asked: str, caption: str) -> list[tuple[int, int, int]]:
    """The tokens of a caption as they are written behind the question: id, first character, first character behind."""
    if not tokenizer.is_fast:
        raise ModelMismatch(
            f"{type(tokenizer).__name__} does not say where its tokens lie in a text. Load the fast tokenizer of this model."
        )
    head = asked if asked[-1:].isspace() else f"{asked} "
    read = tokenizer(head + caption, add_special_tokens=False, return_offsets_mapping=True)
    places = zip(read["input_ids"], read["offset_mapping"], strict=True)
    return [(i, max(a - len(head), 0), b - len(head)) for i, (a, b) in places if b > len(head)]


def _continued(seen: SeenText, ids: list[int]) -> SeenText:
    """A question that was processed with its image, and more tokens that are text."""
    pixels = {
        name: torch.nn.functional.pad(value, (0, len(ids)), value=_WRITTEN[name])
        if name in _WRITTEN
        else value
        for name, value in seen.pixels.items()
    }
    return SeenText([*seen.ids, *ids], pixels, seen.layouts)


def probability_of(tokens: Sequence[tuple[int, int, float]], start: int, end: int) -> tuple[float, float]:
    """The probability of the first token of caption[start:end], and the mean over all of its tokens.

    Raises:
        BadInput: no token lies there.

    >>> probability_of([(0, 1, 0.9), (1, 5, 0.5), (5, 6, 0.25), (6, 8, 0.1)], 2, 6)
    (0.5, 0.375)
    """
    inside = [p for first, behind, p in tokens if first < end and behind > start]
    if not inside:
        raise BadInput(f"No token of the caption lies between characters {start} and {end}.")
    return inside[0], sum(inside) / len(inside)
