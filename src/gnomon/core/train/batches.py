"""Examples in, padded batches out: every batch is a function of the data, the seed and the step alone.

A step can therefore be asked for in any order, which is what exact resume needs, and any number of processes
sees the same batches: each takes its share of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gnomon.core.config import option
from gnomon.core.rng import Rng
from gnomon.core.train.config import TrainConfig
from gnomon.core.train.losses import IGNORED
from gnomon.errors import BadConfig, BadInput


@dataclass(frozen=True)
class Example:
    """One text to learn from, as token ids."""

    input_ids: Sequence[int]
    """The tokens."""
    labels: Sequence[int]
    """As long: the token's own id where it is a target, -100 where it is not."""
    weight: float | None = None
    """Times which the loss of its targets counts; None: once."""
    soft: Mapping[int, Mapping[int, float]] | None = None
    """Place of a token -> token id -> its probability there: a target that is a distribution. What stands at the place is not
    one."""
    seen: Any = None
    """The same tokens with images, a `SeenText`; None for text alone."""


@dataclass(frozen=True)
class GlobalBatch:
    """What one process computes for one optimiser step."""

    micro: Sequence[Mapping[str, Tensor]]
    """Micro-batches, equally many on every process."""
    targets: int
    """Targets of the whole batch over all processes: what a mean divides by."""
    tokens: int | None = None
    """Tokens of the whole batch over all processes, without padding: for tokens per second. None: as many as targets."""


@runtime_checkable
class BatchSource(Protocol):
    """What `fit` trains on."""

    def __len__(self) -> int:
        """Optimiser steps per epoch."""

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of `process` in the batch of `step`, counted over all epochs."""


@runtime_checkable
class OwnBatches(BatchSource, Protocol):
    """Batches that the policy makes itself: `at` rolls out with the weights of the step, for all steps that share the rollout.

    `fit` asks for a batch after weights are restored, and before each step. A training resumes exactly where its checkpoints
    fall on the borders of rollouts, which `check_borders` makes sure of: the step behind a border rolls out anew in any case.
    """

    steps_per_rollout: int
    """Optimiser steps that share a rollout."""

    def digest(self) -> list[list[int]]:
        """Whole numbers that tell the tasks from others; no rollout is made for it."""


def check_borders(cfg: TrainConfig, batches: BatchSource) -> None:
    """Refuse checkpoints in the middle of a rollout, which is not saved with them.

    Raises:
        BadConfig: `checkpoint_every` is no multiple of the steps that share a rollout.
    """
    steps = batches.steps_per_rollout if isinstance(batches, OwnBatches) else 1
    if cfg.checkpoint_every % steps:
        raise BadConfig(
            f"train.checkpoint_every must be a multiple of {steps}, the updates of a rollout; got {cfg.checkpoint_every}. A "
            f"checkpoint "
            "within a rollout could not be continued exactly."
        )


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
        packing: put several examples into a row of at most `max_length` tokens (None: the longest example's). A row then says where
            each example begins by its positions, which start at 0 again, and has no mask: the model must read them so, see
            `reads_packed`. `micro_batch_size` counts such rows.
        gather: makes a batch, padded on the right, of examples with images: `ModelHandle.gather`.

    A batch has `input_ids`, `attention_mask` (or `position_ids`) and `labels`; where examples have weights, also `weights` [B,
    T], and where they have soft targets `soft` [B, S, 3]: place, token id and probability, the place -1 where a row has fewer.

    Raises:
        BadInput: there is no example, one is malformed, or one has no target; some have images, and others none.
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
        packing: bool = False,
        gather: Callable[..., Any] | None = None,
    ):
        if not examples:
            raise BadInput("There is no example to train on.")
        seeing = sum(example.seen is not None for example in examples)
        if seeing and (seeing < len(examples) or gather is None or packing):
            raise BadInput(
                f"{seeing} of {len(examples)} examples have images. Batches are of one kind, unpacked, and those with images "
                f"are gathered "
                "by their model's handle."
            )
        self.gather = gather if seeing else None
        self._has_weights = any(example.weight is not None for example in examples)
        self._has_soft = any(example.soft for example in examples)
        self.examples = [_cut(example, i, max_length) for i, example in enumerate(examples)]
        self.n_cut = sum(
            len(a.input_ids) < len(b.input_ids) for a, b in zip(self.examples, examples, strict=True)
        )
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.pad_id, self.generator = pad_id, generator
        self.packing = packing
        self._width = max_length or max(len(example.input_ids) for example in self.examples)
        self._order = Order(len(self.examples), batch_size, generator)

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        chosen = sorted(self.rows(step), key=lambda i: (len(self.examples[i].input_ids), i))
        examples = [self.examples[i] for i in chosen]
        lengths = [len(example.input_ids) for example in examples]
        places = packed(lengths, self._width) if self.packing else [[i] for i in range(len(examples))]
        rows = [[examples[i] for i in row] for row in places]
        share = -(-len(rows) // processes)
        mine = rows[process::processes]
        # Every process computes equally many rows; one that is short repeats an example without its targets.
        mine += [[_without_targets(examples[-1])]] * (share - len(mine))
        size = self.micro_batch_size or share
        micro = [self._collate(mine[start : start + size]) for start in range(0, share, size)]
        return GlobalBatch(micro, sum(map(_n_targets, examples)), sum(lengths))

    def rows(self, step: int) -> list[int]:
        """Indices of the examples in the batch of `step`."""
        return self._order.at(step)

    def _collate(self, rows: Sequence[Sequence[Example]]) -> dict[str, Tensor]:
        tensors = (
            _packed_rows(rows, self.pad_id) if self.packing else self._padded_rows([row[0] for row in rows])
        )
        if self._has_weights:
            tensors["weights"] = _weights(rows, tensors["labels"].shape[1])
        if self._has_soft:
            tensors["soft"] = _soft_rows(rows)
        return tensors

    def _padded_rows(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        width = max(len(row.input_ids) for row in rows)
        if self.gather is not None:
            inputs = self.gather([row.seen for row in rows], side="right").inputs("vlm")
            return {**inputs, "labels": _padded([row.labels for row in rows], width, IGNORED)}
        return {
            "input_ids": _padded([row.input_ids for row in rows], width, self.pad_id),
            "attention_mask": _padded([[1] * len(row.input_ids) for row in rows], width, 0),
            "labels": _padded([row.labels for row in rows], width, IGNORED),
        }


def _weights(rows: Sequence[Sequence[Example]], width: int) -> Tensor:
    """[B, T] of the weight of each token's example; 0 at padding."""
    values = [[1.0 if e.weight is None else e.weight for e in row for _ in e.input_ids] for row in rows]
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in values])


def _soft_rows(rows: Sequence[Sequence[Example]]) -> Tensor:
    """[B, S, 3] of place, token id and probability; in 64 bits, which hold every id."""
    entries = []
    for row in rows:
        mine, begun = [], 0
        for example in row:
            for at, shares in (example.soft or {}).items():
                mine += [[begun + at, token, share] for token, share in shares.items()]
            begun += len(example.input_ids)
        entries.append(mine)
    most = max(1, *map(len, entries))
    nothing = [-1.0, 0.0, 0.0]
    return torch.tensor([[*mine, *[nothing] * (most - len(mine))] for mine in entries], dtype=torch.float64)


def packed(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Places of examples that share a row of at most `width` tokens: the longest first, each into the first row that has room.

    >>> packed([2, 3, 6, 4], 7)
    [[2], [3, 1], [0]]
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = next((at for at, free in enumerate(room) if free >= lengths[i]), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(width)
        rows[at].append(i)
        room[at] -= lengths[i]
    return rows


def _packed_rows(rows: Sequence[Sequence[Example]], pad_id: int) -> dict[str, Tensor]:
    """Rows of several examples; what fills the right of a row is read as one more."""
    width = max(sum(len(example.input_ids) for example in row) for row in rows)
    ids, labels, positions = [], [], []
    for row in rows:
        fill = width - sum(len(example.input_ids) for example in row)
        ids.append([token for example in row for token in example.input_ids] + [pad_id] * fill)
        # Nothing predicts the first token of an example, least of all the last one of its neighbour.
        labels.append([v for example in row for v in (IGNORED, *example.labels[1:])] + [IGNORED] * fill)
        positions.append([p for example in row for p in range(len(example.input_ids))] + [*range(fill)])
    return {
        "input_ids": torch.tensor(ids),
        "position_ids": torch.tensor(positions),
        "labels": torch.tensor(labels),
    }


@torch.no_grad()
def reads_packed(model: Any) -> bool:
    """Whether a causal model keeps examples of a packed row apart: two short ones in a row give the logits of each alone.

    Models that carry a state from token to token (Mamba and its kin) do not, nor do those without positions.
    """
    device, was_training = next(model.parameters()).device, model.training
    lengths, vocabulary = (3, 4), model.get_input_embeddings().num_embeddings
    ids = (torch.arange(sum(lengths), device=device) * 7 + 3) % vocabulary
    parts = ids.split(lengths)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    model.eval()
    try:
        together = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in parts])
    except TypeError:  # it takes no positions
        return False
    finally:
        model.train(was_training)
    scale = float(alone.float().abs().max())
    return torch.allclose(
        together.float(),
        alone.float(),
        rtol=0,
        atol=1e-4 * scale if alone.dtype == torch.float32 else 0.05 * scale,
    )


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.long)


def _n_targets(example: Example) -> int:
    """Labels that some token predicts: all but the first; a distribution counts as one."""
    return sum(label != IGNORED for label in example.labels[1:]) + len(example.soft or ())


def _without_targets(example: Example) -> Example:
    return replace(example, labels=[IGNORED] * len(example.labels), soft=None)


def _cut(example: Example, i: int, max_length: int | None) -> Example:
    if len(example.input_ids) != len(example.labels):
        raise BadInput(
            f"Example {i} has {len(example.input_ids)} tokens and {len(example.labels)} labels. "
            "Give every token one label."
        )
    for at in example.soft or ():
        if not 1 <= at < len(example.input_ids):
            raise BadInput(f"Example {i} has a soft target at place {at}, before which no token stands.")
    if max_length is not None and len(example.input_ids) > max_length:
        if example.seen is not None:
            raise BadInput(
                f"Example {i} has images and {len(example.input_ids)} tokens, which cannot be cut. Leave it out, or raise "
                f"{option('train.max_length')}."
            )
        kept = {at: shares for at, shares in (example.soft or {}).items() if at < max_length}
        ids, labels = example.input_ids[:max_length], example.labels[:max_length]
        example = replace(example, input_ids=ids, labels=labels, soft=kept or None)
    if not _n_targets(example):
        where = f" within its first {max_length} tokens" if max_length else ""
        raise BadInput(
            f"Example {i} has no target{where}. Leave it out, or raise {option('train.max_length')}."
        )
    return example
