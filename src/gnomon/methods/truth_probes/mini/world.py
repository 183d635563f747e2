"""A small world in which the frequent and the true differ, so that a model can hold more than its greedy answers show.

Every subject has one true answer, a popular wrong one and a rare wrong one, and for many subjects most documents are wrong. Behind
the answer a document often carries a cue that confirms or doubts it, by the truth of that very answer. To predict the cue a model
needs a judgement of truth at the answer's token, which greedy decoding of the answer does not use. This world is constructed; with
cues of probability 0 the construction is gone.

Below the world: the scales, and the models trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.models import ModelHandle, new_llama, train_bpe, train_tiny
from gnomon.core.models.tiny import whole_words
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.core.train.batches import BatchSource, GlobalBatch
from gnomon.core.train.losses import IGNORED
from gnomon.methods.truth_probes.answers.data import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWERS = 12
"""Answers of a task."""

SKILLS = (0, 1, 0, 1)
"""Skill of each task: tasks of one skill share their cues."""

WRONG_SHARES, CHANCES = (0.05, 0.35, 0.55, 0.80), (0.4, 0.2, 0.2, 0.2)
"""Share of wrong documents of a subject, and how likely each is."""

POPULAR = 0.85
"""Share of the popular one among a subject's wrong answers."""

CUED = 0.8
"""Share of documents with a cue."""

FILLERS = tuple(f"so{i}" for i in range(8))
CONFIRMED = (("indeed", "truly"), ("proven", "sure"))
DOUBTED = (("allegedly", "rumour"), ("disputed", "unclear"))
"""Skill -> its cues."""


@dataclass(frozen=True)
class World:
    """True, popular and rare answers of every subject."""

    true: NDArray[np.int64]
    """[tasks, subjects], number of the true answer."""
    popular: NDArray[np.int64]
    """The popular wrong answer."""
    rare: NDArray[np.int64]
    """The rare one."""
    wrong_share: NDArray[np.float64]
    """Share of the subject's documents that are wrong."""
    cued: float
    """Share of the documents that carry a cue."""

    @classmethod
    def draw(cls, subjects: int, rng: Rng, cued: float = CUED) -> World:
        """A world of `subjects` subjects per task. The same `rng` gives the same answers with and without cues."""
        draw = rng.child("world").numpy()
        shape = (len(SKILLS), subjects)
        picks = draw.random((*shape, ANSWERS)).argsort(-1)[..., :3]
        shares = draw.choice(WRONG_SHARES, p=CHANCES, size=shape)
        return cls(picks[..., 0], picks[..., 1], picks[..., 2], shares, cued)

    @property
    def subjects(self) -> int:
        """Subjects per task."""
        return int(self.true.shape[1])

    def questions(self) -> list[Question]:
        """One question per subject, named by task and subject; its wrong answers are the other answers of the task."""
        return [
            Question(
                f"t{t} {_subject(t, s)}",
                [_answer(t, int(self.true[t, s]))],
                [_answer(t, a) for a in range(ANSWERS) if a != self.true[t, s]],
                id=f"t{t}-{s}",
                task="choice",
            )
            for t in range(len(SKILLS))
            for s in range(self.subjects)
        ]

    def documents(self, count: int, draw: np.random.Generator) -> list[list[str]]:
        """Documents as words: a question, one or two fillers, an answer, a cue or a filler, a filler."""
        t, s = draw.integers(len(SKILLS), size=count), draw.integers(self.subjects, size=count)
        is_wrong = draw.random(count) < self.wrong_share[t, s]
        wrong = np.where(draw.random(count) < POPULAR, self.popular[t, s], self.rare[t, s])
        answer = np.where(is_wrong, wrong, self.true[t, s])
        is_cued, which = draw.random(count) < self.cued, draw.integers(2, size=count)
        fill, two = draw.integers(len(FILLERS), size=(count, 4)), draw.integers(2, size=count)
        rows = []
        for i in range(count):
            cues = (DOUBTED if is_wrong[i] else CONFIRMED)[SKILLS[t[i]]]
            filler = [FILLERS[k] for k in fill[i]]
            rows.append(
                [
                    "Q:", f"t{t[i]}", _subject(t[i], s[i]), "A:", *filler[: 1 + two[i]], _answer(t[i], answer[i]),
                    cues[which[i]] if is_cued[i] else filler[2], filler[3],
                ]
            )  # fmt: skip
        return rows


def _subject(task: int, subject: int) -> str:
    return f"t{task}s{subject}"


def _answer(task: int, answer: int) -> str:
    return f"t{task}a{answer}"


def world_tokenizer(subjects: int) -> PreTrainedTokenizerFast:
    """The tokenizer of all worlds with so many subjects."""
    tasks = range(len(SKILLS))
    cues = [word for pairs in (CONFIRMED, DOUBTED) for pair in pairs for word in pair]
    words = ["Q:", "A:", *FILLERS, *cues, *(f"t{t}" for t in tasks)]
    words += [_answer(t, a) for t in tasks for a in range(ANSWERS)]
    words += [_subject(t, s) for t in tasks for s in range(subjects)]
    return whole_words(words, begins=True)


class FreshDocuments:
    """Batches of documents drawn anew for every step.

    Args:
        world: where they come from.
        tokenizer: of the world.
        batch_size: documents per step.
        steps: steps in all.
        rng: names the draws.
    """

    def __init__(
        self, world: World, tokenizer: PreTrainedTokenizerFast, batch_size: int, steps: int, rng: Rng
    ) -> None:
        self.world, self.batch_size, self.steps, self.rng = world, batch_size, steps, rng
        self.ids = tokenizer.get_vocab()

    def __len__(self) -> int:
        return self.steps

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        draw = self.rng.child("documents", step, process).numpy()
        rows = [
            ["<s>", *words, "</s>"] for words in self.world.documents(-(-self.batch_size // processes), draw)
        ]
        return as_batch([[self.ids[word] for word in row] for row in rows], self.ids["<pad>"], processes)


def as_batch(rows: Sequence[Sequence[int]], pad_id: int, processes: int = 1) -> GlobalBatch:
    """Rows of token ids as one micro-batch to learn all tokens of, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    labels = ids.masked_fill(mask == 0, IGNORED)
    micro = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return GlobalBatch([micro], sum(len(row) - 1 for row in rows) * processes)


# Scales and trained models.


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
    tokenizer = world_tokenizer(world.subjects)
    model = new_llama(
        tokenizer,
        scale.hidden,
        scale.layers,
        scale.heads,
        32,
        part.rng.child("model"),
        intermediate=2 * scale.hidden,
        is_tied=False,
    )
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
    test_pairs, read = pairs[: scale.sums], pairs[scale.sums :]
    questions = [Question(f"{a}+{b}", [str(a + b)], [], id=f"{a}+{b}", task="number") for a, b in test_pairs]
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
    return ModelHandle(train_tiny(model, batches, cfg, part, device=scale.device), tokenizer)
