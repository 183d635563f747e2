"""Near examples for the example slot: pairs of train, by cosine of an encoder's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.models.reading import unpack
from gnomon.core.retrieval.encoders import Readout, TextEncoder
from gnomon.core.retrieval.encoders.folders import About
from gnomon.errors import BadInput
from gnomon.methods.crispo.examples.data import Example


class Neighbours:
    """Retrieval of near examples from train, and from nowhere else.

    Args:
        encoder: as in `TextEncoder.load` (a folder, a hub id, `embedded:minilm`, a server), read as its folder says, and at the
            first token where that says nothing; or a `TextEncoder`, a loaded transformers encoder or a `ModelHandle`.
        train: where examples come from.
        slots: of the prompt: what of a row is compared.
        k: examples per text.
        tokenizer: of a loaded model.

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
    ) -> None:
        if k >= len(train):
            raise BadInput(
                f"{k} near examples cannot be taken from {len(train)} rows of train. Lower --shots."
            )
        self.encoder = _open(encoder, tokenizer)
        self.train, self.slots, self.k = list(train), list(slots), k
        self._inputs = [row.source(slots) for row in train]
        self._vectors = self.vectors(self._inputs)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vector of each text, scaled to length 1, [N, D]; of an empty one, 0 throughout."""
        filled = [i for i, text in enumerate(texts) if text.strip()]
        vectors = np.zeros((len(texts), self.encoder.dim), np.float32)
        vectors[filled] = self.encoder.encode([texts[i] for i in filled])
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


def _open(encoder: Any, tokenizer: Any) -> TextEncoder:
    if isinstance(encoder, TextEncoder):
        return encoder
    if isinstance(encoder, (str, Path)):
        loaded = TextEncoder.load(encoder, too_long="cut")
        about = getattr(loaded.embeds, "about", None)  # a server has none
        if about is None or not about.is_plain:
            return loaded
        encoder, tokenizer = loaded.embeds.model, loaded.embeds.tokenizer
    model, tokenizer = unpack(encoder, tokenizer)
    return TextEncoder.of(model, tokenizer, About(Path(), Readout(("cls",))), too_long="cut")
