"""Fast scoring with a transformer: tokenised in bulk, batched by length, back in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gnomon.methods.sieve.students.tokens import Ids, Tokens, plan_batches

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
    found = np.empty(len(rows))
    batches = plan_batches([len(row) for row in rows], budget or BUDGETS.get(device.type, CPU_BUDGET))
    with torch.inference_mode(), arithmetic(device, precision):
        # Results stay on the device until the end: nothing waits for it in between.
        logits = [pass_logits(model, tokens.pad([rows[i] for i in batch], device)) for batch in batches]
        for batch, values in zip(batches, logits, strict=True):
            found[batch] = values.cpu().double().numpy()
    return found
