"""Texts as token ids, rows as padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gnomon.errors import ModelMismatch
from gnomon.methods.sieve.students.base import Span

Ids = list[int]


class Tokens:
    """A fast tokenizer as students use it.

    Markup of the tokenizer's own that happens to stand in a text, such as a literal `</s>`, is text like any other.

    Args:
        tokenizer: a fast transformers tokenizer.
        longest: longer rows are cut on the right to this many tokens, special tokens included.

    Raises:
        ModelMismatch: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, longest: int):
        if not getattr(tokenizer, "is_fast", False):
            raise ModelMismatch(
                f"{type(tokenizer).__name__} does not say where its tokens lie. A student needs a fast tokenizer."
            )
        self.tokenizer, self.longest = tokenizer, longest
        # A model needs something to read where a text has no token at all.
        self._empty = [tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id]

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Ids]:
        """Token ids of each text, at least one and at most `longest`."""
        if not texts:
            return []
        found = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.longest,
            add_special_tokens=special,
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        return [ids or self._empty for ids in found]

    def spans(self, text: str) -> list[Span]:
        """Where the tokens lie in the text, special ones left out; nothing is cut."""
        found = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        return [(start, end) for start, end in found["offset_mapping"] if start < end]

    def pad(self, rows: Sequence[Ids], device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Rows side by side, padded on the right, with their mask: what a model takes."""
        width = max(map(len, rows))
        fill = self.tokenizer.pad_token_id
        ids = torch.tensor([row + [fill] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of rows in batches of rows of like length: from short to long, each within a budget.

    Args:
        lengths: tokens of each row.
        budget: tokens of a batch, padding included, at most; a single longer row is a batch.

    >>> plan_batches([2, 9, 3, 2], 6)
    [[0, 3], [2], [1]]
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and lengths[place] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches
