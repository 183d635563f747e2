"""How likely a model finds each of several answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gnomon.core.models.batch import pad
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
        model: a causal model in evaluation mode.
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
    longest = max(map(len, answers))
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        batch = pad([[*prompts[i], *answers[k]] for i, k in part], padding_id(tokenizer)).to(model.device)
        output = model(**batch.inputs(), use_cache=False, logits_to_keep=longest + 1)
        logprobs = torch.log_softmax(output.logits[:, :-1].float(), -1)
        kept = logprobs.gather(-1, batch.input_ids[:, -longest:, None]).squeeze(-1)
        for row, (i, k) in zip(kept, part, strict=True):
            scores[i][k] = float(row[-len(answers[k]) :].sum())
    return scores, [len(ids) for ids in answers]
