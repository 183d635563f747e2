"""The parts of an architecture, as plain descriptions: its blocks by module path, and where image tokens lie on the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

Box = tuple[float, float, float, float]
"""Left, top, right, bottom on the original image, in pixels."""


def base_of(model: Any) -> Any:
    """The transformers model below adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True)
class Tile:
    """A grid of image tokens and the part of the image that it covers."""

    tokens: Int[np.ndarray, "R C"]
    """Which of the image's tokens stands in each cell, counted from the image's first token."""
    box: Box
    """What the whole grid covers. It may stick out of the image (padding) or leave margins of it unseen (a crop)."""

    def cell(self, row: int, column: int) -> Box:
        """What one cell covers."""
        left, top, right, bottom = self.box
        height, width = (bottom - top) / self.tokens.shape[0], (right - left) / self.tokens.shape[1]
        x, y = left + column * width, top + row * height
        return x, y, x + width, y + height

    def at(self, x: float, y: float) -> int | None:
        """The token whose cell holds the point (x, y) of the original image; `None` outside the tile."""
        left, top, right, bottom = self.box
        if not (left <= x < right and top <= y < bottom):
            return None
        rows, columns = self.tokens.shape
        row = min(int((y - top) / (bottom - top) * rows), rows - 1)
        column = min(int((x - left) / (right - left) * columns), columns - 1)
        return int(self.tokens[row, column])


@dataclass(frozen=True)
class ImageLayout:
    """The tokens of one image."""

    size: tuple[int, int]
    """Width and height of the original image, in pixels."""
    n_tokens: int
    """How many image tokens it has, those with no place on it (line ends of a tiled image) included."""
    tiles: tuple[Tile, ...] = ()
    """Where they lie; several for an image that is seen whole and in parts. Empty where tokens are no grid (Q-Former)."""


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps the parts of a stack of blocks, as module paths; those of a block are relative to it."""

    blocks: str
    """The list of blocks. The module that holds it is the one called with token ids."""
    final_norm: str | None
    """The norm after the last block; `None` without one."""
    attn_out: str
    """Within a block, the module whose output attention adds to the residual stream."""
    mlp_out: str
    """Within a block, the module whose output the MLP adds."""
    mid_into: str | None = None
    """Within a block, the norm that the residual stream enters between attention and MLP."""
    mid_from: str | None = None
    """Or the module that the whole stream leaves there; neither where attention and MLP read the same stream."""
    cross_out: str | None = None
    """Within a decoder's block, the module whose output it adds from the encoder."""
    project: str | None = None
    """The module between the final norm and the output embedding, if there is one."""
    reader: str | None = None
    """The module whose arguments say which tokens a call is about; `None` for the one that holds the blocks."""


Layout = Family | Mapping[str, Family]
"""One stack, or those of a model by the prefix of their sites, the one that writes last:
`{"encoder": Family(...), "decoder": Family(...)}`, `{"vision": Family(...), "": Family(...)}`."""

LayOut = Callable[[Any, Any, tuple[int, int], Mapping[str, Tensor], int], ImageLayout]
"""(processor, config, width and height of the original image, what the processor made of a text's images, which of
them) -> where the image's tokens lie."""

Grid = Callable[[Any, Any, tuple[int, int], Mapping[str, Tensor], int], ImageLayout | None]
"""(processor, config, width and height of the original image, what the processor made of it alone, how many image tokens it has)
-> where they lie; `None` where this kind of processor makes others."""

Positions = Callable[[Any, Any], tuple[Tensor | None, Int[Tensor, "B 1"]]]
"""(model, `Batch` of prompts) -> the position ids that it takes for them (`None` for a model that takes none), and what is added
to the position in the text of each token that follows."""


def text_positions(model: Any, batch: Any) -> tuple[Tensor | None, Int[Tensor, "B 1"]]:
    """Positions counted over real tokens, as in a text model."""
    return batch.position_ids, batch.input_ids.new_zeros(len(batch.input_ids), 1)


def no_positions(model: Any, batch: Any) -> tuple[Tensor | None, Int[Tensor, "B 1"]]:
    """Nothing: the model counts for itself."""
    return None, batch.input_ids.new_zeros(len(batch.input_ids), 1)


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """How a vision-language model is shown images, and how it lays them out in tokens."""

    lay_out: LayOut | None = None
    """Where the tokens of an image lie; `None` where that is not known: they are counted."""
    grid: Grid | None = None
    """Where those of one image lie that were counted, as measured; `None` where no known layout holds."""
    language: str = ""
    """The module that takes a text without an image; the whole model unless that insists on an image."""
    needs_image: bool = False
    """Whether the model reads no text without an image."""
    prompt: str = "{images}{text}"
    """A question in the model's own form, for processors without a chat template."""
    placeholder: str = "{token}"
    """What stands for an image in a prompt, around the processor's image token; empty where its place is fixed."""
    positions: Positions | None = text_positions
    """The model's position ids; `None` for a model that is asked on first use whether it takes any."""
    kinds: str | None = None
    """The input that says of what kind each token is, where a text alone needs it too: 0 for all of a prompt."""


@dataclass(frozen=True)
class VLFamily(Seeing):
    """Where a vision-language architecture keeps its parts, as module paths, and how it lays an image out in tokens."""

    vision: Family
    """The blocks of the vision tower."""
    text: Family
    """The blocks of the language model; `reader` is the module that gets the ids, mask and cache at every call."""
    projector: str
    """The module that makes vectors of the language model's width from those of the tower."""
