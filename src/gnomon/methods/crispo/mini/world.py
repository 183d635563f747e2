"""The miniature's worlds: a hidden house style, a writer with another one, and documents of both.

Sizes of the miniature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gnomon.core.rng import Rng
from gnomon.methods.crispo.examples.data import Example
from gnomon.methods.crispo.house import Document, Style, draw_documents, style_score
from gnomon.methods.crispo.scoring.metrics import Metric, metric_of, open_metrics

TAG = "summary"
PROMPT = f"Summarise the notes.\n<notes>\nINSERT_INPUT_HERE\n</notes>\nWrite the summary inside <{TAG}> and </{TAG}>."
"""The manual prompt."""
HINTED = PROMPT.replace("</notes>", "</notes>\nKey phrases: INSERT_KEYPHRASES_HERE")
"""The manual prompt with key phrases."""


@dataclass(frozen=True)
class World:
    """One task: what the house wants, what the writer does by itself, and texts."""

    style: Style
    """The house's."""
    default: Style
    """The writer's own."""
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    metric: Metric = field(default_factory=lambda: metric_of(style_score, "style"))
    """By which prompts are searched."""
    max_tokens: int = 512
    """Longest summary, in tokens."""

    @classmethod
    def draw(
        cls,
        rng: Rng,
        sizes: tuple[int, int, int],
        *,
        default: Style | None = None,
        longest: int = 4,
        **documents: Any,
    ) -> World:
        """A world.

        Args:
            rng: where it comes from.
            sizes: rows of train, dev and test.
            default: the writer's style; None draws one.
            longest: the house's summaries have one of the first so many lengths.
            **documents: for `draw_documents`.
        """
        draw = rng.child("style").python()
        style, drawn = (tuple(draw.randrange(4) for _ in range(8)) for _ in range(2))
        style = (draw.randrange(longest), *style[1:])
        train, dev, test = (
            list(map(as_example, draw_documents(n, style, rng, name=name, **documents)))
            for name, n in zip(("train", "dev", "test"), sizes, strict=True)
        )
        return cls(style, drawn if default is None else default, train, dev, test)

    @property
    def writer(self) -> str:
        """The simulated task model's parameters."""
        return f"default={''.join(map(str, self.default))}"


def as_example(document: Document) -> Example:
    """A document as a row of data."""
    phrases = document.row["phrases"]
    return Example(document.id, document.notes, document.reference, {"phrases": phrases})


def style_metric() -> Metric:
    """The share of the eight aspects in which a summary agrees with its reference."""
    return metric_of(style_score, "style")


def both_metrics() -> list[Metric]:
    """What the postscript is tuned for: the style is to be kept, the support by the notes to be raised."""
    return [style_metric(), *open_metrics(["faithfulness"])]


# Sizes of the miniature.


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

    @property
    def device(self) -> str:
        """Where the task model is trained."""
        return self.model.device


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
