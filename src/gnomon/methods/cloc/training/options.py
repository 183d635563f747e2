"""How a Prompter is built, and what regions add to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnomon.core.config import check


@dataclass(frozen=True)
class Shape:
    """How a Prompter is built; a trained one keeps its shape."""

    pool: Literal["prompt", "all"] = "prompt"
    """What is averaged: the prompt's own tokens, fast and better; or all of them, as the paper reads."""
    corners: Literal["two", "one"] = "two"
    """Prompt tokens of a box: one for each of two corners, or one for both."""
    class_token: bool = False
    """Whether CLIP's class token stands among the image's tokens."""
    heads: int = 1
    """Attention heads; the paper's is one."""

    def __post_init__(self) -> None:
        check(self.pool in ("prompt", "all"), "pool", "prompt or all", self.pool)
        check(self.corners in ("two", "one"), "corners", "two or one", self.corners)
        check(self.heads >= 1, "heads", ">= 1", self.heads)


@dataclass(frozen=True)
class RegionLoss:
    """What regions add to the loss."""

    regions: int = 4
    """Drawn of each image and step; an image with fewer gives what it has."""
    weight: float = 1.0
    """Of the region terms, times the share of images in the batch that have regions."""
    text_filter: float | None = 0.9
    """Cosine of two texts above which they are no negatives of each other; None: no filter."""
    filter_after: int = 0
    """Steps before the filter begins: a text tower that is untrained takes all texts for one."""
    grounding: bool = True
    """Whether boxes are predicted from phrases."""

    def __post_init__(self) -> None:
        check(self.regions >= 1, "regions", ">= 1", self.regions)
        check(self.filter_after >= 0, "filter_after", ">= 0", self.filter_after)
        check(self.weight >= 0, "weight", ">= 0", self.weight)
        is_cosine = self.text_filter is None or -1 <= self.text_filter <= 1
        check(is_cosine, "text_filter", "within [-1, 1] or None", self.text_filter)
