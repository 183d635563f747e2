"""Tiny dual encoders of the real classes, saved as a user's checkpoint would be, and scenes with two coloured squares."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing

from gnomon.core.models import whole_words
from gnomon.core.rng import Rng

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (20, 170, 50), "yellow": (230, 210, 40)}
WORDS = [*COLOURS, "and", "square", "a", "of"]


def tiny_dual(kind, folder, side=32, patch=8):
    """A CLIP or SigLIP of a few thousand weights, with its processor."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        SiglipConfig,
        SiglipImageProcessorPil,
        SiglipModel,
        SiglipProcessor,
    )

    tokenizer = whole_words(WORDS)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, tokenizer.eos_token_id)]
    )
    text = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(tokenizer),
        "max_position_embeddings": 12, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": side,
              "patch_size": patch}  # fmt: skip
    torch.manual_seed(0)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        images = CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
        processor = CLIPProcessor(images, tokenizer)
    else:
        model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision))
        processor = SiglipProcessor(SiglipImageProcessorPil(size={"height": side, "width": side}), tokenizer)
    with torch.no_grad():  # fresh weights are so small that all texts are alike
        for parameter in model.text_model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dual(tmp_path_factory):
    """`dual("clip")`: a folder."""
    made_here = {}

    def make(kind):
        if kind not in made_here:
            made_here[kind] = tiny_dual(kind, tmp_path_factory.mktemp(kind))
        return made_here[kind]

    return make


def drawn_scene(draw, size=(48, 36)):
    """A picture with two squares, and their boxes and names."""
    picture = np.full((size[1], size[0], 3), 120, np.uint8)
    names = draw.permutation(list(COLOURS)).tolist()[:2]
    boxes = []
    for i, name in enumerate(names):
        side = int(draw.integers(10, 14))
        x, y = int(draw.integers(0, 10)) + 24 * i, int(draw.integers(0, size[1] - side))
        picture[y : y + side, x : x + side] = COLOURS[name]
        boxes.append([x, y, x + side, y + side])
    return Image.fromarray(picture), names, boxes


@pytest.fixture(scope="session")
def scene():
    """`scene(draw, size)`: a picture, its names and its boxes."""
    return drawn_scene


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder of 24 scenes, the list of them with captions, and their regions."""
    folder = tmp_path_factory.mktemp("scenes")
    draw = Rng(0).numpy()
    rows, regions = [], []
    for i in range(24):
        picture, names, boxes = drawn_scene(draw)
        picture.save(folder / f"s{i}.png")
        rows.append(
            {"image": f"s{i}.png", "image_id": f"s{i}", "caption": " and ".join(f"{n} square" for n in names)}
        )
        regions += [
            {"image_id": f"s{i}", "box": box, "text": name} for box, name in zip(boxes, names, strict=True)
        ]
    (folder / "images.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "regions.jsonl").write_text("\n".join(map(json.dumps, regions)) + "\n")
    return folder
