"""Sizes, documents and models of the miniature: an untrained Longformer, and a T5 that learns to follow hints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import torch
from torch import Tensor

from gnomon.core.models.tiny import BOS, EOS, PAD, UNK
from gnomon.core.rng import Rng, seeded
from gnomon.core.run import PartOfRun
from gnomon.core.train import GlobalBatch, TrainConfig, fit
from gnomon.methods.sigext.council import KINDS, draw_facts, vocabulary, write_document, write_summary
from gnomon.methods.sigext.extractor.batches import IGNORED, padded
from gnomon.methods.sigext.phrases.data import Columns, Reading, Row, to_row
from gnomon.methods.sigext.summaries.prompts import Template, build_prompt, load_template

TEMPLATE: Template = load_template("general")


@dataclass(frozen=True)
class Scale:
    """Sizes of the miniature."""

    train: int
    """Documents that the extractor learns from."""
    validation: int
    test: int
    extractor_steps: int
    writer_steps: int
    """Steps of the T5."""
    facts: int = 9
    """Facts of a document."""
    hidden: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 16
    positions: int = 512
    width: int = 96
    """Of the T5."""
    depth: int = 2
    """Layers of the T5's encoder, and of its decoder."""
    batch_size: int = 16
    writer_batch: int = 16
    lr: float = 1e-3
    writer_lr: float = 3e-3
    docstrings: int = 300
    """Documents of the smoke test on real text."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"


SCALES = {
    "smoke": Scale(16, 4, 4, 4, 3, hidden=16, layers=1, width=16, depth=1, batch_size=4, writer_batch=4, docstrings=24),
    "mini": Scale(400, 100, 200, 250, 550, docstrings=700),
    "gpu": Scale(
        20_000, 500, 500, 4000, 20_000, facts=180, hidden=768, layers=12, heads=12, window=512, positions=4098,
        width=512, depth=6, batch_size=8, writer_batch=16, lr=1e-4, writer_lr=3e-4, docstrings=1000,
        precision="bf16", device="cuda",
    ),
}  # fmt: skip


def tokenizer(template: Template = TEMPLATE) -> Any:
    """A fast tokenizer whose tokens are the world's words, in any case, the request's words and single marks."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    request = re.findall(
        r"\w+|[^\w\s]+", template.text.lower().replace("<text>", "").replace("<phrases>", "")
    )
    words = dict.fromkeys((BOS, EOS, PAD, UNK, ".", ",", ":", ";", *vocabulary(), *request))
    table = {word: i for i, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(table, unk_token=UNK))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=inner,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )


def save_encoder(scale: Scale, words: Any, folder: Path, rng: Rng) -> Path:
    """An untrained Longformer of the scale's size with its tokenizer, as `sigext train` would be given one."""
    from transformers import LongformerConfig, LongformerForTokenClassification

    new_config: Any = LongformerConfig
    config = new_config(
        vocab_size=len(words),
        hidden_size=scale.hidden,
        num_hidden_layers=scale.layers,
        num_attention_heads=scale.heads,
        intermediate_size=4 * scale.hidden,
        attention_window=scale.window,
        max_position_embeddings=scale.positions,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        sep_token_id=words.eos_token_id,
        num_labels=2,
    )
    with seeded(rng.child("extractor")):
        LongformerForTokenClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def make_rows(n: int, scale: Scale, policy: tuple[str, ...], noise: Random, name: str) -> list[Any]:
    """Documents with references that follow `policy`, as raw rows; each has something to say."""
    rows: list[dict[str, str]] = []
    while len(rows) < n:
        facts = draw_facts(scale.facts, noise)
        summary = write_summary(facts, policy)
        if summary:
            rows.append(
                {"id": f"{name}-{len(rows)}", "document": write_document(facts, noise), "summary": summary}
            )
    return rows


def train_writer(scale: Scale, words: Any, part: PartOfRun, folder: Path) -> Path:
    """The T5, trained on documents with policies drawn anew each time, saved as an ordinary folder."""
    from transformers import T5Config, T5ForConditionalGeneration

    if (folder / "model.safetensors").exists():
        return folder
    new_config: Any = T5Config
    config = new_config(
        vocab_size=len(words),
        d_model=scale.width,
        d_kv=scale.width // 4,
        d_ff=4 * scale.width,
        num_layers=scale.depth,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=words.pad_token_id,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
    )
    with seeded(part.rng.child("writer")):
        model: Any = T5ForConditionalGeneration(config)
    start_as_copier(model)
    model.to(scale.device)
    cfg = TrainConfig(
        lr=scale.writer_lr,
        batch_size=scale.writer_batch,
        epochs=1,
        warmup_ratio=0.05,
        checkpoint_every=200,
        precision=scale.precision,
    )
    fit(model, _Lessons(scale, words, part.rng.child("lessons")), _loss, cfg, run=part)
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def start_as_copier(model: Any) -> None:
    """Begin a T5 from weights that copy, instead of from noise.

    What attention reads it passes on unchanged; two heads of the encoder look at the token before and one at the token behind; the
    decoder looks where its own token stands. A model of this size that starts from noise has not found this within a thousand steps
    (see docs/design/sigext.md). What to copy, and what to say of it, is left to learn.
    """
    with torch.no_grad():
        for name, part in model.named_modules():
            if not name.endswith(("SelfAttention", "EncDecAttention")):
                continue
            same = torch.eye(part.inner_dim, device=part.v.weight.device)
            part.v.weight.copy_(same)
            part.o.weight.copy_(same if "EncDec" in name or "encoder" in name else 0.1 * same)
            if "EncDec" in name:
                part.q.weight.add_(0.3 * same)
                part.k.weight.add_(0.3 * same)
            elif "encoder" in name and part.has_relative_attention_bias:
                steps = torch.tensor([[-1, 1]])
                sizes = part.relative_attention_num_buckets, part.relative_attention_max_distance
                before, behind = part._relative_position_bucket(steps, True, *sizes)[0]
                part.relative_attention_bias.weight[before, :2] = 6.0
                part.relative_attention_bias.weight[behind, 2] = 6.0


class _Lessons:
    """Batches of (prompt, summary): a random policy, and in half of the prompts the names of its facts as hints."""

    def __init__(self, scale: Scale, words: Any, rng: Rng):
        self.scale, self.words, self.rng = scale, words, rng

    def __len__(self) -> int:
        return self.scale.writer_steps

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """Fresh documents for every step."""
        noise = self.rng.child(step).python()
        n = self._n_facts(step / len(self))
        pairs = [self._pair(n, noise) for _ in range(self.scale.writer_batch)][process::processes]
        batch = padded([self._ids(prompt) for prompt, _ in pairs], self.words.pad_token_id)
        targets = [[*self._ids(summary), self.words.eos_token_id] for _, summary in pairs]
        width = max(map(len, targets))
        labels = torch.tensor([[*row, *[IGNORED] * (width - len(row))] for row in targets])
        return GlobalBatch([{**batch, "labels": labels}], int((labels != IGNORED).sum()) * processes)

    def _n_facts(self, progress: float) -> int:
        """Few at first: a model learns to copy where there is little to choose from."""
        few = 2 if progress < 1 / 9 else 4 if progress < 2 / 9 else self.scale.facts
        return min(few, self.scale.facts)

    def _pair(self, n: int, noise: Random) -> tuple[str, str]:
        summary, is_hinted = "", noise.random() < 0.5
        while not summary:  # hints may be of any number of kinds, since those of other arms are
            policy = tuple(noise.sample(tuple(KINDS), noise.randint(1, 4) if is_hinted else 2))
            facts = draw_facts(n, noise)
            summary = write_summary(facts, policy)
        document = write_document(facts, noise)
        hints: list[str] = []
        if is_hinted:
            hints = [fact.thing for fact in facts if fact.kind in policy]
            # Phrases that name no fact must not confuse: a real model leaves them aside.
            hints += [noise.choice(KINDS[noise.choice(facts).kind][:2]) for _ in range(noise.randrange(3))]
            noise.shuffle(hints)
        return build_prompt(document, hints, TEMPLATE), summary

    def _ids(self, text: str) -> list[int]:
        return list(self.words(text)["input_ids"])


def _loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy summed over the targets; a sequence-to-sequence model shifts its labels itself."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs, labels=batch["labels"]).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def as_rows(raws: list[dict[str, str]]) -> list[Row]:
    """Raw rows with their phrases and labels."""
    return [to_row(raw, Reading(), Columns(), raw["id"]) for raw in raws]
