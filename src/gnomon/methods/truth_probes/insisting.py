"""Asking a language model again until its reply can be used, and stopping where it does not reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gnomon.errors import BudgetSpent, LLMFailure

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM, Reply

T = TypeVar("T")

TRIES = 5
"""How often it is asked."""


def ask_until(
    llm: LLM,
    prompts: Mapping[int, str],
    read: Callable[[int, str], T | None],
    *,
    concurrency: int = 8,
    first_temperature: float = 1.0,
    **options: Any,
) -> dict[int, T]:
    """What was read from the first usable reply to each prompt; prompts without one are left out.

    Args:
        llm: who is asked.
        prompts: number -> prompt.
        read: number and reply -> what it says, or None: then it is asked again, at temperature 1.
        concurrency: requests under way at once.
        first_temperature: of the first try.
        **options: more for `gnomon.core.llm.ask`.

    Raises:
        LLMFailure: a request failed for good; the others are in the cache.
        BudgetSpent: the budget ended.
    """
    from gnomon.core.llm import ask, complete

    found: dict[int, T] = {}
    for draw in range(TRIES):
        waiting = [i for i in prompts if i not in found]
        temperature = 1.0 if draw else first_temperature
        requests = [ask(prompts[i], temperature=temperature, draw=draw, **options) for i in waiting]
        replies = complete(llm, requests, concurrency=concurrency)
        _require(llm, replies)
        for i, reply in zip(waiting, replies, strict=True):
            if (value := read(i, reply.text)) is not None:
                found[i] = value
    return found


def _require(llm: LLM, replies: Sequence[Reply]) -> None:
    """Stop where a model did not answer: a missing reply must not pass for one."""
    for reply in replies:
        if reply.finish == "budget":
            raise BudgetSpent(str(reply.error))
        if reply.error is not None:
            raise LLMFailure(
                f"{llm.name} did not answer: {reply.error} "
                "Answers and replies so far are kept; repeat the command to go on."
            )
