"""One table for a model: its Prompter, the rivals that pool tokens, crop-and-encode, and the controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.rng import Rng
from gnomon.core.vision.frames import Frame
from gnomon.core.vision.rows import pictures_of
from gnomon.errors import BadInput
from gnomon.methods.cloc.evaluation.measures import box_quality, class_mean, first_hits, predictions, recalls
from gnomon.methods.cloc.regions.model import ClocModel
from gnomon.methods.cloc.regions.pooling import box_mean, roi_align
from gnomon.methods.cloc.regions.towers import unit
from gnomon.methods.cloc.training.training import Labelled


@dataclass
class Encoded:
    """Images of a test set, each encoded once."""

    tokens: list[Float[torch.Tensor, "T d"]]
    frames: list[Frame]
    embeds: Float[np.ndarray, "N D"]
    captions: Float[np.ndarray, "N D"]
    boxes: list[Float[np.ndarray, "k 4"]]
    """Of each image, in pixels."""
    texts: list[str]
    """Of all regions, image by image."""
    image_of: list[int]


@dataclass(frozen=True)
class Table:
    """What an evaluation comes to."""

    rows: list[dict[str, Any]]
    """Arms and controls: accuracy with its interval over images, class mean, retrieval."""
    grounding: list[dict[str, Any]]
    """Boxes of phrases, and the mean box; empty where there is no Prompter."""
    images: tuple[float, float]
    """R@1 of whole images and captions, both ways."""
    n_regions: int
    n_ambiguous: int
    """Phrases with several instances on their image, which grounding leaves out."""
    threshold: float | None
    """Cosine below which a phrase is not there, chosen on half of the images; None: too few."""


def encode(
    model: ClocModel,
    items: Sequence[Labelled],
    *,
    batch_size: int = 16,
    on_image: Callable[[int], None] = lambda n: None,
) -> Encoded:
    """Encode a test set.

    Raises:
        BadInput: no image has a region with a text.
    """
    if not any(item.regions for item in items):
        raise BadInput("No image has a region with a text; give --regions.")
    tokens, frames, embeds = [], [], []
    for start in range(0, len(items), batch_size):
        some = items[start : start + batch_size]
        image = model.encode_image(pictures_of([item.row for item in some]))
        tokens += list(image.tokens)
        frames += image.frames
        embeds.append(image.embeds)
        on_image(len(some))
    captions = model.encode_text([item.caption for item in items])
    boxes = [np.array([region.box for region in item.regions], np.float64).reshape(-1, 4) for item in items]
    texts = [str(region.text) for item in items for region in item.regions]
    image_of = [i for i, item in enumerate(items) for _ in item.regions]
    return Encoded(tokens, frames, _array(torch.cat(embeds)), _array(captions), boxes, texts, image_of)


@torch.no_grad()
def pooled(model: ClocModel, encoded: Encoded, boxes: Sequence[Any], how: str) -> Float[np.ndarray, "R D"]:
    """Unit embeddings of boxes by the Prompter (`prompter`), or by pooled tokens (`roi`, `mean`) through the image projection."""
    rows = []
    projection = getattr(model.model, "visual_projection", None)
    for tokens, frame, own in zip(encoded.tokens, encoded.frames, boxes, strict=True):
        if not len(own):
            continue
        shares = model.shares(frame, own, tokens)
        if how == "prompter":
            rows.append(model.prompter(model.prompter.box_prompts(shares)[None], tokens[None])[0])
            continue
        patches = tokens[model.towers.n_extra if model.prompter.shape.class_token else 0 :]
        first = torch.zeros(len(shares), dtype=torch.long, device=tokens.device)
        states = (roi_align if how == "roi" else box_mean)(patches[None], shares, first)
        rows.append(states if projection is None else projection(states))
    return _array(unit(torch.cat(rows)))


def cropped(model: ClocModel, items: Sequence[Labelled], batch_size: int = 32) -> Float[np.ndarray, "R D"]:
    """Each box cut out and encoded as an image of its own: the strongest way, and the dearest."""
    crops = []
    for item in items:
        if not item.regions:
            continue
        (picture,) = pictures_of([item.row])
        for region in item.regions:
            left, top, right, bottom = (round(n) for n in region.box)
            crops.append(picture.crop((left, top, max(right, left + 1), max(bottom, top + 1))))
    rows = [
        model.encode_image(crops[start : start + batch_size]).embeds
        for start in range(0, len(crops), batch_size)
    ]
    return _array(torch.cat(rows))


def evaluate(
    model: ClocModel,
    items: Sequence[Labelled],
    encoded: Encoded,
    rng: Rng,
    *,
    has_prompter: bool,
    crops: bool,
) -> Table:
    """All arms on a test set.

    Args:
        model: what is measured.
        items: the test set.
        encoded: the same, encoded.
        rng: where boxes are shuffled.
        has_prompter: whether the Prompter was trained; a fresh one is left out.
        crops: whether boxes are cut out and encoded too.
    """
    names = sorted(set(encoded.texts))
    classes = _array(model.encode_text(names))
    texts = _array(model.encode_text(encoded.texts))
    shuffled = _shuffled(encoded, rng)
    rows = []
    for name, how in (("Prompter", "prompter"), ("RoI-Align", "roi"), ("mean of tokens in the box", "mean")):
        if how == "prompter" and not has_prompter:
            continue
        regions = pooled(model, encoded, encoded.boxes, how)
        control = pooled(model, encoded, shuffled, how)
        row = _row(name, regions, texts, classes, names, encoded)
        guesses = predictions(control, classes, names)
        row["accuracy, shuffled boxes"] = float(
            np.mean([a == b for a, b in zip(guesses, encoded.texts, strict=True)])
        )
        rows.append(row)
    if crops:
        rows.append(_row("crop and encode", cropped(model, items), texts, classes, names, encoded))
    whole = encoded.embeds[encoded.image_of]
    rows.append(_row("the whole image", whole, texts, classes, names, encoded))
    commonest = Counter(encoded.texts).most_common(1)[0][0]
    rows.append(
        _scored("the commonest text", [commonest] * len(encoded.texts), encoded) | {"r2t strict": None}
    )
    grounding, n_ambiguous, threshold = _grounded(model, items) if has_prompter else ([], 0, None)
    return Table(
        rows,
        grounding,
        first_hits(encoded.embeds, encoded.captions),
        len(encoded.texts),
        n_ambiguous,
        threshold,
    )


def _row(
    name: str, regions: Any, texts: Any, classes: Any, names: Sequence[str], encoded: Encoded
) -> dict[str, Any]:
    return _scored(name, predictions(regions, classes, names), encoded) | recalls(
        regions, texts, encoded.texts
    )


def _scored(name: str, guesses: Sequence[str], encoded: Encoded) -> dict[str, Any]:
    right = np.array([a == b for a, b in zip(guesses, encoded.texts, strict=True)], float)
    by_image = [right[np.asarray(encoded.image_of) == i].mean() for i in sorted(set(encoded.image_of))]
    interval = mean_interval(by_image) if len(by_image) > 1 else None
    return {
        "regions by": name, "accuracy": float(right.mean()),
        "by image": None if interval is None else (interval.estimate, interval.low, interval.high),
        "mAcc": class_mean(encoded.texts, guesses),
    }  # fmt: skip


def _shuffled(encoded: Encoded, rng: Rng) -> list[Any]:
    """Boxes of other regions, in shares of the image: what an arm that ignores its box does not mind."""
    shares = [
        box / np.array([*frame.size, *frame.size])
        for own, frame in zip(encoded.boxes, encoded.frames, strict=True) for box in own
    ]  # fmt: skip
    order = iter(rng.child("boxes").numpy().permutation(len(shares)).tolist())
    return [
        np.array([shares[next(order)] * np.array([*frame.size, *frame.size]) for _ in own]).reshape(-1, 4)
        for own, frame in zip(encoded.boxes, encoded.frames, strict=True)
    ]


def _grounded(model: ClocModel, items: Sequence[Labelled]) -> tuple[list[dict[str, Any]], int, float | None]:
    """Boxes of the phrases that have one instance on their image, against the mean box, and a threshold for what is not there."""
    truth, boxes, sizes, n_ambiguous = [], [], [], 0
    scores: list[tuple[float, bool]] = []
    everything = sorted({str(r.text) for item in items for r in item.regions})
    for number, item in enumerate(items):
        counts = Counter(str(region.text) for region in item.regions)
        single = [region for region in item.regions if counts[str(region.text)] == 1]
        n_ambiguous += len(item.regions) - len(single)
        absent = [text for text in everything if text not in counts]
        image = model.encode_image(pictures_of([item.row]))
        other = absent[number % len(absent)] if absent else None
        phrases = [str(region.text) for region in single] + ([other] if other else [])
        results = model.ground(image, [phrases])[0]
        size = image.frames[0].size
        for region, result in zip(single, results[: len(single)], strict=True):
            truth.append(region.box)
            boxes.append(result.box)
            sizes.append([*size, *size])
            scores.append((result.score, True))
        if other:
            scores.append((results[-1].score, False))
    if not truth:
        return [], n_ambiguous, None
    whole = np.array(sizes, np.float64)
    mean_boxes = (np.array(truth) / whole).mean(0) * whole
    rows = []
    for name, guess in (("Prompter", np.array(boxes)), ("the mean box", mean_boxes)):
        overlap, share = box_quality(guess, np.array(truth))
        rows.append({"boxes by": name, "mean IoU": overlap, "IoU >= .5": share, "phrases": len(truth)})
    return rows, n_ambiguous, _threshold(scores[::2])


def _threshold(scores: Sequence[tuple[float, bool]]) -> float | None:
    """The cosine that tells phrases that are there from others best, by the mean of both shares that are right."""
    there, absent = ([s for s, is_there in scores if is_there == wanted] for wanted in (True, False))
    if len(there) < 5 or len(absent) < 5:
        return None
    candidates = sorted({*there, *absent})
    return max(candidates, key=lambda t: np.mean([s >= t for s in there]) + np.mean([s < t for s in absent]))


def _array(rows: torch.Tensor) -> Float[np.ndarray, "N D"]:
    values: Float[np.ndarray, "N D"] = rows.detach().double().cpu().numpy()
    return values
