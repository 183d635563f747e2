"""What rows that are being written keep: a key-value cache that grows in blocks, or their whole text, read anew for every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from gnomon.core.models.batch import Batch
from gnomon.core.models.hooks import reading
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64

AnyCache = TypeVar("AnyCache", DynamicCache, EncoderDecoderCache)
T = TypeVar("T")


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, [B, H, T, D], in buffers with room for more tokens.

    The library's layer copies all earlier keys for every new token; this one writes the token into spare room
    and copies once in `BLOCK` tokens.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append the new keys and values; returns all of them."""
        if not self.is_initialized or self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            self._room = 0
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        start, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self._room < end:
            self._room = -(-end // BLOCK) * BLOCK
            self._buffers = tuple(_with_room(old, self._room) for old in (self.keys, self.values))
        keys, values = self._buffers
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows at `indices`, in that order and as often as they are named."""
        super().batch_select_indices(indices)
        self._room = 0


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache for `model`: its own kinds of layers, the plain ones replaced by growing ones."""
    return _growing(DynamicCache(config=model.config))


def new_cross_cache(model: PreTrainedModel) -> EncoderDecoderCache:
    """The same for a decoder that also looks at an encoder, whose keys and values are written once."""
    decoder: Any = model.get_decoder()
    cache, cross = (DynamicCache(config=decoder.config) for _ in range(2))
    return EncoderDecoderCache(_growing(cache), cross)


def select_rows(cache: AnyCache, rows: Int[Tensor, " B"]) -> AnyCache:
    """A new cache with the given rows of `cache`, which stays as it is."""
    selected = copy(cache)
    if isinstance(selected, EncoderDecoderCache):
        selected.is_updated = dict(selected.is_updated)
        selected.self_attention_cache = select_rows(selected.self_attention_cache, rows)
        selected.cross_attention_cache = select_rows(selected.cross_attention_cache, rows)
        return selected
    selected.layers = [copy(layer) for layer in selected.layers]
    selected.batch_select_indices(rows)
    return selected


def read_ahead(cache: AnyCache, rows: int, read: Callable[[AnyCache], T], tokens: int) -> T:
    """What `read` returns for a cache that it writes so many tokens into; `cache` is then as it was.

    Plain layers are cropped again. Others are forked first: a sliding window that is full has let go of what would come back into
    it, and a recurrent state holds no tokens that could be taken out.
    """
    grown = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    if not all(type(layer) is GrowingLayer and layer.keys is not None for layer in grown.layers):
        return read(select_rows(cache, torch.arange(rows, device=_device_of(grown))))
    result = read(cache)
    grown.crop(-tokens)
    return result


def _device_of(cache: DynamicCache) -> torch.device:
    """Of the first layer with a state; index tensors for the CPU where there is none."""
    states = (state for layer in cache.layers for state in vars(layer).values())
    return next((state.device for state in states if isinstance(state, Tensor)), torch.device("cpu"))


def _growing(cache: DynamicCache) -> DynamicCache:
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _with_room(old: Tensor, room: int) -> Tensor:
    new = old.new_empty((*old.shape[:2], room, old.shape[-1]))
    new[:, :, : old.shape[-2]] = old
    return new


# The whole text, where a model does not go on from a cache as it reads the whole.

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
