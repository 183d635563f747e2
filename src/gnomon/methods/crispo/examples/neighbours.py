"""Near examples for the example slot: pairs of train, by cosine of an encoder's first vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput
from gnomon.methods.crispo.examples.data import Example


class Neighbours:
    """Retrieval of near examples from train, and from nowhere else.

    Args:
        encoder: a folder or hub id of an encoder, or a loaded transformers encoder or a `ModelHandle`.
        train: where examples come from.
        slots: of the prompt: what of a row is compared.
        k: examples per text.
        tokenizer: of a loaded model.
        batch_size: texts read at once.

    Raises:
        BadInput: train has no more rows than `k`.
        ModelMismatch: there is no encoder at `encoder`.

    Source: the paper's few-shot variant: cosine of BERT's [CLS] vectors, the most similar pair last.
    """

    def __init__(
        self,
        encoder: Any,
        train: Sequence[Example],
        slots: Sequence[str],
        *,
        k: int = 3,
        tokenizer: Any = None,
        batch_size: int = 32,
    ) -> None:
        if k >= len(train):
            raise BadInput(
                f"{k} near examples cannot be taken from {len(train)} rows of train. Lower --shots."
            )
        self.model, self.tokenizer = _open(encoder, tokenizer)
        self.train, self.slots, self.k, self.batch_size = list(train), list(slots), k, batch_size
        self._inputs = [row.source(slots) for row in train]
        self._vectors = self.vectors(self._inputs)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The first token's last hidden state of each text, scaled to length 1, [N, D]."""
        import torch

        config = self.model.config
        # RoBERTa counts positions from behind its padding id.
        room = getattr(config, "max_position_embeddings", 512) - (config.pad_token_id or 0) - 1
        rows = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                truncation=True,
                max_length=min(room, self.tokenizer.model_max_length),
                padding=True,
                padding_side="right",
                return_tensors="pt",
            ).to(self.model.device)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                rows.append(self.model(**inputs).last_hidden_state[:, 0].float().cpu().numpy())
        vectors: NDArray[np.float32] = np.concatenate(rows)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def of(self, rows: Sequence[Example]) -> list[list[Example]]:
        """Per row its nearest pairs of train, the most similar last; never a pair with the row's own input."""
        texts = [row.source(self.slots) for row in rows]
        close = self.vectors(texts) @ self._vectors.T
        nearest = []
        for text, similarities in zip(texts, close, strict=True):
            order = [i for i in np.argsort(-similarities, kind="stable").tolist() if self._inputs[i] != text]
            nearest.append([self.train[i] for i in order[: self.k]][::-1])
        return nearest

    def texts(self, rows: Sequence[Example]) -> list[str]:
        """Per row the text for the example slot."""
        return [written(pairs, self.slots) for pairs in self.of(rows)]


def written(pairs: Sequence[Example], slots: Sequence[str]) -> str:
    """Pairs of input and output as text for the example slot."""
    return "\n\n".join(f"Input:\n{row.source(slots)}\nOutput:\n{row.references[0]}" for row in pairs)


def _open(encoder: Any, tokenizer: Any) -> tuple[Any, Any]:
    from gnomon.core.models import load_model, load_tokenizer
    from gnomon.core.models.reading import unpack

    if isinstance(encoder, (str, Path)):
        return load_model(
            encoder, kind="encoder", asked_by="a search for near examples"
        ).eval(), load_tokenizer(encoder)
    return unpack(encoder, tokenizer)
