"""Token ids of several texts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Padded token ids; padding may be on either side."""

    input_ids: Int[Tensor, "B T"]
    """Token ids."""
    mask: Bool[Tensor, "B T"]
    """True at real tokens, False at padding."""

    @property
    def position_ids(self) -> Int[Tensor, "B T"]:
        """Position of each token in its own text, from 0; padding before the text gets 0."""
        return positions_of(self.mask)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return Batch(self.input_ids.to(device), self.mask.to(device))

    def inputs(self) -> dict[str, Tensor]:
        """What a transformers model takes, positions too: its own would be wrong after padding."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.mask.long(),
            "position_ids": self.position_ids,
        }


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
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = True
    return Batch(ids, mask)
