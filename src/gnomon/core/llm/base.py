"""Requests to a language model, its replies, and the protocol of every endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gnomon.core.vision.parts import ImagePart

PASSING = frozenset({"rate_limit", "server", "timeout", "connection", "malformed"})
"""Faults that may be gone at the next attempt."""

LASTING = frozenset({"denied", "unknown", "quota", "connection"})
"""Faults of the endpoint and not of the request: whatever else is asked there will meet them too."""

TOO_LONG = "too_long"
"""The fault of a prompt that is longer than the model reads: of this request alone, and no sign that an endpoint fails."""

CHARGED = frozenset({"timeout", "malformed", "empty", "length", "refusal"})
"""Faults after which the endpoint has worked, or may have, and charges for it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """What was said."""
    images: tuple[ImagePart, ...] = ()
    """What is shown, before the words; see `gnomon.core.vision.parts.image_part`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete: two equal requests may share one reply."""

    messages: tuple[Message, ...]
    """The conversation so far."""
    temperature: float | None = None
    """0 asks for the likeliest answer; None leaves it to the endpoint (a model in this process then takes 0)."""
    top_p: float | None = None
    """Sample from the fewest likeliest tokens that hold this much probability; None leaves it to the endpoint."""
    max_tokens: int = 512
    """Longest answer, in tokens, without the thoughts of a model that reasons first."""
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
    anew: bool = False
    """Whether a kept reply is passed over, and replaced by the one that comes; two requests that differ in this alone are equal."""

    @property
    def sampling_seed(self) -> int | None:
        """The seed to sample with: `seed` moved on by `draw`; None when neither was given.

        >>> ask("Hi").sampling_seed, ask("Hi", draw=2).sampling_seed, ask("Hi", seed=5, draw=2).sampling_seed
        (None, 2, 7)
        """
        return (self.seed or 0) + self.draw if self.seed is not None or self.draw else None


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
    """The answer, without the stop text and without the thoughts before it; empty when there is none."""
    finish: str = "stop"
    """Why it ended: `stop`, `length`, `refusal`, `budget` (not asked, the budget is spent) or `error`."""
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
    fault: str | None = None
    """Kind of the error: one of `PASSING`, `denied` (the key), `unknown` (no such model or address), `quota`, `rejected` (not to be
    served), `too_long` (the prompt is longer than the model reads), `refusal`, `empty`, `length` (the token limit came before the
    answer), `missing` (not on the tape), `failed` (the function behind it raised) or `stopped` (not asked, because too much had
    failed)."""
    retry_after_s: float | None = None
    """Seconds to wait before the next attempt, when the endpoint said so."""
    thoughts: str = ""
    """What a model that reasons wrote before its answer, where it shows that."""
    left_out: tuple[str, ...] = ()
    """What was asked for and not sent, because the endpoint refuses it: `temperature` and the like."""

    @property
    def is_charged(self) -> bool:
        """Whether the endpoint answered, and so charged, or may have; what was known already is not charged again."""
        return not self.cached and self.finish != "budget" and (self.error is None or self.fault in CHARGED)

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed when it is tried again."""
        return self.fault in PASSING


class LLM(Protocol):
    """A language model that answers requests."""

    name: str
    """What it is, for reports and for cache keys: the reference it was opened with."""

    async def acomplete(self, request: Request) -> Reply:
        """The reply to one request."""
        ...


def ask(
    prompt: str, *, system: str | None = None, images: Sequence[ImagePart] = (), **sampling: object
) -> Request:
    """A request of one user message, perhaps with images, below a system message if there is one.

    >>> ask("Is it wet?", system="Answer in one word.").messages[1].content
    'Is it wet?'
    """
    head = (Message("system", system),) if system else ()
    return Request((*head, Message("user", prompt, tuple(images))), **sampling)  # type: ignore[arg-type]


async def aclose(llm: Any) -> None:
    """Close what `llm` holds open: connections, worker threads, a server. One that holds nothing is left as it is."""
    close = getattr(llm, "aclose", None)
    if close is not None:
        await close()


def is_simulated(llm: Any) -> bool:
    """Whether replies come from a simulator, through whatever wrappers: a report then says so in its title."""
    return bool(getattr(_innermost(llm), "is_simulated", False))


def is_remote(llm: Any) -> bool:
    """Whether replies come over the network from what is no simulator, through whatever wrappers: they may be paid for."""
    return bool(getattr(_innermost(llm), "is_remote", False)) and not is_simulated(llm)


def chooses(llm: Any) -> bool:
    """Whether `Request.choices` holds for its replies, through whatever wrappers: a model in this process answers by likelihood."""
    return bool(getattr(_innermost(llm), "chooses", False))


def seed_for(llm: Any, seed: int) -> int | None:
    """The seed that a request to `llm` carries in a run with `seed`: none over the network where nobody chose one.

    A model of this machine has no randomness but that of the run. One over the network has its own, and may refuse a seed; there
    the run's seed goes with the requests when it is another than the default of 0.
    """
    return seed if seed or not is_remote(llm) else None


def identity(llm: Any) -> str:
    """What tells the replies of `llm` from those of another one: its name, and the state of what is behind the name."""
    inner = _innermost(llm)
    return str(getattr(inner, "identity", inner.name))


def _innermost(llm: Any) -> Any:
    while hasattr(llm, "llm"):
        llm = llm.llm
    return llm
