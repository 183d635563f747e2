"""How likely a model finds each of several answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gnomon.core.models.batch import pad
from gnomon.core.models.decoding import start_token
from gnomon.core.models.text import padding_id
from gnomon.errors import BadInput

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of an answer to it."""


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
    rows = [(i, k) for i in range(len(prompts)) for k in range(len(choices))]
    rows.sort(key=lambda row: len(prompts[row[0]]) + len(answers[row[1]]))
    scores = [[0.0] * len(choices) for _ in prompts]
    read = _beside if model.config.is_encoder_decoder else _after
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        pairs = [(prompts[i], answers[k]) for i, k in part]
        for value, (i, k) in zip(read(model, padding_id(tokenizer), pairs), part, strict=True):
            scores[i][k] = value
    return scores, [len(ids) for ids in answers]


def _after(model: Any, pad_id: int, pairs: Sequence[Pair]) -> list[float]:
    """Log-probability of each answer behind its prompt."""
    longest = max(len(answer) for _, answer in pairs)
    batch = pad([[*prompt, *answer] for prompt, answer in pairs], pad_id).to(model.device)
    output = model(**batch.inputs(), use_cache=False, logits_to_keep=longest + 1)
    logprobs = torch.log_softmax(output.logits[:, :-1].float(), -1)
    kept = logprobs.gather(-1, batch.input_ids[:, -longest:, None]).squeeze(-1)
    return [float(row[-len(answer) :].sum()) for row, (_, answer) in zip(kept, pairs, strict=True)]


def _beside(model: Any, pad_id: int, pairs: Sequence[Pair]) -> list[float]:
    """Log-probability of each answer from a decoder that looks at its prompt."""
    begin = start_token(model)
    asked = pad([prompt for prompt, _ in pairs], pad_id, "right").to(model.device)
    said = pad([[begin, *answer] for _, answer in pairs], pad_id, "right").to(model.device)
    output = model(
        input_ids=asked.input_ids,
        attention_mask=asked.mask.long(),
        decoder_input_ids=said.input_ids[:, :-1],
        use_cache=False,
    )
    logprobs = torch.log_softmax(output.logits.float(), -1)
    kept = logprobs.gather(-1, said.input_ids[:, 1:, None]).squeeze(-1)
    return [float(row[: len(answer)].sum()) for row, (_, answer) in zip(kept, pairs, strict=True)]
