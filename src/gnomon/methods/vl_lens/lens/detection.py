"""Objects in a caption that the image tokens do not support."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gnomon.core.metrics.classify import average_precision
from gnomon.core.metrics.ranking import auc
from gnomon.core.models import ModelHandle, as_handle
from gnomon.errors import BadInput
from gnomon.methods.vl_lens.captions.captions import Writing, describe, probability_of, token_probabilities
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.lens.lens import Reading, lens

SCORES = ("confidence", "probability", "probability_mean")
"""Scores of a mention: lower means more likely hallucinated."""


@dataclass(frozen=True)
class Finding:
    """One mention of an object in a caption, or one object of a list."""

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


@dataclass(frozen=True)
class Detection:
    """How unsupported objects are detected."""

    vocabulary: Vocabulary | None = None
    """The words for objects; None: those of COCO."""
    threshold: float = 0.1
    """Internal confidence below which an object is not supported, 0..1."""
    writing: Writing = field(default_factory=Writing)
    """How captions are generated; its batch size holds for the lens as well."""
    reading: Reading = field(default_factory=Reading)
    """How image tokens are read."""


def detect(
    model: Any,
    images: Sequence[Any],
    captions: Sequence[str] | None = None,
    objects: Sequence[str] | None = None,
    how: Detection | None = None,
    *,
    prompt: str = "Write a detailed description.",
    processor: Any = None,
) -> list[list[Finding]]:
    """For each image, which of the mentioned objects its tokens support.

    Args:
        model: a handle, or a transformers model with its processor beside it.
        images: PIL images or paths.
        captions: one per image; None has the model write them.
        objects: look for these in every image instead of reading a caption.
        how: vocabulary, threshold, writing and reading; None: the defaults.
        prompt: the question about the image.
        processor: of a plain transformers model.

    Returns:
        Per image one finding per mention in the caption's order, or per object of `objects`.

    Raises:
        BadInput: not one caption per image.

    Source: section 5.1 (hallucination detection).
    """
    handle, how = as_handle(model, processor), how or Detection()
    vocabulary, size = how.vocabulary or Vocabulary.read(), how.writing.batch_size
    if objects is not None:
        names = list(dict.fromkeys(objects))
        confidence = confidences(handle, images, prompt, names, how.reading, size)
        return [
            [Finding(name, name, row[name], None, None, row[name] >= how.threshold) for name in names]
            for row in confidence
        ]
    if captions is None:
        captions = describe(handle, images, prompt, how.writing)
    if len(captions) != len(images):
        raise BadInput(f"{len(images)} images need as many captions; got {len(captions)}.")
    mentions = [vocabulary.mentions(caption) for caption in captions]
    names = list(dict.fromkeys(mention.object for row in mentions for mention in row))
    confidence = confidences(handle, images, prompt, names, how.reading, size)
    tokens = token_probabilities(handle, images, prompt, captions, batch_size=size)
    findings: list[list[Finding]] = []
    for i, row in enumerate(mentions):
        findings.append([])
        for mention in row:
            first, mean = probability_of(tokens[i], mention.start, mention.end)
            sure = confidence[i][mention.object]
            word = captions[i][mention.start : mention.end]
            findings[-1].append(Finding(mention.object, word, sure, first, mean, sure >= how.threshold))
    return findings


def confidences(
    handle: ModelHandle,
    images: Sequence[Any],
    prompt: str,
    names: Sequence[str],
    reading: Reading | None = None,
    batch_size: int = 8,
) -> list[dict[str, float]]:
    """For each image, the internal confidence of each name; no forward pass where there is no name."""
    if not names:
        return [{} for _ in images]
    reading = replace(reading or Reading(), tops=0)  # the likeliest words are not shown
    read = lens(handle, images, prompt, names, reading, batch_size=batch_size).confidence
    return [dict(zip(names, map(float, row), strict=True)) for row in read]


def score(findings: Sequence[Finding], is_hallucinated: Sequence[bool]) -> dict[str, dict[str, float]]:
    """Average precision and AUC of each score, on hallucinated mentions.

    Args:
        findings: mentions, of any number of images.
        is_hallucinated: the truth about each.

    Returns:
        Score -> `ap` (average precision, hallucinated positive) and `auc` (area under the ROC curve); NaN where mentions of one
        kind are missing.
    """
    labels = np.asarray(is_hallucinated, int)
    figures = {}
    for name in SCORES:
        values = [-getattr(finding, name) for finding in findings]
        area = auc(labels, values)
        figures[name] = {
            "ap": average_precision(labels, values) if len(labels) else float("nan"),
            "auc": float("nan") if area is None else area,
        }
    return figures


def truth_of(findings: Sequence[Finding], there: Collection[str]) -> list[bool]:
    """For each mention of an image whether it is hallucinated, by what is in the image."""
    return [finding.object not in there for finding in findings]
