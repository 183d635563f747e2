"""How likely a model finds each of several answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gnomon.core.models.decoding import read_prompts
from gnomon.core.models.text import padding_id
from gnomon.errors import BadInput


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
        found = _after(model, padding_id(tokenizer), [prompts[i] for i in part], answers, batch_size)
        for i, values in zip(part, found, strict=True):
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
    begun = read_prompts(model, prompts, range(len(prompts)), pad_id)
    first = torch.log_softmax(begun.logits.float(), -1)
    scores = first[:, [answer[0] for answer in answers]].tolist()
    longer = [(row, k) for k, answer in enumerate(answers) if len(answer) > 1 for row in range(len(prompts))]
    longer.sort(key=lambda one: len(answers[one[1]]))
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
            for place, (row, k) in enumerate(some):
                if t < lengths[place]:
                    scores[row][k] += float(logprobs[place, answers[k][t]])
    return scores
