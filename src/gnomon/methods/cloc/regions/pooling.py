"""The rivals that take a region's embedding from the tokens under it: RoI-Align and the mean of the tokens in the box."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def roi_align(
    tokens: Float[Tensor, "B T d"],
    boxes: Float[Tensor, "R 4"],
    image_of: Int[Tensor, " R"],
    *,
    bins: int = 3,
    samples: int = 2,
) -> Float[Tensor, "R d"]:
    """The mean over bins x bins cells of a box, each the mean of samples x samples bilinear readings of the patch grid.

    Half-pixel convention: a box from 0 to 1 covers the whole grid, and the middle of patch i lies at i + 1/2. Points beyond the
    outermost middles take the value there.

    Args:
        tokens: patches row by row of a square grid, without a class token.
        boxes: corners in shares of the input.
        image_of: which image each box is of.
        bins: cells across and down.
        samples: readings across and down a cell.

    Source: He et al., Mask R-CNN (1703.06870), aligned.
    """
    B, T, d = tokens.shape
    side = round(T**0.5)
    grid = tokens.transpose(1, 2).reshape(B, d, side, side)[image_of]
    n = bins * samples
    steps = (torch.arange(n, device=tokens.device, dtype=boxes.dtype) + 0.5) / n
    x = boxes[:, None, 0] + (boxes[:, 2] - boxes[:, 0])[:, None] * steps
    y = boxes[:, None, 1] + (boxes[:, 3] - boxes[:, 1])[:, None] * steps
    where = torch.stack([x[:, None, :].expand(-1, n, n), y[:, :, None].expand(-1, n, n)], -1) * 2 - 1
    read = nn.functional.grid_sample(
        grid, where.to(grid.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return read.mean((-1, -2))


def box_mean(
    tokens: Float[Tensor, "B T d"], boxes: Float[Tensor, "R 4"], image_of: Int[Tensor, " R"]
) -> Float[Tensor, "R d"]:
    """The mean of a box's patches, each weighted by the area that it shares with the box."""
    _B, T, _d = tokens.shape
    side = round(T**0.5)
    edges = torch.arange(side + 1, device=tokens.device, dtype=boxes.dtype) / side

    def shared(low: Tensor, high: Tensor) -> Tensor:
        return (torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])).clamp(
            min=0
        )

    area = shared(boxes[:, 1], boxes[:, 3])[:, :, None] * shared(boxes[:, 0], boxes[:, 2])[:, None]
    weights = area.reshape(len(boxes), T)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    return (weights[:, None].to(tokens.dtype) @ tokens[image_of]).squeeze(1)
