"""A small LLaVA that has learned nothing but has opinions, scenes to show it, and the verbs as a user types them."""

import atexit
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from gnomon.core.rng import Rng
from gnomon.methods.vl_lens.mini import PROMPT, SCALES, new_model
from gnomon.registry import method

ROOM = method("vl-lens")
SCALE = SCALES["smoke"]
WORLD = SCALE.world(partner=0)
WORDS = ("--prompt", PROMPT, "--max-new-tokens", 8, "--beams", 1, "--device", "cpu")
"""Words of every verb that writes captions here."""


@cache
def checkpoint():
    """Its folder. Weights three times as large as usual make it write different words about different images."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model, processor = new_model(SCALE, Rng(3))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cache
def seer():
    """A loaded handle, shared; leave it as it is."""
    from gnomon.core.models import ModelHandle

    return ModelHandle.load(checkpoint(), kind="vlm", device="cpu")


@cache
def scenes(count=4):
    return tuple(WORLD.scenes(count, Rng(1)))


def pictures(count=4):
    return [scene.picture() for scene in scenes(count)]


def write_images(folder, count=4):
    """Writes scene-0.png ... and truth.json; returns the folder of the images."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for i, scene in enumerate(scenes(count)):
        scene.picture().save(images / f"scene-{i}.png")
    truth = {f"scene-{i}": list(scene.names) for i, scene in enumerate(scenes(count))}
    (folder / "truth.json").write_text(json.dumps(truth))
    return images


def vl_lens(verb, *words):
    """Runs a verb in this process; returns its exit code."""
    from gnomon.verbs import run_verb

    return run_verb(ROOM, verb, [*map(str, words), "--quiet"])


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
