"""Log-probabilities of given tokens, without all logits at once: the output embedding is applied in slices of time.

Values of whole texts by a scorer, and how likely a model finds each of several answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnomon.core.models.architectures.parts import base_of
from gnomon.core.models.batch import pad
from gnomon.core.models.load.scorers import plain_of, text_scores
from gnomon.core.models.sampling.decoding import last_logits_only
from gnomon.core.models.sampling.prefix import read_shared
from gnomon.core.models.sampling.text import padding_id
from gnomon.errors import BadInput, ModelMismatch

SLICE = 1 << 22
"""Logits that exist at once in float32: 16 MB."""

Head = Callable[[Tensor], Tensor]


@torch.no_grad()
def token_logprobs(model: Any, inputs: Mapping[str, Tensor], ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Log-probability (nats) of each token given those before it, whatever is padding; 0 at the first of each row.

    One pass makes the hidden states and the logits of the last tokens alone. From these it is seen whether the output embedding,
    with one factor or a soft cap, is all that stands between them; then it is applied to the other tokens slice by slice. Of
    a model where more stands between, or which always makes all logits, these are taken, and made float32 in slices.

    Args:
        model: a causal, sequence-to-sequence or vision-language transformers model.
        inputs: what it is called with.
        ids: the tokens that its logits are about.

    Raises:
        ModelMismatch: the model has no output embedding.
    """
    if model.get_output_embeddings() is None:
        raise ModelMismatch(f"{type(model).__name__} has no output embedding and predicts no tokens.")
    hidden, head = _in_two(model, inputs, ids.shape)
    words = model.get_output_embeddings().weight.shape[0]
    logprobs = torch.zeros(ids.shape, device=hidden.device)
    step = max(1, SLICE // (len(ids) * words))
    for first in range(0, ids.shape[1] - 1, step):
        last = min(first + step, ids.shape[1] - 1)
        values = torch.log_softmax(head(hidden[:, first:last]).float(), -1)
        wanted = ids[:, first + 1 : last + 1, None].to(hidden.device)
        logprobs[:, first + 1 : last + 1] = values.gather(-1, wanted).squeeze(-1)
    return logprobs


def _as_it_is(logits: Tensor) -> Tensor:
    return logits


_whole: WeakSet[Any] = WeakSet()
"""Models whose logits are taken whole."""


def _in_two(model: Any, inputs: Mapping[str, Tensor], shape: torch.Size) -> tuple[Tensor, Head]:
    """Hidden states [B, T, D] and the way from them to the logits; where that way is not certain, the logits and nothing."""
    base = base_of(model)
    only_last = last_logits_only(model) if base not in _whole else {}
    embedding, decoder = model.get_output_embeddings(), base.get_decoder() if only_last else None
    if decoder is not None:
        with _watching(decoder, embedding) as seen:
            logits = model(**inputs, **only_last, use_cache=False).logits
        if (way := _way(seen, logits, shape, model.config.get_text_config())) is not None:
            return seen["hidden"], lambda states: way(embedding(states))
    _whole.add(base)
    return model(**inputs, use_cache=False).logits, _as_it_is


@contextmanager
def _watching(decoder: nn.Module, embedding: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What the last block gives, what the output embedding reads, and what it makes of it, in the passes of the block."""
    seen: dict[str, Tensor] = {}

    def after(module: nn.Module, args: Any, output: Any) -> None:
        state = getattr(output, "last_hidden_state", None)
        if isinstance(state, Tensor):
            seen["hidden"] = state

    def out(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen["read"], seen["raw"] = args[0], output

    hooks = [decoder.register_forward_hook(after), embedding.register_forward_hook(out)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _way(seen: Mapping[str, Tensor], logits: Tensor, shape: torch.Size, config: Any) -> Head | None:
    """What a family does to the output of its embedding, seen on the last token of each row; None: something else."""
    if seen.keys() != {"hidden", "read", "raw"} or seen["hidden"].shape[:2] != shape:
        return None
    read, raw, last = seen["read"], seen["raw"], seen["hidden"][:, -1:]
    if read.shape != last.shape or not torch.equal(read, last) or raw.shape != logits.shape:
        return None
    if torch.equal(raw, logits):
        return _as_it_is
    close = 1e-5 if raw.dtype == torch.float32 else 1e-2
    raw, logits = raw.float(), logits.float()
    size = float(logits.abs().max())
    cap = getattr(config, "final_logit_softcapping", None)
    if cap and torch.allclose(torch.tanh(raw / cap) * cap, logits, rtol=close, atol=close * size):
        return lambda values: torch.tanh(values / cap) * cap
    # One factor, which the configuration has: rounded logits alone would give it too roughly.
    numbers = [v for v in config.to_dict().values() if isinstance(v, int | float) and v > 0]
    for factor in (*numbers, *(1 / v for v in numbers)):
        if torch.allclose(factor * raw, logits, rtol=close, atol=close * size):
            return partial(torch.mul, factor)
    return None


@torch.no_grad()
def score_rows(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], *, batch_size: int = 16
) -> list[float]:
    """The value of each text, given as token ids, in order; those of similar length are read side by side.

    Raises:
        BadInput: a text has no tokens, or more than the model reads.
    """
    plain = plain_of(model)
    positions = getattr(plain.config.get_text_config(), "max_position_embeddings", None)
    for i, row in enumerate(rows):
        if not row or (positions is not None and len(row) > positions):
            raise BadInput(
                f"Text {i} has {len(row)} tokens; {type(plain).__name__} reads 1 to {positions or 'any number'}."
            )
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    values = [0.0] * len(rows)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = pad([rows[i] for i in part], padding_id(tokenizer), "right").to(plain.device)
        for i, value in zip(part, text_scores(plain, batch).tolist(), strict=True):
            values[i] = value
    return values


@torch.no_grad()
def score_choices(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[str],
    *,
    batch_size: int = 16,
) -> tuple[list[list[float]], list[int]]:
    """Log-probability (nats) of each choice as the next text after each prompt.

    Args:
        model: a causal or sequence-to-sequence model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: token ids, none empty.
        choices: texts; each is encoded by itself.
        batch_size: rows side by side; changes speed and memory, not results.

    Returns:
        One row of `len(choices)` sums of token log-probabilities per prompt, and the number of tokens of each choice.

    Raises:
        BadInput: a choice has no tokens.
    """
    answers = [list(tokenizer(choice, add_special_tokens=False)["input_ids"]) for choice in choices]
    for choice, ids in zip(choices, answers, strict=True):
        if not ids:
            raise BadInput(f"The choice {choice!r} has no tokens. Every choice needs a text.")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    scores = [[0.0] * len(choices) for _ in prompts]
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        scored = _after(model, padding_id(tokenizer), [prompts[i] for i in part], answers, batch_size)
        for i, values in zip(part, scored, strict=True):
            scores[i] = values
    return scores, [len(ids) for ids in answers]


def _after(
    model: Any,
    pad_id: int,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    batch_size: int,
) -> list[list[float]]:
    """Log-probability of every answer behind every prompt; a prompt is read once, whatever the number of answers."""
    begun = read_shared(model, prompts, range(len(prompts)), pad_id)
    first = torch.log_softmax(begun.logits.float(), -1)
    scores = first[:, [answer[0] for answer in answers]].tolist()
    longer = [(row, k) for k, answer in enumerate(answers) if len(answer) > 1 for row in range(len(prompts))]
    longer.sort(key=lambda pair: len(answers[pair[1]]))
    for start in range(0, len(longer), batch_size):
        some = longer[start : start + batch_size]
        lengths = [len(answers[k]) for _, k in some]
        states = begun.start(torch.tensor([row for row, _ in some], device=first.device), max(lengths) - 1)
        for t in range(1, max(lengths)):
            read = torch.tensor(
                [answers[k][min(t, len(answers[k])) - 1] for _, k in some], device=first.device
            )
            states.step(read, torch.tensor([t < length for length in lengths], device=first.device))
            logprobs = torch.log_softmax(states.logits.float(), -1)
            for at, (row, k) in enumerate(some):
                if t < lengths[at]:
                    scores[row][k] += float(logprobs[at, answers[k][t]])
    return scores
