"""Chat with any OpenAI-compatible server: a request in, a reply out, every fault told apart from every other."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from gnomon.core.llm.base import Message, Reply, Request, Usage
from gnomon.core.llm.endpoint.client import KEY_ENV, Fault, fault_of, faults, open_client, until_stop
from gnomon.core.llm.stack.loop import PerLoop, on_shared_loop
from gnomon.core.llm.stack.stored import estimated_tokens, tokens_asked

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

HOSTED = "https://api.openai.com/v1"
"""The server of `openai:MODEL` where the environment names no other."""


class Chat:
    """The model `model` of an OpenAI-compatible server. Connections live on the shared loop, so any loop may ask.

    Nothing is tried again here, see `Retried`, but for two things that a server may turn out not to know, which are then put
    differently from there on: the old name of the token limit, and system messages (see `folded`).

    Args:
        url: the server, up to and with `/v1`.
        model: the name that the server knows the model by.
        name: what the model is called in reports and cache keys.
        key_env: environment variable that holds the key; it goes into the request and nowhere else.
        timeout_s: longest time from asking to the complete answer.
    """

    def __init__(self, url: str, model: str, *, name: str, key_env: str = KEY_ENV, timeout_s: float = 120.0):
        self.url, self.model, self.name = url, model, name
        self.key_env, self.timeout_s = key_env, timeout_s
        self.is_simulated = model.startswith("sim:")
        self._limit_name = "max_tokens"
        self._folds = False
        self._clients = PerLoop(self._open)

    async def acomplete(self, request: Request) -> Reply:
        """The reply to one request; a fault becomes a reply with `error` and `fault` set."""
        if self.url == HOSTED and not os.environ.get(self.key_env):
            message = f"{self.name} needs a key. Set the environment variable {self.key_env}."
            return Reply("", "error", error=message, fault="rejected")
        return await on_shared_loop(self._ask(request))

    async def aclose(self) -> None:
        """Close the connections."""
        await on_shared_loop(self._close())

    async def _ask(self, request: Request) -> Reply:
        began = time.monotonic()
        while True:
            body = self._body(request)
            try:
                async with asyncio.timeout(self.timeout_s):
                    answer = await self._clients.get().chat.completions.create(**body)
                return _read(answer, request, time.monotonic() - began)
            except faults() as error:
                fault = fault_of(error, self.url, self.model, key_env=self.key_env)
                if fault.kind == "rejected" and self._adapts(fault, body):
                    continue
                return Reply(
                    "",
                    "error",
                    latency_s=time.monotonic() - began,
                    error=fault.message,
                    fault=fault.kind,
                    retry_after_s=fault.retry_after_s,
                )

    async def _close(self) -> None:
        await self._clients.get().close()
        self._clients = PerLoop(self._open)

    def _open(self) -> openai.AsyncOpenAI:
        return open_client(self.url, key_env=self.key_env, timeout_s=self.timeout_s)

    def _body(self, request: Request) -> dict[str, Any]:
        messages = folded(request.messages) if self._folds else request.messages
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            self._limit_name: request.max_tokens,
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.sampling_seed is not None:
            body["seed"] = request.sampling_seed
        if request.want_logprobs:
            body["logprobs"] = True
        return body

    def _adapts(self, fault: Fault, body: dict[str, Any]) -> bool:
        """Whether the next attempt is put differently because of what the server said."""
        message = fault.message.lower()
        if "max_completion_tokens" in message and "max_tokens" in body:
            self._limit_name = "max_completion_tokens"
            return True
        if "system" in message and "role" in message and any(m["role"] == "system" for m in body["messages"]):
            if not self._folds:
                say_folded(self.name)
            self._folds = True
            return True
        return False


def folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same conversation for a model that knows no system message: its text begins the first user message.

    >>> folded((Message("system", "Be brief."), Message("user", "Why?")))
    (Message(role='user', content='Be brief.\\n\\nWhy?'),)
    """
    system = [m.content for m in messages if m.role == "system"]
    rest = [m for m in messages if m.role != "system"]
    if not system:
        return messages
    at = next((i for i, m in enumerate(rest) if m.role == "user"), None)
    if at is None:
        return (Message("user", "\n\n".join(system)), *rest)
    rest[at] = Message("user", "\n\n".join([*system, rest[at].content]))
    return tuple(rest)


def say_folded(name: str) -> None:
    """Log that a model knows no system message; said once for each model."""
    log.warning("%s knows no system message; its text is put at the start of the first user message.", name)


def _read(answer: Any, request: Request, latency_s: float) -> Reply:
    choice = answer.choices[0]
    refusal = getattr(choice.message, "refusal", None)
    written = choice.message.content or ""
    if not isinstance(written, str):
        raise TypeError("content is not a text")
    text = until_stop(written, request.stop)
    finish = "length" if choice.finish_reason == "length" and text == written else "stop"
    if refusal or choice.finish_reason == "content_filter":
        text, finish = refusal or text, "refusal"
    counts = answer.usage
    usage = (
        Usage(counts.prompt_tokens, counts.completion_tokens)
        if counts
        else Usage(tokens_asked(request), estimated_tokens(written), is_estimate=True)
    )
    return Reply(text, finish, usage, _logprobs(choice), latency_s)


def _logprobs(choice: Any) -> tuple[tuple[str, float], ...] | None:
    logprobs = getattr(choice, "logprobs", None)
    return (
        tuple((entry.token, entry.logprob) for entry in logprobs.content)
        if logprobs and logprobs.content
        else None
    )
