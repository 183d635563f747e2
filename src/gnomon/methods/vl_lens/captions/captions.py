"""Captions of images by a model, and the probability of every token of a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gnomon.core.models import GenConfig, ModelHandle
from gnomon.core.models.images import SeenText
from gnomon.core.models.sampling.text import completion_text
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

_WRITTEN = {"token_type_ids": 1, "mm_token_type_ids": 0}
"""Per-token inputs of processors -> their value for generated text."""


@dataclass(frozen=True)
class Writing:
    """How captions are generated, without sampling."""

    beams: int = 5
    """Beams of the search, one image after another; 1 takes the likeliest token at every step, many images at once."""
    max_new_tokens: int = 512
    """Longest caption in tokens."""
    batch_size: int = 8
    """Images at once."""


@torch.no_grad()
def describe(
    handle: ModelHandle, images: Sequence[Any], prompt: str, writing: Writing | None = None
) -> list[str]:
    """A caption of each image, without sampling.

    Args:
        handle: a vision-language model.
        images: PIL images or paths.
        prompt: the question about the image; put into the model's own form.
        writing: beams, length and batch size; None: the paper's.
    """
    if not images:
        return []
    writing, question = writing or Writing(), handle.prompt(prompt)
    if writing.beams == 1:
        gen = GenConfig(max_new_tokens=writing.max_new_tokens, temperature=0, batch_size=writing.batch_size)
        written = handle.generate([question] * len(images), gen, generator=Rng(0), images=images)
        return [completions[0].text.strip() for completions in written]
    return [_by_beams(handle, image, question, writing) for image in images]


def _by_beams(handle: ModelHandle, image: Any, question: str, writing: Writing) -> str:
    batch = handle.encode([question], images=[image])
    model: Any = handle.model
    ids = model.generate(
        **batch.inputs(handle.kind, handle.model),
        num_beams=writing.beams,
        do_sample=False,
        max_new_tokens=writing.max_new_tokens,
        pad_token_id=handle.tokenizer.pad_token_id,
    )[0].tolist()
    read = batch.input_ids[0].tolist()
    # Models that are given vectors for their images return the new tokens alone.
    new = ids[len(read) :] if ids[: len(read)] == read else ids
    return completion_text(handle.tokenizer, read, new).strip()


def token_probabilities(
    handle: ModelHandle, images: Sequence[Any], prompt: str, captions: Sequence[str], *, batch_size: int = 8
) -> list[list[tuple[int, int, float]]]:
    """For each caption its tokens: first character, first character behind, and the probability that the model gives it.

    Args:
        handle: a vision-language model.
        images: one per caption.
        prompt: the question about the images.
        captions: the model's own, or of other origin.
        batch_size: captions at once.

    Raises:
        ModelMismatch: the tokenizer does not say where its tokens lie.
    """
    question = handle.prompt(prompt)
    tokens = []
    for start in range(0, len(captions), batch_size):
        part = slice(start, start + batch_size)
        spans = [_spans(handle.tokenizer, question, caption) for caption in captions[part]]
        seen = handle.see([question] * len(spans), images[part])
        batch = handle.gather(
            [_continued(text, [i for i, *_ in row]) for text, row in zip(seen, spans, strict=True)]
        )
        logprobs = handle.logprobs(batch)
        for i, (text, row) in enumerate(zip(seen, spans, strict=True)):
            values = logprobs[i][batch.mask[i]][len(text.ids) :].exp().tolist()
            tokens.append([(first, behind, p) for (_, first, behind), p in zip(row, values, strict=True)])
    return tokens


def _spans(tokenizer: Any, question: str, caption: str) -> list[tuple[int, int, int]]:
    """The tokens of a caption as they are written behind the question: id, first character, first character behind."""
    if not tokenizer.is_fast:
        raise ModelMismatch(
            f"{type(tokenizer).__name__} does not say where its tokens lie in a text. Load the fast tokenizer of this model."
        )
    head = question if question[-1:].isspace() else f"{question} "
    read = tokenizer(head + caption, add_special_tokens=False, return_offsets_mapping=True)
    places = zip(read["input_ids"], read["offset_mapping"], strict=True)
    return [(i, max(a - len(head), 0), b - len(head)) for i, (a, b) in places if b > len(head)]


def _continued(seen: SeenText, ids: list[int]) -> SeenText:
    """A question that was processed with its image, and more tokens that are text."""
    # Per-token inputs grow with the text; pixels and the like stay as they are.
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
