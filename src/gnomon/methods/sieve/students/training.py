"""Training a transformer on a few labels: focal loss, early stopping, the same weights from the same generator.

No global seed: what a step draws is a function of its generator alone. Before the labels a T5 may learn from unlabelled text by
span corruption, its own objective, in which spans are cut out and the model writes them:

    thank you for inviting me to your party last week
    input:  thank you <0> me to your party <1> week     target:  <0> for inviting <1> last

Source: Raffel et al. 2020 (arXiv 1910.10683), section 3.1.4: 15% of the tokens in spans of 3 on average.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gnomon.core.rng import Rng, seeded
from gnomon.core.train.optim import decay_groups, lr_factor, make_adamw, set_lr
from gnomon.errors import BadInput, ModelMismatch, UserError
from gnomon.methods.sieve.students.base import Fitted, split_held_out
from gnomon.methods.sieve.students.config import StudentConfig
from gnomon.methods.sieve.students.losses import focal_loss, focal_parts
from gnomon.methods.sieve.students.tokens import Ids, Tokens, arithmetic, pass_logits, score_rows

# Steps of the optimiser.

WARMUP = 0.1  # share of the steps
GRAD_CLIP = 1.0  # longest gradient norm

Batch = TypeVar("Batch")


def optimise(
    model: nn.Module,
    batches: Iterator[Batch],
    loss_of: Callable[[Batch], Tensor],
    *,
    steps: int,
    lr: float,
    weight_decay: float,
    precision: str,
    rng: Rng,
) -> Iterator[tuple[int, float]]:
    """Take steps of AdamW with warm-up and linear decay; after each, its number from 1 and its loss.

    Args:
        model: in training mode during a step; the caller may evaluate it between steps.
        batches: at least `steps` of them.
        loss_of: the loss of a batch, a scalar.
        steps: steps in all.
        lr: peak learning rate.
        weight_decay: decoupled weight decay of matrices.
        precision: `"float32"`, `"bf16"` or `"auto"`.
        rng: what dropout draws from, step by step.

    Raises:
        UserError: the loss is not finite.
    """
    device = next(model.parameters()).device
    optimizer = make_adamw(decay_groups(model, weight_decay), lr)
    for step in range(steps):
        model.train()
        set_lr(optimizer, lr_factor(step, steps, math.ceil(WARMUP * steps), "linear"))
        with seeded(rng.child("step", step), device):
            with arithmetic(device, precision):
                loss = loss_of(next(batches))
            loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(
                f"Training stopped at step {step + 1}: the loss is {value}. Lower the learning rate."
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad()
        yield step + 1, value


# Training on labels.

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


# Span corruption.

NOISE = 0.15
MEAN_SPAN = 3.0
IGNORED = -100


def noise_mask(length: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """True at the tokens to cut out, [length]; the first token stays.

    The number of tokens and of spans is fixed by the length; where they lie is drawn, all ways of dividing being equally
    likely.

    Args:
        length: tokens of the text, >= 2.
        generator: draws the lengths of the spans and of the gaps before them.
    """
    n_noise = min(max(round(NOISE * length), 1), length - 1)
    n_spans = min(max(round(n_noise / MEAN_SPAN), 1), length - n_noise)
    gaps, spans = (_divide(total, n_spans, generator) for total in (length - n_noise, n_noise))
    lengths = np.stack([gaps, spans], axis=1).ravel()
    return np.repeat(np.arange(2 * n_spans) % 2 == 1, lengths)


def corrupt(ids: Ids, sentinels: Ids, eos: int, generator: np.random.Generator) -> tuple[Ids, Ids]:
    """Input and target of one text, each with the end-of-text token behind it.

    Args:
        ids: the text's tokens without special ones, at least 2.
        sentinels: the tokens that stand for the spans, in order; at least as many as spans.
        eos: the end-of-text token.
        generator: draws the spans.
    """
    source: Ids = []
    target: Ids = []
    n_spans, was_noise = 0, False
    for token, is_noise in zip(ids, noise_mask(len(ids), generator).tolist(), strict=True):
        if is_noise and not was_noise:
            source.append(sentinels[n_spans])
            target.append(sentinels[n_spans])
            n_spans += 1
        (target if is_noise else source).append(token)
        was_noise = is_noise
    return [*source, eos], [*target, eos]


def pretrain(
    model: Any,
    tokens: Tokens,
    texts: Sequence[str],
    *,
    steps: int,
    lr: float,
    batch_size: int,
    precision: str,
    rng: Rng,
) -> list[float]:
    """Train a T5 with span corruption in place; the loss of each step.

    Args:
        model: a `T5ForConditionalGeneration` on its device.
        tokens: its tokenizer, with sentinels `<extra_id_0>` and so on.
        texts: the unlabelled text; what is longer than the tokenizer allows is cut.
        steps: optimiser steps.
        lr: peak learning rate of AdamW.
        batch_size: texts per step.
        precision: `"float32"`, `"bf16"` or `"auto"`.
        rng: draws order, spans and dropout.

    Raises:
        BadInput: no text has two tokens.
        ModelMismatch: the tokenizer has no sentinels.
    """
    rows = [row for row in tokens.encode(texts, special=False) if len(row) > 1]
    if not rows:
        raise BadInput("No unlabelled text has two tokens; there is nothing to cut spans out of.")
    sentinels, eos = find_sentinels(tokens.tokenizer), tokens.tokenizer.eos_token_id
    device = next(model.parameters()).device

    def draw() -> Iterator[list[tuple[Ids, Ids]]]:
        for step in range(steps):
            generator = rng.child("spans", step).numpy()
            chosen = generator.choice(len(rows), min(batch_size, len(rows)), replace=False)
            yield [corrupt(rows[i], sentinels, eos, generator) for i in chosen]

    def loss_of(batch: list[tuple[Ids, Ids]]) -> Any:
        inputs = tokens.pad([source for source, _ in batch], device)
        targets = tokens.pad([target for _, target in batch], device)
        labels = targets["input_ids"].masked_fill(targets["attention_mask"] == 0, IGNORED)
        return model(**inputs, labels=labels, use_cache=False).loss

    taken = optimise(
        model,
        draw(),
        loss_of,
        steps=steps,
        lr=lr,
        weight_decay=0.0,
        precision=precision,
        rng=rng.child("dropout"),
    )
    return [loss for _, loss in taken]


def find_sentinels(tokenizer: Any) -> Ids:
    """Ids of `<extra_id_0>`, `<extra_id_1>` and so on, as many as the tokenizer has.

    Raises:
        ModelMismatch: it has none, or too few for a text of 512 tokens.
    """
    vocabulary = tokenizer.get_vocab()
    sentinels: Ids = []
    while f"<extra_id_{len(sentinels)}>" in vocabulary:
        sentinels.append(vocabulary[f"<extra_id_{len(sentinels)}>"])
    if not sentinels:
        raise ModelMismatch(
            "The tokenizer has no <extra_id_0>, so spans cannot be marked. Set student.adapt_steps to 0 for this model."
        )
    return sentinels


def _divide(total: int, parts: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`total` as a sum of `parts` numbers >= 1."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
