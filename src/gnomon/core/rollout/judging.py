"""Which of two answers a language model finds better, asked in both orders."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gnomon.errors import BadInput, BudgetSpent, LLMFailure

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM

log = logging.getLogger(__name__)

TRIES = 3
"""Requests for one verdict, at most."""

PROMPT = """Two answers to the same request are below. Which one is better? Reply with A, B or TIE and nothing else.

[Request]
{request}

[Answer A]
{first}

[Answer B]
{second}

Better:"""

_VERDICT = re.compile(r"\b(A|B|tie)\b", re.IGNORECASE)


def read_verdict(text: str) -> float | None:
    """1 where the first answer is named, 0 for the second, 0.5 for a tie; None where the reply says nothing or both.

    >>> [read_verdict(text) for text in ("A", "**B**.", "Tie", "I cannot say.")]
    [1.0, 0.0, 0.5, None]
    """
    # A small a is an article, and so is one that a sentence begins with.
    words = {word.upper() for word in _VERDICT.findall(text) if word.upper() == "TIE" or word.isupper()}
    if len(words) != 1:
        return None
    return {"A": 1.0, "B": 0.0, "TIE": 0.5}[words.pop()]


def judged(
    answers: Sequence[tuple[str, str, str, str | None]], llm: LLM, concurrency: int = 8
) -> list[float]:
    """The share of comparisons that each answer wins: 1 in both orders, 0 in neither, half where the orders disagree.

    An answer with a reference is compared with that; others with each other answer to the same task. Equal texts are a tie and not
    asked about.

    Args:
        answers: task id, request, answer and reference.
        llm: the judge.
        concurrency: requests under way at once.

    Raises:
        BadInput: an answer has nothing to be compared with.
        LLMFailure: the judge did not answer.
        BudgetSpent: the budget ended.
    """
    pairs: dict[tuple[str, str, str], float] = {}
    matches: list[list[tuple[tuple[str, str, str], bool]]] = []
    for i, (task, request, answer, reference) in enumerate(answers):
        others = (
            [reference]
            if reference is not None
            else [other for j, (name, _, other, _) in enumerate(answers) if name == task and j != i]
        )
        if not others:
            raise BadInput(
                f'A judge compares answers, and sample {i} (task "{task}") has neither a reference nor a second answer.'
            )
        mine = []
        for other in others:
            pair = (request, min(answer, other), max(answer, other))
            pairs.setdefault(pair, 0.5)
            mine.append((pair, answer == pair[1]))
        matches.append(mine)
    wins = _compared([pair for pair in pairs if pair[1] != pair[2]], llm, concurrency)
    pairs.update(wins)
    return [
        sum(pairs[pair] if is_first else 1 - pairs[pair] for pair, is_first in mine) / len(mine)
        for mine in matches
    ]


def _compared(
    pairs: Sequence[tuple[str, str, str]], llm: LLM, concurrency: int
) -> dict[tuple[str, str, str], float]:
    """What the first of two answers wins against the second, over both orders."""
    from gnomon.core.llm import ask, complete

    turns = [(pair, swapped) for pair in pairs for swapped in (False, True)]
    verdicts: dict[int, float] = {}
    for draw in range(TRIES):
        waiting = [i for i in range(len(turns)) if i not in verdicts]
        requests = []
        for i in waiting:
            (request, first, second), swapped = turns[i]
            shown = (second, first) if swapped else (first, second)
            prompt = PROMPT.format(request=request, first=shown[0], second=shown[1])
            requests.append(ask(prompt, temperature=1.0 if draw else 0.0, draw=draw, max_tokens=8))
        replies = complete(
            llm, requests, concurrency=concurrency, is_readable=lambda _, r: read_verdict(r.text) is not None
        )
        for i, reply in zip(waiting, replies, strict=True):
            if reply.finish == "budget":
                raise BudgetSpent(str(reply.error))
            if reply.error is not None:
                raise LLMFailure(f"The judge gave no verdict: {reply.error}")
            if (value := read_verdict(reply.text)) is not None:
                verdicts[i] = 1 - value if turns[i][1] else value
    if unread := len(turns) - len(verdicts):
        log.warning("%d of %d verdicts cannot be read and count as ties.", unread, len(turns))
    return {
        pair: (verdicts.get(2 * i, 0.5) + verdicts.get(2 * i + 1, 0.5)) / 2 for i, pair in enumerate(pairs)
    }
