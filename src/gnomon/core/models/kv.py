"""A key-value cache that grows in blocks and repeats its rows."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64


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
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: DynamicCache, rows: Int[Tensor, " B"]) -> DynamicCache:
    """A new cache with the given rows of `cache`, which stays as it is."""
    selected = copy(cache)
    selected.layers = [copy(layer) for layer in cache.layers]
    selected.batch_select_indices(rows)
    return selected


def _with_room(old: Tensor, room: int) -> Tensor:
    new = old.new_empty((*old.shape[:2], room, old.shape[-1]))
    new[:, :, : old.shape[-2]] = old
    return new
