"""The miniature: CLIP alone, the Prompter and its ablations, and RoI-Align, at equal images and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.core.train import TrainConfig
from gnomon.methods.cloc import report
from gnomon.methods.cloc.config import CLAIMS, Mini
from gnomon.methods.cloc.evaluation.evaluation import Encoded, encode, pooled
from gnomon.methods.cloc.evaluation.measures import box_quality, class_mean, first_hits, predictions, recalls
from gnomon.methods.cloc.mini.world import SCALES, Noise, Scale, new_dual, scenes, texts_of
from gnomon.methods.cloc.regions.model import ClocModel
from gnomon.methods.cloc.regions.pooling import roi_align
from gnomon.methods.cloc.regions.towers import unit
from gnomon.methods.cloc.training.options import RegionLoss, Shape
from gnomon.methods.cloc.training.training import Labelled, train

ARMS: Mapping[str, tuple[Shape, RegionLoss]] = {
    "clip": (Shape(), RegionLoss(weight=0.0)),
    "prompter": (Shape(), RegionLoss()),
    "all tokens": (Shape("all"), RegionLoss()),
    "one corner token": (Shape(corners="one"), RegionLoss()),
    "no filter": (Shape(), RegionLoss(text_filter=None)),
    "no grounding": (Shape(), RegionLoss(grounding=False)),
    "roi": (Shape(), RegionLoss(grounding=False)),
}
"""Name -> the Prompter and the loss; `roi` pools tokens in place of the Prompter."""


class RoiPrompter(nn.Module):
    """RoI-Align and a linear map, in the place of a Prompter: what a box gives without attention. It finds no phrases."""

    def __init__(self, width: int, joint: int):
        super().__init__()
        self.width, self.joint, self.shape = width, joint, Shape()
        self.project = nn.Linear(width, joint, bias=False)

    def regions(self, tokens: Any, boxes: Any, image_of: Any, texts: Any) -> tuple[Any, Any, Any]:
        """As of a Prompter; the predicted boxes are the middle of the image."""
        embeds = self.project(roi_align(tokens, boxes, image_of))
        return unit(embeds), texts, torch.full_like(boxes, 0.5) + 0 * embeds.sum()

    def box_prompts(self, boxes: Any) -> Any:
        """The boxes themselves."""
        return boxes

    def forward(self, prompts: Any, tokens: Any) -> Any:
        """Embeddings of boxes, [B, K, D]."""
        B, K, _ = prompts.shape
        image_of = torch.arange(B, device=tokens.device).repeat_interleave(K)
        return self.project(roi_align(tokens, prompts.reshape(B * K, 4), image_of)).reshape(B, K, -1)


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def trained(scale: Scale, name: str, items: Sequence[Labelled], part: PartOfRun) -> ClocModel:
    """An arm, trained on the items from the same weights and batches as the others."""
    rng = part.rng.child("model")
    shape, loss = ARMS[name]
    dual, processor = new_dual(scale, rng)
    model = ClocModel(dual, processor, shape=shape, rng=rng)
    if name == "roi":
        torch.manual_seed(rng.key & (2**31 - 1))
        model.prompter = RoiPrompter(scale.width, scale.width)  # type: ignore[assignment]
    model.to(scale.device)
    epochs = -(-scale.steps * scale.batch // len(items))
    cfg = TrainConfig(
        lr=3e-3, batch_size=scale.batch, epochs=epochs, max_steps=scale.steps, warmup_steps=min(30, scale.steps), schedule="cosine",
        weight_decay=0.05, reduction="sum", checkpoint_every=0, keep_checkpoints=0,
    )  # fmt: skip
    # To an untrained text tower all texts are alike: the filter begins once it has learnt.
    loss = replace(loss, regions=scale.regions, filter_after=scale.steps * 4 // 5)
    train(model, items, loss, cfg, run=part)
    return model.eval()


def measured(model: ClocModel, items: Sequence[Labelled], name: str, rng: Rng) -> dict[str, Any]:
    """The row of an arm."""
    encoded = encode(model, items, batch_size=100)
    names = sorted(set(texts_of(items)))
    classes, texts = (_array(model.encode_text(some)) for some in (names, encoded.texts))
    how = "mean" if name == "clip" else "prompter"
    regions = pooled(model, encoded, encoded.boxes, how)
    guesses = predictions(regions, classes, names)
    order = rng.child("shuffled").numpy().permutation(len(encoded.boxes)).tolist()
    strange = pooled(model, encoded, [encoded.boxes[i] for i in order], how)
    forth, back = first_hits(encoded.embeds, encoded.captions)
    row: dict[str, Any] = {
        "arm": name, "mAcc": class_mean(encoded.texts, guesses),
        "mAcc, shuffled boxes": class_mean(encoded.texts, predictions(strange, classes, names)),
        "image R@1": (forth + back) / 2, **recalls(regions, texts, encoded.texts),
    }  # fmt: skip
    if hasattr(model.prompter, "phrase_prompts"):
        row |= _grounding(model, encoded)
    return row


@torch.no_grad()
def _grounding(model: ClocModel, encoded: Encoded) -> dict[str, float]:
    tokens = torch.stack(encoded.tokens)
    texts = model.encode_text(encoded.texts)
    image_of = torch.tensor(encoded.image_of)
    boxes = np.concatenate(encoded.boxes)
    predicted = []
    for i in range(len(tokens)):
        own = texts[image_of == i]
        if len(own):
            shares = model.prompter.boxes_of(
                model.prompter(model.prompter.phrase_prompts(own)[None], tokens[i : i + 1])
            )[0]
            predicted.append(encoded.frames[i].back((shares * model.towers.side).cpu().numpy()))
    overlap, _ = box_quality(np.concatenate(predicted), boxes)
    mean, _ = box_quality(np.tile(boxes.mean(0), (len(boxes), 1)), boxes)
    return {"box IoU": overlap, "box IoU of the mean box": mean}


def _main(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """All arms, and the two best on worse boxes."""
    test = scenes(scale, scale.test, part.folder / "test", part.rng.child("test"))
    for label, noise, names in (("arms", Noise(), tuple(ARMS)), ("noise", Noise(0.5), ("prompter", "roi"))):
        items = scenes(scale, scale.train, part.folder / label, part.rng.child("train"), noise=noise)
        for name in names:
            inner = part.within(f"{label}-{name.replace(' ', '-')}", part.rng.child("training"))
            row = measured(trained(scale, name, items, inner), test, name, part.rng)
            out.add(label, row)
            if label == "arms":
                out.score(name, "lost by shuffled boxes", row["mAcc"] - row["mAcc, shuffled boxes"])
                for metric in ("mAcc", "image R@1", "box IoU"):
                    if metric in row:
                        out.score(name, metric, row[metric])


def _context(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Regions whose texts name their neighbour."""
    test = scenes(
        scale, scale.test, part.folder / "context-test", part.rng.child("context test"), context=True
    )
    items = scenes(
        scale, scale.train, part.folder / "context", part.rng.child("context"), noise=Noise(), context=True
    )
    for name in ("prompter", "roi"):
        inner = part.within(f"context-{name}", part.rng.child("training"))
        row = measured(trained(scale, name, items, inner), test, name, part.rng)
        out.add("context", row)
        out.score(name, "mAcc, context", row["mAcc"])


def _array(rows: torch.Tensor) -> Any:
    return rows.detach().double().cpu().numpy()


def _summary(results: Results) -> Mapping[str, Any]:
    return {**results.rows, "scores": results.scores()}


STUDY = Study(
    title="cloc in miniature: two squares of two colours",
    claims=CLAIMS,
    scales=SCALES,
    parts={"main": Part(_main), "context": Part(_context)},
    plan=lambda cfg, scale: {
        "trainings": cfg.seeds * ((len(ARMS) + 2) * ("main" in cfg.parts) + 2 * ("context" in cfg.parts))
    },
    page=report.mini,
    summary=_summary,
)
