"""Span corruption, T5's objective on unlabelled text: spans are cut out and the model writes them.

    thank you for inviting me to your party last week
    input:  thank you <0> me to your party <1> week     target:  <0> for inviting <1> last

Source: Raffel et al. 2020 (arXiv 1910.10683), section 3.1.4: 15% of the tokens in spans of 3 on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.sieve.students.optimising import optimise
from gnomon.methods.sieve.students.tokens import Ids, Tokens

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
    found: Ids = []
    while f"<extra_id_{len(found)}>" in vocabulary:
        found.append(vocabulary[f"<extra_id_{len(found)}>"])
    if not found:
        raise ModelMismatch(
            "The tokenizer has no <extra_id_0>, so spans cannot be marked. Set student.adapt_steps to 0 for this model."
        )
    return found


def _divide(total: int, parts: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`total` as a sum of `parts` numbers >= 1."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
