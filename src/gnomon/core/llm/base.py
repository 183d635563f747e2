"""What is asked of a language model behind an endpoint, what comes back, and the one method that every endpoint has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """What was said."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete: two equal requests may share one reply."""

    messages: tuple[Message, ...]
    """The conversation so far."""
    temperature: float = 0.0
    """0 asks for the likeliest answer."""
    top_p: float = 1.0
    """Sample from the fewest likeliest tokens that hold this much probability."""
    max_tokens: int = 512
    """Longest answer, in tokens."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; the answer ends before the first of them."""
    seed: int | None = None
    """Seed for endpoints that know one."""
    draw: int = 0
    """Number of the repeat: the same request with another draw is asked anew."""
    want_logprobs: bool = False
    """Whether to return the log-probability of each token, where the endpoint can."""
    choices: tuple[str, ...] = ()
    """When given, the answer is one of these, where the endpoint can enforce that."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request took."""

    tokens_in: int = 0
    """Tokens of the prompt."""
    tokens_out: int = 0
    """Tokens of the answer."""
    is_estimate: bool = False
    """True when the endpoint did not say and the numbers were estimated from the length of the text."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. A request that failed for good is a reply with `error` set, not an exception."""

    text: str
    """The answer, without the stop text; empty when there is none."""
    finish: str = "stop"
    """Why it ended: `stop`, `length`, `refusal` or `error`."""
    usage: Usage = Usage()
    """Tokens it took."""
    logprobs: tuple[tuple[str, float], ...] | None = None
    """Token and its log-probability (nats), when asked for and known."""
    latency_s: float = 0.0
    """Seconds from asking to the complete answer; that of the first time when the reply was cached."""
    cached: bool = False
    """True when nothing was asked of the endpoint this time."""
    error: str | None = None
    """What went wrong, in one sentence, when no answer could be had."""


class LLM(Protocol):
    """A language model that answers requests."""

    name: str
    """What it is, for reports and for cache keys: the reference it was opened with."""

    async def acomplete(self, request: Request) -> Reply:
        """The reply to one request."""
        ...


def ask(prompt: str, *, system: str | None = None, **sampling: object) -> Request:
    """A request of one user message, below a system message if there is one.

    >>> ask("Is it wet?", system="Answer in one word.").messages[1]
    Message(role='user', content='Is it wet?')
    """
    head = (Message("system", system),) if system else ()
    return Request((*head, Message("user", prompt)), **sampling)  # type: ignore[arg-type]
