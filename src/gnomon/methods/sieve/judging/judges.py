"""Judges: the protocol, verdicts, and a Python function as a judge."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gnomon.core.llm.stack.loop import run_async
from gnomon.errors import BadInput, BudgetSpent
from gnomon.methods.sieve.choosing.snippets import Snippet


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on one snippet."""

    label: int | None
    """1 pass, 0 fail; None where no verdict could be had, which is never counted as a fail."""
    text: str = ""
    """The answer that the label was read from."""
    usd: float | None = None
    """What the answers cost when they were asked for; None without prices."""
    tokens_in: int = 0
    """Tokens of the prompts, repeats included."""
    tokens_out: int = 0
    """Tokens of the answers, repeats included."""
    model: str = ""
    """Name of the judge."""
    cached: bool = False
    """True when nothing was asked this time."""
    problem: str | None = None
    """Why there is no label."""


class Judge(Protocol):
    """Decides which snippets pass."""

    name: str
    """The reference it was opened with."""
    is_simulated: bool
    """True for a simulator: a report then says so in its title."""

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, in order.

        Raises:
            JudgingStopped: the budget ended; the verdicts so far are with it.
        """
        ...


GO_ON = "repeat the command, with a higher limit where one was met, to go on."
"""What to do where judging has stopped."""


class JudgingStopped(BudgetSpent):
    """Raised when the budget ends before all snippets are judged; none of the verdicts is lost.

    Attributes:
        verdicts: one for each snippet, in order; None for those that were not asked.
    """

    def __init__(self, message: str, verdicts: Sequence[Verdict | None]) -> None:
        super().__init__(message)
        self.verdicts = list(verdicts)


def judge_all(judge: Judge, snippets: Sequence[Snippet]) -> list[Verdict]:
    """A verdict for each snippet, in order, from synchronous code.

    Raises:
        JudgingStopped: as in `Judge.ajudge`.
    """
    return run_async(judge.ajudge(snippets))


class LocalJudge:
    """A Python function as a judge.

    Args:
        function: takes the text, or the whole snippet when its parameter is called `snippet` or annotated `Snippet`; gives true or
            false, 1 or 0, or None for "cannot say".
        name: in reports.
        is_simulated: true when it stands in for a judge that it is not.
    """

    def __init__(
        self,
        function: Callable[..., bool | int | None],
        name: str = "rule",
        *,
        is_simulated: bool = False,
    ) -> None:
        self.function = function
        self.name = name
        self.is_simulated = is_simulated
        self._takes_snippet = _takes_snippet(function)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, from a thread of its own.

        Raises:
            BadInput: the function fails, or gives something else.
        """
        return await asyncio.to_thread(lambda: [self._judge(snippet) for snippet in snippets])

    def _judge(self, snippet: Snippet) -> Verdict:
        try:
            answer = self.function(snippet if self._takes_snippet else snippet.text)
        except Exception as error:
            raise BadInput(
                f"{self.name} failed on snippet {snippet.snippet_id}: {type(error).__name__}: {error}."
            ) from error
        if answer is None:
            return Verdict(None, model=self.name, problem="the rule cannot say")
        if answer not in (0, 1):
            raise BadInput(
                f"{self.name} must give true, false or None; got {answer!r} for snippet {snippet.snippet_id}."
            )
        return Verdict(int(answer), "PASS" if answer else "FAIL", model=self.name)


def _takes_snippet(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # a function of C has no signature
        return False
    return first is not None and (first.name == "snippet" or first.annotation in (Snippet, "Snippet"))
