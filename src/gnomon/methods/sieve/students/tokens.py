"""Texts as token ids, rows as padded batches, and scores of many texts: batched by length, back in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gnomon.errors import ModelMismatch
from gnomon.methods.sieve.students.base import Span

Ids = list[int]


class Tokens:
    """A fast tokenizer as students use it.

    Markup of the tokenizer's own that happens to stand in a text, such as a literal `</s>`, is text like any other.

    Args:
        tokenizer: a fast transformers tokenizer.
        longest: longer rows are cut on the right to this many tokens, special tokens included.

    Raises:
        ModelMismatch: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, longest: int):
        if not getattr(tokenizer, "is_fast", False):
            raise ModelMismatch(
                f"{type(tokenizer).__name__} does not say where its tokens lie. A student needs a fast tokenizer."
            )
        self.tokenizer, self.longest = tokenizer, longest
        # A model needs something to read where a text has no token at all.
        self._empty = [tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id]

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Ids]:
        """Token ids of each text, at least one and at most `longest`."""
        if not texts:
            return []
        encoding = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.longest,
            add_special_tokens=special,
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        return [ids or self._empty for ids in encoding]

    def spans(self, text: str) -> list[Span]:
        """Where the tokens lie in the text, special ones left out; nothing is cut."""
        encoding = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        return [(start, end) for start, end in encoding["offset_mapping"] if start < end]

    def pad(self, rows: Sequence[Ids], device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Rows side by side, padded on the right, with their mask: what a model takes."""
        width = max(map(len, rows))
        fill = self.tokenizer.pad_token_id
        ids = torch.tensor([row + [fill] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of rows in batches of rows of like length: from short to long, each within a budget.

    Args:
        lengths: tokens of each row.
        budget: tokens of a batch, padding included, at most; a single longer row is a batch.

    >>> plan_batches([2, 9, 3, 2], 6)
    [[0, 3], [2], [1]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and lengths[index] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


# Scores of many texts.

CPU_BUDGET, BUDGETS = 2048, {"cuda": 32_768}  # tokens of a batch
WINDOW = 4096  # texts tokenised and sorted together


def pass_logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Log-odds of a pass, [B], from a classifier with one logit or with one for each verdict (fail, pass)."""
    logits: Tensor = model(**inputs).logits.float()
    return logits[:, 0] if logits.shape[-1] == 1 else logits[:, 1] - logits[:, 0]


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context in which the model computes: bf16 where matrices are large, or the weights' own type."""
    is_mixed = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=is_mixed)


def score_texts(
    model: Any, tokens: Tokens, texts: Sequence[str], *, budget: int | None, precision: str
) -> NDArray[np.float64]:
    """Log-odds of a pass, [N], in the order of the texts.

    Args:
        model: a classifier; it is left in evaluation mode.
        tokens: its tokenizer.
        texts: what to score.
        budget: tokens of a batch, padding included; None takes what suits the device.
        precision: `"float32"`, `"bf16"` or `"auto"`.
    """
    parts = [
        score_rows(
            model, tokens, tokens.encode(texts[start : start + WINDOW]), budget=budget, precision=precision
        )
        for start in range(0, len(texts), WINDOW)
    ]
    return np.concatenate([np.empty(0), *parts])


def score_rows(
    model: Any, tokens: Tokens, rows: Sequence[Ids], *, budget: int | None, precision: str
) -> NDArray[np.float64]:
    """Log-odds of a pass of rows of token ids, [N], in their order."""
    model.eval()
    device = next(model.parameters()).device
    scores = np.empty(len(rows))
    batches = plan_batches([len(row) for row in rows], budget or BUDGETS.get(device.type, CPU_BUDGET))
    with torch.inference_mode(), arithmetic(device, precision):
        # Results stay on the device until the end: nothing waits for it in between.
        logits = [pass_logits(model, tokens.pad([rows[i] for i in batch], device)) for batch in batches]
        for batch, values in zip(batches, logits, strict=True):
            scores[batch] = values.cpu().double().numpy()
    return scores
