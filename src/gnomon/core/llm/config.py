"""Settings of asking a language model, shared by every verb that asks one. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gnomon.core.config import check
from gnomon.errors import BadConfig


@dataclass(frozen=True)
class LLMConfig:
    """How a language model is asked."""

    LOOSE: ClassVar = ("*",)

    concurrency: int = 8
    """Requests under way at once."""
    per_minute: float | None = None
    """Most requests started in a minute, evenly spaced; None: without limit."""
    retries: int = 5
    """Attempts after the first one when a fault may pass: rate limits, server errors, time-outs, cut connections."""
    timeout_s: float = 120.0
    """Longest time from asking to the complete answer, in seconds."""
    budget_calls: int | None = None
    """Most calls that are paid for, those of earlier runs in the same folder among them; None: without limit."""
    budget_tokens: int | None = None
    """Most tokens, of prompts and answers together; None: without limit."""
    budget_usd: float | None = None
    """Most money, in USD; needs both prices. None: without limit."""
    price_in: float | None = None
    """USD per million tokens of prompts; None: not counted."""
    price_out: float | None = None
    """USD per million tokens of answers; None: not counted."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key. The key itself is written nowhere."""
    cache: bool = True
    """Keep every reply in the run folder, so that nothing is paid for twice."""
    record: Path | None = None
    """A tape to write every reply to; play it back with --llm tape:FILE."""

    def __post_init__(self) -> None:
        check(self.concurrency >= 1, "llm.concurrency", ">= 1", self.concurrency)
        check(self.retries >= 0, "llm.retries", ">= 0", self.retries)
        check(self.timeout_s > 0, "llm.timeout_s", "> 0", self.timeout_s)
        check(self.per_minute is None or self.per_minute > 0, "llm.per_minute", "> 0", self.per_minute)
        for name in ("budget_calls", "budget_tokens", "budget_usd", "price_in", "price_out"):
            value = getattr(self, name)
            check(value is None or value >= 0, f"llm.{name}", ">= 0", value)
        if (self.price_in is None) != (self.price_out is None):
            raise BadConfig("llm.price_in and llm.price_out must be given together; one of them is missing.")
        check(
            self.budget_usd is None or self.price_in is not None,
            "llm.price_in, llm.price_out",
            "given with llm.budget_usd",
            None,
        )
        check(
            bool(self.api_key_env), "llm.api_key_env", "the name of an environment variable", self.api_key_env
        )
