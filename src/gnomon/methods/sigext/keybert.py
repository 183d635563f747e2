"""Phrases by their likeness to the whole document in the space of a text encoder, in the manner of KeyBERT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnomon.core.models import load_model, load_tokenizer
from gnomon.methods.sigext.phrases import Phrase
from gnomon.methods.sigext.rows import Row
from gnomon.methods.sigext.selection import ranking


class Encoder:
    """Texts as unit vectors: the mean of an encoder's last states over the tokens.

    Args:
        ref: a folder or hub id of any text encoder.
        device: `"auto"` takes a GPU when there is one.
        batch_tokens: tokens read at once.
    """

    def __init__(self, ref: str | Path, *, device: str = "auto", batch_tokens: int = 16_384):
        self.model: Any = load_model(ref, kind="encoder", device=device, asked_by="sigext keybert")
        self.tokenizer = load_tokenizer(ref)
        self.batch_tokens = batch_tokens
        self.longest = longest_input(self.model.config)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, [N, D]; texts longer than the encoder reads are cut."""
        ids = [self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"] for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, Tensor] = {}
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop - start + 1) * len(ids[order[stop]]) <= self.batch_tokens:
                stop += 1
            rows = order[start:stop]
            batch = self.tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            batch = {name: batch[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                states = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            found |= dict(zip(rows, torch.nn.functional.normalize(means, dim=-1).cpu(), strict=True))
            start = stop
        return torch.stack([found[i] for i in range(len(ids))])

    def rank(self, rows: Sequence[Row]) -> list[list[Phrase]]:
        """The phrases of each document, the most alike to it first."""
        found: list[list[Phrase]] = []
        for row in rows:
            if not row.phrases:
                found.append([])
                continue
            vectors = self.encode([row.document, *(phrase.text for phrase in row.phrases)])
            likeness = (vectors[1:] @ vectors[0]).tolist()
            found.append([row.phrases[i] for i in ranking(likeness)])
        return found


def longest_input(config: Any) -> int:
    """Tokens that a model reads at most, those that begin and end a text included.

    RoBERTa's and Longformer's positions begin behind the padding id; models without a table of positions have no limit here.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return 1_000_000
    begins_late = config.model_type in ("roberta", "xlm-roberta", "longformer", "camembert")
    return int(positions) - (config.pad_token_id + 1 if begins_late else 0)
