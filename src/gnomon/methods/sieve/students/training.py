"""Training a transformer on a few labels: focal loss, early stopping, the same weights from the same generator."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnomon.core.rng import Rng
from gnomon.methods.sieve.losses import focal_loss, focal_parts
from gnomon.methods.sieve.students.base import Fitted
from gnomon.methods.sieve.students.config import StudentConfig
from gnomon.methods.sieve.students.labels import split_held_out
from gnomon.methods.sieve.students.optimising import optimise
from gnomon.methods.sieve.students.scoring import pass_logits, score_rows
from gnomon.methods.sieve.students.tokens import Tokens

SORTED_TOGETHER = 16  # batches whose rows are sorted by length together

Indices = NDArray[np.int64]


def train_classifier(
    model: Any,
    tokens: Tokens,
    texts: Sequence[str],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    config: StudentConfig,
    rng: Rng,
    groups: Sequence[str] | None = None,
) -> Fitted:
    """Train `model` in place and leave it with its best weights, in evaluation mode.

    Args:
        model: a classifier with one logit or two, on its device.
        tokens: its tokenizer.
        texts: what it learns from; tokenised once.
        labels: 0 or 1, [N], both present.
        weights: alpha of each label, [N], > 0; scaled to a mean of 1.
        config: how to train.
        rng: where the part kept back, the order and dropout come from.
        groups: texts of one group stay on one side of the split.

    Raises:
        UserError: the loss is not finite.
    """
    began = time.perf_counter()
    rows, weights = tokens.encode(texts), weights / weights.mean()
    train, kept = split_held_out(labels, groups, config.held_out, rng.child("held out").numpy())
    per_epoch = -(-len(train) // config.batch_size)
    total = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    device = next(model.parameters()).device

    def loss_of(batch: Indices) -> Tensor:
        logits = pass_logits(model, tokens.pad([rows[i] for i in batch], device))
        targets, alphas = (torch.from_numpy(array[batch]).to(device) for array in (labels, weights))
        return focal_loss(logits, targets, alphas.float(), config.gamma).mean()

    def loss_on_kept() -> float:
        logits = score_rows(
            model, tokens, [rows[i] for i in kept], budget=config.score_tokens, precision=config.precision
        )
        return float(focal_parts(logits, labels[kept], weights[kept], config.gamma)[0].mean())

    best: tuple[float, int, dict[str, Tensor]] = (math.inf, 0, {})
    waited = step = 0
    batches = epoch_batches([len(row) for row in rows], train, config.batch_size, rng.child("order"))
    steps = optimise(
        model,
        batches,
        loss_of,
        steps=total,
        lr=config.lr,
        weight_decay=config.weight_decay,
        precision=config.precision,
        rng=rng.child("dropout"),
    )
    for step, _ in steps:
        if len(kept) and (step % per_epoch == 0 or step == total):
            loss = loss_on_kept()
            waited = 0 if loss < best[0] else waited + 1
            if not waited:
                best = (loss, step, {name: value.clone() for name, value in model.state_dict().items()})
            if waited == config.patience:
                break
    if len(kept):
        model.load_state_dict(best[2])
    model.eval()
    seconds = time.perf_counter() - began
    held_out_loss, best_step = (best[0], best[1]) if len(kept) else (None, step)
    return Fitted(step, seconds, best_step, held_out=len(kept), held_out_loss=held_out_loss)


def epoch_batches(lengths: Sequence[int], rows: Indices, batch_size: int, rng: Rng) -> Iterator[Indices]:
    """Batches of rows of like length, for ever: each epoch holds every row once, in an order of its own.

    Args:
        lengths: tokens of each row.
        rows: the rows to draw from.
        batch_size: rows of a batch; the last one of an epoch may be smaller.
        rng: shuffles the rows, and the batches after their rows were sorted by length within windows.
    """
    epoch = 0
    while True:
        generator = rng.child(epoch).numpy()
        order = generator.permutation(rows)
        batches = []
        for start in range(0, len(order), SORTED_TOGETHER * batch_size):
            window = order[start : start + SORTED_TOGETHER * batch_size]
            window = window[np.argsort([lengths[i] for i in window], kind="stable")]
            batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
        yield from (batches[i] for i in generator.permutation(len(batches)))
        epoch += 1
