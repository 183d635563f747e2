"""Counts of replies (fresh and cached), tokens, money, faults and seconds, for reports."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gnomon.core.llm.base import LLM, Reply, Request, aclose, is_simulated
from gnomon.core.llm.stack.budget import Prices
from gnomon.errors import BudgetSpent

_SUMMED = ("fresh", "cached", "failed", "unasked", "tokens_in", "tokens_out", "seconds")
"""Counts of a meter that are added up for a total."""


class Meter:
    """Counts replies; one meter may count those of several models, from several threads.

    Args:
        prices: what tokens cost; without them money is not counted.
    """

    def __init__(self, prices: Prices | None = None):
        self.prices = prices
        self.fresh = 0
        """Replies that were asked for and came."""
        self.cached = 0
        """Replies that were known."""
        self.failed = 0
        """Requests that failed for good."""
        self.unasked = 0
        """Requests that the budget had no room for."""
        self.tokens_in = 0
        """Tokens of prompts, fresh replies only."""
        self.tokens_out = 0
        """Tokens of answers, fresh replies only."""
        self.is_estimate = False
        """True when an endpoint did not count tokens and some are estimates."""
        self.usd: float | None = None if prices is None else 0.0
        """Cost of the tokens; None without prices."""
        self.seconds = 0.0
        """Waiting time, summed over fresh replies, also of those that were under way together."""
        self.faults: Counter[str] = Counter()
        """Faults by kind, those that a later attempt made good included; `refusal` and `length` among them."""
        self.is_simulated = False
        """True when any reply came from a simulator."""
        self._lock = threading.Lock()

    def count(self, reply: Reply) -> None:
        """Count one final reply."""
        with self._lock:
            if reply.cached:
                self.cached += 1
                return
            self.seconds += reply.latency_s
            if reply.error is not None:
                self.failed += 1
                self.faults[reply.fault or "failed"] += 1
                return
            self.fresh += 1
            self.tokens_in += reply.usage.tokens_in
            self.tokens_out += reply.usage.tokens_out
            self.is_estimate |= reply.usage.is_estimate
            if reply.finish in ("refusal", "length"):
                self.faults[reply.finish] += 1
            if self.prices is not None and self.usd is not None:
                self.usd += self.prices.usd(reply.usage)

    def count_fault(self, reply: Reply) -> None:
        """Count a fault that is tried again."""
        with self._lock:
            self.faults[reply.fault or "failed"] += 1

    def count_unasked(self) -> None:
        """Count a request that the budget had no room for."""
        with self._lock:
            self.unasked += 1

    @classmethod
    def total(cls, meters: Iterable[Meter]) -> Meter:
        """A meter with the sums of others; money is None where none of them counts it."""
        total = cls()
        for meter in meters:
            for name in _SUMMED:
                setattr(total, name, getattr(total, name) + getattr(meter, name))
            total.faults.update(meter.faults)
            total.is_estimate |= meter.is_estimate
            total.is_simulated |= meter.is_simulated
            if meter.usd is not None:
                total.usd = (total.usd or 0.0) + meter.usd
        return total

    @property
    def is_used(self) -> bool:
        """Whether any request has reached this meter."""
        return bool(self.fresh or self.cached or self.failed or self.unasked or self.faults)

    def figures(self) -> dict[str, Any]:
        """Everything counted, for a report."""
        with self._lock:
            figures: dict[str, Any] = {
                "calls_fresh": self.fresh,
                "calls_cached": self.cached,
                "calls_failed": self.failed,
                "calls_unasked": self.unasked,
                "tokens_in": self.tokens_in,
                "tokens_out": self.tokens_out,
                "tokens_estimated": self.is_estimate,
                "usd": self.usd,
                "seconds": self.seconds,
                "faults": dict(sorted(self.faults.items())),
            }
            return figures | ({"SIMULATED": True} if self.is_simulated else {})


class Metered:
    """`llm` with its replies counted.

    Args:
        llm: who is asked.
        meter: who counts.
    """

    def __init__(self, llm: LLM, meter: Meter):
        self.llm, self.name, self.meter = llm, llm.name, meter
        meter.is_simulated |= is_simulated(llm)

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model."""
        try:
            reply = await self.llm.acomplete(request)
        except BudgetSpent:
            self.meter.count_unasked()
            raise
        self.meter.count(reply)
        return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)
