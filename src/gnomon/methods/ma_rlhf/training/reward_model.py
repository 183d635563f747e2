"""The reward model: a scorer trained on pairs of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnomon.core.models import Batch, new_scorer, token_scores
from gnomon.core.models.batch import pad
from gnomon.core.models.load.scorers import add_scorer_lora
from gnomon.core.models.sampling.likelihood import score_rows
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch, History, TrainConfig, fit
from gnomon.core.train.batches import Order
from gnomon.core.train.evaluation import Evaluation, split
from gnomon.errors import BadInput
from gnomon.methods.ma_rlhf.training.data import Pair, shorter_is_better

LossOn = Literal["last", "divergent_tokens"]


class PairScorer(nn.Module):
    """A scorer whose forward pass gives the value at every token."""

    def __init__(self, scorer: Any):
        super().__init__()
        self.scorer = scorer

    def forward(self, ids: Int[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Values; those at padding mean nothing."""
        values: Tensor = token_scores(self.scorer, Batch(ids, mask.bool()))
        return values


class PairBatches:
    """Batches of pairs for `fit`: the chosen texts, then the rejected ones.

    Args:
        pairs: token ids of both texts.
        cfg: pairs of a step and of a micro-batch.
        pad_id: fills the right of shorter rows.
        generator: names the shuffles.
    """

    def __init__(
        self, pairs: Sequence[tuple[list[int], list[int]]], cfg: TrainConfig, pad_id: int, generator: Rng
    ):
        self.pairs, self.pad_id, self.size = pairs, pad_id, cfg.micro_batch_size
        self._order = Order(len(pairs), cfg.batch_size, generator)

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        rows = sorted(self._order.at(step), key=lambda i: max(map(len, self.pairs[i])))
        share = -(-len(rows) // processes)
        mine = [(self.pairs[i], 1.0) for i in rows[process::processes]]
        # Every process computes equally many pairs; one that is short repeats one that counts nothing.
        mine += [(self.pairs[rows[-1]], 0.0)] * (share - len(mine))
        size = self.size or share
        micro = [self._collate(mine[i : i + size]) for i in range(0, share, size)]
        return GlobalBatch(micro, len(rows), sum(len(text) for i in rows for text in self.pairs[i]))

    def _collate(self, rows: Sequence[tuple[tuple[list[int], list[int]], float]]) -> dict[str, Tensor]:
        batch = pad([pair[side] for side in (0, 1) for pair, _ in rows], self.pad_id, "right")
        # `labels` tells data from other data, for those who resume.
        return {"ids": batch.input_ids, "mask": batch.mask.long(), "counts": torch.tensor([count for _, count in rows]),
                "labels": batch.input_ids}  # fmt: skip


def pair_losses(
    values: Float[Tensor, "N T"], ids: Int[Tensor, "N T"], mask: Int[Tensor, "N T"], loss_on: LossOn = "last"
) -> Float[Tensor, " B"]:
    """-log sigmoid(r_chosen - r_rejected) of each pair.

    Args:
        values: at every token, [2B, T]: chosen texts, then rejected ones, padded on the right.
        ids: their tokens.
        mask: 1 at real tokens.
        loss_on: last: values at the last tokens; divergent_tokens: the mean over places from the first token that differs to the
            end of the longer text; behind its end a text keeps its last value, and not one of padding.

    Source: spec point 2.
    """
    half = len(values) // 2
    places = torch.arange(values.shape[1], device=values.device)
    last = (mask * places).argmax(-1, keepdim=True)
    if loss_on == "last":
        ends = values.gather(-1, last).squeeze(-1)
        return -nn.functional.logsigmoid(ends[:half] - ends[half:])
    held = values.gather(-1, torch.minimum(places.expand_as(values), last))
    differs = (ids[:half] != ids[half:]) | (mask[:half] != mask[half:])
    first = differs.long().argmax(-1, keepdim=True)
    longer = torch.maximum(last[:half], last[half:])
    counted = (places >= first) & (places <= longer)
    losses = -nn.functional.logsigmoid(held[:half] - held[half:])
    return losses.where(counted, 0.0).sum(-1) / counted.sum(-1)


def train_reward(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    loss_on: LossOn = "last",
    train: TrainConfig,
    run: Any,
) -> tuple[Any, History, dict[str, float]]:
    """Train a reward model on pairs.

    Args:
        model: a causal model, whose backbone is copied under a head of zeros; or a scorer, of which the head is kept too.
        tokenizer: its tokenizer.
        pairs: what is better than what.
        loss_on: see `pair_losses`.
        train: the training; `eval_share` of the pairs is set aside, and measured.
        run: folder, random numbers, log.

    Returns:
        The scorer, with adapters where they were trained; the curve; and accuracies, on pairs set aside where there are some.

    Raises:
        BadInput: all pairs are longer than `train.max_length`.
    """
    rows = [(pair, pair.ids(tokenizer)) for pair in pairs]
    short = [(pair, ids) for pair, ids in rows if max(map(len, ids)) <= train.max_length]
    if not short:
        raise BadInput(
            f"None of the {len(rows)} pairs fits into {train.max_length} tokens. Raise --train.max-length."
        )
    used, aside = split(short, train.eval_share, run.rng.child("aside"))
    scorer = new_scorer(model, run.rng.child("scorer"), pad_id=padding_id(tokenizer))
    if train.lora_rank is not None and not hasattr(scorer, "peft_config"):
        scorer = add_scorer_lora(scorer, train.lora_rank)
    else:
        scorer.requires_grad_(True)

    def measure(_: Any) -> dict[str, float]:
        return {"accuracy": accuracy(scorer, tokenizer, [ids for _, ids in aside])}

    def loss(wrapped: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        values = wrapped(batch["ids"], batch["mask"])
        return (pair_losses(values, batch["ids"], batch["mask"], loss_on) * batch["counts"]).sum()

    batches = PairBatches([ids for _, ids in used], train, padding_id(tokenizer), run.rng.child("batches"))
    history = fit(
        PairScorer(scorer),
        batches,
        loss,
        train,
        run=run,
        eval=Evaluation(measure, ("accuracy",), is_loss=False) if aside else None,
    )
    measured = aside or used
    numbers = {
        "pairs": float(len(used)), "set aside": float(len(aside)), "too long": float(len(rows) - len(short)),
        "accuracy": accuracy(scorer, tokenizer, [ids for _, ids in measured]),
        "shorter is better": shorter_is_better(pair for pair, _ in measured),
    }  # fmt: skip
    numbers["longer is better"] = 1 - numbers["shorter is better"]
    return scorer.eval(), history, numbers


def accuracy(scorer: Any, tokenizer: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """Share of pairs whose chosen text has the higher value; equal values are half right."""
    values = score_rows(scorer, tokenizer, [text for pair in pairs for text in pair])
    wins = [(a > b) + 0.5 * (a == b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return sum(wins) / len(wins)
