"""Tokens of the exact answer, named positions, and the baselines: the model's own probabilities pooled over these tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.truth_probes.answers.answers import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMED = (
    "last_q", "first_answer", "second_answer", "exact_before_first", "exact_first", "exact_last", "exact_after_last",
    "-8", "-7", "-6", "-5", "-4", "-3", "-2", "-1",
)  # fmt: skip
"""Every named position. `last_q` is the last token of the prompt, numbers count from the end of the answer."""

DEFAULT = "exact_last"
"""The position at which errors are read best in the paper."""


def check_positions(names: Sequence[str]) -> tuple[str, ...]:
    """The names as they are, or all of them for `all`.

    Raises:
        BadConfig: a name is not known, or none is given.
    """
    if tuple(names) == ("all",):
        return NAMED
    for name in names:
        if name not in NAMED:
            raise BadConfig(f'There is no position "{name}". {nearest(name, NAMED)}')
    if not names or len(set(names)) != len(names):
        raise BadConfig(f"positions must be one or more different names; got {list(names)}.")
    return tuple(names)


def token_span(tokenizer: PreTrainedTokenizerBase, answer: Answer) -> tuple[int, int]:
    """First and last token of the exact answer's first place, counted within `output_ids`.

    The whole output is decoded, and its beginnings: a token owns the characters by which it makes the text longer. Tokens that are
    only a part of a character own none; those at the start of the exact answer belong to it.

    Raises:
        BadInput: the answer has no exact answer, or its tokens do not spell its text.
    """
    if not answer.spans:
        raise BadInput(f'The answer to question "{answer.id}" has no exact answer.')
    start, end = answer.spans[0]
    count = len(answer.output_ids)
    reach = _Reach(tokenizer, answer)
    if reach(count) < end:
        raise BadInput(
            f'The tokens of the answer to question "{answer.id}" do not spell it. Was it written with another tokenizer?'
        )
    # Decoded length grows with the number of tokens: two bisections, and few decodings.
    places = range(count + 1)
    first = max(bisect_right(places, start, key=reach) - 1, 0)
    last = max(bisect_left(places, end, key=reach) - 1, first)
    # Tokens that are part of a character only make the text no longer; those at the start belong to it.
    while first and reach(first - 1) == reach(first) and not reach.is_special(first - 1):
        first -= 1
    return first, last


class _Reach:
    """Characters of the answer that its first `count` tokens spell; never fewer for more tokens.

    A beginning that ends within a character decodes to replacement characters, and where characters are written as byte tokens
    (`<0xE5>`) a whole run of these does, complete characters among them. So the beginnings before it are looked at as well, back
    to one that the answer begins with.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, answer: Answer):
        self.tokenizer, self.answer = tokenizer, answer
        self.special = set(tokenizer.all_special_ids)
        self.lengths: dict[int, tuple[int, bool]] = {0: (0, True)}

    def __call__(self, count: int) -> int:
        length, is_beginning = self._spelled(count)
        while not is_beginning:
            count -= 1
            shorter, is_beginning = self._spelled(count)
            length = max(length, shorter)
        return length

    def _spelled(self, count: int) -> tuple[int, bool]:
        """Length of the common beginning of the answer and its first tokens' text, and whether one is the other's beginning."""
        from gnomon.core.models.sampling.text import completion_text

        if count not in self.lengths:
            whole, ids = self.answer.answer, self.answer.output_ids[:count]
            text = completion_text(self.tokenizer, self.answer.prompt_ids, ids)
            length = _common(text, whole)
            self.lengths[count] = length, length == min(len(text), len(whole))
        return self.lengths[count]

    def is_special(self, token: int) -> bool:
        return self.answer.output_ids[token] in self.special


def _common(a: str, b: str) -> int:
    """Length of the longest common beginning."""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def places(tokenizer: PreTrainedTokenizerBase, answer: Answer, names: Sequence[str]) -> list[int]:
    """Where the named positions are in prompt and output together, counted from 0.

    Positions behind the last token are the last token; those before the first one the first.

    Raises:
        BadConfig: a name is not known.
        BadInput: the answer is empty, or a place of its exact answer is asked for and it has none.
    """
    names = check_positions(names)
    prompt, last = len(answer.prompt_ids), len(answer.prompt_ids) + len(answer.output_ids) - 1
    if not answer.output_ids:
        raise BadInput(f'The answer to question "{answer.id}" is empty: there is no token to look at.')
    table = {"last_q": prompt - 1, "first_answer": prompt, "second_answer": prompt + 1}
    table |= {f"-{k}": last + 1 - k for k in range(1, 9)}
    if any(name.startswith("exact") for name in names):
        first_token, last_token = (prompt + token for token in token_span(tokenizer, answer))
        table |= {
            "exact_before_first": first_token - 1,
            "exact_first": first_token,
            "exact_last": last_token,
            "exact_after_last": last_token + 1,
        }
    return [min(max(table[name], 0), last) for name in names]


# Baselines, which need no training.

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

    Source: the paper (arXiv 2410.02707), section on detecting errors: aggregated probabilities and logits.
    """
    pooled: dict[str, list[float]] = {name: [] for name in NAMES}
    for answer in answers:
        if not answer.tokens and tokenizer is None:
            raise BadInput(
                f'The tokens of the exact answer to question "{answer.id}" are not known. Give the tokenizer.'
            )
        first, last = answer.tokens or token_span(tokenizer, answer)  # type: ignore[arg-type]
        for kind, values in (("probas", np.exp(answer.logprobs)), ("logits", np.array(answer.logits))):
            for pool, reduce in _POOLS.items():
                pooled[f"{kind}-{pool}"].append(reduce(values))
                pooled[f"{kind}-{pool}-exact"].append(reduce(values[first : last + 1]))
    return {name: np.array(values) for name, values in pooled.items()}
