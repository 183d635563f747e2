"""A word's heat map as a mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from gnomon.errors import BadInput
from gnomon.methods.vl_lens.lens.lens import Reading, lens


def segment(
    model: Any,
    image: Any,
    word: str,
    threshold: str | float = "mean",
    reading: Reading | None = None,
    *,
    prompt: str = "Write a detailed description.",
    processor: Any = None,
) -> tuple[UInt8[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Where `word` is on `image`: a mask, 1 where it is, and the map it was cut from.

    Args:
        model: a handle, or a transformers model with its processor beside it.
        image: a PIL image or a path.
        word: what the mask is of.
        threshold: see `cut`.
        reading: how image tokens are read; None: the paper's.
        prompt: the question about the image.
        processor: of a plain transformers model.

    Returns:
        Both of the original image's size. Parts that no token sees are 0.

    Raises:
        BadInput: an image that cannot be read, an unknown word or threshold.
        ModelMismatch: the model's image tokens are no grid.
    """
    level(np.zeros(1), threshold)  # an unknown one is refused before anything is computed
    reading = replace(reading or Reading(), tops=0)  # the likeliest words are not shown
    read = lens(model, [image], prompt, [word], reading, processor=processor)
    heat, is_seen = read.spread(0, word)
    heat = np.where(is_seen, heat, 0.0)
    mask = is_seen & (heat > level(heat[is_seen], threshold))
    return mask.astype(np.uint8), heat


def level(values: Float[np.ndarray, " N"], threshold: str | float) -> float:
    """The value above which something belongs to the mask.

    Args:
        values: of the map, where it is seen.
        threshold: `"mean"`; `"otsu"`, which parts the values into two groups that differ most; a number in 0..1 taken as it is;
            or a quantile of the values such as `"q0.8"`.

    Raises:
        BadInput: none of these.
    """
    if isinstance(threshold, int | float) and 0 <= threshold <= 1:
        return float(threshold)
    if threshold == "mean":
        return float(values.mean())
    if threshold == "otsu":
        return otsu(values)
    if isinstance(threshold, str) and threshold.startswith("q"):
        try:
            return float(np.quantile(values, float(threshold[1:])))
        except ValueError:
            pass
    raise BadInput(
        f'threshold must be "mean", "otsu", a number in 0..1 or a quantile such as "q0.8"; got {threshold!r}.'
    )


def otsu(values: Float[np.ndarray, " N"]) -> float:
    """The largest value of the lower of the two groups whose means differ most, weighed by their sizes.

    Exact: every cut between two different values is tried.

    >>> otsu(np.array([0.1, 0.2, 0.8, 0.9]))
    0.2

    Source: Otsu, A threshold selection method from gray-level histograms, 1979.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    below = np.arange(1, len(ordered))
    is_cut = ordered[1:] > ordered[:-1]
    if not is_cut.any():
        return float(ordered[-1])
    sums = ordered.cumsum()
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(ordered) - below)
    # Variance between the two groups, up to a constant factor.
    between = below * (len(ordered) - below) * (high - low) ** 2
    return float(ordered[:-1][np.where(is_cut, between, -1.0).argmax()])
