"""What goes wrong in a simulated world, at known rates: the same for every simulator."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from gnomon.core.config import check
from gnomon.core.llm.base import Reply

REFUSAL = "I am sorry, but I cannot help with that."
"""What a simulator says when it refuses."""


@dataclass(frozen=True)
class Faults:
    """Rates of faults, each a share of the requests. Those of the answer repeat with the request; those of the server may pass."""

    refused: float = 0.0
    """Answers that refuse."""
    garbled: float = 0.0
    """Answers in a wrong format: every second character is lost."""
    truncated: float = 0.0
    """Answers that end early, as at a token limit."""
    slow: float = 0.0
    """Answers that take `slow_s`."""
    slow_s: float = 1.0
    """Seconds that a slow answer takes."""
    http_429: float = 0.0
    """Attempts that meet a rate limit."""
    http_500: float = 0.0
    """Attempts that meet a server error."""
    retry_after_s: float = 0.0
    """Seconds that a rate limit asks to wait."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_s"):
                check(value >= 0, field.name, ">= 0", value)
            else:
                check(0 <= value <= 1, field.name, "between 0 and 1", value)
        check(
            self.http_429 + self.http_500 <= 1,
            "http_429 + http_500",
            "at most 1",
            self.http_429 + self.http_500,
        )

    def of_server(self, noise: random.Random) -> Reply | None:
        """The fault that an attempt meets before it is answered, if any."""
        at = noise.random()
        if at < self.http_429:
            message = "Rate limit reached, as this simulated world says."
            return Reply("", "error", error=message, fault="rate_limit", retry_after_s=self.retry_after_s)
        if at < self.http_429 + self.http_500:
            return Reply("", "error", error="Server error, as this simulated world says.", fault="server")
        return None

    def wait_s(self, noise: random.Random) -> float:
        """How long the answer takes."""
        return self.slow_s if noise.random() < self.slow else 0.0

    def of_answer(self, text: str, noise: random.Random) -> tuple[str, str]:
        """The text of the answer after its faults, and why it ended."""
        refuses, garbles, cuts = (
            noise.random() < rate for rate in (self.refused, self.garbled, self.truncated)
        )
        if refuses:
            return REFUSAL, "refusal"
        if garbles:
            text = text[::2]
        if cuts:
            return text[: round(len(text) * noise.uniform(0.1, 0.6))], "length"
        return text, "stop"
