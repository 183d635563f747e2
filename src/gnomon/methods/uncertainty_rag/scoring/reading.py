"""What a language model knows of a pair of chunks: the self-information of every token, from one pass and without generating.

Pairs are grouped by their first chunk, which is then read once for all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.config import fingerprint
from gnomon.core.models.batch import by_length, pad
from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.load import weights_key
from gnomon.core.models.sampling.cache import new_cache, select_rows
from gnomon.core.models.sampling.likelihood import token_logprobs
from gnomon.core.models.sampling.prefix import goes_on_from_shared
from gnomon.core.too_long import positions_of
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.uncertainty_rag.options import Layout

Floats = NDArray[np.float64]
Ids = Sequence[int]

BATCH_TOKENS = 4096
"""Tokens of a batch, padding and what a cache holds among them."""
LEAST_ROWS = 2
"""Pairs with one first chunk from which it is read by itself."""


@dataclass(frozen=True)
class Information:
    """-ln p of the predicted tokens of a pair, in nats; the start token and the separator are none of them."""

    first: Floats
    """Of the first chunk; without a start token its first token is not predicted and not in it."""
    second: Floats
    """Of the second chunk, whose first token is predicted from the first chunk."""

    @property
    def joint(self) -> Floats:
        """Both, one behind the other."""
        return np.concatenate([self.first, self.second])


class Reader(Protocol):
    """What reads pairs: a model of this process, or a server."""

    layout: Layout
    max_tokens: int | None

    @property
    def identity(self) -> str:
        """A name that two share only where they give equal numbers."""
        ...

    def encode(self, text: str) -> list[int]:
        """The token ids of a chunk, without special ones."""
        ...

    def decode(self, ids: Ids) -> str:
        """The text of a chunk."""
        ...

    def read(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Information]:
        """Of each pair (first, second)."""
        ...

    def alone(self, chunks: Sequence[Ids]) -> list[Floats]:
        """-ln p of each chunk's tokens with nothing but the start token before it."""
        ...


class LocalReader:
    """A causal model of this process.

    Args:
        lm: a handle on it.
        layout: how pairs are put to it.
        batch_tokens: tokens of a batch, padding and what a cache holds among them.
        grouped: read a first chunk once for all its pairs where the model can; False: every pair by itself.

    Raises:
        ModelMismatch: the model is not causal, or its tokenizer has no such start token.
    """

    def __init__(
        self,
        lm: ModelHandle,
        layout: Layout | None = None,
        *,
        batch_tokens: int = BATCH_TOKENS,
        grouped: bool = True,
    ):
        if lm.kind != "causal":
            raise ModelMismatch(f"{type(lm.model).__name__} is a {lm.kind} model; scores need a causal one.")
        self.lm, self.layout = lm, layout or Layout()
        self.batch_tokens, self.grouped = batch_tokens, grouped
        self.start, self.separator = frame(lm.tokenizer, self.layout)
        self.max_tokens = positions_of(lm.model)

    @property
    def identity(self) -> str:
        """Weights, number type, tokenizer and layout."""
        model, tokenizer = self.lm.model, self.lm.tokenizer
        layout = (self.layout.order, self.start, self.separator)
        weights = weights_key(model.state_dict().values())
        return fingerprint(
            weights, str(model.dtype), sorted(tokenizer.get_vocab().items()), layout, length=24
        )

    def encode(self, text: str) -> list[int]:
        """The token ids of a chunk."""
        return encode(self.lm.tokenizer, text)

    def decode(self, ids: Ids) -> str:
        """The text of a chunk."""
        return str(self.lm.tokenizer.decode(list(ids)))

    def read(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Information]:
        """Of each pair.

        Raises:
            BadInput: a pair is longer than the model reads, or a chunk is empty; the message names the limit.
        """
        for number, pair in enumerate(pairs):
            if reason := unreadable(self, *pair):
                raise BadInput(f"Pair {number}: {reason}")
        results: dict[int, Information] = {}
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, (first, _) in enumerate(pairs):
            groups[tuple(first)].append(i)
        can_share = self.grouped and goes_on_from_shared(self.lm.model)
        plain: list[int] = []
        for first, numbers in groups.items():
            if can_share and len(numbers) >= LEAST_ROWS:
                own, seconds = self._shared(first, [pairs[i][1] for i in numbers])
                results |= {i: Information(own, s) for i, s in zip(numbers, seconds, strict=True)}
            else:
                plain += numbers
        results |= self._plain(plain, pairs)
        return [results[i] for i in range(len(pairs))]

    def alone(self, chunks: Sequence[Ids]) -> list[Floats]:
        """-ln p of each chunk's tokens behind the start token; without one the first token is not among them."""
        rows = [[*self.start, *chunk] for chunk in chunks]
        front = max(1, len(self.start))
        values: dict[int, Floats] = {}
        for numbers in by_length([len(row) for row in rows], self.batch_tokens):
            for i, row in zip(numbers, self._forward([rows[i] for i in numbers]), strict=True):
                values[i] = row[front : len(rows[i])]
        return [values[i] for i in range(len(rows))]

    def _plain(self, numbers: Sequence[int], pairs: Sequence[tuple[Ids, Ids]]) -> dict[int, Information]:
        rows = [[*self.start, *pairs[i][0], *self.separator, *pairs[i][1]] for i in numbers]
        results = {}
        front = max(1, len(self.start))
        for batch in by_length([len(row) for row in rows], self.batch_tokens):
            for row_at, values in zip(batch, self._forward([rows[j] for j in batch]), strict=True):
                first, second = pairs[numbers[row_at]]
                end = len(self.start) + len(first)
                behind = end + len(self.separator)
                results[numbers[row_at]] = Information(
                    values[front:end], values[behind : behind + len(second)]
                )
        return results

    def _forward(self, rows: Sequence[Ids]) -> list[Floats]:
        """-ln p of each row's tokens, 0 at its first; padded on the right."""
        batch = pad(rows, 0, "right").to(self.lm.model.device)
        logprobs = token_logprobs(self.lm.model, batch.inputs("causal", self.lm.model), batch.input_ids)
        # 0.0 minus, so that what is certain costs 0 and not -0.
        return list(0.0 - logprobs.double().cpu().numpy())

    @torch.no_grad()
    def _shared(self, first: Ids, seconds: Sequence[Ids]) -> tuple[Floats, list[Floats]]:
        """The first chunk read once, then all seconds behind copies of its cache."""
        model = self.lm.model
        head = [*self.start, *first, *self.separator]
        cache = new_cache(model)
        ids = torch.tensor([head], device=model.device)
        head_inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "past_key_values": cache,
        }
        own = token_logprobs(model, head_inputs, ids)[0]
        # The last token is read again with each second, because it predicts the second's first token.
        cache.crop(-1)
        rows = [[head[-1], *second] for second in seconds]
        values: dict[int, Floats] = {}
        for numbers in by_length([len(row) + len(head) - 1 for row in rows], self.batch_tokens):
            batch = pad([rows[i] for i in numbers], 0, "right").to(model.device)
            seen = batch.mask.new_ones(len(numbers), len(head) - 1)
            inputs: dict[str, Any] = {
                "input_ids": batch.input_ids,
                "attention_mask": torch.cat([seen, batch.mask], 1).long(),
                "past_key_values": select_rows(cache, batch.input_ids.new_zeros(len(numbers))),
            }
            if "position_ids" in batch.inputs("causal", model):
                inputs["position_ids"] = batch.position_ids + len(head) - 1
            logprobs = 0.0 - token_logprobs(model, inputs, batch.input_ids).double().cpu().numpy()
            for i, row in zip(numbers, logprobs, strict=True):
                values[i] = row[1 : len(rows[i])]
        front = max(1, len(self.start))
        whole = 0.0 - own.double().cpu().numpy()
        return whole[front : len(self.start) + len(first)], [values[i] for i in range(len(rows))]


def encode(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text, without special ones."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def frame(tokenizer: Any, layout: Layout) -> tuple[list[int], list[int]]:
    """Ids of the start, which may be none, and of the separator.

    Raises:
        ModelMismatch: the tokenizer has no such start token.
    """
    token = None if layout.start == "none" else getattr(tokenizer, f"{layout.start}_token_id")
    if token is None and layout.start != "none":
        raise ModelMismatch(
            f"The tokenizer has no {layout.start} token. Set --layout.start to another, or none."
        )
    return ([] if token is None else [token]), encode(tokenizer, layout.separator)


def unreadable(reader: Any, first: Ids, second: Ids) -> str:
    """Why a pair cannot be read, in one sentence; empty where it can."""
    if not first or not second:
        return f"The {'second' if first else 'first'} chunk has no tokens."
    if len(reader.start) + len(first) < 2:
        return "The first chunk has one token and no start token before it, so none of it is predicted."
    total = len(reader.start) + len(first) + len(reader.separator) + len(second)
    if reader.max_tokens is not None and total > reader.max_tokens:
        return f"It has {total} tokens and the model reads {reader.max_tokens}. Cut chunks smaller with --cut.size."
    return ""


def check_room(reader: Any, size: int) -> None:
    """Refuse chunks of a size of which two do not fit into the model.

    Raises:
        BadConfig: the message names the limit.
    """
    total = len(reader.start) + 2 * size + len(reader.separator)
    if reader.max_tokens is not None and total > reader.max_tokens:
        raise BadConfig(
            f"Two chunks of {size} tokens have {total} with what stands around them, and the model reads "
            f"{reader.max_tokens}. Set --cut.size to {(reader.max_tokens - total + 2 * size) // 2} at most."
        )
