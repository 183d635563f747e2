"""The worlds: choose a method, which the model can see, and carry it out; and a chain in which it cannot see its slips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gnomon.core.models import new_llama, train_tiny, whole_words
from gnomon.core.rng import Rng
from gnomon.core.rollout import Reward, Sample, Task
from gnomon.core.run import PartOfRun
from gnomon.core.train import Batches, Example, TrainConfig

TaskName = Literal["method", "chain"]

TYPES, METHODS, MODULUS, STEPS = 24, 4, 7, 6
SIZES = (0, 1, 1, 2, 4, 8, 8, 16)
"""Accepted pairs of methods, of 16, for one type after another: some are hopeless, some always right."""
STATES, TABLES = 31, 6
TALK = ("User:", "Assistant:", "again", "sofar", "Yes", "No")
"""What the carrier `text` needs."""


@dataclass(frozen=True)
class Scale:
    """Sizes of a miniature."""

    width: int = 64
    lm_steps: int = 400
    prompts: int = 1500
    """That are sampled from for labels."""
    k: int = 8
    steps: int = 1500
    """Of self-evaluation. The specification's 300 order samples hardly better than chance (seed 10: AUC .57; 1,500: .72)."""
    tests: int = 600
    n: int = 16
    device: str = "cpu"


SCALES = {
    "smoke": Scale(32, 12, 24, 4, 4, 12, 4),
    "mini": Scale(),
    "gpu": Scale(256, 2000, 6000, 8, 2000, 2000, 32, "cuda"),
}


def words() -> list[str]:
    """The vocabulary of both worlds."""
    return [
        *TALK, *(f"t{i}" for i in range(TYPES)), *(f"a{i}" for i in range(MODULUS)), *(f"b{i}" for i in range(MODULUS)),
        *(f"k{i}" for i in range(METHODS)), *(f"m{i}" for i in range(METHODS)), *(f"n{i}" for i in range(MODULUS)),
        *(f"o{i}" for i in range(TABLES)), *(f"s{i}" for i in range(STATES)),
    ]  # fmt: skip


@dataclass(frozen=True)
class World:
    """A world: its tasks, what is right in it, and how those who write demonstrations go about it."""

    name: TaskName
    accepted: Any
    """method: [24, 4, 4], whether a type accepts a pair."""
    mix: Any
    """method: [24, 16], how often a type's demonstrations choose a pair; chain: [6], how often a table's slip."""
    tables: Any = field(default=None)
    """chain: [6, 31], the state behind a state."""

    @classmethod
    def draw(cls, name: TaskName, rng: Rng) -> World:
        """A world of a seed."""
        draw = rng.child("world", name).numpy()
        if name == "chain":
            tables = np.array([draw.permutation(STATES) for _ in range(TABLES)])
            return cls(name, None, np.linspace(0.0, 0.3, TABLES), tables)
        accepted = np.zeros((TYPES, METHODS * METHODS), bool)
        for i in range(TYPES):
            accepted[i, draw.permutation(METHODS * METHODS)[: SIZES[i % len(SIZES)]]] = True
        mix = 0.85 * draw.dirichlet([0.5] * METHODS**2, TYPES) + 0.15 / METHODS**2
        return cls(name, accepted.reshape(TYPES, METHODS, METHODS), mix)

    @property
    def length(self) -> int:
        """Tokens of an answer."""
        return STEPS + (2 if self.name == "method" else 0)

    def size(self, task: Task) -> int:
        """Accepted pairs of a task's type; of a chain -1."""
        return -1 if self.name == "chain" else int(self.accepted[task.meta["type"]].sum())

    def tasks(self, count: int, rng: Rng) -> list[Task]:
        """Fresh tasks."""
        draw = rng.numpy()
        rows = []
        for i in range(count):
            if self.name == "chain":
                o, s = int(draw.integers(TABLES)), int(draw.integers(STATES))
                rows.append(Task(str(i), f"o{o} s{s}", meta={"type": o, "start": s}))
            else:
                t, a, b = int(draw.integers(TYPES)), int(draw.integers(MODULUS)), int(draw.integers(MODULUS))
                rows.append(Task(str(i), f"t{t} a{a} b{b}", meta={"type": t, "a": a, "b": b}))
        return rows

    def demonstration(self, task: Task, draw: np.random.Generator) -> str:
        """How somebody answered, who did not ask what is accepted."""
        meta = task.meta
        if self.name == "chain":
            state, states = meta["start"], []
            for _ in range(STEPS):
                slips = draw.random() < self.mix[meta["type"]]
                state = int(draw.integers(STATES)) if slips else int(self.tables[meta["type"]][state])
                states.append(f"s{state}")
            return " ".join(states)
        pair = int(draw.choice(METHODS * METHODS, p=self.mix[meta["type"]]))
        k, m = divmod(pair, METHODS)
        return " ".join([f"k{k}", f"m{m}", *(f"n{x}" for x in steps_of(meta["a"], meta["b"], k, m))])

    def is_right(self, task: Task, text: str) -> bool:
        """Whether an answer is accepted and ends in the right number."""
        parts = text.split()
        if len(parts) != self.length:
            return False
        if self.name == "chain":
            state = task.meta["start"]
            for _ in range(STEPS):
                state = int(self.tables[task.meta["type"]][state])
            return parts[-1] == f"s{state}"
        if parts[0][0] != "k" or parts[1][0] != "m":
            return False
        k, m = int(parts[0][1:]), int(parts[1][1:])
        right = steps_of(task.meta["a"], task.meta["b"], k, m)[-1]
        return bool(self.accepted[task.meta["type"], k, m]) and parts[-1] == f"n{right}"

    @property
    def reward(self) -> Reward:
        """1 where an answer is right; votes count last words."""

        def grade(samples: Sequence[Sample]) -> list[float]:
            return [float(self.is_right(s.task, s.completion)) for s in samples]

        return Reward("rule:world", grade, lambda text: text.split()[-1] if text.split() else None)


def steps_of(a: int, b: int, k: int, m: int) -> list[int]:
    """Six numbers mod 7 that a method leads to.

    >>> steps_of(1, 2, 0, 3)
    [4, 5, 0, 1, 3, 4]
    """
    x, numbers = a, []
    for i in range(STEPS):
        x = (x + (m if i == 0 else k + 1 if i % 2 else b)) % MODULUS
        numbers.append(x)
    return numbers


def train_policy(world: World, scale: Scale, part: PartOfRun) -> tuple[Any, Any, list[Example]]:
    """A model that has read demonstrations, its tokenizer, and demonstrations that it has not read."""
    tokenizer = whole_words(words())
    draw = part.rng.child("demonstrations", world.name).numpy()
    count = 128 * scale.lm_steps
    tasks = world.tasks(count + 512, part.rng.child("demonstrated", world.name))
    examples = []
    for task in tasks:
        prompt = list(tokenizer(task.prompt)["input_ids"])
        answer = list(tokenizer(world.demonstration(task, draw))["input_ids"])
        examples.append(Example([*prompt, *answer], [-100] * len(prompt) + answer))
    model = new_llama(tokenizer, scale.width, 2, 4, 64, part.rng.child("weights", world.name))
    cfg = TrainConfig(lr=3e-3, batch_size=128, warmup_ratio=0.05, checkpoint_every=0, keep_checkpoints=0)
    inner = part.within(f"lm-{world.name}", part.rng.child("lm", world.name))
    batches = Batches(examples[:count], 128, pad_id=tokenizer.pad_token_id, generator=inner.rng)
    train_tiny(model, batches, cfg, inner, device=scale.device)
    return model, tokenizer, examples[count:]
