"""Sizes of the miniature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelScale:
    """The trained task model and its task."""

    steps: int
    """Of training."""
    batch_size: int
    hidden: int
    layers: int
    heads: int
    lr: float
    rows: tuple[int, int, int]
    """Of train, dev and test."""
    search_steps: int
    fewest: int = 4
    """Facts of the shortest notes."""
    most: int = 4
    """Facts of the longest."""
    lengths: int = 2
    """How many lengths of summaries it learns."""
    positions: int = 512
    max_tokens: int = 120
    """Longest summary."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    worlds: int
    """Simulated tasks; what a seed is to claims on simulated models."""
    rows: tuple[int, int, int]
    """Of train, dev and test."""
    steps: int
    """Of the main searches."""
    dose_steps: int
    """Of searches with other critics, of postscripts and of key phrases."""
    model: ModelScale


SCALES = {
    "smoke": Scale(2, (6, 6, 6), 5, 5, ModelScale(2, 4, 32, 2, 2, 3e-3, (4, 4, 4), 1, max_tokens=8)),
    "mini": Scale(10, (50, 50, 100), 20, 10, ModelScale(560, 16, 96, 3, 4, 3e-3, (40, 40, 100), 8)),
    "gpu": Scale(
        10,
        (50, 50, 100),
        20,
        10,
        ModelScale(
            4000,
            256,
            640,
            10,
            10,
            6e-4,
            (1000, 500, 500),
            8,
            6,
            8,
            4,
            1024,
            200,
            precision="bf16",
            device="cuda",
        ),
    ),
}
