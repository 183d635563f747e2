"""The miniature's worlds: a hidden house style, a writer with another one, and documents of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gnomon.core.rng import Rng
from gnomon.methods.crispo.house import Document, Style, draw_documents, style_score
from gnomon.methods.crispo.rows import Example
from gnomon.methods.crispo.scoring import Metric, metric_of, open_metrics

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
        splits = (
            [as_example(one) for one in draw_documents(n, style, rng, name=name, **documents)]
            for name, n in zip(("train", "dev", "test"), sizes, strict=True)
        )
        return cls(style, drawn if default is None else default, *splits)

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
