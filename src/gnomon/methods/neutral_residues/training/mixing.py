"""Training batches with a share of the old domain in them, every sequence flagged with its domain."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch
from gnomon.core.train.losses import IGNORED
from gnomon.errors import BadConfig, BadInput

Rows = NDArray[np.unsignedinteger]

OLD, NEW = 0, 1
"""Flags of the two domains."""


class Mixture:
    """Batches of rows, a share p of them from the old domain.

    The n-th sequence of a training is of the old domain where floor(p n + u) makes a step, with u drawn once: the share is p
    exactly in expectation, also when p times the batch size is no integer, and never off by more than one sequence. Each domain
    is read in an order of its own, shuffled anew for every pass.

    Args:
        new: rows of the new domain, `[N, T]`.
        old: rows that stand for the original training data, `[M, T]`; None with p = 0.
        p: share of the old domain, 0..1.
        batch_size: sequences per optimiser step, over all processes.
        generator: names the draws.
        micro_batch_size: sequences computed at once; None: a process's whole share.

    Raises:
        BadConfig: p is out of range, or above 0 without old text.
        BadInput: the rows differ in length.
    """

    def __init__(
        self,
        new: Rows,
        old: Rows | None,
        p: float,
        batch_size: int,
        *,
        generator: Rng,
        micro_batch_size: int | None = None,
    ):
        if not 0 <= p <= 1:
            raise BadConfig(f"p must be in 0..1; got {p}.")
        if p > 0 and old is None:
            raise BadConfig(
                f"p is {p} and there is no text of the old domain. Name some with --original, or set --p 0."
            )
        if old is not None and old.shape[1] != new.shape[1]:
            raise BadInput(f"Rows are {new.shape[1]} and {old.shape[1]} tokens long; cut both alike.")
        self.rows = {NEW: new} if old is None else {NEW: new, OLD: old}
        self.p, self.batch_size, self.micro_batch_size = p, batch_size, micro_batch_size
        self._generator = generator
        self._u = generator.child("offset").python().random()
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        """Steps in which the new text is read once; with p = 1, the old."""
        rows, share = (len(self.rows[NEW]), 1 - self.p) if self.p < 1 else (len(self.rows[OLD]), 1.0)
        return max(1, math.ceil(rows / (self.batch_size * share)))

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`.

        Beside ids, labels and domain flags each micro-batch has counts of the whole batch: `n_targets`, `n_tokens`, and `n_old`,
        the tokens of the old domain.
        """
        batch = self.batch(step)
        length = self.rows[NEW].shape[1]
        share = -(-len(batch) // processes)
        mine = batch[process::processes]
        # Every process computes equally many sequences; one that is short repeats one that counts for nothing.
        short = share - len(mine)
        ids = torch.from_numpy(np.stack([row for _, row in mine + batch[-1:] * short]).astype(np.int64))
        labels = ids.clone()
        labels[len(mine) :] = IGNORED
        counts = {
            "n_targets": torch.tensor(len(batch) * (length - 1)),
            "n_tokens": torch.tensor(len(batch) * length),
            "n_old": torch.tensor(sum(domain == OLD for domain, _ in batch) * length),
        }
        columns = {
            "input_ids": ids,
            "labels": labels,
            "domain": torch.tensor([domain for domain, _ in mine] + [NEW] * short),
            "counts": torch.tensor([True] * len(mine) + [False] * short),
        }
        size = self.micro_batch_size or share
        micro = [
            {name: column[i : i + size] for name, column in columns.items()} | counts
            for i in range(0, share, size)
        ]
        return GlobalBatch(micro, len(batch) * (length - 1))

    def batch(self, step: int) -> list[tuple[int, Rows]]:
        """Domain and tokens of every sequence in the batch of `step`."""
        first = step * self.batch_size
        marks = [math.floor(self.p * n + self._u) for n in range(first, first + self.batch_size + 1)]
        read = {OLD: marks[0], NEW: first - marks[0]}
        rows = []
        for before, after in pairwise(marks):
            domain = OLD if after > before else NEW
            rows.append((domain, self._row(domain, read[domain])))
            read[domain] += 1
        return rows

    def _row(self, domain: int, number: int) -> Rows:
        """The `number`-th sequence of a domain."""
        rows = self.rows[domain]
        epoch, offset = divmod(number, len(rows))
        if domain not in self._orders or self._orders[domain][0] != epoch:
            draw = self._generator.child("order", domain, epoch).numpy()
            self._orders[domain] = (epoch, draw.permutation(len(rows)))
        row: Rows = rows[self._orders[domain][1][offset]]
        return row
