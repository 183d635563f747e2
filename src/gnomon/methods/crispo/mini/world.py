"""The miniature's worlds and sizes, and the tiny Llama that is trained as task model.

A world has a hidden house style, a writer with another style, and documents whose references have the house's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from gnomon.core.models import new_llama, train_bpe, train_tiny
from gnomon.core.rng import Rng, seeded
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.core.train.batches import GlobalBatch
from gnomon.core.train.losses import IGNORED
from gnomon.methods.crispo.examples.data import Example, fill
from gnomon.methods.crispo.house import (
    ASPECTS,
    Document,
    Style,
    draw_documents,
    style_score,
    summary,
    with_request,
)
from gnomon.methods.crispo.house.facts import draw_facts, notes
from gnomon.methods.crispo.scoring.metrics import Metric, metric_of, open_metrics

TAG = "summary"
PROMPT = f"Summarise the notes.\n<notes>\nINSERT_INPUT_HERE\n</notes>\nWrite the summary inside <{TAG}> and </{TAG}>."
"""The manual prompt."""
HINTED = PROMPT.replace("</notes>", "</notes>\nKey phrases: INSERT_KEYPHRASES_HERE")
"""The manual prompt with key phrases."""


@dataclass(frozen=True)
class World:
    """A task: the house's style, the writer's, and rows."""

    style: Style
    """The house's, which references have."""
    default: Style
    """The writer's without requests."""
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    metric: Metric = field(default_factory=lambda: metric_of(style_score, "style"))
    """What the search maximises."""
    max_tokens: int = 512
    """Longest summary, in tokens."""

    @classmethod
    def draw(
        cls,
        rng: Rng,
        sizes: tuple[int, int, int],
        *,
        default: Style | None = None,
        longest: int = 4,
        **documents: Any,
    ) -> World:
        """A world.

        Args:
            rng: where it comes from.
            sizes: rows of train, dev and test.
            default: the writer's style; None draws one.
            longest: the house's summaries have one of the first so many lengths.
            **documents: for `draw_documents`.
        """
        draw = rng.child("style").python()
        style, drawn = (tuple(draw.randrange(4) for _ in range(8)) for _ in range(2))
        style = (draw.randrange(longest), *style[1:])
        train, dev, test = (
            list(map(as_example, draw_documents(n, style, rng, name=name, **documents)))
            for name, n in zip(("train", "dev", "test"), sizes, strict=True)
        )
        return cls(style, drawn if default is None else default, train, dev, test)

    @property
    def writer(self) -> str:
        """The simulated task model's parameters."""
        return f"default={''.join(map(str, self.default))}"


def as_example(document: Document) -> Example:
    """A document as a row of data."""
    phrases = document.row["phrases"]
    return Example(document.id, document.notes, document.reference, {"phrases": phrases})


def style_metric() -> Metric:
    """The share of the eight aspects in which a summary agrees with its reference."""
    return metric_of(style_score, "style")


def both_metrics() -> list[Metric]:
    """Metrics of a postscript: the style, to be kept, and the support by the notes, to be raised."""
    return [style_metric(), *open_metrics(["faithfulness"])]


# Sizes


@dataclass(frozen=True)
class ModelScale:
    """The trained task model and its task."""

    steps: int
    """Of training."""
    batch_size: int
    hidden: int
    layers: int
    heads: int
    lr: float
    rows: tuple[int, int, int]
    """Of train, dev and test."""
    search_steps: int
    fewest: int = 4
    """Facts of the shortest notes."""
    most: int = 4
    """Facts of the longest."""
    lengths: int = 2
    """Number of summary lengths that it learns."""
    positions: int = 512
    max_tokens: int = 120
    """Longest summary."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Scale:
    """Sizes of the miniature."""

    worlds: int
    """Simulated tasks; what a seed is to claims on simulated models."""
    rows: tuple[int, int, int]
    """Of train, dev and test."""
    steps: int
    """Of the main searches."""
    dose_steps: int
    """Of searches with other critics, of postscripts and of key phrases."""
    model: ModelScale

    @property
    def device(self) -> str:
        """Where the task model is trained."""
        return self.model.device


SCALES = {
    "smoke": Scale(2, (6, 6, 6), 5, 5, ModelScale(2, 4, 32, 2, 2, 3e-3, (4, 4, 4), 1, max_tokens=8)),
    "mini": Scale(10, (50, 50, 100), 20, 10, ModelScale(560, 16, 96, 3, 4, 3e-3, (40, 40, 100), 8)),
    "gpu": Scale(
        10,
        (50, 50, 100),
        20,
        10,
        ModelScale(
            4000,
            256,
            640,
            10,
            10,
            6e-4,
            (1000, 500, 500),
            8,
            6,
            8,
            4,
            1024,
            200,
            precision="bf16",
            device="cuda",
        ),
    ),
}


# The trained task model

VOCABULARY = 900
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
"""Messages one after another, each followed by an empty line."""


class FreshSummaries:
    """Batches of prompts with their summaries, drawn anew for every step.

    A prompt requests levels of some aspects; the others have the default style's.

    Args:
        tokenizer: of the model.
        default: the style without requests.
        scale: sizes.
        rng: names the draws.
    """

    def __init__(self, tokenizer: Any, default: Style, scale: ModelScale, rng: Rng) -> None:
        self.tokenizer, self.default, self.scale, self.rng = tokenizer, default, scale, rng

    def __len__(self) -> int:
        return self.scale.steps

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        draw = self.rng.child("summaries", step, process).python()
        pairs = [
            lesson(self.default, self.scale, draw) for _ in range(-(-self.scale.batch_size // processes))
        ]
        return as_batch(self.tokenizer, pairs, processes)


def lesson(default: Style, scale: ModelScale, draw: Any) -> tuple[str, str]:
    """A filled prompt and its summary."""
    style, prompt = list(default), PROMPT
    for aspect in draw.sample(range(len(ASPECTS)), draw.randint(0, len(ASPECTS))):
        style[aspect] = draw.randrange(scale.lengths if aspect == 0 else 4)
        prompt = with_request(prompt, aspect, style[aspect])
    facts = draw_facts(draw.randint(scale.fewest, scale.most), draw)
    written = summary(facts, tuple(style))
    return f"{fill(prompt, {'input': notes(facts)})}\n\n", f"<{TAG}>\n{written}\n</{TAG}>"


def as_batch(tokenizer: Any, pairs: list[tuple[str, str]], processes: int) -> GlobalBatch:
    """Pairs as one micro-batch, padded on the right; the loss counts summaries only."""
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    summaries = [
        [*ids, tokenizer.eos_token_id] for ids in tokenizer([text for _, text in pairs])["input_ids"]
    ]
    width = max(len(a) + len(b) for a, b in zip(prompts, summaries, strict=True))
    ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for i, (a, b) in enumerate(zip(prompts, summaries, strict=True)):
        ids[i, : len(a) + len(b)] = torch.tensor(a + b)
        labels[i, len(a) : len(a) + len(b)] = torch.tensor(b)
        mask[i, : len(a) + len(b)] = 1
    micro = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return GlobalBatch([micro], sum(map(len, summaries)) * processes)


def train_writer(default: Style, scale: ModelScale, part: PartOfRun) -> Path:
    """Folder of a trained writer with `default` as its own style."""
    draw = part.rng.child("text").python()
    tokenizer = train_bpe(("".join(lesson(default, scale, draw)) for _ in range(300)), VOCABULARY)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = new_llama(
        tokenizer, scale.hidden, scale.layers, scale.heads, scale.positions, part.rng.child("model")
    )
    cfg = TrainConfig(
        lr=scale.lr,
        batch_size=scale.batch_size,
        warmup_ratio=min(1.0, 20 / scale.steps),
        precision=scale.precision,
        checkpoint_every=0,
    )
    folder = part.folder / "writer"
    with seeded(part.rng.child("training")):
        train_tiny(
            model,
            FreshSummaries(tokenizer, default, scale, part.rng),
            cfg,
            part,
            device=scale.device,
            tokenizer=tokenizer,
            folder=folder,
        )
    return folder
