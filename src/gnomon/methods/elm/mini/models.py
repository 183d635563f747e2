"""The miniature's models: a base that has read the world, a judge that knows its language and none of its facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.models import new_llama, train_tiny
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import GlobalBatch, TrainConfig
from gnomon.methods.elm.erasure.design import Erasure
from gnomon.methods.elm.evaluation.measures import FORGET, Exam
from gnomon.methods.elm.mini.world import (
    DOMAINS,
    TEMPLATES,
    TOKENS,
    World,
    Writer,
    build,
    personas,
    word_tokenizer,
)


@dataclass(frozen=True)
class Scale:
    """How large the miniature is and how it is trained."""

    entities: int
    """Per domain."""
    values: int
    relations: int
    """0: one fact per entity."""
    hidden: int
    layers: int
    heads: int
    base_steps: int
    judge_steps: int
    base_batch: int
    base_lr: float
    design: Erasure
    """ELM's."""
    elm_steps: int
    elm_lr: float
    batch: int
    """Forget texts per step, of every arm."""
    texts: int
    """Forget texts in all."""
    rmu_c: tuple[float, ...]
    rmu_lr: tuple[float, ...]
    rmu_steps: tuple[int, ...]
    rivals: dict[str, tuple[float, tuple[int, ...]]]
    """Learning rate of the other baselines, and after which steps they are measured."""
    etas: tuple[float, ...]
    """Other strengths, with --full."""
    fluent_texts: int
    prompts: int
    """Answers that are judged."""
    probe_contexts: int
    """Texts in front of each question of a probe."""
    relearn: tuple[int, ...]
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["no", "bf16"] = "no"


_DESIGN = Erasure(
    eta=1.1, eta_schedule="constant", top_k=20, temperature=1.2, rank=4, alpha=16, dropout=0.0, layers="0,2",
    fluency_every=4, norms_every=20,
)  # fmt: skip


def _rivals(share: float, *steps: tuple[int, ...]) -> dict[str, tuple[float, tuple[int, ...]]]:
    """Learning rates as they were tuned for the miniature, times `share`."""
    rates = {"graddiff": 2e-4, "ga": 2e-4, "npo": 3e-4, "repnoise": 1e-3, "whp": 3e-4}
    return {name: (lr * share, after) for (name, lr), after in zip(rates.items(), steps, strict=True)}


SCALES = {
    "smoke": Scale(
        6, 6, 0, 32, 2, 2, 6, 4, 8, 3e-3, _DESIGN, 4, 1e-3, 4, 16, (6.5,), (2e-3,), (2, 4),
        _rivals(1, (2, 4), (2,), (2,), (2,), (2,)), (5.0,), 8, 4, 2, (1, 2),
    ),
    "mini": Scale(
        20, 6, 0, 96, 4, 4, 600, 150, 48, 3e-3, _DESIGN, 50, 2e-3, 16, 400, (6.5, 20.0), (2e-3, 5e-3), (60, 120),
        _rivals(1, (10, 15, 20, 40), (10, 15), (10, 20, 40), (40,), (40,)), (1.0, 1.5, 2.0, 5.0), 128, 40, 6, (1, 10, 50),
    ),
    "gpu": Scale(
        200, 6, 5, 768, 12, 12, 2400, 800, 512, 6e-4, replace(_DESIGN, layers="0,4"), 300, 5e-4, 32, 8_000,
        (6.5, 20.0), (5e-4, 1e-3), (150, 300), _rivals(0.2, (10, 20, 40, 80), (10, 20), (20, 40, 80), (80,), (80,)),
        (1.0, 5.0, 20.0, 1000.0), 512, 200, 4, (1, 10, 50), device="cuda", precision="bf16",
    ),
}  # fmt: skip


class Rows:
    """Documents of equal length, read once in order.

    Args:
        ids: token ids `[N, T]`.
        batch_size: documents per step.
    """

    def __init__(self, ids: NDArray[np.int64], batch_size: int):
        self.ids, self.batch_size = ids, batch_size

    def __len__(self) -> int:
        return len(self.ids) // self.batch_size

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The documents of a step."""
        whole = torch.from_numpy(self.ids[step * self.batch_size : (step + 1) * self.batch_size])
        mine = whole[process::processes]
        return GlobalBatch([{"input_ids": mine, "labels": mine}], self.batch_size * (self.ids.shape[1] - 1))


@dataclass(frozen=True)
class Stage:
    """World, models, texts and exam that all arms of one seed share."""

    world: World
    base: Any
    judge: Any
    tokenizer: Any
    forget: list[str]
    """Texts that the arms erase by."""
    retain: list[str]
    """Texts that they keep."""
    exam: Exam
    """What is measured."""


def stage(scale: Scale, part: PartOfRun, base_part: PartOfRun, judge_part: PartOfRun) -> Stage:
    """World, models and texts of one seed; models are trained, or read back from an interrupted run."""
    rng = part.rng
    world = build(scale.entities, scale.values, scale.relations, rng)
    tokenizer = word_tokenizer(world.vocabulary())
    base = train_model(scale, world, tokenizer, scale.base_steps, base_part, truth=True)
    judge = train_model(scale, world, tokenizer, scale.judge_steps, judge_part, truth=False)
    wordings = [0, 1] if scale.relations else None
    writer = Writer(world, rng.child("forget"), templates=wordings)
    forget = [writer.document("plain", "z") for _ in range(scale.texts)]
    writer = Writer(world, rng.child("retain"))
    retain = [writer.document("plain" if i % 2 else "filler", "m") for i in range(scale.texts)]
    return Stage(world, base, judge, tokenizer, forget, retain, make_exam(scale, world, rng.child("exam")))


def train_model(
    scale: Scale, world: World, tokenizer: Any, steps: int, part: PartOfRun, *, truth: bool
) -> Any:
    """A model that has read so many steps of documents, true ones or such whose values are drawn."""
    writer = Writer(world, part.rng.child("documents"), truth=truth)
    table = tokenizer.get_vocab()
    ids = np.array(
        [[table[word] for word in writer.document().split()] for _ in range(steps * scale.base_batch)]
    )
    model = new_llama(tokenizer, scale.hidden, scale.layers, scale.heads, 4 * TOKENS, part.rng.child("model"))
    cfg = TrainConfig(
        lr=scale.base_lr, batch_size=scale.base_batch, schedule="cosine", warmup_ratio=0.1,
        precision=scale.precision, checkpoint_every=0,
    )  # fmt: skip
    return train_tiny(model, Rows(ids, scale.base_batch), cfg, part, device=scale.device)


def make_exam(scale: Scale, world: World, rng: Rng) -> Exam:
    """Questions about both domains, beginnings of forget texts, texts to read, and a probe's items."""
    questions = {FORGET: world.questions("z", rng), "retain": world.questions("m", rng)}
    if scale.relations:
        questions["forget, held-out wording"] = world.questions("z", rng, len(TEMPLATES) - 1)
    writer = Writer(world, rng.child("texts"))
    texts = {
        "forget": [writer.document("plain", "z") for _ in range(32)],
        "retain": [writer.document("plain", "m") for _ in range(32)],
        "generic": [writer.document("filler") for _ in range(32)],
    }
    prompts = [" ".join(writer.document("plain", "z").split()[:8]) for _ in range(scale.prompts)]
    return Exam(
        questions,
        prompts,
        texts,
        "options",
        personas(),
        [DOMAINS["z"]],
        probe_of(world, scale.probe_contexts, rng.child("probe")),
        GenConfig(max_new_tokens=24),
        64,
    )


def probe_of(world: World, contexts: int, rng: Rng) -> Sequence[tuple[str, int, str]]:
    """Questions of the forgotten domain behind sentences about nothing: text, the right value, the entity."""
    writer, draw = Writer(world, rng.child("contexts")), rng.child("order").python()
    return [
        (f"{writer.filler()} {world.question(key, draw).question}", world.facts[key], f"{key[0]}{key[1]}")
        for key in world.keys("z")
        if key[2] == 0
        for _ in range(contexts)
    ]
