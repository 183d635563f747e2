"""Rate limits and retries of an endpoint."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

from gnomon.core.config import check
from gnomon.core.llm.base import LLM, Reply, Request, aclose
from gnomon.core.llm.stack.loop import PerLoop
from gnomon.core.llm.stack.stored import request_key
from gnomon.core.rng import Rng
from gnomon.errors import BudgetSpent


class Limited:
    """`llm` asked no faster than allowed.

    Args:
        llm: who is asked.
        concurrency: most requests under way at once; None without limit.
        per_minute: most requests started in a minute, evenly spaced; None without limit.

    Raises:
        BadConfig: a limit is not positive.
    """

    def __init__(self, llm: LLM, *, concurrency: int | None = None, per_minute: float | None = None):
        check(concurrency is None or concurrency >= 1, "concurrency", ">= 1", concurrency)
        check(per_minute is None or per_minute > 0, "per_minute", "> 0", per_minute)
        self.llm, self.name = llm, llm.name
        self._gap_s = 60 / per_minute if per_minute else 0.0
        self._next_s = 0.0
        self._lock = threading.Lock()
        self._gates = PerLoop(lambda: asyncio.Semaphore(concurrency) if concurrency else nullcontext())

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model, once it is this request's turn."""
        async with self._gates.get():
            if self._gap_s:
                await asyncio.sleep(self._turn_in_s())
            return await self.llm.acomplete(request)

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)

    def _turn_in_s(self) -> float:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_s)
            self._next_s = turn + self._gap_s
        return turn - now


ONCE = frozenset({"malformed"})
"""Faults that are tried again only once: the answer was paid for, and mostly comes back the same."""


class Retried:
    """`llm` asked again after faults that may pass: rate limits, server errors, time-outs, cut connections, broken answers.

    The wait doubles from `first_s` and varies at random by half, so that many clients do not return together. A wait that the
    endpoint names is kept instead, with a little added. No wait is longer than `longest_s`.

    Args:
        llm: who is asked.
        times: attempts after the first one.
        first_s: the first wait in seconds.
        longest_s: longest wait in seconds, also where the endpoint asks for a longer one.
        rng: where waits are drawn, by request and attempt.
        on_fault: called with every failed reply that was tried again.

    Raises:
        BadConfig: a number is negative.
    """

    def __init__(
        self,
        llm: LLM,
        times: int = 5,
        *,
        first_s: float = 0.5,
        longest_s: float = 60.0,
        rng: Rng | None = None,
        on_fault: Callable[[Reply], None] | None = None,
    ):
        check(times >= 0, "retries", ">= 0", times)
        check(0 <= first_s <= longest_s, "first_s", "between 0 and longest_s", first_s)
        self.llm, self.name, self.times = llm, llm.name, times
        self.first_s, self.longest_s = first_s, longest_s
        self._rng = (rng or Rng(0)).child("retry")
        self._on_fault = on_fault

    async def acomplete(self, request: Request) -> Reply:
        """The first reply without a passing fault, or the last one, which then tells the number of attempts."""
        began = time.monotonic()
        attempt = 0
        reply = await self.llm.acomplete(request)
        while reply.may_pass and attempt < (min(1, self.times) if reply.fault in ONCE else self.times):
            await asyncio.sleep(self.wait_s(request, attempt, reply.retry_after_s))
            try:
                next_reply = await self.llm.acomplete(request)
            except BudgetSpent as spent:  # asked and failed is not the same as not asked
                return dataclasses.replace(reply, error=f"{reply.error} {spent}")
            if self._on_fault is not None:
                self._on_fault(reply)
            reply = next_reply
            attempt += 1
        if attempt and reply.may_pass:
            error = f"{reply.error} Tried {attempt + 1} times."
            return dataclasses.replace(reply, error=error, latency_s=time.monotonic() - began)
        return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)

    def wait_s(self, request: Request, attempt: int, asked_s: float | None) -> float:
        """Seconds to wait after attempt number `attempt`, from 0, when the endpoint asked for `asked_s`."""
        share = self._rng.child(request_key(request), attempt).python().random()
        if asked_s is not None:
            return min(self.longest_s, asked_s + share * self.first_s)
        return min(self.longest_s, self.first_s * 2.0 ** min(attempt, 99)) * (0.5 + share / 2)
