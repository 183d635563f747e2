"""What the lens found, and where that is on the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from gnomon.core import records
from gnomon.core.models.architectures.parts import ImageLayout
from gnomon.errors import BadInput, ModelMismatch, nearest


@dataclass(frozen=True)
class LensResult:
    """The words that image tokens carry, by layer and place, for B images.

    Names of axes: L layers that were read, n tokens of an image (images may differ), W words.
    """

    words: tuple[str, ...]
    """What was looked for."""
    layers: tuple[int, ...]
    """Which layers were read, 0 (embeddings) to L."""
    scores: list[Float[np.ndarray, "L n W"]]
    """Per image, the probability of each word at each layer and token, 0..1."""
    layouts: list[ImageLayout]
    """Per image, where its tokens lie."""
    spellings: list[tuple[str, ...]]
    """Per image, the spelling of each word that counted."""
    lens: str
    """`"raw"` or `"norm"`."""
    topk: int | None
    """How many likeliest tokens of each place counted; `None` for all."""
    pieces: str
    """How the pieces of a word were put together."""
    top_ids: list[np.ndarray]
    """Per image [L, n, k], the likeliest tokens of each place."""
    top_probs: list[np.ndarray]
    """Their probabilities."""
    tokenizer: Any
    """What turns them into text."""

    @property
    def confidence(self) -> Float[np.ndarray, "B W"]:
        """Internal confidence: the largest score of each word at any layer and token of each image."""
        return np.stack([scores.max((0, 1), initial=0.0) for scores in self.scores])

    def grid(self, b: int, word: str) -> list[Float[np.ndarray, "R C"]]:
        """Per tile of image `b`, the largest score of `word` over the layers, cell by cell.

        Raises:
            ModelMismatch: the tokens of this model are no grid.
            BadInput: the word was not looked for.
        """
        if not self.layouts[b].tiles:
            raise ModelMismatch(
                "The image tokens of this model have looked at the whole image and have no place on it (a Q-Former or a "
                "resampler): there is a confidence but no map. Take a model with a grid, such as LLaVA."
            )
        most = self.scores[b][..., self._index(word)].max(0)
        return [most[tile.tokens] for tile in self.layouts[b].tiles]

    def heatmap(self, b: int, word: str) -> Float[np.ndarray, "H W"]:
        """The largest score of `word` over the layers at every pixel of the original image `b`; 0 where no token sees.

        Bilinear within a tile; several tiles over a pixel are averaged. Errors are those of `grid`.
        """
        heat, is_seen = self.spread(b, word)
        return np.where(is_seen, heat, 0.0)

    def spread(self, b: int, word: str) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
        """The heat map, and which pixels any token sees: a crop leaves margins unseen."""
        width, height = self.layouts[b].size
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for tile, grid in zip(self.layouts[b].tiles, self.grid(b, word), strict=True):
            left, top, right, bottom = tile.box
            x, in_x = _cells(width, left, right, grid.shape[1])
            y, in_y = _cells(height, top, bottom, grid.shape[0])
            across = np.stack([np.interp(x, np.arange(grid.shape[1]), row) for row in grid])
            both = np.stack([np.interp(y, np.arange(grid.shape[0]), column) for column in across.T], axis=1)
            inside = in_y[:, None] & in_x[None]
            total += both * inside
            count += inside
        return total / np.maximum(count, 1), count > 0

    def top_tokens(self, b: int, layer: int, i: int, k: int = 5) -> list[tuple[str, float]]:
        """The k likeliest tokens at `layer` (a number of `layers`) of image token `i` of image `b`, and their probabilities.

        Raises:
            BadInput: the layer was not read, the image has no such token, or fewer were kept (`lens(..., tops=)`).
        """
        if layer not in self.layers:
            raise BadInput(f"Layer {layer} was not read; the layers are {list(self.layers)}.")
        ids, probs = self.top_ids[b], self.top_probs[b]
        if not 0 <= i < ids.shape[1]:
            raise BadInput(f"Image {b} has {ids.shape[1]} tokens and no token {i}.")
        if k > ids.shape[2]:
            raise BadInput(
                f"{ids.shape[2]} tokens of each place were kept; for {k} read again with tops={k}."
            )
        row = self.layers.index(layer)
        found = zip(ids[row, i, :k].tolist(), probs[row, i, :k].tolist(), strict=True)
        return [(str(self.tokenizer.decode([token])), float(prob)) for token, prob in found]

    def to_parquet(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        """Save a row per image, word and layer; `scores` are those of the tokens in their order.

        Args:
            path: ends in .parquet.
            names: what the images are called; `None` for their numbers.
        """
        names = [str(b) for b in range(len(self.scores))] if names is None else names
        records.write(
            Path(path),
            (
                {
                    "image": name,
                    "word": word,
                    "spelling": self.spellings[b][w],
                    "layer": layer,
                    "lens": self.lens,
                    "topk": self.topk or 0,
                    "pieces": self.pieces,
                    "scores": [float(score) for score in self.scores[b][row, :, w]],
                }
                for b, name in enumerate(names)
                for w, word in enumerate(self.words)
                for row, layer in enumerate(self.layers)
            ),
        )

    def _index(self, word: str) -> int:
        if word not in self.words:
            raise BadInput(f'The word "{word}" was not looked for. {nearest(word, self.words)}')
        return self.words.index(word)


def _cells(pixels: int, start: float, end: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the middles of pixels lie in a row of cells between `start` and `end`, and whether they lie in it at all."""
    middles = np.arange(pixels) + 0.5
    return (middles - start) / (end - start) * cells - 0.5, (middles >= start) & (middles < end)
