"""Numbers of region embeddings: accuracy by class, retrieval of texts and regions, boxes of phrases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from gnomon.core.vision.boxes import iou

Array = NDArray[np.float64]


def class_mean(labels: Sequence[str], predicted: Sequence[str]) -> float:
    """Accuracy of each class that is present, and their mean (mAcc).

    >>> class_mean(["a", "a", "a", "b"], ["a", "a", "b", "a"])
    0.3333333333333333
    """
    right: Counter[str] = Counter()
    total = Counter(labels)
    for label, guess in zip(labels, predicted, strict=True):
        right[label] += label == guess
    return float(np.mean([right[label] / count for label, count in total.items()]))


def predictions(
    regions: Float[np.ndarray, "R D"], classes: Float[np.ndarray, "C D"], names: Sequence[str]
) -> list[str]:
    """The class of the largest cosine; vectors have length 1."""
    return [names[i] for i in (regions @ classes.T).argmax(1)]


def recalls(
    regions: Float[np.ndarray, "R D"], texts: Float[np.ndarray, "R D"], captions: Sequence[str], k: int = 10
) -> dict[str, float]:
    """Recall@k over all regions of a pool, from regions to texts and back.

    `strict` counts the own index alone, `equal` every caption that reads the same, of which a pool has many. Ties go against us.

    >>> eye = np.eye(3)
    >>> results = recalls(eye, eye[[1, 0, 2]], ["a", "a", "b"], 1)
    >>> results["r2t strict"], results["r2t equal"]
    (0.3333333333333333, 1.0)
    """
    scores = regions @ texts.T
    names = np.array(captions)
    same = names[:, None] == names[None]
    results = {}
    for way, table in (("r2t", scores), ("t2r", scores.T)):
        own = np.diagonal(table)
        # How many others are at least as near: the rank at worst.
        ahead = (table >= own[:, None]).sum(1) - 1
        best = np.where(same, table, -np.inf).max(1)
        ahead_of_equal = (np.where(same, -np.inf, table) >= best[:, None]).sum(1)
        results[f"{way} strict"] = float((ahead < k).mean())
        results[f"{way} equal"] = float((ahead_of_equal < k).mean())
    return results


def first_hits(images: Float[np.ndarray, "N D"], captions: Float[np.ndarray, "N D"]) -> tuple[float, float]:
    """R@1 of image to text and of text to image; equal captions count as one another's only where they are the own."""
    scores = images @ captions.T
    own = np.diagonal(scores)
    return float(((scores > own[:, None]).sum(1) == 0).mean()), float(
        ((scores > own[None]).sum(0) == 0).mean()
    )


def box_quality(boxes: Float[np.ndarray, "N 4"], truth: Float[np.ndarray, "N 4"]) -> tuple[float, float]:
    """Mean IoU and the share of boxes with an IoU of .5 and more, pair by pair."""
    if not len(truth):
        return float("nan"), float("nan")
    values = np.array([iou(a, b)[0, 0] for a, b in zip(boxes, truth, strict=True)])
    return float(values.mean()), float((values >= 0.5).mean())
