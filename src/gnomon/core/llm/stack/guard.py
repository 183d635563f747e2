"""What counts as an answer, and what follows where too few come.

Thoughts are taken off and what is no answer becomes a failed reply; a model that answers nothing is found out by its first
requests, and one that stops answering is asked no more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from gnomon.core.config import option
from gnomon.core.llm.base import LASTING, LLM, TOO_LONG, Reply, Request, aclose, ask
from gnomon.core.llm.endpoint.faults import LONGEST_REASON
from gnomon.core.llm.parse import without_thoughts
from gnomon.core.llm.stack.loop import PerLoop
from gnomon.core.too_long import TooLong
from gnomon.errors import BadInput, EndpointDown

FIRST = 3
"""Requests that may fail one after another before any was answered; they are made one at a time."""

FEWEST = 20
"""Replies that must be there before their share of failures stops the rest; as many failures in a row stop it as well."""

LASTING_IN_ROW = 3
"""Failures in a row, with faults of the endpoint that nothing but its owner can mend, that stop the rest at any time."""


PROBE = ask("Are you there? Answer with one word.", max_tokens=16)
"""What shows whether a model answers at all, before the load of another one is sent."""


class Guarded:
    """`llm` asked by one request at a time until one is answered, and no more once too large a share has failed.

    Before the load is sent, a single request shows whether key, model and address work. One that meets a fault of the endpoint, or
    three that fail in any way, end it: every request raises `EndpointDown`. Later, when the share of failures is above `max_failed`
    beyond chance (two standard errors), twenty fail in a row, or three in a row meet a fault of the endpoint (a used-up quota, a
    key that is taken back), the rest is not asked: those replies have the fault `stopped`. Prompts that are longer than
    the model reads do not count.

    Args:
        llm: who is asked.
        max_failed: largest share of replies that may fail; 1 lets everything pass.
    """

    def __init__(self, llm: LLM, max_failed: float = 0.2):
        self.llm, self.name, self.max_failed = llm, llm.name, max_failed
        self.before_load: Callable[[], Awaitable[None]] | None = None
        """Awaited once, between the first request that was answered and the rest; what it raises ends the rest."""
        self._gates = PerLoop(asyncio.Lock)
        self._lock = threading.Lock()
        self._is_open = max_failed >= 1
        self._n = self._n_failed = self._in_row = self._lasting_in_row = 0
        self._reasons: Counter[str] = Counter()
        self._down: str | None = None
        self._stopped: str | None = None

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model.

        Raises:
            EndpointDown: the first requests failed, or `before_load` raised it.
        """
        if not self._is_open or self.before_load is not None:
            async with self._gates.get():
                if self._down is not None:
                    raise EndpointDown(self._down)
                if not self._is_open:
                    reply = self._note(await self.llm.acomplete(request))
                    if self._down is not None:
                        raise EndpointDown(self._down, reply)
                    return reply
                # Not before that first request: its answer is paid for, and by now it is kept.
                if self.before_load is not None:
                    try:
                        await self.before_load()
                    except EndpointDown as down:
                        self._down = str(down)
                        raise
                    self.before_load = None
        if self._stopped is not None:
            return Reply("", "error", error=self._stopped, fault="stopped")
        return self._note(await self.llm.acomplete(request))

    async def probe(self) -> Reply | None:
        """The reply to a short request that asks for nothing; None where something was answered already, or everything may fail.

        The first request of the load still goes alone: this one says nothing about prompts of full length.

        Raises:
            EndpointDown: key, model or address do not work.
        """
        async with self._gates.get():
            if self._is_open:
                return None
            if self._down is not None:
                raise EndpointDown(self._down)
            reply = await self.llm.acomplete(PROBE)
            if reply.fault in LASTING:
                self._note(reply)
                raise EndpointDown(self._down or reply.error or self.name, reply)
            return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)

    def _note(self, reply: Reply) -> Reply:
        if reply.fault == TOO_LONG:  # of this prompt alone: the endpoint has read it
            return reply
        with self._lock:
            self._n += 1
            if reply.error is None:
                self._is_open, self._in_row, self._lasting_in_row = True, 0, 0
                return reply
            self._n_failed += 1
            self._in_row += 1
            self._lasting_in_row = self._lasting_in_row + 1 if reply.fault in LASTING else 0
            self._reasons[reply.error] += 1
            if not self._is_open and (reply.fault in LASTING or self._n_failed >= FIRST):
                more = f" So did {self._n_failed - 1} requests before it." if self._n_failed > 1 else ""
                reason = reply.error.rstrip(".")
                self._down = f"{self.name} does not answer. {reason}.{more} Nothing else was asked."
            elif self._is_open and self.max_failed < 1 and self._stopped is None and self._is_too_much():
                is_lasting = self._lasting_in_row >= LASTING_IN_ROW
                often = reply.error if is_lasting else self._reasons.most_common(1)[0][0]
                self._stopped = (
                    f"Not asked, because {self._n_failed} of {self._n} replies of {self.name} failed, "
                    f"{'the last of them' if is_lasting else 'most often'}: {often}"
                )
        return reply

    def _is_too_much(self) -> bool:
        if self._lasting_in_row >= LASTING_IN_ROW:
            return True
        if self._n < FEWEST:
            return False
        share = self._n_failed / self._n
        beyond_chance = share - 2 * math.sqrt(share * (1 - share) / self._n)
        return self._in_row >= FEWEST or beyond_chance > self.max_failed


def guard_of(llm: Any) -> Guarded | None:
    """The guard in the stack of `connect`; None where there is none."""
    while llm is not None and not isinstance(llm, Guarded):
        llm = getattr(llm, "llm", None)
    return llm


CUT, CUTS = 0.7, 12
"""Share of a message that a cut leaves, and cuts after which a prompt counts as too long for good."""


class Shortened:
    """`llm` asked in its own way where a prompt is longer than it reads.

    Args:
        llm: who is asked; its reply to such a prompt has the fault `too_long`.
        how: `skip` hands that reply on; `truncate` asks again with the middle of the longest message cut out, as long as it takes;
            `error` raises.
    """

    def __init__(self, llm: LLM, how: TooLong = "skip"):
        self.llm, self.name, self.how = llm, llm.name, how

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model, to a shorter prompt where that is allowed.

        Raises:
            BadInput: the prompt is too long, and that is an error.
        """
        reply = await self.llm.acomplete(request)
        if reply.fault != TOO_LONG or self.how == "skip":
            return reply
        if self.how == "error":
            raise BadInput(f"{reply.error} Or set {option('llm.too_long')} to skip or truncate.")
        for _ in range(CUTS):
            request = shortened(request)
            reply = await self.llm.acomplete(request)
            if reply.fault != TOO_LONG:
                return dataclasses.replace(reply, left_out=(*reply.left_out, "the middle of the prompt"))
        return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)


def shortened(request: Request) -> Request:
    """The request with the middle of its longest message cut out."""
    messages = list(request.messages)
    at = max(range(len(messages)), key=lambda i: len(messages[i].content))
    text = messages[at].content
    left = int(CUT * len(text))
    head = left // 3  # what is asked mostly stands at the end
    messages[at] = dataclasses.replace(messages[at], content=text[:head] + text[len(text) - (left - head) :])
    return dataclasses.replace(request, messages=tuple(messages))


class Answers:
    """`llm` with its replies made ready: the one place where thoughts are taken off.

    An answer that is empty, that refuses, or whose token limit came before it began, is a failed reply with its reason. What a
    model thought is kept in `Reply.thoughts`.

    Args:
        llm: who is asked.
    """

    def __init__(self, llm: LLM):
        self.llm, self.name = llm, llm.name

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model, ready to be read."""
        return ready(await self.llm.acomplete(request), self.name)

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)


def ready(reply: Reply, name: str) -> Reply:
    """`reply` of the model `name`, without thoughts, and failed where there is no answer in it."""
    if reply.error is not None or reply.finish == "budget":
        return reply
    text = without_thoughts(reply.text)
    if text != reply.text:
        at = reply.text.rfind(text) if text else len(reply.text)
        reply = dataclasses.replace(reply, text=text, thoughts=reply.thoughts or reply.text[:at].strip())
    if reply.finish == "refusal":
        sentence = " ".join(text.split())[:LONGEST_REASON]
        return _failed(reply, "refusal", f"{name} refused to answer{f': {sentence}' if sentence else '.'}")
    if text.strip():
        return reply
    if reply.finish == "length":
        spent = f"{name} used up its {reply.usage.tokens_out} tokens before an answer began."
        reason = f"{spent} Raise {option('llm.thinking_tokens')}."
        return _failed(reply, "length", reason)
    return _failed(reply, "empty", f"{name} answered with an empty text.")


def _failed(reply: Reply, fault: str, error: str) -> Reply:
    finish = "refusal" if fault == "refusal" else "error"
    return dataclasses.replace(reply, text="", finish=finish, error=error, fault=fault)
