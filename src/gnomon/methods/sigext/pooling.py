"""From scores of tokens to scores of phrases: the mean over each phrase's tokens, for all phrases of a batch at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.methods.sigext.encoding import TokenSpan


def phrase_scores(logits: Float[Tensor, "B T 2"], spans: Sequence[Sequence[TokenSpan]]) -> list[list[float]]:
    """Mean log-probability of class 1 over the tokens of each phrase; NaN for phrases without a token.

    Sums of neighbours are differences of running sums, so the cost does not grow with the length of the phrases.

    Args:
        logits: of the token classifier.
        spans: first token and the one behind the last of each phrase, one list per row.
    """
    marks = logits.float().log_softmax(-1)[..., 1].double()
    running = torch.nn.functional.pad(marks.cumsum(1), (1, 0)).cpu()  # [B, T + 1]
    rows = torch.tensor([b for b, row in enumerate(spans) for _ in row], dtype=torch.long)
    if not len(rows):
        return [[] for _ in spans]
    starts, ends = torch.tensor([span for row in spans for span in row], dtype=torch.long).T
    lengths = ends - starts
    means = (running[rows, ends] - running[rows, starts]) / lengths.clamp(min=1)
    means[lengths <= 0] = math.nan
    values = means.tolist()
    found, at = [], 0
    for row in spans:
        found.append(values[at : at + len(row)])
        at += len(row)
    return found
