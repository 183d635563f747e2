"""A retriever trained on mined pairs: anchors are queries, with a positive and some hard negatives of each a step.

What belongs to a batch's other anchors are negatives too. Every batch is compared as a whole, whatever the memory
(`train.micro_batch_size`) and the number of processes.

Source: UncertaintyRAG (2410.02719), contrastive training of the retriever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gnomon.core.models.batch import pad
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.retrieval.encoders import TextEncoder
from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch, TrainConfig, cached_step, fit, gather, info_nce
from gnomon.core.train.batches import Order
from gnomon.core.train.contrastive import NOTHING, offset_of, share_of, text_ids
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.uncertainty_rag.options import Contrast
from gnomon.methods.uncertainty_rag.training.chunks import plain

Row = Mapping[str, Any]


class Draws:
    """Batches of mined rows, for `fit`: each row with a positive and hard negatives drawn anew in every epoch.

    Args:
        rows: of a training set.
        encoder: gives the token ids.
        cfg: batch size and longest text.
        hard: hard negatives a row.
        rng: names the draws.
    """

    def __init__(self, rows: Sequence[Row], encoder: TextEncoder, cfg: TrainConfig, hard: int, rng: Rng):
        self.rows = [row for row in rows if row["positives"]]
        if not self.rows:
            raise BadInput("No row has a positive: there is nothing to train on.")
        self.hard = min(hard, min(len(row["negatives"]) for row in self.rows))
        if hard and not self.hard:
            # One row without negatives must not take them from all: it repeats nothing and is left out.
            self.rows = [row for row in self.rows if row["negatives"]] or self.rows
            self.hard = min(hard, min(len(row["negatives"]) for row in self.rows))
        self.encoder, self.cfg, self.rng = encoder, cfg, rng
        self.order = Order(len(self.rows), cfg.batch_size, rng)
        self._widest = max(len(row["positives"]) for row in self.rows) + 1
        self._tokens: dict[tuple[str, str], list[int]] = {}

    def __len__(self) -> int:
        return len(self.order)

    def drawn(self, step: int) -> list[tuple[Row, str, list[str]]]:
        """The rows of a step, each with the text of its positive and those of its negatives."""
        epoch, result = step // len(self), []
        for i in self.order.at(step):
            row, draw = self.rows[i], self.rng.child("draw", epoch, i).numpy()
            positive = row["positive_texts"][int(draw.integers(len(row["positives"])))]
            chosen = draw.permutation(len(row["negatives"]))[: self.hard].tolist()
            result.append((row, positive, [row["negative_texts"][j] for j in chosen]))
        return result

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of a process: consecutive rows, filled up with rows that count for nothing."""
        rows = self.drawn(step)
        numbers = share_of(range(len(rows)), process, processes, NOTHING)
        mine = [rows[max(i, 0)] for i in numbers]
        queries = [self._ids(row["anchor_text"], "query") for row, _, _ in mine]
        texts = [text for _, positive, negatives in mine for text in (positive, *negatives)]
        ids = text_ids([plain(text) for text in texts])
        per_row = 1 + self.hard
        counts = torch.tensor(numbers) != NOTHING
        ids = torch.where(counts.repeat_interleave(per_row), ids, NOTHING)
        batch = pad(
            [*queries, *(self._ids(text, "passage") for text in texts)],
            padding_id(_local(self.encoder).tokenizer),
            "right",
        )
        micro = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.mask.long(),
            "places": torch.where(counts, torch.arange(len(mine)) * per_row, NOTHING),
            "passages": ids,
            "never": torch.stack([self._never(row) for row, _, _ in mine]),
            "labels": ids % 1_000_003,  # what tells these data from others when a training goes on
        }
        return GlobalBatch([micro], len(rows))

    def _never(self, row: Row) -> Tensor:
        """The anchor's own text and all of its positives: none of them is a negative of it, wherever it comes from."""
        ids = text_ids([plain(text) for text in (row["anchor_text"], *row["positive_texts"])])
        return torch.nn.functional.pad(ids, (0, self._widest - len(ids)), value=NOTHING)

    def _ids(self, text: str, role: str) -> list[int]:
        key = (role, text)
        if key not in self._tokens:
            local = _local(self.encoder)
            text = text.lower() if local.about.lowers else text
            self._tokens[key] = local.rows(text, self.encoder.prefixes[role], 0, "cut")[0][0]
        return self._tokens[key]


class ContrastiveLoss:
    """The loss of a batch, embedded piece by piece.

    Args:
        encoder: how vectors are read from hidden states.
        temperature: divides cosines.
        micro: texts embedded at once; None: all of a process's share.
    """

    def __init__(self, encoder: TextEncoder, temperature: float, micro: int | None):
        self.readout = _local(encoder).about.readout
        self.temperature, self.micro = temperature, micro
        self.masked = self.columns = self.queries = 0

    def __call__(self, model: Any, micro: Mapping[str, Tensor]) -> Tensor:
        """The loss of a process's share, summed over its rows."""
        n = len(micro["places"])

        def encode(piece: tuple[Tensor, Tensor]) -> Tensor:
            ids, mask = piece
            width = int(mask.sum(1).max())  # texts begin at column 0; a piece is as wide as its own longest
            ids, mask = ids[:, :width], mask[:, :width]
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            vectors: Tensor = torch.nn.functional.normalize(self.readout(hidden, mask.bool()), dim=-1)
            return vectors

        def whole(embedded: Tensor) -> Tensor:
            passages = gather(micro["passages"])
            places, never = gather(offset_of(micro["places"], len(micro["passages"]))), gather(micro["never"])
            self._count(places, passages, never)
            loss: Tensor = info_nce(
                gather(embedded[:n]),
                gather(embedded[n:]),
                places,
                passages,
                temperature=self.temperature,
                never=never,
            )
            return loss

        size = self.micro or len(micro["input_ids"])
        ids, masks = (torch.split(micro[name], size) for name in ("input_ids", "attention_mask"))
        pieces = list(zip(ids, masks, strict=True))
        loss: Tensor = cached_step(model, encode, pieces, whole)
        return loss

    def _count(self, places: Tensor, passages: Tensor, never: Tensor) -> None:
        counted = places != NOTHING
        own = passages[places[counted]]
        same = (passages[None] == own[:, None]) | (passages[None, :, None] == never[counted][:, None]).any(-1)
        real = int((passages != NOTHING).sum())
        self.queries += int(counted.sum())
        self.columns += real * int(counted.sum())
        self.masked += int(same[:, passages != NOTHING].sum())

    @property
    def negatives_seen(self) -> float:
        """Negatives that a row saw, on average over the training: other passages of its batch, without those that say the same."""
        return (self.columns - self.masked) / self.queries if self.queries else 0.0


@dataclass(frozen=True)
class Trained:
    """A trained retriever and what to know of it."""

    encoder: TextEncoder
    """The retriever."""
    curves: Mapping[str, list[float]]
    """Stage -> loss of each step."""
    negatives: Mapping[str, float]
    """Stage -> negatives that each row saw on average."""
    rows: int
    """Rows trained on."""


def train_retriever(
    encoder: TextEncoder, rows: Sequence[Row], cfg: TrainConfig, contrast: Contrast, *, run: Any
) -> Trained:
    """Train an encoder in place on mined rows.

    Args:
        encoder: of a model in this process.
        rows: of a training set, see `gnomon.methods.uncertainty_rag.training.training_set`.
        cfg: how; `micro_batch_size` is the texts embedded at once and changes no result.
        contrast: temperature, hard negatives, stages.
        run: a run or a part of one.

    Raises:
        BadInput: no row has a positive.
    """
    model = _local(encoder).model
    stages = {"in batch": 0, "hard": contrast.hard} if contrast.two_stage and contrast.hard else {
        "hard" if contrast.hard else "in batch": contrast.hard
    }  # fmt: skip
    curves, negatives, n = {}, {}, 0
    idle = _idle(encoder)
    for parameter in idle:
        parameter.requires_grad_(False)
    for name, hard in stages.items():
        part = run.within(f"train-{name.replace(' ', '-')}")
        part.folder.mkdir(parents=True, exist_ok=True)
        batches = Draws(rows, encoder, cfg, hard, part.rng.child("draws"))
        loss = ContrastiveLoss(encoder, contrast.temperature, cfg.micro_batch_size)
        # The batch is not cut into micro-batches, whose losses would not add up: it is embedded in pieces.
        history = fit(model, batches, loss, replace(cfg, reduction="token_mean"), run=part)
        curves[name], negatives[name], n = history.curve("loss"), loss.negatives_seen, len(batches.rows)
    for parameter in idle:
        parameter.requires_grad_(True)
    model.eval()
    encoder.__dict__.pop("fingerprint", None)  # its weights are others now
    return Trained(encoder, curves, negatives, n)


def _idle(encoder: TextEncoder) -> list[torch.nn.Parameter]:
    """Trained weights that no vector depends on, such as BERT's pooler: several processes would wait for their gradients."""
    local = _local(encoder)
    ids = torch.tensor([local.rows("a", "", 0, "cut")[0][0]], device=local.model.device)
    mask = torch.ones_like(ids)
    local.model.eval()
    with torch.enable_grad():
        hidden = local.model(input_ids=ids, attention_mask=mask).last_hidden_state
        local.about.readout(hidden, mask.bool()).sum().backward()
    idle = [p for p in local.model.parameters() if p.requires_grad and p.grad is None]
    local.model.zero_grad(set_to_none=True)
    return idle


def _local(encoder: TextEncoder) -> Any:
    """What embeds in this process.

    Raises:
        ModelMismatch: a server does.
    """
    if not hasattr(encoder.embeds, "model"):
        raise ModelMismatch("A retriever is trained in this process; an encoder on a server cannot be.")
    return encoder.embeds
