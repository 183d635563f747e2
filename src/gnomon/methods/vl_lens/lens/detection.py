"""Objects in a caption that the image tokens do not support."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon.core.metrics.classify import average_precision
from gnomon.core.metrics.ranking import auc
from gnomon.core.models import ModelHandle, as_handle
from gnomon.errors import BadInput
from gnomon.methods.vl_lens.captions.captions import describe, probability_of, token_probabilities
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.lens.lens import lens

SCORES = ("confidence", "probability", "probability_mean")
"""What can tell a hallucinated mention: lower means more likely hallucinated."""


@dataclass(frozen=True)
class Finding:
    """One mention of an object, or one object that was asked for."""

    object: str
    """Its name in the vocabulary."""
    word: str
    """As the caption has it."""
    confidence: float
    """Internal confidence: the most that any image token at any layer gives to the object's name, 0..1."""
    probability: float | None
    """Probability that the model gave the word's first token when it wrote it; None without a caption."""
    probability_mean: float | None
    """The mean over the word's tokens."""
    is_supported: bool
    """Whether the confidence reaches the threshold."""


def detect(
    model: Any,
    images: Sequence[Any],
    captions: Sequence[str] | None = None,
    objects: Sequence[str] | None = None,
    *,
    processor: Any = None,
    prompt: str = "Write a detailed description.",
    vocabulary: Vocabulary | None = None,
    threshold: float = 0.1,
    beams: int = 5,
    max_new_tokens: int = 512,
    batch_size: int = 8,
    **reading: Any,
) -> list[list[Finding]]:
    """For each image, which of the mentioned objects its tokens support.

    Args:
        model: a handle, or a transformers model with its processor beside it.
        images: PIL images or paths.
        captions: one per image; None has the model write them.
        objects: look for these in every image instead of reading a caption.
        processor: of a plain transformers model.
        prompt: what is asked about the image.
        vocabulary: the words for objects; None for those of COCO.
        threshold: confidence below which an object is not supported.
        beams: beams of the search where captions are to be written.
        max_new_tokens: longest caption that is written.
        batch_size: images at once.
        reading: how image tokens are read; see `lens`.

    Returns:
        Per image one finding per mention in the caption's order, or per object asked for.

    Raises:
        BadInput: not one caption per image.
    """
    handle = as_handle(model, processor)
    vocabulary = vocabulary or Vocabulary.read()
    if objects is not None:
        names = list(dict.fromkeys(objects))
        confidence = confidences(handle, images, prompt, names, batch_size=batch_size, **reading)
        return [
            [Finding(name, name, row[name], None, None, row[name] >= threshold) for name in names]
            for row in confidence
        ]
    if captions is None:
        captions = describe(
            handle, images, prompt, beams=beams, max_new_tokens=max_new_tokens, batch_size=batch_size
        )
    if len(captions) != len(images):
        raise BadInput(f"{len(images)} images need as many captions; got {len(captions)}.")
    mentions = [vocabulary.mentions(caption) for caption in captions]
    names = list(dict.fromkeys(mention.object for row in mentions for mention in row))
    confidence = confidences(handle, images, prompt, names, batch_size=batch_size, **reading)
    tokens = token_probabilities(handle, images, prompt, captions, batch_size=batch_size)
    found: list[list[Finding]] = []
    for i, row in enumerate(mentions):
        found.append([])
        for mention in row:
            first, mean = probability_of(tokens[i], mention.start, mention.end)
            sure = confidence[i][mention.object]
            word = captions[i][mention.start : mention.end]
            found[-1].append(Finding(mention.object, word, sure, first, mean, sure >= threshold))
    return found


def confidences(
    handle: ModelHandle, images: Sequence[Any], prompt: str, names: Sequence[str], **reading: Any
) -> list[dict[str, float]]:
    """For each image, the internal confidence of each name; no forward pass where there is no name."""
    if not names:
        return [{} for _ in images]
    read = lens(handle, images, prompt, names, tops=0, **reading).confidence
    return [dict(zip(names, map(float, row), strict=True)) for row in read]


def score(findings: Sequence[Finding], is_hallucinated: Sequence[bool]) -> dict[str, dict[str, float]]:
    """How well each score tells hallucinated mentions.

    Args:
        findings: mentions, of any number of images.
        is_hallucinated: the truth about each.

    Returns:
        Score -> `ap` (average precision, hallucinated positive) and `auc` (area under the ROC curve); NaN where mentions of one
        kind are missing.
    """
    labels = np.asarray(is_hallucinated, int)
    found = {}
    for name in SCORES:
        values = [-getattr(finding, name) for finding in findings]
        area = auc(labels, values)
        found[name] = {
            "ap": average_precision(labels, values) if len(labels) else float("nan"),
            "auc": float("nan") if area is None else area,
        }
    return found


def truth_of(findings: Sequence[Finding], there: Collection[str]) -> list[bool]:
    """For each mention of an image whether it is hallucinated, by what is in the image."""
    return [finding.object not in there for finding in findings]
