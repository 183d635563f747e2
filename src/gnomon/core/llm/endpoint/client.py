"""One way to any OpenAI-compatible server: a body goes out, JSON comes back, and every fault is told apart from every other.

A server that refuses a field gets the request again without it. Which field that is, its error says: no vendor's sentences are
known here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from gnomon.core.config import option
from gnomon.core.llm.base import TOO_LONG
from gnomon.core.llm.endpoint.faults import (
    LONGEST_REASON,
    Fault,
    Refused,
    StatusError,
    is_too_long,
    kind_of,
    leaves,
    named_fields,
    retry_after,
    sentence_of,
)
from gnomon.core.llm.endpoint.keys import Keys, is_loopback, warn_unencrypted, without_keys
from gnomon.core.llm.stack.loop import PerLoop, on_shared_loop
from gnomon.errors import BadConfig, UserError

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

LIMITS = ("max_tokens", "max_completion_tokens")
"""The two names of the token limit; servers know one of them or both."""

DISPENSABLE = ("seed", "logprobs", "top_p", "reasoning_effort", "temperature", "stop")
"""Fields that a request may go without, the first to go first where an error names several."""

_SECRET = re.compile(r"key|token|secret|password|signature|^sig$", re.IGNORECASE)


@dataclass(frozen=True)
class Manner:
    """How an endpoint is asked, beside what every request says itself."""

    keys: Keys = field(default_factory=Keys)
    """Where keys are."""
    timeout_s: float = 120.0
    """Longest time from asking to the complete answer."""
    thinking_tokens: int = 0
    """Tokens for thoughts, on top of the limit of each request."""
    reasoning_effort: str | None = None
    """Sent as it is; None: not sent."""
    body: tuple[str, ...] = ()
    """Further fields of the body, `NAME=JSON` or `NAME=TEXT`."""
    headers: tuple[str, ...] = ()
    """Further headers, `NAME=VALUE`, where VALUE may be `env:VARIABLE`."""

    def __post_init__(self) -> None:
        for name, value in _pairs(self.headers, "llm.headers"):
            is_secret = bool(_SECRET.search(name)) or name.lower() == "authorization"
            if is_secret and not value.startswith("env:"):
                raise BadConfig(
                    f"The header {name} holds a secret, which settings files must not. Write {name}=env:VARIABLE."
                )
        self.more_fields()

    def more_fields(self) -> dict[str, Any]:
        """The further fields of the body, their values read as JSON where they are JSON."""
        return {name: _value(text) for name, text in _pairs(self.body, "llm.body")}

    def more_headers(self) -> dict[str, str]:
        """The further headers, with values from the environment filled in."""
        filled = {}
        for name, value in _pairs(self.headers, "llm.headers"):
            variable = value.removeprefix("env:")
            if value.startswith("env:") and not os.environ.get(variable):
                raise BadConfig(
                    f"The header {name} needs the environment variable {variable}, which is not set."
                )
            filled[name] = os.environ[variable] if value.startswith("env:") else value
        return filled

    @property
    def identity(self) -> str:
        """What of it changes answers, for cache keys; empty when nothing does."""
        parts = [*sorted(self.body), *([f"effort={self.reasoning_effort}"] if self.reasoning_effort else [])]
        return " ".join(parts)


@dataclass(frozen=True)
class Shape:
    """How requests are put to an endpoint, after what it has refused."""

    left_out: frozenset[str] = frozenset()
    """Fields that it refuses."""
    limit: str = LIMITS[0]
    """Its name of the token limit."""
    folds: bool = False
    """Whether system messages go into the first user message."""


@dataclass(frozen=True)
class Answer:
    """What a server sent back."""

    content: Any
    """The body, parsed."""
    shape: Shape
    """How the request was put in the end."""
    latency_s: float
    """Seconds from asking to the complete answer, over all ways of putting it."""


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """URL and model name of `http://host:8000/v1#name`; a query such as `?api-version=...` stays with the URL.

    Raises:
        BadConfig: it is not written like that, or holds a key.

    >>> split_endpoint("http://localhost:8000/v1#tiny")
    ('http://localhost:8000/v1', 'tiny')
    """
    url, _, name = endpoint.partition("#")
    parts = urlsplit(url)
    if parts.username or parts.password or any(_SECRET.search(key) for key, _ in parse_qsl(parts.query)):
        raise BadConfig("An endpoint holds no key and no user name. Give the key in the environment.")
    if parts.scheme not in ("http", "https") or not parts.netloc or not name:
        raise BadConfig(f'Endpoint "{endpoint}" must be written http://host:8000/v1#name.')
    return parts._replace(path=parts.path.rstrip("/")).geturl(), name


class Client:
    """Requests to one model of one server. Connections belong to the shared loop, so that any loop may ask.

    Nothing is tried again here, see `Retried`, but for fields that the server refuses: they are left out from then on, and that is
    logged once for each. A request is never sent without what its sender insists on: model, messages, token limit, own fields.

    Args:
        url: the server, up to and with `/v1`; a query goes with every request.
        model: the name that the server knows the model by.
        name: what the model is called in reports.
        manner: keys, time limit, further fields and headers.
    """

    def __init__(self, url: str, model: str, *, name: str, manner: Manner | None = None) -> None:
        manner = manner or Manner()
        self.url, self.model, self.name, self.manner = url, model, name, manner
        self.shape = Shape()
        self._bare: frozenset[str] | None = None
        self._has_tried_folded = False
        if manner.keys.key(url) is not None:
            warn_unencrypted(url, str(manner.keys.variable(url)))
        self._clients = PerLoop(self._open)

    async def send(self, path: str, body: Mapping[str, Any], *, folded: Any = None) -> Answer:
        """The answer to one request.

        Args:
            path: below the server's URL, as in `/chat/completions`.
            body: fields, with the token limit as `max_tokens`; what is None is not sent.
            folded: the messages for a server that knows no system message; None: there is no such message.

        Raises:
            Refused: no answer came.
        """
        return await on_shared_loop(self._send(path, body, folded))

    async def aclose(self) -> None:
        """Close the connections."""
        await on_shared_loop(self._close())

    async def _send(self, path: str, body: Mapping[str, Any], folded: Any) -> Answer:
        began = time.monotonic()
        if (variable := self.manner.keys.missing(self.url)) is not None:
            message = f"{self.name} needs a key. Set the environment variable {variable}."
            raise Refused(Fault("denied", message))
        shape = self.shape
        while True:
            fields = _put(body, shape, folded)
            try:
                async with asyncio.timeout(self.manner.timeout_s):
                    content = await self._post(path, fields)
            except StatusError as error:
                if error.fault.kind == "rejected" and self._is_too_long(error, fields):
                    raise Refused(replace(error.fault, kind=TOO_LONG)) from None
                if error.fault.kind == "rejected" and (next_ := self._adapted(error, fields, shape, folded)):
                    shape = next_
                    continue
                raise Refused(error.fault) from None
            except TimeoutError:
                raise Refused(self._timeout()) from None
            self._remember(shape)
            return Answer(content, shape, time.monotonic() - began)

    async def _post(self, path: str, fields: dict[str, Any]) -> Any:
        import openai

        # A server that needs no key, or takes it in a header of its own, must not see a wrong one.
        has_own = "authorization" in map(str.lower, self.manner.more_headers())
        is_keyless = self.manner.keys.key(self.url) is None and not has_own
        options: Any = {"headers": {"Authorization": openai.Omit()}} if is_keyless else {}
        try:
            response: Any = await self._clients.get().post(
                path, cast_to=object, body=fields | self.manner.more_fields(), options=options
            )
        except openai.APITimeoutError:
            raise Refused(self._timeout()) from None
        except openai.APIConnectionError as error:
            cause = without_keys(str(error.__cause__ or error), [self.manner.keys.key(self.url)])
            message = f"{self.url} cannot be reached ({cause or 'connection error'}). Is the server running?"
            raise Refused(Fault("connection", message)) from None
        except openai.APIStatusError as error:
            raise StatusError(error.response.text, self._fault(error)) from None
        except (openai.APIError, json.JSONDecodeError):
            raise Refused(self._unreadable("no JSON")) from None
        if isinstance(response, str):  # what is not called JSON may be JSON all the same
            try:
                response = json.loads(response)
            except ValueError:
                raise Refused(self._unreadable(f'text, "{response[:60]}"')) from None
        return self._checked(response)

    def _checked(self, content: Any) -> Any:
        """`content`, unless it is an error: some servers and proxies send one as if all were well."""
        error = content.get("error") if isinstance(content, dict) else None
        if not error:
            return content
        status = next((n for n in leaves(error) if isinstance(n, int) and 400 <= n < 600), None)
        message = self._sentence(content)
        kind = "server" if status is None else kind_of(status, error)
        fault = Fault(kind, f'{self.url} answered with an error for "{self.model}": {message}')
        raise StatusError(json.dumps(content), fault)

    def _is_too_long(self, error: StatusError, fields: Mapping[str, Any]) -> bool:
        """Whether the server says that the prompt is too long; an error that names a field which may go is about that field."""
        sent = [name for name in DISPENSABLE if name in fields]
        return not named_fields(error.body, sent) and is_too_long(error.body)

    def _adapted(
        self, error: StatusError, fields: Mapping[str, Any], shape: Shape, folded: Any
    ) -> Shape | None:
        """How the request is put next because of what the server says; None when there is nothing to change."""
        sent = [name for name in DISPENSABLE if name in fields]
        named = named_fields(error.body, [*sent, *LIMITS, "system"])
        for name in sent:
            if name in named:
                return replace(shape, left_out=shape.left_out | {name})
        if shape.limit == LIMITS[0] and shape.limit in fields and set(LIMITS) & set(named):
            return replace(shape, limit=LIMITS[1])
        if folded is not None and not shape.folds and "system" in named:
            return replace(shape, folds=True)
        if named:
            return None
        # It names nothing that was sent. Once each, as some prompts are refused in any form: without the fields, then with them
        # and without a system message, which many chat templates refuse in words of their own.
        if sent and self._bare is None:
            self._bare = frozenset(sent)
            return replace(shape, left_out=shape.left_out | self._bare)
        if folded is not None and not shape.folds and not self._has_tried_folded:
            self._has_tried_folded = True
            return replace(shape, left_out=shape.left_out - (self._bare or frozenset()), folds=True)
        return None

    def _remember(self, shape: Shape) -> None:
        """Put the next requests like one that was answered."""
        for name in sorted(shape.left_out - self.shape.left_out):
            log.warning("%s refuses %s; it is asked without it.", self.name, name)
        if shape.folds and not self.shape.folds:
            say_folded(self.name)
        self.shape = Shape(
            self.shape.left_out | shape.left_out,
            max(self.shape.limit, shape.limit, key=LIMITS.index),
            self.shape.folds or shape.folds,
        )

    def _fault(self, error: openai.APIStatusError) -> Fault:
        kind = kind_of(error.status_code, error.body)
        content: Any = error.response.text
        message = f'{self.url} refused a completion of "{self.model}" ({error.status_code}): {self._sentence(content)}'
        return Fault(kind, message, retry_after(error))

    def _sentence(self, content: Any) -> str:
        text = " ".join(without_keys(sentence_of(content), [self.manner.keys.key(self.url)]).split())
        return text[:LONGEST_REASON]

    def _timeout(self) -> Fault:
        return Fault(
            "timeout",
            f'{self.url} gave no answer of "{self.model}" in time. Raise {option("llm.timeout_s")}, or ask for less.',
        )

    def _unreadable(self, what: str) -> Fault:
        return Fault("malformed", f"{self.url} answered in an unknown format ({what}).")

    async def _close(self) -> None:
        if (client := self._clients.made()) is not None:
            await client.close()
        self._clients = PerLoop(self._open)

    def _open(self) -> openai.AsyncOpenAI:
        import openai

        parts = urlsplit(self.url)
        key, headers = self.manner.keys.key(self.url), self.manner.more_headers()
        options: dict[str, Any] = {"timeout": self.manner.timeout_s, "max_retries": 0}
        if parts.query:
            options["default_query"] = dict(parse_qsl(parts.query))
        try:
            if is_loopback(self.url):  # what runs on this machine is never asked through a proxy
                options["http_client"] = openai.DefaultAsyncHttpxClient(trust_env=False)
            return openai.AsyncOpenAI(
                base_url=parts._replace(query="").geturl(),
                api_key=key or "none",
                default_headers=headers,
                **options,
            )
        except ImportError as error:
            raise UserError(
                f"The proxy that the environment names needs a package ({str(error).rstrip('.')}). "
                "Install it with: pip install socksio. Or unset ALL_PROXY."
            ) from None
        except ValueError as error:
            raise UserError(f"The proxy that the environment names cannot be used: {error}") from None


def _put(body: Mapping[str, Any], shape: Shape, folded: Any) -> dict[str, Any]:
    """The body as an endpoint takes it."""
    fields = {name: value for name, value in body.items() if value is not None and name not in shape.left_out}
    if LIMITS[0] in fields and shape.limit != LIMITS[0]:
        fields[shape.limit] = fields.pop(LIMITS[0])
    if shape.folds and folded is not None:
        fields["messages"] = folded
    return fields


def until_stop(text: str, stop: Sequence[str]) -> str:
    """`text` before the first stop text in it: some servers leave it at the end.

    >>> until_stop("one, two; three", [";", ","])
    'one'
    """
    return text[: min((text.find(word) for word in stop if word in text), default=len(text))]


def say_folded(name: str) -> None:
    """Log that a model knows no system message; said once for each model."""
    log.warning("%s knows no system message; its text is put at the start of the first user message.", name)


def _pairs(entries: Sequence[str], setting: str) -> list[tuple[str, str]]:
    pairs = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name.strip():
            raise BadConfig(f"{setting} must be NAME=VALUE; got {entry!r}.")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
