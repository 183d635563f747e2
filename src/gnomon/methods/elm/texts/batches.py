"""Batches of forget, retain and fluent texts: what every arm is trained on, a function of data, seed and step alone.

Texts behind prefixes of different lengths, their tokens in the same columns of every row.

    pad pad BOS x1 x2 x3 pad          the bare text
    BOS c-1 c-2 x1 x2 x3 pad          behind the expert's prefix
    pad BOS c+1 x1 x2 x3 pad          behind the novice's

Prefixes are padded on the left and texts on the right, so that the last T columns belong to the text in all rows: row i of each
pass predicts the same token. The text's ids are the same in every row because they are joined as ids.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core.models.batch import Batch, pad
from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch
from gnomon.core.train.losses import IGNORED
from gnomon.errors import BadInput

# Texts behind prefixes of different lengths, their tokens in the same columns of every row.

Ids = Sequence[int]


def join(prefixes: Sequence[Ids], texts: Sequence[Ids], pad_id: int = 0) -> tuple[Batch, int]:
    """Texts behind prefixes, one each, as a batch; and T, the number of columns at the right that belong to the texts.

    Raises:
        BadInput: a text has no token, or there is not one prefix per text.
    """
    if len(prefixes) != len(texts):
        raise BadInput(f"{len(texts)} texts need as many prefixes; got {len(prefixes)}.")
    for i, text in enumerate(texts):
        if not len(text):
            raise BadInput(f"Text {i} has no tokens. Leave empty texts out.")
    left, right = max(map(len, prefixes)), max(map(len, texts))
    ids = torch.full((len(texts), left + right), pad_id, dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (prefix, text) in enumerate(zip(prefixes, texts, strict=True)):
        whole = torch.tensor([*prefix, *text])
        start = left - len(prefix)
        ids[row, start : start + len(whole)] = whole
        mask[row, start : start + len(whole)] = True
    return Batch(ids, mask), right


def text_mask(texts: Sequence[Ids]) -> Bool[Tensor, "B T"]:
    """True at the tokens of each text, in the columns of `join`."""
    lengths = torch.tensor([len(text) for text in texts])
    mask: Tensor = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return mask


def text_logits(model: Any, batch: Batch, width: int) -> Float[Tensor, "B T V"]:
    """Logits at the last `width` columns; those at other columns are not made where the model can leave them out."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    can = "logits_to_keep" in inspect.signature(base.forward).parameters
    options = {"logits_to_keep": width} if can else {}
    logits: Tensor = model(**batch.inputs("causal", model), **options, use_cache=False).logits
    return logits[:, -width:]


# Batches of forget, retain and fluent texts: what every arm is trained on, a function of data, seed and step alone.

T = TypeVar("T")

FORGET, RETAIN, FLUENT = 0, 1, 2
"""Kinds of rows."""

NAMES = ("forget", "retain", "fluent")


@dataclass(frozen=True)
class Texts:
    """What is forgotten, kept and learned, as token ids without special tokens."""

    forget: Sequence[Sequence[Ids]]
    """Sets of forget texts; step n takes from set n modulo their number. One set may stand there twice."""
    retain: Sequence[Ids]
    """Texts on which the model is to stay as it is."""
    fluent: Sequence[tuple[Ids, int]] = ()
    """Ids and how many of them are the prompt's."""
    start: Ids = ()
    """What stands before every text: the begin-of-text token or nothing."""
    experts: Sequence[Ids] = ()
    """Prefixes of the expert."""
    novices: Sequence[Ids] = ()
    """Prefixes of the novice."""


@dataclass(frozen=True)
class Row:
    """One text of a batch."""

    kind: int
    ids: Ids
    first: int = 1
    """First token that is learned by its label."""
    counts: bool = True
    """False for a row that only fills up a process's share."""


class Feed:
    """Batches for `gnomon.core.train.fit`; every micro-batch has rows of all kinds.

    The loss of a batch is a sum of means over its kinds, so that `fit` has nothing left to divide: a batch tells it one target, and
    each micro-batch has the counts of the whole batch by which its sums are divided.

    Args:
        texts: the data.
        batch_size: forget texts per optimiser step, over all processes; as many retain texts.
        generator: names the draws.
        micro_batch_size: forget texts computed at once; None: a process's whole share.
        fluency_every: steps between two with fluent texts.
        fluency_batch: fluent texts in such a step; None: `batch_size`.

    Raises:
        BadInput: there is nothing to forget or nothing to retain.
    """

    def __init__(
        self,
        texts: Texts,
        batch_size: int,
        *,
        generator: Rng,
        micro_batch_size: int | None = None,
        fluency_every: int = 1,
        fluency_batch: int | None = None,
    ):
        if not texts.forget or not all(texts.forget):
            raise BadInput("There is no forget text. Name a source that holds some.")
        if not texts.retain:
            raise BadInput("There is no retain text. Name a source that holds some.")
        self.texts, self.batch_size, self.micro_batch_size = texts, batch_size, micro_batch_size
        self.fluency_every, self.fluency_batch = fluency_every, fluency_batch or batch_size
        self.generator = generator
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Steps in which the largest forget set is read once."""
        return max(1, math.ceil(max(map(len, self.texts.forget)) * len(self.texts.forget) / self.batch_size))

    def rows(self, step: int) -> list[list[Row]]:
        """The rows of a step by kind."""
        number = len(self.texts.forget)
        turn = step % number
        before = sum((step - 1 - i) // number + 1 for i in self._same(turn) if i <= step - 1)
        forget = [
            Row(FORGET, text)
            for text in self._take(self.texts.forget[turn], self._same(turn)[0], before * self.batch_size, self.batch_size)
        ]  # fmt: skip
        retain = [
            Row(RETAIN, text)
            for text in self._take(self.texts.retain, -1, step * self.batch_size, self.batch_size)
        ]
        fluent: list[Row] = []
        if self.texts.fluent and step % self.fluency_every == 0:
            first = step // self.fluency_every * self.fluency_batch
            fluent = [
                Row(FLUENT, ids, counts)
                for ids, counts in self._take(self.texts.fluent, -2, first, self.fluency_batch)
            ]
        return [forget, retain, fluent]

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        rows = self.rows(step)
        counts = {
            "step": torch.tensor(step),
            **{f"n_{name}": torch.tensor(len(some)) for name, some in zip(NAMES, rows, strict=True)},
            **{f"tokens_{n}": torch.tensor(sum(len(r.ids) for r in s)) for n, s in zip(NAMES, rows, strict=True)},
            **{f"targets_{n}": torch.tensor(sum(len(r.ids) - r.first for r in s)) for n, s in zip(NAMES, rows, strict=True)},
        }  # fmt: skip
        drawn = self._personas(step)
        shares = [_share(some, process, processes) for some in rows]
        share = len(shares[FORGET])
        cuts = math.ceil(share / (self.micro_batch_size or share))
        micro = []
        for i in range(cuts):
            part = [some[i * len(some) // cuts : (i + 1) * len(some) // cuts] for some in shares]
            places = range(i * share // cuts, (i + 1) * share // cuts)
            mine = [drawn[(process + index * processes) % len(drawn)] for index in places]
            micro.append(self._collate([row for some in part for row in some], mine) | counts)
        return GlobalBatch(micro, 1)

    def _collate(self, rows: Sequence[Row], personas: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        texts = pad([row.ids for row in rows], 0, "right")
        labels = texts.input_ids.masked_fill(~texts.mask, IGNORED)
        counts = torch.tensor([row.counts for row in rows])
        for i, row in enumerate(rows):
            labels[i, : row.first] = IGNORED
        labels[~counts] = IGNORED
        batch = {
            "ids": texts.input_ids,
            "mask": texts.mask,
            "labels": labels,
            "counts": counts,
            "kind": torch.tensor([row.kind for row in rows]),
            "start": torch.tensor(list(self.texts.start), dtype=torch.long),
        }
        if self.texts.experts and self.texts.novices:
            both = [self.texts.experts[e] for e, _ in personas] + [self.texts.novices[n] for _, n in personas]
            prefixes = pad(both, 0, "left")
            batch |= {"prefix_ids": prefixes.input_ids, "prefix_mask": prefixes.mask}
        return batch

    def _personas(self, step: int) -> list[tuple[int, int]]:
        """Which expert and which novice each forget text of a step gets."""
        draw = self.generator.child("personas", step).numpy()
        sizes = max(1, len(self.texts.experts)), max(1, len(self.texts.novices))
        return [(int(draw.integers(sizes[0])), int(draw.integers(sizes[1]))) for _ in range(self.batch_size)]

    def _same(self, turn: int) -> list[int]:
        """Turns of the rotation that take from the same set as `turn` does."""
        return [i for i, text in enumerate(self.texts.forget) if text is self.texts.forget[turn]]

    def _take(self, some: Sequence[T], name: int, first: int, count: int) -> list[T]:
        """`count` of some texts from the `first` on, in an order shuffled anew for each pass."""
        rows = []
        for number in range(first, first + count):
            epoch, offset = divmod(number, len(some))
            if (name, epoch) not in self._orders:
                self._orders = {key: order for key, order in self._orders.items() if key[0] != name}
                order = self.generator.child("order", name, epoch).numpy().permutation(len(some))
                self._orders[name, epoch] = order
            rows.append(some[int(self._orders[name, epoch][offset])])
        return rows


def _share(rows: Sequence[Row], process: int, processes: int) -> list[Row]:
    """A process's rows, equally many on each; one that is short repeats a row that counts for nothing."""
    mine = list(rows[process::processes])
    if len(mine) < -(-len(rows) // processes):
        mine.append(replace(rows[-1], counts=False))
    return mine


def of_kind(batch: Mapping[str, Tensor], kind: int) -> Bool[Tensor, " N"]:
    """True at the rows of a kind."""
    return batch["kind"] == kind


def counted(batch: Mapping[str, Tensor], kind: int) -> Bool[Tensor, "B T"]:
    """True at the tokens of the rows of a kind that count; B rows of that kind."""
    rows = of_kind(batch, kind)
    mask: Tensor = batch["mask"][rows] & batch["counts"][rows][:, None]
    return mask


def read_by(batch: Mapping[str, Tensor], rows: Bool[Tensor, " N"] | None = None) -> tuple[Batch, int]:
    """Rows of a micro-batch as a model reads them, and how many columns at the right are their texts'."""
    ids, mask = batch["ids"], batch["mask"]
    if rows is not None:
        ids, mask = ids[rows], mask[rows]
    return behind(ids, mask, *_start(batch["start"], len(ids)))


def behind(
    ids: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    prefix: Int[Tensor, "B P"],
    prefix_mask: Bool[Tensor, "B P"],
) -> tuple[Batch, int]:
    """Texts behind prefixes, column by column as in `prefixing.join`."""
    return Batch(torch.cat([prefix, ids], 1), torch.cat([prefix_mask, mask], 1)), ids.shape[1]


def _start(start: Int[Tensor, " S"], n: int) -> tuple[Tensor, Tensor]:
    ids = start[None].expand(n, -1)
    return ids, torch.ones_like(ids, dtype=torch.bool)


def frozen_batch(batch: Mapping[str, Tensor]) -> tuple[Batch, int]:
    """All that the frozen model reads for a micro-batch: forget texts bare, by an expert, by a novice, then retain texts bare."""
    forget, retain = of_kind(batch, FORGET), of_kind(batch, RETAIN)
    n, wide = int(forget.sum()), batch["prefix_ids"].shape[1]
    start, start_mask = _start(batch["start"], n + int(retain.sum()))
    fill = wide - start.shape[1]
    start, start_mask = (torch.nn.functional.pad(tensor, (fill, 0)) for tensor in (start, start_mask))
    ids = torch.cat([batch["ids"][forget]] * 3 + [batch["ids"][retain]])
    mask = torch.cat([batch["mask"][forget]] * 3 + [batch["mask"][retain]])
    prefix = torch.cat([start[:n], batch["prefix_ids"], start[n:]])
    prefix_mask = torch.cat([start_mask[:n], batch["prefix_mask"], start_mask[n:]])
    return behind(ids, mask, prefix, prefix_mask)
