"""The miniature's world: four classes of words, prompts that name a class, and a reward for its words at the end of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.models import new_llama, train_tiny, whole_words
from gnomon.core.rollout import Sample, Task
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.core.train.batches import Batches, Example
from gnomon.core.train.losses import IGNORED

CLASSES = ("c0", "c1", "c2", "c3")
WORDS = tuple(f"w{i}" for i in range(32))
SEP = "go"
PRIOR = 0.4
"""Share of good words in what the policy learned to write first."""
SPREAD = 0.07
"""What the reward is divided by: about the deviation of the share over answers."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the miniature."""

    hidden: int = 32
    layers: int = 1
    answer: int = 48
    """Tokens T of an answer."""
    context: int = 96
    sft_steps: int = 120
    updates: int = 96
    """Updates after which arms are compared."""
    longest: int = 144
    """Updates of the arms of the claims: they go on, so that slow ones pass 60 % too, and are not all counted as one."""
    rollouts: int = 32
    """Answers of an update."""
    last: int = 12
    """Updates that the final share is a mean of."""
    text_updates: int = 12
    text_sft: int = 300
    """Steps of the first stage on real sentences."""
    device: str = "cpu"


SCALES: Mapping[str, Scale] = {
    "smoke": Scale(answer=12, context=32, sft_steps=10, updates=4, longest=4, rollouts=8, last=2, text_updates=2, text_sft=4),
    "mini": Scale(),
    "gpu": Scale(
        hidden=768, layers=12, answer=256, context=512, sft_steps=600, updates=150, longest=150, rollouts=512, text_updates=40,
        text_sft=600, device="cuda",
    ),
}  # fmt: skip


def tokenizer() -> Any:
    """One token a word; every text begins with `<s>`: 40 ids with the four special ones, and the word that ends a prompt."""
    return whole_words([*CLASSES, *WORDS, SEP], begins=True)


def tasks() -> list[Task]:
    """One prompt for each class."""
    return [Task(name, f"{name} {SEP}", meta={"number": i}) for i, name in enumerate(CLASSES)]


def share_good(samples: Sequence[Sample], length: int) -> list[float]:
    """Share of an answer's `length` words that belong to the class of its prompt; words that are missing are not good."""
    return [
        sum(word in _INDEX and _INDEX[word] % 4 == s.task.meta["number"] for word in s.completion.split())
        / length
        for s in samples
    ]


_INDEX = {word: i for i, word in enumerate(WORDS)}


def first_policy(scale: Scale, words: Any, part: PartOfRun) -> Any:
    """The policy of the first stage: it writes words of the class with probability 0.4."""
    model = new_llama(
        words, scale.hidden, scale.layers, 2 if scale.hidden < 64 else scale.hidden // 64, scale.context,
        part.rng.child("policy"), intermediate=2 * scale.hidden, is_tied=False,
    )  # fmt: skip
    rng = part.rng.child("answers").numpy()
    rows, ids = [], words.convert_tokens_to_ids(list(WORDS))
    for i in range(scale.sft_steps * 32):
        number = i % 4
        is_good = rng.random(scale.answer) < PRIOR
        good = rng.integers(0, 8, scale.answer) * 4 + number
        bad = rng.integers(0, 8, scale.answer) * 4 + (number + rng.integers(1, 4, scale.answer)) % 4
        answer = [ids[j] for j in (is_good * good + ~is_good * bad).tolist()]
        prompt = words(f"{CLASSES[number]} {SEP}")["input_ids"]
        rows.append(Example([*prompt, *answer], [IGNORED] * len(prompt) + answer))
    cfg = TrainConfig(lr=3e-3, batch_size=32, max_length=scale.context, checkpoint_every=0, weight_decay=0.0)
    batches = Batches(rows, 32, pad_id=words.pad_token_id, generator=part.rng.child("batches"))
    return train_tiny(model, batches, cfg, part, device=scale.device)
