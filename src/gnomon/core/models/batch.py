"""Token ids of several texts side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gnomon.core.models.architectures.parts import ImageLayout, Seeing
from gnomon.core.models.images.seen import Images
from gnomon.core.models.reading import reads_padded, takes_positions
from gnomon.errors import BadInput, ModelMismatch

Where = str | Sequence[Sequence[int]] | Tensor
"""Which tokens: `"all"`, `"last"`, positions per text [B, P] (negative ones count from its end), or a mask [B, T]."""


@dataclass(frozen=True)
class Batch:
    """Padded token ids; padding may be on either side."""

    input_ids: Int[Tensor, "B T"]
    """Token ids."""
    mask: Bool[Tensor, "B T"]
    """True at real tokens, False at padding."""
    target: Batch | None = None
    """What the decoder of a sequence-to-sequence model reads: its start token, then the target's own."""
    images: Images | None = None
    """What the texts show to a vision-language model."""

    @property
    def pixels(self) -> Mapping[str, Tensor]:
        """All that the model takes beside ids and mask to see the images; empty without images."""
        return {} if self.images is None else self.images.pixels

    @property
    def image_mask(self) -> Bool[Tensor, "B T"]:
        """True at image tokens."""
        return torch.zeros_like(self.mask) if self.images is None else self.images.mask

    @property
    def layouts(self) -> tuple[tuple[ImageLayout, ...], ...]:
        """Per text, per image: where its tokens lie on it."""
        return ((),) * len(self.mask) if self.images is None else self.images.layouts

    @property
    def position_ids(self) -> Int[Tensor, "B T"]:
        """Position of each token in its own text, from 0; padding before the text gets 0."""
        return positions_of(self.mask)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        target = None if self.target is None else self.target.to(device)
        images = None if self.images is None else self.images.to(device)
        return Batch(self.input_ids.to(device), self.mask.to(device), target, images)

    def inputs(self, kind: str = "causal", model: Any = None) -> dict[str, Tensor]:
        """What a transformers model of this kind takes; for a causal one positions too: its own would be wrong after padding.

        A vision-language model counts its own, each family in its way.

        Args:
            kind: causal, seq2seq, encoder or vlm.
            model: who reads it; `None` for one that takes positions as they are counted here. See `takes_positions`.

        Raises:
            ModelMismatch: the texts are padded, and the model reads them otherwise then.
        """
        if kind == "causal" and model is not None and not self.mask.all() and not reads_padded(model):
            raise ModelMismatch(
                f"{type(model).__name__} reads a padded text otherwise than the same text alone. Give it texts of one length, "
                "or one at a time (batch size 1)."
            )
        inputs = {"input_ids": self.input_ids, "attention_mask": self.mask.long()}
        if kind == "causal" and (model is None or takes_positions(model)):
            inputs["position_ids"] = self.position_ids
        if kind == "vlm":
            inputs |= self.pixels
        if kind == "seq2seq" and self.target is not None:
            inputs["decoder_input_ids"] = self.target.input_ids
            inputs["decoder_attention_mask"] = self.target.mask.long()
        return inputs

    def index(self, where: Where) -> tuple[Tensor, ...] | None:
        """What picks the wanted tokens out of [B, T, ...]; `None` for all of them.

        With `"last"` the result has the shape [B, ...], with positions [B, P, ...], with a mask [N, ...] in reading order.

        Raises:
            BadInput: `where` is none of these, or a text has no such position.
        """
        if isinstance(where, str):
            if where not in ("all", "last"):
                raise BadInput(f'where must be "all", "last", positions per text or a mask; got "{where}".')
            if where == "all":
                return None
            rows, columns = self._places([[-1]] * len(self.mask))
            return rows[:, 0], columns[:, 0]
        if isinstance(where, Tensor) and where.dtype == torch.bool:
            if where.shape != self.mask.shape:
                raise BadInput(
                    f"A mask must have the batch's shape {list(self.mask.shape)}; got {list(where.shape)}."
                )
            return (where.to(self.mask.device),)
        return self._places(where.tolist() if isinstance(where, Tensor) else where)

    def _places(self, positions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Rows and columns, [B, P] each, of positions counted within each text."""
        lengths = self.mask.sum(-1).tolist()
        if len(positions) != len(lengths) or len({len(row) for row in positions}) != 1:
            raise BadInput(
                f"Positions must be {len(lengths)} rows of equal length, one row per text; "
                "repeat a position where a text needs fewer."
            )
        for i, (row, length) in enumerate(zip(positions, lengths, strict=True)):
            for position in row:
                if not -length <= position < length:
                    raise BadInput(f"Text {i} has {length} tokens and no position {position}.")
        columns = torch.tensor(positions, dtype=torch.long, device=self.mask.device)
        counts = torch.tensor(lengths, device=self.mask.device)[:, None]
        first = self.mask.long().argmax(-1, keepdim=True)
        columns = first + torch.where(columns < 0, columns + counts, columns)
        rows = torch.arange(len(lengths), device=columns.device)[:, None].expand_as(columns)
        return rows, columns


def positions_of(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Positions counted over real tokens, from 0."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def pad(rows: Sequence[Sequence[int]], pad_id: int, side: str = "left") -> Batch:
    """Rows of token ids as one batch as wide as the longest row.

    >>> pad([[5, 6], [7]], 0).input_ids.tolist()
    [[5, 6], [0, 7]]
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        columns = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, columns] = torch.tensor(row, dtype=torch.long)
        mask[i, columns] = True
    return Batch(ids, mask)


def pad_texts(rows: Sequence[Sequence[int]], pad_id: int, side: str, sees: Seeing | None) -> Batch:
    """Texts without images as a batch, for a model that sees in the way `sees`, or reads texts alone (None)."""
    batch = pad(rows, pad_id, side)
    if sees is None or sees.kinds is None:
        return batch
    nowhere = torch.zeros_like(batch.mask)
    kinds = Images({sees.kinds: nowhere.long()}, nowhere, ((),) * len(rows))
    return Batch(batch.input_ids, batch.mask, None, kinds)


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Numbers of rows in batches of similar length, of at most `budget` tokens with padding, or of one row.

    >>> list(by_length([9, 2, 3, 2], 6))
    [[1, 3], [2], [0]]
    """
    numbers: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if numbers and (len(numbers) + 1) * lengths[i] > budget:
            yield numbers
            numbers = []
        numbers.append(i)
    if numbers:
        yield numbers
