"""How well two areas agree: masks pixel by pixel, boxes by their overlap, images by their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from gnomon.core.vision.boxes import iou as box_iou
from gnomon.errors import BadInput

Empty = Literal["leave out"] | float
"""What an image counts whose truth is empty: nothing, or a number where the prediction is empty too (0 else)."""


@dataclass(frozen=True)
class Counts:
    """Pixels of a prediction against the truth."""

    tp: int
    """True in both."""
    fp: int
    """In the prediction alone."""
    fn: int
    """In the truth alone."""
    tn: int
    """In neither."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is true."""
        return self.tp + self.fn == 0

    @property
    def iou(self) -> float:
        """Shared pixels over those of either; nan for two empty areas."""
        return _share(self.tp, self.tp + self.fp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, the Dice coefficient; nan for two empty areas."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """Share of the prediction that is true; nan for an empty one."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the truth that is predicted; nan for an empty one."""
        return _share(self.tp, self.tp + self.fn)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)


def counts(pred: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> Counts:
    """The pixels of a predicted mask against the true one.

    Raises:
        BadInput: they have different shapes, or are no masks.
    """
    if pred.shape != truth.shape or pred.dtype != bool or truth.dtype != bool:
        raise BadInput(
            f"Two masks of one shape are compared; got {pred.dtype} {list(pred.shape)} and {truth.dtype} {list(truth.shape)}."
        )
    tp = int((pred & truth).sum())
    fp, fn = int(pred.sum()) - tp, int(truth.sum()) - tp
    return Counts(tp, fp, fn, truth.size - tp - fp - fn)


@dataclass(frozen=True)
class Agreement:
    """A mean over images, and what it stands on."""

    iou: float
    """Mean over images."""
    f1: float
    """Mean over images."""
    images: int
    """That are counted."""
    left_out: int
    """Whose truth is empty and that are not."""
    pooled: Counts
    """The pixels of all images as one."""


def agreement(of_images: Iterable[Counts], *, empty: Empty) -> Agreement:
    """How well masks agree over images.

    The F1 of an image whose truth is empty is 0/0 where the prediction is empty too, and to count it as 0 halves a perfect result;
    so the caller says what it counts.

    Args:
        of_images: per image.
        empty: "leave out", or what two empty areas count, such as 1.0; a prediction where nothing is true then counts 0.

    Raises:
        BadInput: no image is left to be counted.
    """
    every = list(of_images)
    kept = [c for c in every if not c.is_empty or empty != "leave out"]
    if not kept:
        raise BadInput(
            f"None of {len(every)} images has a truth that is not empty: there is nothing to average."
        )

    def mean(name: str) -> float:
        values = [getattr(c, name) if c.tp + c.fp + c.fn else float(empty) for c in kept]
        return float(np.mean(values))

    pooled = Counts(0, 0, 0, 0)
    for one_image in kept:
        pooled += one_image
    return Agreement(mean("iou"), mean("f1"), len(kept), len(every) - len(kept), pooled)


def box_accuracy(
    pred: Float[np.ndarray, "N 4"], truth: Float[np.ndarray, "N 4"], level: float = 0.5
) -> float:
    """Share of boxes whose overlap with their truth, IoU, is at least `level`; pairs are row by row, by corners.

    Raises:
        BadInput: there are not as many of the one as of the other, or none.
    """
    if len(pred) != len(truth) or not len(truth):
        raise BadInput(f"{len(pred)} boxes against {len(truth)} true ones; pairs are compared.")
    # A prediction that is missing is a row of nan and overlaps with nothing.
    pairs = [float(np.nan_to_num(box_iou(p, t)[0, 0])) for p, t in zip(pred, truth, strict=True)]
    return float(np.mean([value >= level for value in pairs]))


def psnr(a: np.ndarray, b: np.ndarray, largest: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels: 10 log10(largest² / mean squared difference); infinite for equal images.

    Raises:
        BadInput: the shapes differ.
    """
    if a.shape != b.shape:
        raise BadInput(f"Images of shapes {list(a.shape)} and {list(b.shape)} are not compared.")
    error = float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(largest**2 / error))


def ssim(a: np.ndarray, b: np.ndarray, largest: float = 255.0, sigma: float = 1.5) -> float:
    """Structural similarity of two images [H, W] or [H, W, C], channels by themselves: 1 for equal ones.

    A Gaussian window of `sigma` pixels, cut at 3.5 of them; the mean over all pixels whose window lies on the image.

    Raises:
        BadInput: the shapes differ, or an image is smaller than the window.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, 2004, equation 13.
    """
    from scipy.ndimage import gaussian_filter

    if a.shape != b.shape or a.ndim not in (2, 3):
        raise BadInput(f"Images of shapes {list(a.shape)} and {list(b.shape)} are not compared.")
    reach = int(3.5 * sigma + 0.5)
    if min(a.shape[:2]) <= 2 * reach:
        raise BadInput(
            f"Images of {a.shape[0]} x {a.shape[1]} are smaller than the window of {2 * reach + 1} pixels."
        )
    x, y = (image.astype(np.float64).reshape(*image.shape[:2], -1) for image in (a, b))

    def smooth(values: np.ndarray) -> np.ndarray:
        blurred = gaussian_filter(values, (sigma, sigma, 0), truncate=3.5)
        return np.asarray(blurred[reach:-reach, reach:-reach])

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y, both = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2, smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * largest) ** 2, (0.03 * largest) ** 2
    similar = (
        (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    )
    return float(similar.mean())


def area_scores(scores: Sequence[np.ndarray], truth: Sequence[Bool[np.ndarray, "H W"]]) -> float:
    """Area under the ROC curve of pixels by their scores, over all images; scores, never a mask that was cut.

    Raises:
        BadInput: the scores have two values alone, or the truth has one.
    """
    from sklearn.metrics import roc_auc_score

    values, labels = np.concatenate([s.ravel() for s in scores]), np.concatenate([t.ravel() for t in truth])
    if len(np.unique(values)) < 3:
        raise BadInput(
            "Scores of two values are a mask, and the area under a curve wants scores. Give the map before it is cut."
        )
    if labels.all() or not labels.any():
        raise BadInput("All pixels are of one kind; the curve wants both.")
    return float(roc_auc_score(labels, values))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
