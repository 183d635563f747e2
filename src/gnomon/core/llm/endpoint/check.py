"""The start-up check: a few tiny requests that show what an endpoint can do before a long job relies on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gnomon.core.llm.base import LLM, Reply, Request, ask, is_simulated
from gnomon.core.llm.stack.many import complete
from gnomon.errors import LLMFailure

_PROMPT = "Count from one to five in words."


@dataclass(frozen=True)
class Capabilities:
    """What an endpoint showed that it can do. None: its answers were too short to tell."""

    name: str
    """The model."""
    has_system: bool
    """Whether it takes system messages, where needed put into the first user message."""
    stops: bool | None
    """Whether a stop text ends the answer before it."""
    has_seed: bool | None
    """Whether the same seed gave the same answer at temperature 1."""
    has_logprobs: bool
    """Whether it returns log-probabilities."""
    counts_tokens: bool
    """Whether it says how many tokens were used."""
    is_simulated: bool
    """Whether it is a simulator."""


def probe(llm: LLM) -> Capabilities:
    """What `llm` can do, found out with at most five requests of at most 16 tokens.

    Raises:
        LLMFailure: it does not answer at all: the server, the model's name, the key or the chat template is wrong.
    """
    (first,) = complete(llm, [_short(want_logprobs=True)])
    if first.error is not None:
        raise LLMFailure(f"{llm.name} does not answer. {first.error}")
    # The same seed for the endpoint, but not the same request for a cache on the way.
    requests = [
        _short(system="Be brief."),
        _short(temperature=1.0, seed=7),
        _short(temperature=1.0, seed=6, draw=1),
    ]
    stop = _middle(first.text)
    system, same, other, *stopped = complete(llm, requests + ([_short(stop=(stop,))] if stop else []))
    return Capabilities(
        name=llm.name,
        has_system=system.error is None,
        stops=_stops(first, stopped[0], stop) if stop else None,
        has_seed=same.text == other.text if same.text and other.text else None,
        has_logprobs=first.logprobs is not None,
        counts_tokens=not first.usage.is_estimate,
        is_simulated=is_simulated(llm),
    )


def _short(**options: Any) -> Request:
    return ask(_PROMPT, **{"max_tokens": 16, **options})


def _middle(text: str) -> str | None:
    """A piece from about the middle of `text` that does not stand at its start; None when there is no good one."""
    for at in range(len(text) // 2, len(text) - 2):
        piece = text[at : at + 3]
        if piece.strip() == piece and "\ufffd" not in piece and text.find(piece) > 0:
            return piece
    return None


def _stops(whole: Reply, stopped: Reply, stop: str) -> bool:
    """Whether generation ended at the stop text: the client takes it off in any case, so the tokens tell."""
    fewer = stopped.usage.tokens_out < whole.usage.tokens_out
    return stopped.text == whole.text[: whole.text.find(stop)] and (fewer or whole.usage.is_estimate)
