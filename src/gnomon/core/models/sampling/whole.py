"""Rows whose text is read anew for every token, where a model does not go on from a cache as it reads the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core.models.batch import Batch
from gnomon.core.models.hooks import reading
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Again = Callable[[int, Sequence[int]], Batch]
"""(which prompt of a batch, tokens behind it) -> it alone."""


class WholeText:
    """A causal model whose cache cannot hold several texts: each is read anew for every token, beside those of its length alone."""

    def __init__(self, model: PreTrainedModel, texts: list[list[int]], rows: Int[Tensor, " B"]):
        self.model, self.texts, self.rows = model, texts, rows
        self.logits = self._read()

    def start(self, sources: Int[Tensor, " K"], room: int) -> WholeText:
        """New rows that go on from the given ones."""
        new = copy(self)
        new.texts, new.rows = [list(self.texts[i]) for i in sources.tolist()], self.rows[sources]
        new.logits = self.logits[sources]
        return new

    def step(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> None:
        """Read one more token of each row that is going."""
        for text, token, goes in zip(self.texts, tokens.tolist(), going.tolist(), strict=True):
            if goes:
                text.append(token)
        self.logits = self._read()

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        """Let all other rows go."""
        self.texts, self.rows = [self.texts[i] for i in rows.tolist()], self.rows[rows]

    def peek(
        self, suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B V"]:
        """The logits behind k more tokens of each row, which are then forgotten."""
        longer = [text + more for text, more in zip(self.texts, _going(suffix, going), strict=True)]
        check_room(self.model, max(map(len, longer)))
        return self._read(longer)

    def _read(self, texts: list[list[int]] | None = None) -> Tensor:
        texts = self.texts if texts is None else texts
        logits: list[Tensor | None] = [None] * len(texts)
        for length in {len(text) for text in texts}:
            same = [i for i, text in enumerate(texts) if len(text) == length]
            ids = torch.tensor([texts[i] for i in same], device=self.model.device)
            with reading(self.rows[same]):
                output = self.model(input_ids=ids, use_cache=False)
            for i, row in zip(same, output.logits[:, -1], strict=True):
                logits[i] = row
        return torch.stack([row for row in logits if row is not None])


class WholeSeen:
    """A vision-language model that does not go on from its cache as it reads the whole: each text is read anew for every token."""

    def __init__(self, model: PreTrainedModel, again: Again, n: int, rows: Int[Tensor, " B"]):
        self.model, self.again, self.rows = model, again, rows
        self.texts: list[tuple[int, list[int]]] = [(i, []) for i in range(n)]
        self.logits = self._read()

    def start(self, sources: Int[Tensor, " K"], room: int) -> WholeSeen:
        """New rows that go on from the given ones."""
        new = copy(self)
        new.texts = [(self.texts[i][0], list(self.texts[i][1])) for i in sources.tolist()]
        new.rows, new.logits = self.rows[sources], self.logits[sources]
        return new

    def step(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> None:
        """Read one more token of each row that is going."""
        for (_, written), token, goes in zip(self.texts, tokens.tolist(), going.tolist(), strict=True):
            if goes:
                written.append(token)
        self.logits = self._read()

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        """Let all other rows go."""
        self.texts, self.rows = [self.texts[i] for i in rows.tolist()], self.rows[rows]

    def peek(
        self, suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B V"]:
        """The logits behind k more tokens of each row, which are then forgotten."""
        more = _going(suffix, going)
        return self._read([(i, w + m) for (i, w), m in zip(self.texts, more, strict=True)])

    def _read(self, texts: list[tuple[int, list[int]]] | None = None) -> Tensor:
        logits = []
        for (i, written), row in zip(self.texts if texts is None else texts, self.rows, strict=True):
            with reading(row[None]):
                logits.append(last_logits(self.model, self.again(i, written)))
        return torch.stack(logits)


def check_room(model: Any, length: int) -> None:
    """Refuse to read beyond the positions that a model has.

    Raises:
        BadInput: texts would be of this length, which is more than there are positions.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise BadInput(
            f"To look ahead so far takes {length} positions, and the model has {positions}. Leave room by a smaller "
            "max_new_tokens, or by shorter prompts."
        )


def _going(suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None) -> list[list[int]]:
    """The suffixes of rows that are going; the others have none."""
    rows = suffix.tolist()
    return rows if going is None else [row if goes else [] for row, goes in zip(rows, going, strict=True)]


def last_logits(model: Any, batch: Batch) -> Tensor:
    """Logits [V] behind the first text of a batch, which a vision-language model reads whole."""
    logits: Tensor = model(**batch.inputs("vlm"), use_cache=False).logits[0, -1]
    return logits
