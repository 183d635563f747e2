"""Log-probabilities of given tokens from a server, where it returns those of a prompt.

Two dialects are known by their structure: `prompt_logprobs` (a list with an entry per token of the prompt, as vLLM has it) and
`echo` with `logprobs` (the prompt comes back as a completion, as the first OpenAI servers had it). The first prompt shows which of
them a server speaks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.llm.base import Message, Reply, Request, Usage
from gnomon.core.llm.endpoint.client import Client, Manner
from gnomon.core.llm.endpoint.faults import Refused

DIALECTS: Mapping[str, Mapping[str, Any]] = {
    "prompt_logprobs": {"prompt_logprobs": 0, "max_tokens": 1},
    "echo": {"echo": True, "logprobs": 1, "max_tokens": 0},
}
"""Name -> fields of the body that ask for the log-probabilities of the prompt."""


class GivenLogprobs:
    """A served model as an `LLM` that says how likely a prompt is: retries, limits, budget and cache are those of all requests.

    The message of a request is the prompt's token ids as JSON; the reply's text is a JSON list of log-probabilities in nats, null
    for the first token. One prompt a request: a server keeps the logits of whole prompts, and many of them at once exhaust it.

    Args:
        url: the server, up to and with `/v1`.
        model: the name that the server knows the model by.
        manner: how it is asked.
    """

    is_remote = True
    """Answers come over the network and may be paid for."""

    def __init__(self, url: str, model: str, *, manner: Manner | None = None):
        self.name = f"{url}#{model}"
        self.client = Client(url, model, name=self.name, manner=manner)
        self.model = model
        self.identity = f"{self.name} {self.client.manner.identity} given"
        self.dialect: str | None = None
        """What the server speaks; None before the first answer."""

    async def acomplete(self, request: Request) -> Reply:
        """The log-probabilities of the prompt; a fault becomes a reply with `error` and `fault` set."""
        ids = json.loads(request.messages[-1].content)
        reasons = []
        for dialect in [self.dialect] if self.dialect else list(DIALECTS):
            fields = {"model": self.model, "prompt": ids, "temperature": 0.0, **DIALECTS[dialect]}
            try:
                answer = await self.client.send("/completions", fields)
            except Refused as refused:
                fault = refused.fault
                if self.dialect is None and fault.kind == "rejected":
                    reasons.append(fault.message)
                    continue
                return Reply(
                    "", "error", error=fault.message, fault=fault.kind, retry_after_s=fault.retry_after_s
                )
            values = _logprobs(answer.content, ids)
            if isinstance(values, str):
                reasons.append(values)
                continue
            self.dialect = dialect
            usage = Usage(len(ids), 1 if dialect == "prompt_logprobs" else 0)
            return Reply(json.dumps(values), "stop", usage, latency_s=answer.latency_s)
        error = (
            f"{self.client.url} returns no log-probabilities of a given prompt ({'; '.join(reasons)}). "
            "It must serve prompt_logprobs, or echo with logprobs, on /completions and take token ids as a prompt."
        )
        return Reply("", "error", Usage(len(ids), 0, is_estimate=True), error=error, fault="denied")

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()


def request_of(ids: Sequence[int]) -> Request:
    """The request for the log-probabilities of a prompt."""
    return Request((Message("user", json.dumps(list(ids))),), max_tokens=0)


def _logprobs(content: Any, ids: Sequence[int]) -> list[float | None] | str:
    """The log-probability of each token but the first, or what is wrong."""
    choices = content.get("choices") if isinstance(content, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        return "the answer has no choices"
    choice = choices[0]
    entries = choice.get("prompt_logprobs")
    if isinstance(entries, list):
        values = [_of_token(entry, token) for entry, token in zip(entries, ids, strict=False)]
        if len(entries) != len(ids):
            return f"it has {len(entries)} tokens for {len(ids)}: the prompt was cut or other tokens were made of it"
    else:
        listed = (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(listed, list):
            return "the answer holds neither prompt_logprobs nor token_logprobs"
        if len(listed) < len(ids):
            return f"it has {len(listed)} tokens for {len(ids)}: it does not echo the prompt"
        values = listed[: len(ids)]
    for number, value in enumerate(values[1:], 1):
        if not isinstance(value, int | float) or not math.isfinite(value) or value > 1e-3:
            return f"token {number} of the prompt has {value!r} as its log-probability"
    return [None, *(float(v) for v in values[1:] if v is not None)]


def _of_token(entry: Any, token: int) -> float | None:
    """The log-probability of the token itself among those listed at its place."""
    if not isinstance(entry, Mapping):
        return None
    value = entry.get(str(token), entry.get(token))
    value = value.get("logprob") if isinstance(value, Mapping) else value
    return value if isinstance(value, int | float) else None
