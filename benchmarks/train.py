"""What the training loop costs over a plain loop and over transformers' Trainer, and what its options save.

    python benchmarks/train.py [--only SECTION ...]     writes docs/results/bench-train.json

On one thread. Times are CPU seconds, the median of rounds in which the ways take turns; ratios are what to look at. Peak memory is
that of a fresh process per way, over what it held with model and data loaded (Linux only).
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from common.memory import in_fresh_processes, peak_over_now
from common.record import main
from common.timing import take_turns

from gnomon.core.models import add_lora, load_model, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.train import Batches, Example, TrainConfig, causal_loss, fit, token_cross_entropy
from gnomon.core.train.memory import recomputed

STEPS = 8
ROUNDS = {"260k weights, all trained": 15, "SmolLM2-135M, LoRA": 1}


class Folder:
    """What the loop needs of a run, in a folder that goes with it."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory()
        self.folder, self.rng, self.is_main = Path(self._kept.name), Rng(0), True

    def log(self, **numbers: float) -> None:
        """Write one line, as a run does."""
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(f"{numbers}\n")

    def rewind(self, *, step: int) -> None:
        """There is nothing to drop."""

    @contextmanager
    def progress(self, total: int, label: str) -> Any:
        """No bar."""
        yield self

    def advance(self, n: int = 1, **shown: float) -> None:
        """No bar."""


def make(hidden: int, layers: int, heads: int, vocabulary: int, rank: int | None) -> Any:
    """A Llama with random weights, with adapters of a rank or none."""
    tokenizer = train_bpe(["def add(a, b):\n    return a + b\n"], 300)
    model = new_llama(tokenizer, hidden, layers, heads, 512, Rng(0))
    model.resize_token_embeddings(vocabulary, mean_resizing=False)
    return model if rank is None else add_lora(model, rank)


def rows(count: int, shortest: int, longest: int) -> list[Example]:
    """Token ids at random, of lengths spread evenly."""
    draw = Rng(1).python()
    lengths = [shortest + (longest - shortest) * i // max(1, count - 1) for i in range(count)]
    ids = [[draw.randrange(3, 300) for _ in range(length)] for length in lengths]
    return [Example(row, row) for row in ids]


def plainly(model: Any, batches: Batches) -> None:
    """The loop as one writes it down: loss, backward, clipping, AdamW, a schedule."""
    from transformers import get_linear_schedule_with_warmup

    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, STEPS)
    for step in range(STEPS):
        (batch,) = batches.at(step).micro
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss.item()  # to show it


def by_trainer(model: Any, batches: Batches) -> None:
    """The same batches through transformers' Trainer."""
    from transformers import Trainer, TrainingArguments

    whole = [batches.at(step).micro[0] for step in range(STEPS)]

    class Ready(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, i: int) -> Mapping[str, torch.Tensor]:
            return whole[i]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=1, max_steps=STEPS, learning_rate=1e-4, weight_decay=0.0, logging_steps=1,
            save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, optim="adamw_torch_fused",
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=Ready(), data_collator=lambda items: items[0]).train()


def by_fit(model: Any, batches: Batches, **settings: Any) -> None:
    """Our loop, its checkpoint at the end included."""
    cfg = TrainConfig(lr=1e-4, batch_size=batches.batch_size, max_steps=STEPS, epochs=99, **settings)
    fit(model, batches, causal_loss, cfg, run=Folder())


MODELS: dict[str, Callable[[], Any]] = {
    "260k weights, all trained": lambda: make(64, 4, 4, 512, None),
    "30M weights, LoRA": lambda: make(512, 8, 8, 8000, 8),
    "SmolLM2-135M, LoRA": lambda: add_lora(load_model("embedded:smollm2", dtype="float32"), 8),
}


def step_time() -> dict[str, Any]:
    """Eight steps of 4 x 128 tokens, each way on a model of its own."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    results = {}
    for name, model in MODELS.items():
        batches = Batches(rows(4 * STEPS, 128, 128), 4, pad_id=0, generator=Rng(0))
        ways = {"plain loop": plainly, "transformers Trainer": by_trainer, "gnomon": by_fit}
        made = {way: model() for way in ways}
        calls = {way: lambda call=call, m=made[way], b=batches: call(m, b) for way, call in ways.items()}  # type: ignore[misc]
        for call in calls.values():
            call()  # imports, first allocations
        seconds = take_turns(calls, rounds=ROUNDS.get(name, 7))
        results[name] = {
            "ms a step": {way: 1000 * value / STEPS for way, value in seconds.items()},
            "times the plain loop": {way: value / seconds["plain loop"] for way, value in seconds.items()},
        }
    return results


def packing() -> dict[str, Any]:
    """Texts of 16 to 256 tokens, 16 a step: packed into rows of 256 against padded to the longest."""
    examples = rows(16 * STEPS, 16, 256)
    ways = {
        name: Batches(examples, 16, pad_id=0, generator=Rng(0), max_length=256, packing=name == "packed")
        for name in ("padded", "packed")
    }
    models = {name: make(512, 4, 8, 4000, None) for name in ways}
    calls = {
        name: lambda name=name: by_fit(models[name], ways[name], packing=name == "packed", keep_checkpoints=0)  # type: ignore[misc]
        for name in ways
    }
    for call in calls.values():
        call()
    seconds = take_turns(calls, rounds=3)
    numbers = {
        n: sum(m["input_ids"].numel() for s in range(STEPS) for m in b.at(s).micro) for n, b in ways.items()
    }
    return {
        "tokens computed": numbers,
        "seconds": seconds,
        "times padded": seconds["packed"] / seconds["padded"],
    }


def _step_peak(way: str) -> float:
    torch.set_num_threads(1)
    model = make(256, 12, 4, 1000, None).train()
    ids = torch.randint(0, 1000, (8, 256), generator=Rng(2).torch())

    def step() -> Any:
        with recomputed(model) if way == "blocks computed again" else nullcontext():
            token_cross_entropy(model(input_ids=ids, use_cache=False).logits, ids).backward()

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return peak_over_now(step)


def _loss_peak(way: str) -> float:
    torch.set_num_threads(1)
    logits = torch.randn(1024, 49_152, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(0, 49_152, (1, 1024))

    def step() -> Any:
        if way == "chunks":
            token_cross_entropy(logits[None], labels).backward()
        else:
            flat = logits[:-1].float()
            torch.nn.functional.cross_entropy(flat, labels[0, 1:], reduction="sum").backward()
        return logits.grad

    return peak_over_now(step)


def memory() -> dict[str, Any]:
    """Peak MiB of a forward and a backward pass."""
    blocks = in_fresh_processes(_step_peak, ["blocks kept", "blocks computed again"])
    loss = in_fresh_processes(_loss_peak, ["whole", "chunks"])
    return {"a pass of 8 x 256 tokens, 12 blocks": blocks, "loss over 1,024 x 49,152 bf16 logits": loss}


if __name__ == "__main__":
    sys.exit(main("train", __doc__, {"step time": step_time, "packing": packing, "memory": memory}))
