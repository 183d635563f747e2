"""The miniature's model: a small LLaVA, aligned in two stages as the large one was.

The lens can read image tokens as words only where the language model learned words first and the image side was fitted to it
afterwards. So stage 1 trains the language model alone on what a scene's cells hold, as words, and a caption. Stage 2 freezes
it and trains vision tower and projector by the caption alone, without a word of which cell holds what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gnomon.core.models import whole_words
from gnomon.core.models.tiny import LlavaSizes, tiny_llava
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import GlobalBatch, TrainConfig, causal_loss, fit
from gnomon.core.train.losses import IGNORED
from gnomon.methods.vl_lens.mini.world import Scene, SceneWorld

PROMPT = "caption:"
"""The text between the image and its caption."""

BOARD = "nothing"
"""The word for a cell without an object."""

PRIOR = 0.85
"""Chance that a class brings its partner in training; in the test images it never does."""

UNSEEN = 0.5
"""Chance at the end of stage 1 that a cell of an object passes for an empty one; it grows from 0. So the language model comes to
read every cell of an object by itself, and to guess by the prior where it sees nothing."""

_TEMPLATE = (
    "<s>{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %} {{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
# fmt: off
CLASSES = (
    "dog", "frisbee", "cup", "spoon", "bird", "kite", "laptop", "mouse", "horse", "car",
    "chair", "couch", "boat", "surfboard", "bowl", "banana", "oven", "toaster", "sink", "toothbrush",
    "bench", "bicycle", "clock", "book", "train", "truck", "pizza", "fork", "apple", "orange",
    "skis", "snowboard", "tv", "remote", "bed", "cat", "sheep", "cow", "vase", "bottle",
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the miniature is."""

    classes: int
    size: int
    """Width and height of the images."""
    patch: int
    """Width and height of what one image token covers."""
    board: int
    objects: int
    vision: int
    """Width of the vision tower."""
    hidden: int
    """Width of the language model."""
    layers: int
    heads: int
    stage1: int
    """Steps of the language model."""
    stage2: int
    """Steps of vision tower and projector."""
    batch_size: int
    tests: int
    """Test images."""
    mentions: int
    """Mentions of each kind and half that are erased, at most."""
    lr: float = 3e-3
    """Peak learning rate of stage 1."""
    lr_vision: float = 2e-3
    """Peak learning rate of stage 2."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def grid(self) -> int:
        """Cells in a row and in a column."""
        return self.size // self.patch

    def world(self, partner: float) -> SceneWorld:
        """The scenes it sees, under a prior."""
        names = tuple(CLASSES[: self.classes])
        return SceneWorld(names, size=self.size, board=self.board, objects=self.objects, partner=partner)


SCALES = {
    "smoke": Scale(
        classes=8, size=48, patch=8, board=3, objects=3,
        vision=32, hidden=32, layers=3, heads=2,
        stage1=80, stage2=20, batch_size=8, tests=40, mentions=6,
        lr=1e-2, lr_vision=5e-3,
    ),
    "mini": Scale(
        classes=8, size=48, patch=8, board=3, objects=3,
        vision=64, hidden=96, layers=4, heads=4,
        stage1=200, stage2=450, batch_size=48, tests=600, mentions=60,
    ),
    "gpu": Scale(
        classes=40, size=224, patch=16, board=7, objects=5,
        vision=256, hidden=512, layers=8, heads=8,
        stage1=2000, stage2=5000, batch_size=64, tests=1000, mentions=200,
        lr=1e-3, lr_vision=5e-4, precision="bf16", device="cuda",
    ),
}  # fmt: skip


def new_tokenizer(classes: Sequence[str]) -> Any:
    """A tokenizer with one token per word of the miniature."""
    return whole_words([PROMPT, "and", BOARD, *classes])


def new_model(scale: Scale, rng: Rng) -> tuple[Any, Any]:
    """An untrained LLaVA on the CPU and its processor."""
    model, processor = tiny_llava(
        new_tokenizer(CLASSES[: scale.classes]),
        LlavaSizes(
            image_size=scale.size,
            patch=scale.patch,
            vision_hidden=scale.vision,
            hidden=scale.hidden,
            layers=scale.layers,
            heads=scale.heads,
            intermediate=2 * scale.hidden,
            max_length=scale.grid**2 + 64,
        ),
        generator=rng,
    )
    processor.chat_template = _TEMPLATE
    return model, processor


def pixels(scenes: Sequence[Scene], processor: Any) -> Tensor:
    """Images as the processor hands them to the model, [B, 3, H, W]; they have the model's size already."""
    images = np.stack([scene.image for scene in scenes])
    seen = processor.image_processor
    scaled = (images - np.float32(seen.image_mean)) / np.float32(seen.image_std)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


class CellText:
    """Stage 1: batches of scenes told in words, each cell by what it holds, with a caption; every token is a target."""

    def __init__(self, processor: Any, scale: Scale, steps: int, rng: Rng) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.scale, self.steps, self.rng = scale, steps, rng
        # No pixel is looked at: one per cell will do.
        self.world = replace(scale.world(PRIOR), size=scale.grid, noise=0)

    def __len__(self) -> int:
        return self.steps

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        rows = -(-self.scale.batch_size // processes)
        rng = self.rng.child("step", step, process)
        draw, unseen = rng.child("unseen").python(), UNSEEN * step / self.steps
        texts = []
        for scene in self.world.scenes(rows, rng):
            named = [name for row in scene.cells(self.scale.grid, self.scale.grid) for name in row]
            cells = [name if name and draw.random() >= unseen else BOARD for name in named]
            texts.append(f"<s> {' '.join(cells)} {PROMPT} {scene.caption} </s>")
        ids = torch.tensor(self.tokenizer(texts)["input_ids"])
        return GlobalBatch([{"input_ids": ids, "labels": ids}], rows * processes * (ids.shape[1] - 1))


class CaptionedScenes:
    """Stage 2: batches of images with their captions; only the caption's tokens are targets."""

    def __init__(self, processor: Any, scale: Scale, steps: int, rng: Rng) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.scale, self.steps, self.rng = scale, steps, rng
        self.world = scale.world(PRIOR)

    def __len__(self) -> int:
        return self.steps

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        rows = -(-self.scale.batch_size // processes)
        scenes = self.world.scenes(rows, self.rng.child("step", step, process))
        before = f"<s> {'<image> ' * self.scale.grid**2}{PROMPT}"
        ids = torch.tensor(
            self.tokenizer([f"{before} {scene.caption} </s>" for scene in scenes])["input_ids"]
        )
        question = self.scale.grid**2 + 2  # tokens before the caption
        labels = ids.clone()
        labels[:, :question] = IGNORED
        batch = {"input_ids": ids, "labels": labels, "pixel_values": pixels(scenes, self.processor)}
        return GlobalBatch([batch], rows * processes * (ids.shape[1] - question))


def train(scale: Scale, part: PartOfRun) -> Path:
    """A model trained from nothing in two stages, as a folder that loads like any other checkpoint."""
    folder = part.folder / "model"
    if (folder / "processor_config.json").exists():  # saved last: an interrupted run goes on behind it
        return folder
    model, processor = new_model(scale, part.rng.child("weights"))
    model.to(scale.device)
    image_side = (model.model.vision_tower, model.model.multi_modal_projector)
    for name, learner, source, steps, lr in (
        ("language", _Language(model), CellText, scale.stage1, scale.lr),
        ("vision", model, CaptionedScenes, scale.stage2, scale.lr_vision),
    ):
        model.requires_grad_(name == "language")
        for module in image_side:
            module.requires_grad_(name == "vision")
        stage = part.within(name, part.rng.child(name))
        cfg = TrainConfig(
            lr=lr,
            batch_size=scale.batch_size,
            warmup_ratio=min(1.0, 30 / steps),
            precision=scale.precision,
            checkpoint_every=0,
        )
        scenes = source(processor, scale, steps, stage.rng.child("scenes"))
        fit(learner, scenes, causal_loss, cfg, run=stage)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


class _Language(torch.nn.Module):
    """The language model inside, with its head, as a model of its own over the same weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.head = model.model.language_model, model.lm_head

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> Any:
        from transformers.modeling_outputs import CausalLMOutput

        hidden = self.model(input_ids=input_ids, use_cache=use_cache).last_hidden_state
        return CausalLMOutput(logits=self.head(hidden))
