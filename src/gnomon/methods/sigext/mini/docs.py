"""The smoke test on real text: documentation strings, whose first paragraph is taken for their summary. No claims."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.models import train_bpe
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.methods.sigext.extractor.batches import padded, window_of
from gnomon.methods.sigext.extractor.model import Settings, SigExtModel
from gnomon.methods.sigext.extractor.training import train_extractor, weighted_loss
from gnomon.methods.sigext.mini.models import Scale, save_encoder
from gnomon.methods.sigext.phrases.data import Columns, Reading, Row, to_row
from gnomon.methods.sigext.phrases.selection import measure
from gnomon.methods.sigext.summaries.baselines import rank_phrases

LEAST_WORDS = 60
"""Of a body."""
LONGEST_WORDS = 300
FEW = 30
PASSES = 2


def docstrings(n: int, rng: Rng) -> list[Row]:
    """Bodies of documentation with their first paragraphs, drawn at random; each has a phrase that both say.

    A few come from the topics of `pydoc` alone, which are quickly read.
    """
    from pydoc_data.topics import topics

    texts = (
        list(topics.items()) if n < FEW else [(piece.name, piece.text) for piece in stdlib_documentation()]
    )
    found = []
    for name, text in texts:
        head, _, body = text.partition("\n\n")
        if n < FEW:  # a topic begins with its title
            head, _, body = body.partition("\n\n")
        words = body.split()
        if len(words) >= LEAST_WORDS and len(head.split()) >= 4:
            found.append({"id": name, "document": " ".join(words[:LONGEST_WORDS]), "summary": head})
    rng.child("docstrings").python().shuffle(found)
    rows: dict[str, Row] = {}
    for raw in found:
        row = to_row(raw, Reading(), Columns(), raw["id"])
        if row.n_positive:
            rows.setdefault(row.document, row)
        if len(rows) == n:
            break
    return list(rows.values())


def smoke(scale: Scale, seed: int, part: PartOfRun) -> dict[str, Any]:
    """Train on some docstrings, measure on others: validation loss before and after, recall@10 beside random order."""
    rng = Rng(seed)
    rows = docstrings(scale.docstrings, rng)
    third = len(rows) // 3
    held_out, train = rows[:third], rows[third:]
    words = train_bpe([row.document for row in train], 600)
    base = save_encoder(scale, words, part.folder / "encoder", rng)
    extractor = SigExtModel.new(base, Settings(max_length=scale.positions), device=scale.device)
    before = validation_loss(extractor, held_out)
    cfg = TrainConfig(lr=scale.lr, batch_size=8, epochs=PASSES, reduction="token_mean", checkpoint_every=100)
    train_extractor(extractor, train, held_out, cfg, run=part, batch_tokens=8192, warmup_steps=10)
    _tidy(part.folder)
    labels = [row.labels for row in held_out]
    orders = rank_phrases("random", held_out, rng=rng)
    chance = [[-float(o.index(p)) for p in row.phrases] for row, o in zip(held_out, orders, strict=True)]
    return {
        "documents": len(rows),
        "positive rate": sum(map(sum, labels)) / sum(map(len, labels)),
        "loss before": before,
        "loss after": validation_loss(extractor, held_out),
        "recall@10": measure(labels, extractor.score_rows(held_out), ks=(10,)).recall[10],
        "recall@10, random order": measure(labels, chance, ks=(10,)).recall[10],
    }


def validation_loss(extractor: SigExtModel, rows: list[Row]) -> float:
    """Weighted cross entropy per labelled token."""
    total = targets = 0.0
    model = extractor.model.eval()
    for row in rows:
        window = extractor.encoder.encode(row.document, row.phrases)
        labels = window.labels(row.labels)
        batch = padded([window.input_ids], extractor.tokenizer.pad_token_id, window_of(model.config))
        width = batch["input_ids"].shape[1]
        batch["labels"] = torch.tensor([[*labels, *[-100] * (width - len(labels))]])
        with torch.no_grad():
            total += float(weighted_loss(model, {k: v.to(model.device) for k, v in batch.items()}))
        targets += sum(label != -100 for label in labels)
    return total / targets if targets else math.nan


def _tidy(folder: Path) -> None:
    for name in ("checkpoints", "best", "encoder"):
        shutil.rmtree(folder / name, ignore_errors=True)
