"""A task model of the miniature's own: a tiny Llama trained to write summaries in the style that the prompt asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng, seeded
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig, causal_loss, fit
from gnomon.core.train.batches import GlobalBatch
from gnomon.core.train.losses import IGNORED
from gnomon.methods.crispo.examples.data import fill
from gnomon.methods.crispo.house import ASPECTS, Style, summary, with_request
from gnomon.methods.crispo.house.facts import draw_facts, notes
from gnomon.methods.crispo.mini.world import PROMPT, TAG, ModelScale

VOCABULARY = 900
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
"""Messages one after another, each with an empty line behind."""


class FreshSummaries:
    """Batches of prompts with their summaries, drawn anew for every step.

    A prompt asks for any level of some aspects; for the others the writer has its own.

    Args:
        tokenizer: reads and writes.
        default: the writer's own style.
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
    """A prompt as the model will read it, and what it should write."""
    style, prompt = list(default), PROMPT
    for aspect in draw.sample(range(len(ASPECTS)), draw.randint(0, len(ASPECTS))):
        style[aspect] = draw.randrange(scale.lengths if aspect == 0 else 4)
        prompt = with_request(prompt, aspect, style[aspect])
    facts = draw_facts(draw.randint(scale.fewest, scale.most), draw)
    written = summary(facts, tuple(style))
    return f"{fill(prompt, {'input': notes(facts)})}\n\n", f"<{TAG}>\n{written}\n</{TAG}>"


def as_batch(tokenizer: Any, pairs: list[tuple[str, str]], processes: int) -> GlobalBatch:
    """Pairs as one micro-batch of which what is written is learned, padded on the right."""
    asked = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    said = [[*ids, tokenizer.eos_token_id] for ids in tokenizer([text for _, text in pairs])["input_ids"]]
    width = max(len(a) + len(b) for a, b in zip(asked, said, strict=True))
    ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for i, (a, b) in enumerate(zip(asked, said, strict=True)):
        ids[i, : len(a) + len(b)] = torch.tensor(a + b)
        labels[i, len(a) : len(a) + len(b)] = torch.tensor(b)
        mask[i, : len(a) + len(b)] = 1
    micro = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return GlobalBatch([micro], sum(map(len, said)) * processes)


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
    with seeded(part.rng.child("training")):
        fit(
            model.to(scale.device),
            FreshSummaries(tokenizer, default, scale, part.rng),
            causal_loss,
            cfg,
            run=part,
        )
    folder = part.folder / "writer"
    model.eval().cpu().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
