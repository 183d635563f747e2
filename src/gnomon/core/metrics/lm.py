"""How well a language model predicts text: bits per byte and perplexity, batched, every token counted once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Likelihood of a text under a model: summed negative log-likelihood, tokens and bytes."""

    nll: float
    """Negative log-likelihood of all scored tokens, in nats."""
    n_tokens: int
    """Tokens scored."""
    n_bytes: int
    """Length of the text in UTF-8."""

    @property
    def bits_per_byte(self) -> float:
        """NLL in bits over bytes: comparable between tokenizers."""
        return self.nll / math.log(2) / self.n_bytes

    @property
    def perplexity(self) -> float:
        """exp(NLL per token)."""
        return math.exp(self.nll / self.n_tokens) if self.n_tokens else math.nan


def score_stream(
    model: Any, ids: NDArray[np.unsignedinteger], n_bytes: int, length: int, *, batch_size: int = 32
) -> Score:
    """The score of a packed stream, read in windows that overlap by one token: every token but the first is predicted once.

    Args:
        model: a causal transformers model.
        ids: token ids, `[N]`, as `core.data.packing.pack` makes them.
        n_bytes: bytes of the text they stand for.
        length: tokens a window, at least 2.
        batch_size: windows at once.
    """
    windows = [ids[start : start + length] for start in range(0, len(ids) - 1, length - 1)]
    total, count = 0.0, 0
    for start in range(0, len(windows), batch_size):
        nll, scored = token_nll(model, [w.tolist() for w in windows[start : start + batch_size]])
        total += float(nll.sum())
        count += scored
    return Score(total, count, n_bytes)


@torch.no_grad()
def token_nll(
    model: Any, rows: Sequence[Sequence[int]], starts: Sequence[int] | None = None
) -> tuple[torch.Tensor, int]:
    """Summed negative log-likelihood (nats) of each row's tokens behind the first, `[B]`, and how many tokens that is.

    Args:
        model: a causal transformers model; it is asked in evaluation mode.
        rows: token ids.
        starts: per row the first token that is scored, at least 1; None: the second of each.
    """
    from gnomon.core.models.batch import pad
    from gnomon.core.models.sampling.likelihood import token_logprobs

    batch = pad(rows, 0, "right").to(model.device)
    was_training = model.training
    model.eval()
    logprobs = token_logprobs(model, batch.inputs("causal", model), batch.input_ids)
    model.train(was_training)
    mask = batch.mask.clone()
    for row, start in enumerate(starts if starts is not None else [1] * len(rows)):
        mask[row, :start] = False
    mask[:, 0] = False
    nll = -logprobs.masked_fill(~mask, 0.0).double().sum(-1)
    return nll.cpu(), int(mask.sum())
