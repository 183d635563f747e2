"""The losses: images with captions, regions with texts under the text filter, and boxes from phrases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from gnomon.core.train.contrastive import gather
from gnomon.core.train.memory import is_distributed
from gnomon.methods.cloc.training.options import RegionLoss

MOST_SCALE = 100.0
"""The largest inverse temperature, as CLIP has it."""


def contrast(scores: Float[Tensor, "N N"], never: Bool[Tensor, "N N"] | None = None) -> Float[Tensor, ""]:
    """Cross-entropy of the diagonal along both axes, their mean; `never` (True) are no negatives. 0 without rows.

    >>> contrast(torch.zeros(4, 4)).item() == torch.log(torch.tensor(4.0)).item()
    True
    """
    if not len(scores):
        return scores.sum()
    if never is not None:
        off = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(never & off, -torch.inf)
    places = torch.arange(len(scores), device=scores.device)
    return (cross_entropy(scores, places) + cross_entropy(scores.T, places)) / 2


def sigmoid_contrast(scores: Float[Tensor, "N N"]) -> Float[Tensor, ""]:
    """SigLIP's loss: each pair by itself, matching ones on the diagonal; a mean over rows.

    Args:
        scores: with scale and bias in them.

    Source: Zhai et al., 2303.15343, equation 1.
    """
    signs = 2 * torch.eye(len(scores), device=scores.device) - 1
    return -logsigmoid(signs * scores).sum(1).mean()


def too_alike(texts: Float[Tensor, "R D"], threshold: float | None) -> Bool[Tensor, "R R"]:
    """Pairs whose texts are too much alike to be negatives, the diagonal not among them; from unit embeddings, without gradient."""
    if threshold is None:
        return torch.zeros(len(texts), len(texts), dtype=torch.bool, device=texts.device)
    with torch.no_grad():
        rows = texts.float()
        alike = rows @ rows.T > threshold
        return alike & ~torch.eye(len(texts), dtype=torch.bool, device=texts.device)


def dropped_share(alike: Bool[Tensor, "R R"]) -> float:
    """Share of the negative pairs that the filter drops."""
    pairs = len(alike) * (len(alike) - 1)
    return float(alike.sum()) / pairs if pairs else 0.0


def grounding_loss(predicted: Float[Tensor, "R 4"], boxes: Float[Tensor, "R 4"]) -> Float[Tensor, ""]:
    """Mean squared error over regions and coordinates, in shares of the input; 0 without regions.

    >>> grounding_loss(torch.zeros(1, 4), torch.tensor([[0.0, 0.0, 1.0, 1.0]])).item()
    0.5
    """
    if not len(boxes):
        return predicted.sum() * 0
    return ((boxes - predicted.float()) ** 2).mean()


def gather_rows(rows: Float[Tensor, "n D"]) -> Float[Tensor, "N D"]:
    """The rows of all processes below each other, however many each has; a gradient flows into the own ones."""
    if not is_distributed():
        return rows
    world = torch.distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world)]
    torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    most = max(sizes)
    if not most:
        return rows
    block = gather(torch.cat([rows, rows.new_zeros(most - len(rows), rows.shape[1])]))
    return torch.cat([block[i * most : i * most + size] for i, size in enumerate(sizes)])


class ClocLoss:
    """The whole loss of a batch: a process's share of it, so that shares and gradients add up to those of one process.

    L = L_image + lambda (L_region + L_box), lambda the weight times the share of images with regions. A batch without regions
    gives L_image alone, and the Prompter runs in it all the same, times 0.

    Args:
        scale: the logarithm of the inverse temperature, shared by both contrastive losses; trained.
        bias: SigLIP's, of the image term alone; None: the image term is CLIP's.
        options: of the region terms.
        has_images: whether images and captions are contrasted; False: regions alone.

    Source: arXiv 2410.02746, equations 1-5.
    """

    def __init__(
        self,
        scale: Tensor,
        bias: Tensor | None = None,
        options: RegionLoss | None = None,
        *,
        has_images: bool = True,
    ):
        self.scale, self.bias, self.options, self.has_images = (
            scale,
            bias,
            options or RegionLoss(),
            has_images,
        )
        self.parts: dict[str, float] = {}
        """Numbers of the newest batch: its terms, lambda, and the share of negatives that the filter dropped."""

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """This process's share."""
        outputs = model(batch)
        share = 1 / torch.distributed.get_world_size() if is_distributed() else 1.0
        # Every process takes the loss of the whole batch: what is not gathered must count once, and not once a process.
        scale = (self.scale * share + self.scale.detach() * (1 - share)).exp().clamp(max=MOST_SCALE)
        counts = torch.tensor(
            [float(batch["has_regions"].sum()), float(batch["counts"].sum())], device=scale.device
        )
        if is_distributed():
            torch.distributed.all_reduce(counts)
        weight = self.options.weight * float(counts[0] / counts[1].clamp(min=1))
        regions, texts = gather_rows(outputs.regions), gather_rows(outputs.texts)
        is_on = int(batch["step"]) >= self.options.filter_after
        alike = too_alike(texts, self.options.text_filter if is_on else None)
        region = contrast((regions.float() @ texts.float().T) * scale, alike)
        whole = weight * region
        self.parts = {
            "region_loss": float(region.detach()),
            "filter_dropped": dropped_share(alike),
            "lambda": weight,
        }
        if self.has_images:
            counts_here = batch["counts"].bool()
            images, captions = (gather_rows(rows[counts_here]) for rows in (outputs.images, outputs.captions))
            scores = (images @ captions.T) * scale
            if self.bias is None:
                image = contrast(scores)
            else:
                image = sigmoid_contrast(scores + self.bias * share + self.bias.detach() * (1 - share))
            whole = whole + image
            self.parts["image_loss"] = float(image.detach())
        total = whole + (share - 1) * whole.detach()
        if self.options.grounding:
            own = grounding_loss(outputs.boxes, batch["boxes"])
            # The mean over all processes' regions, of which these are some.
            part = own * (len(outputs.boxes) / max(1, len(regions)))
            self.parts["box_loss"] = float(own.detach())
            total = total + weight * part
        used: Tensor = total + 0 * (outputs.boxes.sum() + outputs.regions.sum())
        return used
