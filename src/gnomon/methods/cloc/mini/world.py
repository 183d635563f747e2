"""Scenes of two-coloured squares, as the specification measured them, and a dual encoder that has seen nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnomon.core.models import whole_words
from gnomon.core.rng import Rng, seeded
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.rows import ImageRow
from gnomon.methods.cloc.regions.prompter import points
from gnomon.methods.cloc.training.training import Labelled

COLOURS = {
    "red": (210, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 210), "yellow": (225, 205, 50), "purple": (150, 60, 170),
}  # fmt: skip
CLASSES = tuple(f"{a} {b}" for a in COLOURS for b in COLOURS if a != b)
"""Frame and core: twenty, so that naming one colour is not enough."""
SIDES = (14, 20)
"""Pixels of a square."""


@dataclass(frozen=True)
class Scale:
    """Sizes of a miniature."""

    side: int = 48
    patch: int = 8
    width: int = 64
    layers: int = 2
    train: int = 2500
    test: int = 300
    steps: int = 500
    batch: int = 48
    regions: int = 2
    device: str = "cpu"


SCALES = {
    "smoke": Scale(48, 8, 32, 1, 40, 12, 3, 8),
    "mini": Scale(),
    "gpu": Scale(128, 16, 384, 12, 20_000, 1000, 20_000, 1024, 4, "cuda"),
}


@dataclass(frozen=True)
class Noise:
    """What pseudo-labels get wrong."""

    box: float = 0.15
    """Standard deviation of each coordinate, in sides."""
    text: float = 0.1
    """Share of region texts that are replaced."""


def scenes(
    scale: Scale, count: int, folder: Path, rng: Rng, *, noise: Noise | None = None, context: bool = False
) -> list[Labelled]:
    """Scenes with captions and regions, saved as PNG.

    Args:
        scale: sizes.
        count: scenes.
        folder: where they are saved.
        rng: where they are drawn.
        noise: of the labels; None: they are right.
        context: whether a region's text also says what its neighbour is and on which side.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for i in range(count):
        draw = rng.child("scene", i).numpy()
        pixels, squares = _painted(scale, draw)
        path = folder / f"{i}.png"
        Image.fromarray(pixels).save(path)
        names = [name for name, _ in squares]
        order = draw.permutation(2)
        regions = []
        for k, (name, box) in enumerate(squares):
            other, there = squares[1 - k]
            text = name if not context else f"{name} {'left' if box[0] < there[0] else 'right'} of {other}"
            at = np.array(box, float)
            if noise is not None:
                at = at + draw.normal(0, noise.box * (box[2] - box[0]), 4)
                at = np.clip(
                    np.concatenate([np.minimum(at[:2], at[2:]), np.maximum(at[:2], at[2:])]), 0, scale.side
                )
                if draw.random() < noise.text:
                    text = text.replace(name, CLASSES[int(draw.integers(len(CLASSES)))], 1)
                if at[2] - at[0] < 1 or at[3] - at[1] < 1:
                    continue
            regions.append(Region((at[0], at[1], at[2], at[3]), text))
        caption = " and ".join(names[int(j)] for j in order)
        size = (scale.side, scale.side)
        items.append(Labelled(ImageRow(str(i), str(path), caption, size), caption, tuple(regions), size))
    return items


def _painted(
    scale: Scale, draw: np.random.Generator
) -> tuple[Any, list[tuple[str, tuple[int, int, int, int]]]]:
    """A dull background of 4 x 4 blocks with noise, and two squares that do not touch."""
    cells = draw.integers(90, 150, (4, 4, 3))
    block = -(-scale.side // 4)
    pixels = np.kron(cells, np.ones((block, block, 1)))[: scale.side, : scale.side]
    squares: list[tuple[str, tuple[int, int, int, int]]] = []
    while len(squares) < 2:
        side = int(draw.integers(SIDES[0], SIDES[1] + 1)) * scale.side // 48
        x, y = (int(n) for n in draw.integers(0, scale.side - side + 1, 2))
        box = (x, y, x + side, y + side)
        if any(x < b[2] and b[0] < box[2] and y < b[3] and b[1] < box[3] for _, b in squares):
            continue
        name = CLASSES[int(draw.integers(len(CLASSES)))]
        frame, core = name.split()
        rim = side // 4
        pixels[y : y + side, x : x + side] = COLOURS[frame]
        pixels[y + rim : y + side - rim, x + rim : x + side - rim] = COLOURS[core]
        squares.append((name, box))
    noisy = pixels + draw.normal(0, 6, pixels.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), squares


def new_dual(scale: Scale, rng: Rng) -> tuple[Any, Any]:
    """A CLIP of transformers with random weights, its positions those of the box prompts, and its processor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    tokenizer = ended(whole_words([*COLOURS, "and", "left", "right", "of"]))
    width, heads = scale.width, max(2, scale.width // 32)
    shared = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": scale.layers,
        "num_attention_heads": heads,
    }
    text = {
        **shared, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {**shared, "image_size": scale.side, "patch_size": scale.patch}
    with seeded(rng.child("weights")):
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width))
    grid = scale.side // scale.patch
    middles = (torch.arange(grid) + 0.5) / grid
    where = torch.stack(
        [middles.repeat(grid), middles.repeat_interleave(grid)], 1
    )  # x, y of each patch, row by row
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding.weight[1:] = points(where, width)
    size = {"height": scale.side, "width": scale.side}
    images = CLIPImageProcessorPil(size={"shortest_edge": scale.side}, crop_size=size)
    make: Any = CLIPProcessor
    placed: Any = model
    return placed.to(scale.device), make(images, tokenizer)


def ended(tokenizer: Any) -> Any:
    """The tokenizer with the end token behind every text, which is where CLIP's text tower is read."""
    from tokenizers.processors import TemplateProcessing

    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return tokenizer


def class_of(text: str) -> str:
    """The class that a region's text names, whatever it says of its neighbour."""
    return " ".join(text.split()[:2])


def texts_of(items: Sequence[Labelled]) -> list[str]:
    """Texts of all regions."""
    return [str(region.text) for item in items for region in item.regions]
