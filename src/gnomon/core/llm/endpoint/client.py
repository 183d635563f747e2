"""What chat and text completion over HTTP share: endpoints, keys, and the sentence that each fault becomes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gnomon.errors import BadConfig

if TYPE_CHECKING:
    import openai

LONGEST_REASON = 300
"""Characters of a server's answer that an error message repeats."""

KEY_ENV = "OPENAI_API_KEY"
"""The environment variable that holds the key unless another one is named."""


@dataclass(frozen=True)
class Fault:
    """Why a request got no answer."""

    kind: str
    """As in `Reply.fault`."""
    message: str
    """What happened, where and what to do, in one line; the key is never in it."""
    retry_after_s: float | None = None
    """Seconds to wait, when the server said so."""


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """URL and model name of `http://host:8000/v1#name`.

    Raises:
        BadConfig: it is not written like that, or holds a key.

    >>> split_endpoint("http://localhost:8000/v1#tiny")
    ('http://localhost:8000/v1', 'tiny')
    """
    url, _, name = endpoint.partition("#")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise BadConfig("An endpoint holds no key, user name or query. Give the key in the environment.")
    if parts.scheme not in ("http", "https") or not parts.netloc or not name:
        raise BadConfig(f'Endpoint "{endpoint}" must be written http://host:8000/v1#name.')
    return url.rstrip("/"), name


def open_client(
    url: str, *, key_env: str = KEY_ENV, retries: int = 0, timeout_s: float | None = None
) -> openai.AsyncOpenAI:
    """A client for `url`; the key comes from the environment variable `key_env` and goes nowhere but into the request."""
    import openai

    key = os.environ.get(key_env) or "none"
    waits = {} if timeout_s is None else {"timeout": timeout_s}
    return openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=retries, **waits)  # type: ignore[arg-type]


def faults() -> tuple[type[Exception], ...]:
    """Exceptions that `fault_of` has a sentence for: those of the client, and those of reading an answer of another format."""
    import openai

    return (openai.OpenAIError, TimeoutError, AttributeError, IndexError, TypeError, ValueError)


def fault_of(error: Exception, url: str, name: str, *, key_env: str = KEY_ENV) -> Fault:
    """What an exception of the client means.

    Args:
        error: one of `faults()`.
        url: the server.
        name: the model.
        key_env: where the key is, so that a server which repeats it is not repeated.
    """
    import openai

    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        return Fault(
            "timeout", f'{url} gave no answer of "{name}" in time. Raise timeout_s, or ask for less.'
        )
    if isinstance(error, openai.APIConnectionError):
        return Fault("connection", f"{url} cannot be reached ({error}). Is the server running?")
    if isinstance(error, openai.APIStatusError):
        message = " ".join(_without_key(error.message, key_env).split())[:LONGEST_REASON]
        return Fault(_kind(error), f'{url} refused a completion of "{name}": {message}', _retry_after(error))
    return Fault("malformed", f"{url} answered in an unknown format ({type(error).__name__}).")


def until_stop(text: str, stop: Sequence[str]) -> str:
    """`text` before the first stop text in it: some servers leave it at the end.

    >>> until_stop("one, two; three", [";", ","])
    'one'
    """
    return text[: min((text.find(word) for word in stop if word in text), default=len(text))]


def _kind(error: openai.APIStatusError) -> str:
    if error.status_code == 429:
        return "quota" if error.code == "insufficient_quota" else "rate_limit"
    return "server" if error.status_code >= 500 or error.status_code in (408, 409) else "rejected"


def _retry_after(error: openai.APIStatusError) -> float | None:
    headers: Any = error.response.headers
    milliseconds, seconds_or_date = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return None if seconds_or_date is None else max(0.0, _seconds_until(seconds_or_date))
    except (ValueError, TypeError):
        return None


def _seconds_until(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parsedate_to_datetime(text).timestamp() - time.time()


def _without_key(text: str, key_env: str) -> str:
    key = os.environ.get(key_env)
    return text.replace(key, "***") if key else text
