"""Chat with any OpenAI-compatible server: a request in, a reply out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gnomon.core.llm.base import Message, Reply, Request, Usage
from gnomon.core.llm.endpoint.client import Client, Manner, until_stop
from gnomon.core.llm.endpoint.faults import LONGEST_REASON, Refused, sentence_of
from gnomon.core.llm.stack.stored import estimated_tokens, tokens_asked


class Chat:
    """The model `model` of an OpenAI-compatible server.

    Args:
        url: the server, up to and with `/v1`.
        model: the name that the server knows the model by.
        name: what the model is called in reports and cache keys.
        manner: how it is asked.
    """

    is_remote = True
    """Answers come over the network and may be paid for."""

    def __init__(self, url: str, model: str, *, name: str, manner: Manner | None = None):
        self.client = Client(url, model, name=name, manner=manner)
        self.url, self.model, self.name = url, model, name
        self.identity = f"{name} {self.client.manner.identity}".strip()
        self.is_simulated = model.startswith("sim:")

    async def acomplete(self, request: Request) -> Reply:
        """The reply to one request; a fault becomes a reply with `error` and `fault` set."""
        has_system = any(message.role == "system" for message in request.messages)
        try:
            answer = await self.client.send(
                "/chat/completions",
                {"messages": _turns(request.messages), **self._fields(request)},
                folded=_turns(folded(request.messages)) if has_system else None,
            )
        except Refused as refused:
            return _failed(refused, request)
        return read(answer.content, request, self.client, answer.latency_s, answer.shape.left_out)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def _fields(self, request: Request) -> dict[str, Any]:
        """What a request says beside its messages; None where it says nothing."""
        return {
            "model": self.model,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens + self.client.manner.thinking_tokens,
            "stop": list(request.stop) or None,
            # The number of a draw is no seed that anybody set; a simulator draws from it alone, behind HTTP too.
            "seed": request.sampling_seed or 0 if self.is_simulated or request.seed is not None else None,
            "logprobs": request.want_logprobs or None,
            "reasoning_effort": self.client.manner.reasoning_effort,
        }


class Completions(Chat):
    """The same server asked to continue a text: the messages of a request, one after another."""

    def __init__(self, url: str, model: str, *, name: str, manner: Manner | None = None):
        super().__init__(url, model, name=name, manner=manner)
        self.identity += " completions"  # the same words are another request here

    async def acomplete(self, request: Request) -> Reply:
        """What the server writes after the text."""
        if any(message.images for message in request.messages):
            error = f"{self.name} continues texts and sees no images. Name a chat endpoint."
            return Reply("", "error", error=error, fault="rejected")
        fields = {
            "prompt": "\n\n".join(message.content for message in request.messages),
            **self._fields(request),
        }
        try:
            answer = await self.client.send("/completions", fields | {"reasoning_effort": None})
        except Refused as refused:
            return _failed(refused, request)
        return read(answer.content, request, self.client, answer.latency_s, answer.shape.left_out)


def folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same conversation for a model that knows no system message: its text begins the first user message.

    >>> [(m.role, m.content) for m in folded((Message("system", "Be brief."), Message("user", "Why?")))]
    [('user', 'Be brief.\\n\\nWhy?')]
    """
    system = [m.content for m in messages if m.role == "system"]
    rest = [m for m in messages if m.role != "system"]
    if not system:
        return messages
    at = next((i for i, m in enumerate(rest) if m.role == "user"), None)
    if at is None:
        return (Message("user", "\n\n".join(system)), *rest)
    rest[at] = dataclasses.replace(rest[at], content="\n\n".join([*system, rest[at].content]))
    return tuple(rest)


def read(
    content: Any, request: Request, client: Client, latency_s: float, left_out: frozenset[str] = frozenset()
) -> Reply:
    """The reply in what a server sent: the text of its first choice, in whatever of the usual shapes it is."""
    holder = _holder(content)
    left = _left_out(request, left_out)
    if holder is None:
        sentence = " ".join(sentence_of(content).split())[:LONGEST_REASON]
        error = f"{client.url} answered in an unknown format: {sentence}"
        usage = _usage(content, request, "")
        return Reply("", "error", usage, latency_s=latency_s, error=error, fault="malformed", left_out=left)
    choice, message = holder
    written, thoughts = _text(message)
    thoughts = thoughts or _first_text(message, ("reasoning_content", "reasoning"))
    text = until_stop(written, request.stop)
    usage = _usage(content, request, written + thoughts)
    finish = _finish(choice, content)
    reply = Reply(
        text,
        "length" if finish == "length" and text == written else "stop",
        usage,
        _logprobs(choice),
        latency_s,
        thoughts=thoughts,
        left_out=left,
    )
    refusal = message.get("refusal") if isinstance(message, Mapping) else None
    if refusal or finish == "refusal":
        return dataclasses.replace(reply, text=str(refusal or text), finish="refusal")
    return reply


def _failed(refused: Refused, request: Request) -> Reply:
    fault = refused.fault
    took = fault.kind in ("timeout", "malformed")  # the server may have worked
    usage = Usage(tokens_asked(request), 0, is_estimate=True) if took else Usage()
    return Reply("", "error", usage, error=fault.message, fault=fault.kind, retry_after_s=fault.retry_after_s)


def _left_out(request: Request, left_out: frozenset[str]) -> tuple[str, ...]:
    """Fields that this request asked for and that were not sent."""
    wanted = {
        "temperature": request.temperature is not None,
        "top_p": request.top_p is not None,
        "stop": bool(request.stop),
        "seed": request.seed is not None,
        "logprobs": request.want_logprobs,
        "reasoning_effort": True,
    }
    return tuple(sorted(name for name in left_out if wanted.get(name)))


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": _content(message)} for message in messages]


def _content(message: Message) -> Any:
    """The words of a message, or its images and then its words."""
    if not message.images:
        return message.content
    shown = [{"type": "image_url", "image_url": {"url": part.url}} for part in message.images]
    return [*shown, {"type": "text", "text": message.content}]


_ASIDE = frozenset({"usage", "logprobs"})
"""Names of what stands beside the answer and may look like one."""

_ANSWERS = ("content", "text", "output_text", "response", "parts")
"""Names that the servers of today give to what a model wrote."""


def _holder(content: Any) -> tuple[Any, Any] | None:
    """The choice and the object in it that holds the answer; None when there is none.

    The first one in reading order counts: servers of the OpenAI format put it into `choices[0].message`, others nearer the top.
    """
    waiting = [(content, content)]
    while waiting:
        choice, node = waiting.pop(0)
        if isinstance(node, list):
            waiting[:0] = [(part, part) for part in node]
        elif isinstance(node, dict):
            if "role" in node or any(isinstance(node.get(name), (str, list)) for name in _ANSWERS):
                return choice, node
            inner = [v for name, v in node.items() if isinstance(v, (dict, list)) and name not in _ASIDE]
            waiting += [(node if node is not content else part, part) for part in inner]
    return None


def _text(message: Any) -> tuple[str, str]:
    """Answer and thoughts of a message; its content is a text or a list of parts."""
    for name in _ANSWERS:
        value = message.get(name)
        if isinstance(value, str):
            return value, ""
        if isinstance(value, list):
            texts: list[str] = []
            thoughts: list[str] = []
            for part in value:
                if isinstance(part, str):
                    texts.append(part)
                elif isinstance(part, dict):
                    kind = str(part.get("type", "text"))
                    is_thought = "reason" in kind or "think" in kind or bool(part.get("thought"))
                    is_answer = "text" in kind and not is_thought
                    (texts if is_answer else thoughts).append(
                        _first_text(part, ("text", "thinking", "content"))
                    )
            return "".join(texts), "".join(thoughts)
    return "", ""


def _first_text(node: Any, names: tuple[str, ...]) -> str:
    if not isinstance(node, Mapping):
        return ""
    return next((value for name in names if isinstance(value := node.get(name), str) and value), "")


def _finish(choice: Any, content: Any) -> str:
    """`length`, `refusal` or `stop`, from whatever the server calls its reason to end."""
    for node in (choice, content):
        if isinstance(node, Mapping):
            for name, value in node.items():
                if name.lower().replace("_", "") in (
                    "finishreason",
                    "stopreason",
                    "donereason",
                ) and isinstance(value, str):
                    reason = value.lower()
                    if "length" in reason or "max" in reason:
                        return "length"
                    return (
                        "refusal" if any(word in reason for word in ("filter", "safety", "refus")) else "stop"
                    )
    return "stop"


def _usage(content: Any, request: Request, written: str) -> Usage:
    """Tokens as the server counts them, or else estimates."""
    counts = (
        next((v for k, v in content.items() if k.lower().startswith("usage") and isinstance(v, dict)), {})
        if isinstance(content, dict)
        else {}
    )
    numbers = {
        name.lower(): n for name, n in counts.items() if isinstance(n, int) and not isinstance(n, bool)
    }
    tokens_in = next((n for name, n in numbers.items() if "prompt" in name or "input" in name), None)
    tokens_out = next(
        (
            n
            for name, n in numbers.items()
            if any(word in name for word in ("completion", "output", "candidates"))
        ),
        None,
    )
    if tokens_in is None or tokens_out is None:
        return Usage(tokens_asked(request), estimated_tokens(written), is_estimate=True)
    return Usage(tokens_in, tokens_out)


def _logprobs(choice: Any) -> tuple[tuple[str, float], ...] | None:
    entries = (choice.get("logprobs") or {}) if isinstance(choice, Mapping) else {}
    listed = entries.get("content") if isinstance(entries, Mapping) else None
    if not isinstance(listed, list):
        return None
    pairs = [
        (str(e["token"]), float(e["logprob"]))
        for e in listed
        if isinstance(e, Mapping) and "token" in e and "logprob" in e
    ]
    return tuple(pairs) or None
