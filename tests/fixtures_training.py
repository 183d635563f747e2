"""A small real run and a small problem to train on; a script that trains it in a process of its own.

    python fixtures_training.py FOLDER '{"batch_size": 4}' [--die-at STEP]

leaves metrics, checkpoints and, at the end, `FOLDER/weights.safetensors`.
"""

import json
import os
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from gnomon.core.rng import Rng


def free_port() -> str:
    """A port that nobody listens on, chosen by the system."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class SmallRun:
    """A run that keeps a folder, random numbers and a metrics file."""

    def __init__(self, folder, seed=0, is_main=True):
        self.folder, self.rng, self.is_main = Path(folder), Rng(seed).child("train"), is_main
        self.advanced, self.total = 0, None

    def log(self, **numbers):
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(numbers) + "\n")

    def rewind(self, *, step):
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in kept))

    def logged(self):
        """The rows, without what is never twice the same."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [{n: v for n, v in line.items() if n not in ("tokens_per_s", "memory_gib")} for line in lines]

    @contextmanager
    def progress(self, total, label):
        self.total = total
        yield self

    def advance(self, n=1, **shown):
        self.advanced += n


def small_examples(n=20):
    """Texts of different lengths over 40 tokens, the first third of each no target."""
    from gnomon.core.train import Example

    draw = Rng(7).python()
    rows = [[draw.randrange(3, 40) for _ in range(draw.randrange(4, 16))] for _ in range(n)]
    return [Example(row, [-100] * (len(row) // 3) + row[len(row) // 3 :]) for row in rows]


def small_model(dropout=0.0, dtype=torch.float32):
    """A GPT-2 of 7,000 parameters: tied weights, biases, norms and, if wanted, dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    sizes = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=0, eos_token_id=1)).to(dtype)


def small_batches(cfg, n=20):
    from gnomon.core.train import Batches

    return Batches(
        small_examples(n),
        cfg.batch_size,
        pad_id=2,
        generator=Rng(0).child("data"),
        micro_batch_size=cfg.micro_batch_size,
        max_length=cfg.max_length,
        packing=cfg.packing,
    )


def train_small(folder, cfg, *, dropout=0.0, dtype=torch.float32, is_main=True, rank=None, **more):
    """Train the small model, or adapters of a rank on it; returns it, its history and its run."""
    from gnomon.core.models import add_lora
    from gnomon.core.train import causal_loss, fit

    run = SmallRun(folder, is_main=is_main)
    model = small_model(dropout, dtype)
    if rank is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = add_lora(model, rank)
    history = fit(model, small_batches(cfg), causal_loss, cfg, run=run, **more)
    return model, history, run


def main():
    from safetensors.torch import save_model

    from gnomon.core.train import TrainConfig

    torch.set_num_threads(1)
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    die_at = int(sys.argv[4]) if "--die-at" in sys.argv else None

    def die(step):
        if step.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    of_model = {
        "dropout": settings.pop("dropout", 0.0),
        "dtype": getattr(torch, settings.pop("dtype", "float32")),
        "rank": settings.pop("rank", None),
    }
    is_main = os.environ.get("RANK", "0") == "0"
    model, _, _ = train_small(folder, TrainConfig(**settings), **of_model, is_main=is_main, on_step=[die])
    if is_main:
        save_model(model, str(folder / "weights.safetensors"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
