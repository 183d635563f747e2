"""Settings of asking a language model, shared by every verb that asks one. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gnomon.core.config import check, option
from gnomon.core.llm.endpoint.keys import Keys
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.too_long import TooLong
from gnomon.errors import BadConfig

_PRICES = f"{option('llm.price_in')} and {option('llm.price_out')}"


@dataclass(frozen=True)
class LLMConfig:
    """How a language model is asked."""

    LOOSE: ClassVar[tuple[str, ...]] = ("*",)

    concurrency: int = 8
    """Requests under way at once."""
    per_minute: float | None = None
    """Most attempts started in a minute, evenly spaced; None: without limit."""
    retries: int = 5
    """Attempts after the first one when a fault may pass: rate limits, server errors, time-outs, cut connections."""
    timeout_s: float = 120.0
    """Longest time from asking to the complete answer, in seconds."""
    max_failed: float = 0.2
    """Largest share of replies that may fail, 0..1; beyond it the run ends with exit code 1, its results kept. 1: any may."""
    budget_calls: int | None = None
    """Most calls that are paid for, attempts and earlier runs in the same folder among them; None: without limit."""
    budget_tokens: int | None = None
    """Most tokens, of prompts and answers together; None: without limit."""
    budget_usd: float | None = None
    """Most money, in USD; needs both prices. None: without limit."""
    price_in: float | None = None
    """USD per million tokens of prompts; None: not counted."""
    price_out: float | None = None
    """USD per million tokens of answers; None: not counted."""
    reasoning_effort: str | None = None
    """How long a reasoning model thinks, in its vendor's word, such as low; None: not sent."""
    thinking_tokens: int = 0
    """Tokens for the thoughts of a reasoning model, on top of the limit of each answer."""
    body: tuple[str, ...] = ()
    """Further fields of every request, NAME=VALUE, values as JSON where they are JSON."""
    headers: tuple[str, ...] = ()
    """Further HTTP headers, NAME=VALUE; NAME=env:VARIABLE takes the value from the environment."""
    api_key_env: tuple[str, ...] = ()
    """Environment variables that hold keys: VARIABLE@HOST for one host, VARIABLE for hosts without another."""
    cache: str = "user"
    """Where replies are kept, so that none is paid for twice: user (one folder for all runs), run (its own), none, or a FOLDER."""
    too_long: TooLong = "skip"
    """Prompts longer than the model reads. skip: their rows are left out and counted; truncate: the middle of their longest message
    is cut; error: the run ends."""
    record: Path | None = None
    """A tape to write every reply to; play it back with tape:FILE as the model."""
    load: LoadConfig = field(default_factory=LoadConfig)
    """How a model in this process (hf:, embedded:) is loaded."""

    def __post_init__(self) -> None:
        check(self.concurrency >= 1, "llm.concurrency", ">= 1", self.concurrency)
        check(self.retries >= 0, "llm.retries", ">= 0", self.retries)
        check(self.timeout_s > 0, "llm.timeout_s", "> 0", self.timeout_s)
        check(0 <= self.max_failed <= 1, "llm.max_failed", "between 0 and 1", self.max_failed)
        check(self.thinking_tokens >= 0, "llm.thinking_tokens", ">= 0", self.thinking_tokens)
        check(self.per_minute is None or self.per_minute > 0, "llm.per_minute", "> 0", self.per_minute)
        for name in ("budget_calls", "budget_tokens", "budget_usd", "price_in", "price_out"):
            value = getattr(self, name)
            check(value is None or value >= 0, f"llm.{name}", ">= 0", value)
        if (self.price_in is None) != (self.price_out is None):
            raise BadConfig(f"{_PRICES} must be given together; one of them is missing.")
        check(
            self.budget_usd is None or self.price_in is not None,
            _PRICES,
            f"given with {option('llm.budget_usd')}",
            None,
        )
        Keys(self.api_key_env)
        check(bool(self.cache), "llm.cache", "user, run, none or a folder", self.cache)

    def cost(self, calls: int, tokens_in: float, tokens_out: float) -> dict[str, Any]:
        """What a dry run says of `calls` requests with so many tokens in all: calls, tokens, and money where prices are known.

        >>> LLMConfig(price_in=2.5, price_out=10).cost(100, 200_000, 10_000)
        {'calls': 100, 'tokens_in': 200000, 'tokens_out_at_most': 10000, 'usd_at_most': 0.6}
        """
        tokens_out += calls * self.thinking_tokens
        cost = {"calls": calls, "tokens_in": round(tokens_in), "tokens_out_at_most": round(tokens_out)}
        if self.price_in is None or self.price_out is None:
            return cost | {"usd_at_most": f"unknown without {_PRICES}"}
        return cost | {
            "usd_at_most": round((tokens_in * self.price_in + tokens_out * self.price_out) / 1e6, 6)
        }
