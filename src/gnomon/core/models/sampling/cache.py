"""A key-value cache that grows in blocks and repeats its rows."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

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
