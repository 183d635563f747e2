"""Rules that cut answers into macro actions, row by row, and the ids of the segments that come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gnomon.core.rng import Rng
from gnomon.core.rollout.rewards import load_rule
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.ma_rlhf.actions.texts import chunk_starts, code_starts
from gnomon.methods.ma_rlhf.options import MACRO, Macro


@dataclass
class Answer:
    """What a rule may know of an answer of L tokens."""

    length: int
    """Its tokens L, the end-of-text token among them."""
    pieces: Sequence[str] = ()
    """The text of each token; joined, the answer's text."""
    logprobs: Sequence[float] = ()
    """Log-probability (nats) of each token under the policy that wrote it."""
    ref_logprobs: Sequence[float] = ()
    """The same under the reference."""
    rng: Rng = field(default_factory=lambda: Rng(0))
    """Where the rule randomized draws."""
    name: str = ""
    """In messages."""


@dataclass
class Cuts:
    """How an answer was cut."""

    starts: list[int]
    """Index of the first token of each segment; the first is 0."""
    rewards: list[float] = field(default_factory=list)
    """One for each segment, where the rule gives some."""
    fell_back: bool = False
    """Whether the rule had no way to cut this answer, and `fixed` did."""


def cut(answer: Answer, macro: Macro) -> Cuts:
    """Cut one answer by a rule.

    Args:
        answer: what was written.
        macro: the rule.

    Raises:
        BadInput: a rule of one's own gave no boundaries that fit the answer.
        BadConfig: the rule needs texts or log-probabilities that are not there.

    Source: section 3.2 (termination conditions); spec points 5 and addendum 8, 10.
    """
    if not answer.length:
        return Cuts([])
    rule = macro.rule
    cuts = _own(load_rule(rule), answer) if isinstance(rule, str) and rule.startswith("rule:") else (
        _own(rule, answer) if callable(rule) else _CUTTERS[rule](answer, macro)
    )  # fmt: skip
    if macro.isolates and cuts.starts[-1] != answer.length - 1:
        cuts.starts.append(answer.length - 1)
        # The rewards of the segment that was cut in two belong to its end.
        cuts.rewards = [*cuts.rewards[:-1], 0.0, *cuts.rewards[-1:]] if cuts.rewards else []
    return cuts


def segment(
    mask: Bool[Tensor, "B A"],
    macro: Macro = MACRO,
    *,
    start: int = 0,
    answers: Sequence[Answer] | None = None,
) -> Int[Tensor, "B A"]:
    """The segment of each action, counted from 0 in each row; -1 outside of answers.

    Args:
        mask: True at real tokens that are predicted; padding may be on either side, or between.
        macro: the rule.
        start: actions before this column are the prompt's.
        answers: what the rule needs to know, one a row; None: the rule fixed needs nothing.

    Raises:
        BadConfig: a rule other than fixed got no answers.
    """
    mask = mask & (torch.arange(mask.shape[1], device=mask.device) >= start)
    if answers is None:
        if macro.rule != "fixed":
            raise BadConfig(f'The rule "{macro.name}" needs to know the answers, not their lengths alone.')
        position = mask.long().cumsum(-1) - 1
        ids = position.clamp(min=0) // macro.n if macro.n else torch.zeros_like(position)
        if macro.isolates:
            is_last = mask & (position == mask.sum(-1, keepdim=True) - 1)
            ids = ids + (is_last & (position % macro.n != 0 if macro.n else position > 0))
        return ids.where(mask, -1)
    return ids_of([cut(answer, macro).starts for answer in answers], mask)


def ids_of(starts: Sequence[Sequence[int]], mask: Bool[Tensor, "B A"]) -> Int[Tensor, "B A"]:
    """Segment ids from the first token of each segment.

    Args:
        starts: of each row, counted over its actions.
        mask: True at actions.
    """
    begins = torch.zeros(mask.shape[0], mask.shape[1] + 1, dtype=torch.long)
    for row, mine in enumerate(starts):
        begins[row, list(mine)] = 1
    begins = begins.to(mask.device)
    position = (mask.long().cumsum(-1) - 1).clamp(min=0)
    ids = begins.cumsum(-1).gather(-1, position) - 1
    return ids.where(mask, -1)


def _fixed(answer: Answer, macro: Macro) -> Cuts:
    return Cuts(list(range(0, answer.length, macro.n or answer.length)))


def _randomized(answer: Answer, macro: Macro) -> Cuts:
    """Lengths, each `repeats` times, shuffled and put one behind the other; what is left is one segment."""
    lengths = [length for length in macro.lengths for _ in range(macro.repeats)]
    answer.rng.child("lengths").python().shuffle(lengths)
    starts, at = [0], 0
    for length in lengths:
        at += length
        if at >= answer.length:
            break
        starts.append(at)
    return Cuts(starts)


def _perplexity(answer: Answer, macro: Macro) -> Cuts:
    """Before each token that raises the perplexity, of the token before it or of its own segment so far."""
    nll = [-value for value in _needed(answer.ref_logprobs, answer, macro)]
    if macro.ppl_mode == "token":
        return Cuts([0, *(j for j in range(1, len(nll)) if nll[j] > nll[j - 1])])
    starts, total, count = [0], nll[0], 1
    for j in range(1, len(nll)):
        # exp is monotone: the mean NLL rises exactly where the new one is above it.
        if nll[j] > total / count:
            starts.append(j)
            total, count = 0.0, 0
        total, count = total + nll[j], count + 1
    return Cuts(starts)


def _surprise(answer: Answer, macro: Macro) -> Cuts:
    """Before each token that the policy gave less than p_min. Source: arXiv 2601.07320."""
    least = math.log(macro.p_min)
    values = _needed(answer.logprobs, answer, macro)
    return Cuts([0, *(j for j in range(1, len(values)) if values[j] < least)])


def _needed(values: Sequence[float], answer: Answer, macro: Macro) -> Sequence[float]:
    if len(values) != answer.length:
        raise BadConfig(
            f'The rule "{macro.name}" needs the log-probability of each token; answer {answer.name} has {len(values)} for '
            f"{answer.length} tokens."
        )
    return values


def _code(answer: Answer, macro: Macro) -> Cuts:
    starts = code_starts(answer.pieces, macro.cutoff)
    return Cuts(starts) if starts else Cuts(_fixed(answer, macro).starts, fell_back=True)


def _chunks(answer: Answer, macro: Macro) -> Cuts:
    starts = chunk_starts(answer.pieces)
    return Cuts(starts) if starts else Cuts(_fixed(answer, macro).starts, fell_back=True)


def _own(rule: Callable[..., Any], answer: Answer) -> Cuts:
    """Boundaries by a user's function, checked: it may leave out 0 and the end, and nothing else."""
    offsets, at = [], 0
    for piece in answer.pieces:
        offsets.append((at, at + len(piece)))
        at += len(piece)
    out = rule(list(answer.pieces), offsets, "".join(answer.pieces))
    bounds, rewards = (
        out if isinstance(out, tuple) and len(out) == 2 and not isinstance(out[1], int) else (out, [])
    )
    bounds = list(bounds)
    inner = [b for b in bounds if b not in (0, answer.length)]
    if any(not isinstance(b, int) or not 0 < b < answer.length for b in inner) or inner != sorted(set(inner)):
        raise BadInput(
            f"The rule cut answer {answer.name} at {bounds}; wanted rising whole numbers between 0 and its {answer.length} tokens."
        )
    starts, rewards = [0, *inner], [float(value) for value in rewards]
    if rewards and (len(rewards) != len(starts) or not all(map(math.isfinite, rewards))):
        raise BadInput(
            f"The rule cut answer {answer.name} into {len(starts)} macro actions and gave the rewards {rewards}; wanted a finite "
            "number for each, or none."
        )
    return Cuts(starts, rewards)


_CUTTERS: dict[Any, Callable[[Answer, Macro], Cuts]] = {
    "fixed": _fixed,
    "randomized": _randomized,
    "perplexity": _perplexity,
    "surprise": _surprise,
    "code": _code,
    "chunks": _chunks,
}
