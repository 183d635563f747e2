"""The miniature's scales and its trained models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.models import ModelHandle, new_llama, train_bpe
from gnomon.core.rng import Rng, seeded
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig, causal_loss, fit
from gnomon.core.train.batches import BatchSource, GlobalBatch
from gnomon.methods.truth_probes.mini_world import FreshDocuments, World, as_batch, world_tokenizer
from gnomon.methods.truth_probes.questions import Question


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    subjects: int
    """Per task."""
    samples: int
    """K."""
    steps: int
    hidden: int
    layers: int
    heads: int
    batch_size: int
    lr: float
    sums: int
    """Arithmetic questions that are asked."""
    sum_steps: int
    largest: int
    """Sums are of two numbers below this."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"


SCALES = {
    "smoke": Scale(15, 6, 150, 32, 2, 2, 48, 4e-3, 12, 150, 5),
    "mini": Scale(60, 10, 1300, 96, 3, 4, 96, 4e-3, 300, 500, 30),
    "gpu": Scale(2000, 30, 5000, 512, 8, 8, 1024, 6e-4, 5000, 3000, 300, precision="bf16", device="cuda"),
}


def train_world(world: World, scale: Scale, part: PartOfRun) -> ModelHandle:
    """A Llama that has read the world's documents."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = world_tokenizer(world.subjects)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=scale.hidden,
        intermediate_size=2 * scale.hidden,
        num_hidden_layers=scale.layers,
        num_attention_heads=scale.heads,
        num_key_value_heads=scale.heads,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(part.rng.child("model")):
        model = LlamaForCausalLM(config)
    documents = FreshDocuments(world, tokenizer, scale.batch_size, scale.steps, part.rng.child("documents"))
    return _trained(model, tokenizer, documents, scale, scale.steps, part)


class FreshSums:
    """Batches of sums with their results, drawn anew for every step.

    Args:
        tokenizer: of the characters.
        pairs: numbers to add.
        batch_size: sums per step.
        steps: steps in all.
        rng: names the draws.
    """

    def __init__(
        self, tokenizer: Any, pairs: Sequence[tuple[int, int]], batch_size: int, steps: int, rng: Rng
    ) -> None:
        self.tokenizer, self.batch_size, self.steps, self.rng = tokenizer, batch_size, steps, rng
        self.pairs = pairs

    def __len__(self) -> int:
        return self.steps

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        draw = self.rng.child("sums", step, process).python()
        pairs = draw.choices(self.pairs, k=-(-self.batch_size // processes))
        texts = [f"Q: {a}+{b}\nA: {a + b}\n" for a, b in pairs]
        return as_batch(self.tokenizer(texts)["input_ids"], self.tokenizer.pad_token_id, processes)


def train_sums(scale: Scale, part: PartOfRun) -> tuple[ModelHandle, list[Question]]:
    """A Llama over characters that has learned to add, and questions that it has not seen."""
    draw = part.rng.child("asked").python()
    pairs = [(a, b) for a in range(scale.largest) for b in range(scale.largest)]
    draw.shuffle(pairs)
    asked, read = pairs[: scale.sums], pairs[scale.sums :]
    questions = [Question(f"{a}+{b}", [str(a + b)], [], id=f"{a}+{b}", task="number") for a, b in asked]
    tokenizer = train_bpe(["0"], 259)
    model = new_llama(tokenizer, scale.hidden, scale.layers, scale.heads, 64, part.rng.child("model"))
    batches = FreshSums(tokenizer, read, scale.batch_size, scale.sum_steps, part.rng.child("batches"))
    return _trained(model, tokenizer, batches, scale, scale.sum_steps, part), questions


def _trained(
    model: Any, tokenizer: Any, batches: BatchSource, scale: Scale, steps: int, part: PartOfRun
) -> ModelHandle:
    cfg = TrainConfig(
        lr=scale.lr,
        batch_size=scale.batch_size,
        warmup_ratio=min(1.0, 30 / steps),
        precision=scale.precision,
        checkpoint_every=0,
    )
    fit(model.to(scale.device), batches, causal_loss, cfg, run=part)
    return ModelHandle(model.eval(), tokenizer)
