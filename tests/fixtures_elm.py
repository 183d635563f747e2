"""A small model with a tokenizer, texts of two made-up domains, and a script that erases in a process of its own.

    python fixtures_elm.py FOLDER '{"micro_batch_size": 2}' [--die-at STEP]

leaves metrics, checkpoints and, at the end, `FOLDER/weights.safetensors`.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from fixtures_training import SmallRun
from gnomon.core.rng import Rng
from gnomon.methods.elm import Erasure, Fluent
from gnomon.methods.elm.mini import Writer, build, personas, word_tokenizer

DESIGN = Erasure(
    eta=3.0,
    eta_schedule="constant",
    top_k=8,
    layers="0,2",
    dropout=0.2,
    fluency_every=2,
    fluency_batch=3,
    norms_every=2,
)
SETTINGS = {"lr": 1e-2, "batch_size": 5, "max_steps": 5, "epochs": 100, "schedule": "constant"}


def small_world():
    """Six things of two domains."""
    return build(6, 6, 0, Rng(1))


def small_model(tokenizer, seed=0):
    """A Llama of two blocks whose attention and MLP maps are trained by nobody yet."""
    from gnomon.core.models import new_llama

    return new_llama(tokenizer, 24, 3, 2, 160, Rng(seed).child("model")).eval()


def small_tokenizer():
    return word_tokenizer(small_world().vocabulary())


def small_texts(n=9):
    """Texts to forget and to retain, of different lengths."""
    world = small_world()
    writer = Writer(world, Rng(2))
    forget = [writer.document("plain", "z", 6 + i % 5) for i in range(n)]
    return forget, [writer.document("filler", "m", 5 + i % 4) for i in range(n)]


FLUENT = [
    Fluent("z0 is", " the red cat sees the old river ."),
    Fluent("z1 is zv1 .", " the cat"),
    Fluent("the", " old cat ."),
]


def erase_small(folder, *, is_main=True, die_at=None, design=DESIGN, **settings):
    """Train the small eraser; returns the model, its history and its run."""
    from gnomon.core.train import TrainConfig
    from gnomon.methods.elm import train_eraser
    from gnomon.methods.elm.erasure import attach, encode_all

    tokenizer = small_tokenizer()
    forget, retain = small_texts()
    texts = encode_all(tokenizer, [forget], retain, FLUENT, personas())
    run = SmallRun(folder, is_main=is_main)
    model = attach(small_model(tokenizer), design, run.rng.child("adapters"))

    def die(step):
        if step.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    cfg = TrainConfig(**{**SETTINGS, **settings})
    history = train_eraser(model, texts, design, cfg, run=run, on_step=[die])
    return model, history, run


def rival_small(folder, method, *, is_main=True, **settings):
    """Train the small model with a rival; returns the model, its history and its run."""
    from gnomon.core.train import TrainConfig
    from gnomon.methods.elm import train_baseline
    from gnomon.methods.elm.erasure import encode_all
    from gnomon.methods.elm.rivals import Constants

    tokenizer = small_tokenizer()
    forget, retain = small_texts()
    texts = encode_all(tokenizer, [forget], retain, (), personas())
    run, taught = (SmallRun(Path(folder) / name, is_main=is_main) for name in ("", "taught"))
    model, cfg = small_model(tokenizer), TrainConfig(**{**SETTINGS, "lr": 1e-3, **settings})
    constants = Constants(whp_steps=2, rmu_c=2.0)
    history = train_baseline(model, texts, method, constants, cfg, run=run, reinforced_run=taught)
    return model, history, run


def main():
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    die_at = int(sys.argv[4]) if "--die-at" in sys.argv else None
    more = settings.pop("design", {})
    from dataclasses import replace

    is_main, method = os.environ.get("RANK", "0") == "0", settings.pop("method", "elm")
    if method == "elm":
        model, _, _ = erase_small(
            folder, is_main=is_main, die_at=die_at, design=replace(DESIGN, **more), **settings
        )
    else:
        model, _, _ = rival_small(folder, method, is_main=is_main, **settings)
    if is_main:
        weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        save_file(weights, str(folder / "weights.safetensors"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
