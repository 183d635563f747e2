"""Documents in batches for training and for scoring: of equal lengths side by side, as many as a budget of tokens allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gnomon.core.config import check, option
from gnomon.core.rng import Rng
from gnomon.core.train import Example, GlobalBatch
from gnomon.core.train.batches import Order
from gnomon.errors import BadInput

IGNORED = -100


class DocumentBatches:
    """Batches for `gnomon.core.train.fit`: each step takes `batch_size` documents, computed in micro-batches of a token budget.

    Cutting a batch into micro-batches changes no gradient, because the loss is a sum over tokens.

    Args:
        examples: documents as tokens with labels.
        batch_size: documents per optimiser step over all processes.
        batch_tokens: tokens of a micro-batch, padding among them; a longer document goes alone.
        pad_id: fills the right of shorter rows.
        multiple: rows are padded to a multiple of this (Longformer's attention window).
        generator: names the shuffles.

    Raises:
        BadInput: there is no example, or one has no labelled token.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        *,
        batch_tokens: int,
        pad_id: int,
        multiple: int = 1,
        generator: Rng,
    ):
        check(batch_size >= 1, "train.batch_size", ">= 1", batch_size)
        check(batch_tokens >= 1, "batch_tokens", ">= 1", batch_tokens)
        if not examples:
            raise BadInput("There is no document to train on.")
        for i, example in enumerate(examples):
            if not _targets(example):
                raise BadInput(
                    f"Document {i} has no labelled token within {option('train.max_length')}. Leave it out."
                )
        self.examples, self.batch_size, self.batch_tokens = list(examples), batch_size, batch_tokens
        self.pad_id, self.multiple, self.generator = pad_id, multiple, generator
        self._order = Order(len(self.examples), batch_size, generator)

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`; every process computes equally many micro-batches."""
        rows = [self.examples[i] for i in self.rows(step)]
        rows.sort(key=lambda example: len(example.input_ids))
        lengths = [len(row.input_ids) for row in rows]
        budget = self.batch_tokens
        if processes > 1:  # each has its share of a batch that one could compute at once
            budget = min(budget, -(-sum(_filled(length, self.multiple) for length in lengths) // processes))
        groups = [[rows[i] for i in group] for group in grouped(lengths, budget, self.multiple)]
        share = -(-len(groups) // processes)
        mine = groups[process::processes]
        mine += [[Example(rows[0].input_ids, [IGNORED] * lengths[0])]] * (share - len(mine))
        return GlobalBatch([self._collate(group) for group in mine], sum(map(_targets, rows)))

    def rows(self, step: int) -> list[int]:
        """Indices of the documents in the batch of `step`."""
        return self._order.at(step)

    def _collate(self, rows: Sequence[Example]) -> Mapping[str, Tensor]:
        batch = padded([row.input_ids for row in rows], self.pad_id, self.multiple)
        width = batch["input_ids"].shape[1]
        labels = [[*row.labels, *[IGNORED] * (width - len(row.labels))] for row in rows]
        return {**batch, "labels": torch.tensor(labels)}


def grouped(lengths: Sequence[int], budget: int, multiple: int = 1) -> Iterator[list[int]]:
    """Places of rows that are computed side by side: neighbours in length, padded within `budget` tokens, or one alone.

    >>> list(grouped([5, 1, 2, 9], 6))
    [[1, 2], [0], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    group: list[int] = []
    for i in order:
        width = _filled(lengths[i], multiple)
        if group and (len(group) + 1) * width > budget:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _filled(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def padded(rows: Sequence[Sequence[int]], pad_id: int, multiple: int = 1) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` of rows filled on the right, [B, T]."""
    width = _filled(max(map(len, rows)), multiple)
    return {
        "input_ids": torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }


def window_of(config: object) -> int:
    """What rows are padded to a multiple of: Longformer's attention window, 1 for other encoders."""
    window = getattr(config, "attention_window", 1)
    return max(window) if isinstance(window, (list, tuple)) else int(window)


def _targets(example: Example) -> int:
    return sum(label != IGNORED for label in example.labels)
