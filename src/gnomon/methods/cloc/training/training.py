"""Batches of images with captions and regions, and the training of a model on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig, fit
from gnomon.core.train.batches import GlobalBatch, Order
from gnomon.core.train.contrastive import NOTHING, share_of
from gnomon.core.train.loop import History, Step, TrainRun
from gnomon.core.train.optim import decay_groups
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.rows import ImageRow, pictures_of
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.cloc.regions.model import ClocModel
from gnomon.methods.cloc.regions.towers import Towers
from gnomon.methods.cloc.training.losses import MOST_SCALE, ClocLoss
from gnomon.methods.cloc.training.options import RegionLoss

BETAS = (0.9, 0.98)
"""Of AdamW, as the paper has them."""
MOST_DROPPED, STEPS_DROPPED = 0.9, 3
"""Share of negatives that the text filter may drop, and for how many steps more is borne."""
KEPT_BYTES = 2**30
"""Pixels that are kept between epochs at most; beyond it images are opened anew."""


@dataclass(frozen=True)
class Labelled:
    """An image to learn from."""

    row: ImageRow
    caption: str
    """Of the whole image."""
    regions: Sequence[Region] = ()
    """With texts; boxes in pixels of the upright image."""
    size: tuple[int, int] | None = None
    """Width and height; None: read from the image."""


@dataclass(frozen=True)
class Frozen:
    """What frozen towers make of images and texts, computed once."""

    embeds: Float[Tensor, "N D"]
    tokens: Float[Tensor, "N T d"]
    captions: Float[Tensor, "N D"]
    texts: Mapping[str, Float[Tensor, " D"]]


class ClocBatches:
    """Batches of images, their captions, and at most `loss.regions` regions of each, drawn anew at each step.

    Args:
        items: what is learnt from.
        towers: make pixels and ids.
        batch_size: images a step, over all processes.
        loss: how many regions.
        generator: names shuffles and draws.
        frozen: what frozen towers made of the items; None: pixels and ids are handed on.

    Raises:
        BadInput: there is no image, or one process would have none.
    """

    def __init__(
        self,
        items: Sequence[Labelled],
        towers: Towers,
        batch_size: int,
        loss: RegionLoss,
        *,
        generator: Rng,
        frozen: Frozen | None = None,
    ):
        if not items:
            raise BadInput("There is no image to learn from.")
        self.items, self.towers, self.loss, self.frozen = items, towers, loss, frozen
        self.generator = generator
        self._order = Order(len(items), batch_size, generator)
        self._pixels: dict[int, Tensor] = {}
        self._frames: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        chosen = self._order.at(step)
        mine = share_of(chosen, process, processes, NOTHING)
        places = [chosen[0] if i == NOTHING else i for i in mine]
        counts = torch.tensor([i != NOTHING for i in mine])
        boxes, image_of, texts = [], [], []
        has_regions = torch.zeros(len(mine), dtype=torch.bool)
        pixels = [self._seen(i) for i in places]
        for at, (i, is_own) in enumerate(zip(places, counts.tolist(), strict=True)):
            own = self.drawn(i, step) if is_own else []
            has_regions[at] = bool(own)
            if own:
                frame = self._frames[i]
                boxes.append(
                    torch.tensor(frame.into([r.box for r in own]) / self.towers.side, dtype=torch.float32)
                )
                image_of += [at] * len(own)
                texts += [str(r.text) for r in own]
        batch = {
            "boxes": torch.cat(boxes) if boxes else torch.zeros(0, 4), "image_of": torch.tensor(image_of, dtype=torch.long),
            "counts": counts, "has_regions": has_regions, "step": torch.tensor(step),
        }  # fmt: skip
        if self.frozen is None:
            batch["pixels"] = torch.stack(pixels)
            batch |= self._ids("caption", [self.items[i].caption for i in places])
            batch |= self._ids("text", texts)
        else:
            batch |= {name: getattr(self.frozen, name)[places] for name in ("embeds", "tokens", "captions")}
            vectors = [self.frozen.texts[text] for text in texts]
            batch["texts"] = (
                torch.stack(vectors) if vectors else torch.zeros(0, self.frozen.captions.shape[1])
            )
        return GlobalBatch([batch], 1, len(chosen))

    def drawn(self, i: int, step: int) -> list[Region]:
        """The regions of an image that a step learns from; as many processes as there are see the same."""
        regions = [region for region in self.items[i].regions if region.text]
        order = self.generator.child("regions", step, i).numpy().permutation(len(regions))
        return [regions[j] for j in sorted(order[: self.loss.regions].tolist())]

    def _ids(self, name: str, texts: Sequence[str]) -> dict[str, Tensor]:
        return {f"{name}_{key}": value for key, value in self.towers.ids_of(texts).items()} if texts else {}

    def _seen(self, i: int) -> Tensor:
        """The pixels of an image, and its frame noted; of frozen towers the frame alone."""
        item = self.items[i]
        if i in self._frames and (self.frozen is not None or i in self._pixels):
            return self._pixels.get(i, torch.zeros(0))
        if self.frozen is not None and item.size is not None:
            self._frames[i] = self.towers.frame(item.size)
            return torch.zeros(0)
        pixels, (frame,) = self.towers.pixels(pictures_of([item.row]))
        self._frames[i] = frame
        if (len(self._pixels) + 1) * pixels.nbytes <= KEPT_BYTES:
            self._pixels[i] = pixels[0]
        return pixels[0]


@torch.no_grad()
def encode_once(
    model: ClocModel,
    items: Sequence[Labelled],
    *,
    batch_size: int = 32,
    on_image: Callable[[int], None] = lambda n: None,
) -> Frozen:
    """Encode images and texts once, for a training that leaves the towers as they are.

    Args:
        model: with towers that are frozen.
        items: what is learnt from.
        batch_size: images at once.
        on_image: called with the number of images encoded.
    """
    model.eval()
    embeds, tokens = [], []
    for start in range(0, len(items), batch_size):
        some = items[start : start + batch_size]
        pixels, _ = model.towers.pixels(pictures_of([item.row for item in some]))
        seen = model.see(pixels)
        embeds.append(seen.embeds.float().cpu())
        tokens.append(seen.tokens.float().cpu())
        on_image(len(some))
    texts = sorted({str(region.text) for item in items for region in item.regions if region.text})
    captions = model.towers.texts([item.caption for item in items]).cpu()
    vectors = model.towers.texts(texts).cpu() if texts else torch.zeros(0, captions.shape[1])
    return Frozen(torch.cat(embeds), torch.cat(tokens), captions, dict(zip(texts, vectors, strict=True)))


Tower = Literal["vision", "text"]


def train(
    model: ClocModel,
    items: Sequence[Labelled],
    loss: RegionLoss,
    cfg: TrainConfig,
    *,
    run: TrainRun,
    freeze: Sequence[Tower] = (),
) -> History:
    """Train a model in place.

    Args:
        model: all weights are trained, or the Prompter and its maps alone.
        items: images with captions and regions.
        loss: the region terms.
        cfg: the training; `micro_batch_size` is refused: a contrastive loss is no sum over micro-batches.
        run: folder, random numbers and log.
        freeze: towers that stay as they are. Of both, images and texts are encoded once, and regions alone are contrasted.

    Raises:
        BadInput: for three steps running the text filter drops more than nine negatives in ten.
    """
    is_frozen = {"vision", "text"} <= set(freeze)
    for name, parameter in model.model.named_parameters():
        tower: Tower = "vision" if name.startswith(("vision", "visual")) else "text"
        parameter.requires_grad_(tower not in freeze)
    scale: Any = model.model.logit_scale
    scale.requires_grad_(True)
    bias = None if is_frozen else getattr(model.model, "logit_bias", None)
    if bias is not None:
        bias.requires_grad_(True)
    cached = encode_once(model, items) if is_frozen else None
    batches = ClocBatches(
        items, model.towers, cfg.batch_size, loss, generator=run.rng.child("batches"), frozen=cached
    )
    whole = ClocLoss(scale, bias, loss, has_images=not is_frozen)
    dropped = [0]

    def after(step: Step) -> None:
        with torch.no_grad():
            scale.clamp_(max=math.log(MOST_SCALE))
        run.log(step=step.step, **whole.parts)
        dropped[0] = dropped[0] + 1 if whole.parts["filter_dropped"] > MOST_DROPPED else 0
        if dropped[0] >= STEPS_DROPPED:
            raise BadInput(
                f"The text filter has dropped more than {MOST_DROPPED:.0%} of the negatives {STEPS_DROPPED} steps running: to this "
                "text tower all texts are alike, as to one that is untrained. Start from a trained one, let the filter begin later "
                "(--loss.filter-after), or set --loss.text-filter None."
            )

    if cfg.micro_batch_size is not None:
        raise BadConfig(
            "train.micro_batch_size must be None: a contrastive loss compares all of a batch and is no sum over parts of it; got "
            f"{cfg.micro_batch_size}."
        )
    # The last loss weighs regions alone, and its mean is over the batch: nothing is divided again.
    cfg = replace(cfg, reduction="sum")
    groups = [{**group, "betas": BETAS} for group in decay_groups(model, cfg.weight_decay)]
    history: History = fit(model, batches, whole, cfg, run=run, groups=groups, on_step=[after])
    return history
