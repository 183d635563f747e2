"""Counts of replies (fresh and cached), tokens, money, faults and seconds, for reports."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gnomon.core.llm.base import LASTING, LLM, TOO_LONG, Reply, Request, aclose, is_simulated
from gnomon.core.llm.stack.budget import Prices
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BudgetSpent, EndpointDown

_SUMMED = (
    "fresh",
    "cached",
    "failed",
    "unasked",
    "stopped",
    "too_long",
    "tokens_in",
    "tokens_out",
    "seconds",
)
"""Counts of a meter that are added up for a total."""


class Meter:
    """Counts replies; one meter may count those of several models, from several threads.

    Args:
        prices: what tokens cost; without them money is not counted.
    """

    def __init__(self, prices: Prices | None = None):
        self.prices = prices
        self.fresh = 0
        """Calls that were charged, or may have been: those without a usable answer and further attempts among them."""
        self.answered = 0
        """Requests that ended in an answer to be read."""
        self.cached = 0
        """Replies that were known."""
        self.failed = 0
        """Requests that failed for good."""
        self.too_long = 0
        """Requests whose prompt is longer than the model reads."""
        self.long_reason = ""
        """What was said of the last of them."""
        self.stopped = 0
        """Requests that were not made because too much had failed."""
        self.unasked = 0
        """Requests that were not made: the budget had no room for them, or too much had failed."""
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
        self.left_out: Counter[str] = Counter()
        """Fields that were asked for and that the endpoint refuses, with the number of replies that came without them."""
        self.reasons: Counter[str] = Counter()
        """Why requests failed for good, as the replies say it."""
        self.lasting = ""
        """The last reason that was a fault of the endpoint."""
        self._lock = threading.Lock()

    def count(self, reply: Reply) -> None:
        """Count one final reply."""
        with self._lock:
            self.left_out.update(reply.left_out)
            if reply.cached:
                self.cached += 1
                return
            if reply.fault == "stopped":
                self.unasked += 1
                self.stopped += 1
                return
            self._charge(reply)
            if reply.error is not None and reply.fault == TOO_LONG:
                self.too_long += 1
                self.long_reason = reply.error
                self.faults[TOO_LONG] += 1
                return
            if reply.error is not None:
                self.failed += 1
                self.faults[reply.fault or "failed"] += 1
                self.reasons[reply.error] += 1
                self.lasting = reply.error if reply.fault in LASTING else self.lasting
                return
            self.answered += 1
            if reply.finish == "length":
                self.faults[reply.finish] += 1

    def count_fault(self, reply: Reply) -> None:
        """Count a failed reply that was tried again."""
        with self._lock:
            self._charge(reply)
            self.faults[reply.fault or "failed"] += 1

    def _charge(self, reply: Reply) -> None:
        """Book what a reply took; the lock is held."""
        self.seconds += reply.latency_s
        if not reply.is_charged:
            return
        self.fresh += 1
        self.tokens_in += reply.usage.tokens_in
        self.tokens_out += reply.usage.tokens_out
        self.is_estimate |= reply.usage.is_estimate
        if self.prices is not None and self.usd is not None:
            self.usd += self.prices.usd(reply.usage)

    def count_unasked(self) -> None:
        """Count a request that was not made because the budget had no room for it."""
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
            total.left_out.update(meter.left_out)
            total.reasons.update(meter.reasons)
            total.answered += meter.answered
            total.lasting = meter.lasting or total.lasting
            total.long_reason = meter.long_reason or total.long_reason
            total.is_estimate |= meter.is_estimate
            total.is_simulated |= meter.is_simulated
            if meter.usd is not None:
                total.usd = (total.usd or 0.0) + meter.usd
        return total

    @property
    def reason(self) -> str:
        """Why requests failed: what stopped the rest where that was the endpoint, else the commonest reason; empty without any."""
        if self.stopped and self.lasting:
            return self.lasting
        return self.reasons.most_common(1)[0][0] if self.reasons else ""

    def shortfalls(self, role: str, limit: float) -> list[Shortfall]:
        """What a role did not get: prompts that were too long for its model, and replies.

        Args:
            role: its name.
            limit: largest share of replies that may fail.
        """
        shortfalls = []
        if self.too_long:
            of = self.failed + self.answered + self.too_long
            prompts = (f"prompts of {role}", self.too_long, of, self.long_reason, 1.0)
            shortfalls.append(Shortfall(*prompts, is_final=True))
        if self.failed or self.unasked:
            replies = (f"replies of {role}", self.failed, self.failed + self.answered, self.reason, limit)
            is_stopped = self.stopped > 0
            shortfalls.append(Shortfall(*replies, unasked=self.unasked, is_stopped=is_stopped))
        return shortfalls

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
            if self.left_out:
                figures["left_out"] = dict(sorted(self.left_out.items()))
            if self.reasons:
                figures["commonest_reason"] = self.reason
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
        except EndpointDown as down:
            self.meter.count(down.reply if isinstance(down.reply, Reply) else Reply("", fault="stopped"))
            raise
        self.meter.count(reply)
        return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)
