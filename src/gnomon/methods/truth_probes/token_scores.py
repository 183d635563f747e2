"""Baselines that need no training: what the model's own probabilities say of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput
from gnomon.methods.truth_probes.answers import Answer
from gnomon.methods.truth_probes.positions import token_span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float64]

_POOLS: dict[str, Callable[[Floats], float]] = {
    "mean": lambda values: float(values.mean()),
    "min": lambda values: float(values.min()),
    "max": lambda values: float(values.max()),
    "last": lambda values: float(values[-1]),
}

NAMES = tuple(
    f"{kind}-{pool}{part}" for kind in ("probas", "logits") for pool in _POOLS for part in ("", "-exact")
)  # fmt: skip
"""Every baseline: `probas-mean`, `logits-min-exact`, ..."""

REFERENCE = "logits-min-exact"
"""The one that the paper subtracts when it asks whether a probe carries over to other tasks."""


def baselines(
    answers: Sequence[Answer], tokenizer: PreTrainedTokenizerBase | None = None
) -> dict[str, Floats]:
    """Name -> a score of each answer, higher for more likely right, [N].

    Probabilities and raw logits of the emitted tokens, pooled over the whole output or over the exact answer.

    Args:
        answers: with exact answers.
        tokenizer: finds their tokens where they have not been looked for.

    Raises:
        BadInput: an answer has no exact answer, or its tokens are not known.
    """
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for answer in answers:
        if not answer.tokens and tokenizer is None:
            raise BadInput(
                f'The tokens of the exact answer to question "{answer.id}" are not known. Give the tokenizer.'
            )
        first, last = answer.tokens or token_span(tokenizer, answer)  # type: ignore[arg-type]
        for kind, values in (("probas", np.exp(answer.logprobs)), ("logits", np.array(answer.logits))):
            for pool, reduce in _POOLS.items():
                found[f"{kind}-{pool}"].append(reduce(values))
                found[f"{kind}-{pool}-exact"].append(reduce(values[first : last + 1]))
    return {name: np.array(values) for name, values in found.items()}
