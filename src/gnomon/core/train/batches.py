"""Examples in, padded batches out: every batch is a function of the data, the seed and the step alone.

A step can therefore be asked for in any order, which is what exact resume needs, and any number of processes
sees the same batches: each takes its share of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gnomon.core.config import option
from gnomon.core.rng import Rng
from gnomon.core.train.losses import IGNORED
from gnomon.errors import BadInput


@dataclass(frozen=True)
class Example:
    """One text to learn from, as token ids."""

    input_ids: Sequence[int]
    """The tokens."""
    labels: Sequence[int]
    """As long: the token's own id where it is a target, -100 where it is not."""


@dataclass(frozen=True)
class GlobalBatch:
    """What one process computes for one optimiser step."""

    micro: Sequence[Mapping[str, Tensor]]
    """Micro-batches, equally many on every process."""
    targets: int
    """Targets of the whole batch over all processes: what a mean divides by."""


@runtime_checkable
class BatchSource(Protocol):
    """What `fit` trains on."""

    def __len__(self) -> int:
        """Optimiser steps per epoch."""

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`, counted over all epochs."""


class Order:
    """Which rows belong to a step: all of them once per epoch, in an order shuffled anew for each.

    Args:
        count: rows.
        batch_size: rows per optimiser step; the last batch of an epoch may be smaller.
        generator: names the shuffles.
    """

    def __init__(self, count: int, batch_size: int, generator: Rng):
        self.count, self.batch_size, self.generator = count, batch_size, generator
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-self.count // self.batch_size)

    def at(self, step: int) -> list[int]:
        """Indices of the rows of a step, counted over all epochs."""
        epoch, offset = divmod(step, len(self))
        if epoch != self._epoch:
            shuffle = self.generator.child("shuffle", epoch).torch()
            self._epoch, self._order = epoch, torch.randperm(self.count, generator=shuffle)
        start = offset * self.batch_size
        return self._order[start : start + self.batch_size].tolist()


class Batches:
    """Padded batches of examples, in an order shuffled anew for each epoch.

    Rows of a batch are sorted by length and cut into micro-batches: that saves padding and changes no result.

    Args:
        examples: the data.
        batch_size: rows per optimiser step over all processes; the last batch of an epoch may be smaller.
        pad_id: fills the right of shorter rows.
        generator: names the shuffles.
        micro_batch_size: rows computed at once; `None` takes a process's whole share.
        max_length: longer examples are cut on the right; `n_cut` counts them.

    Raises:
        BadInput: there is no example, one is malformed, or one has no target.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        *,
        pad_id: int,
        generator: Rng,
        micro_batch_size: int | None = None,
        max_length: int | None = None,
    ):
        if not examples:
            raise BadInput("There is no example to train on.")
        self.examples = [_cut(example, i, max_length) for i, example in enumerate(examples)]
        self.n_cut = sum(
            len(a.input_ids) < len(b.input_ids) for a, b in zip(self.examples, examples, strict=True)
        )
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.pad_id, self.generator = pad_id, generator
        self._order = Order(len(self.examples), batch_size, generator)

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        rows = sorted(self.rows(step), key=lambda i: (len(self.examples[i].input_ids), i))
        targets = sum(_n_targets(self.examples[i]) for i in rows)
        share = -(-len(rows) // processes)
        mine = [self.examples[i] for i in rows[process::processes]]
        # Every process computes equally many rows; one that is short repeats a row without its targets.
        mine += [_without_targets(self.examples[rows[-1]])] * (share - len(mine))
        size = self.micro_batch_size or share
        micro = [self._collate(mine[start : start + size]) for start in range(0, share, size)]
        return GlobalBatch(micro, targets)

    def rows(self, step: int) -> list[int]:
        """Indices of the examples in the batch of `step`."""
        return self._order.at(step)

    def _collate(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        width = max(len(row.input_ids) for row in rows)
        return {
            "input_ids": _padded([row.input_ids for row in rows], width, self.pad_id),
            "attention_mask": _padded([[1] * len(row.input_ids) for row in rows], width, 0),
            "labels": _padded([row.labels for row in rows], width, IGNORED),
        }


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.long)


def _n_targets(example: Example) -> int:
    """Labels that some token predicts: all but the first."""
    return sum(label != IGNORED for label in example.labels[1:])


def _without_targets(example: Example) -> Example:
    return Example(example.input_ids, [IGNORED] * len(example.labels))


def _cut(example: Example, i: int, max_length: int | None) -> Example:
    if len(example.input_ids) != len(example.labels):
        raise BadInput(
            f"Example {i} has {len(example.input_ids)} tokens and {len(example.labels)} labels. "
            "Give every token one label."
        )
    example = Example(example.input_ids[:max_length], example.labels[:max_length])
    if not _n_targets(example):
        where = f" within its first {max_length} tokens" if max_length else ""
        raise BadInput(
            f"Example {i} has no target{where}. Leave it out, or raise {option('train.max_length')}."
        )
    return example
