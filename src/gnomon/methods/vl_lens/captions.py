"""Captions: what a model writes about images, and how sure it was of every word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gnomon.core.models import GenConfig, ModelHandle
from gnomon.core.models.text import completion_text
from gnomon.core.rng import Rng
from gnomon.errors import BadInput


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
    """
    asked = handle.prompt(prompt)
    between = "" if asked[-1:].isspace() else " "
    found = []
    for start in range(0, len(captions), batch_size):
        part = slice(start, start + batch_size)
        before = handle.encode([asked] * len(captions[part]), images=images[part])
        texts = [f"{asked}{between}{caption}" for caption in captions[part]]
        batch = handle.encode(texts, images=images[part])
        logprobs = handle.logprobs(batch)
        for i, caption in enumerate(captions[part]):
            head, ids = (
                before.input_ids[i][before.mask[i]].tolist(),
                batch.input_ids[i][batch.mask[i]].tolist(),
            )
            known = next((k for k, (a, b) in enumerate(zip(head, ids, strict=False)) if a != b), len(head))
            values = logprobs[i][batch.mask[i]][known:].exp().tolist()
            ends = _ends(handle, ids[:known], ids[known:], caption)
            found.append(list(zip([0, *ends[:-1]], ends, values, strict=True)) if ends else [])
    return found


def _ends(handle: ModelHandle, before: list[int], ids: list[int], caption: str) -> list[int]:
    """For each token how many characters of the caption are written when it is."""
    written = [completion_text(handle.tokenizer, before, ids[: k + 1]) for k in range(len(ids))]
    lead = len(written[-1]) - len(written[-1].lstrip()) if written else 0
    return [min(max(len(text) - lead, 0), len(caption)) for text in written]


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
