"""What a server that gives no answer says: the kind of fault, its sentence, and the field of the request that it names."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openai

LONGEST_REASON = 300
"""Characters of a server's answer that an error message repeats."""

_SENTENCES = ("message", "msg", "detail", "error", "errors", "title", "description")


@dataclass(frozen=True)
class Fault:
    """Why a request got no answer."""

    kind: str
    """As in `Reply.fault`."""
    message: str
    """What happened, where and what to do, in one line; the key is never in it."""
    retry_after_s: float | None = None
    """Seconds to wait, when the server said so."""


class Refused(Exception):
    """An endpoint gave no answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class StatusError(Exception):
    """A server refused, with a body that may name the reason."""

    def __init__(self, body: str, fault: Fault) -> None:
        super().__init__(fault.message)
        self.body, self.fault = body, fault


def named_fields(error: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that an error names: as a value of its own where there are such, or else as words of its sentences.

    >>> named_fields('{"error": {"message": "Unsupported value of the seed", "param": "temperature"}}', ["temperature", "seed"])
    ['temperature']
    >>> named_fields('[{"loc": ["body", "seed"], "msg": "extra fields not permitted"}]', ["temperature", "seed"])
    ['seed']
    >>> named_fields("`temperature` and `top_p` cannot both be given", ["temperature", "top_p", "stop"])
    ['temperature', 'top_p']
    """
    try:
        content: Any = json.loads(error)
    except ValueError:
        content = None
    values = [str(leaf) for leaf in leaves(content)] if isinstance(content, (dict, list)) else [error]
    exact = {value.rpartition(".")[2] for value in values}
    named = [name for name in names if name in exact]
    words = " ".join(values)
    return named or [
        name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words, re.IGNORECASE)
    ]


def sentence_of(content: Any) -> str:
    """What an error says, out of whatever it is: text, JSON in text, an object, a list of them.

    >>> sentence_of({"error": {"message": '{"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}'}})
    'body.seed: not permitted'
    """
    if isinstance(content, str):
        try:
            inner = json.loads(content)
        except ValueError:
            return content
        return sentence_of(inner) if isinstance(inner, (dict, list)) else content
    if isinstance(content, list):
        return "; ".join(sentence_of(part) for part in content)
    if not isinstance(content, dict):
        return str(content)
    key = next((name for name in _SENTENCES if content.get(name)), None)
    if key is None:
        return json.dumps(content)
    where = content.get("loc")
    prefix = f"{'.'.join(map(str, where))}: " if isinstance(where, list) else ""
    return prefix + sentence_of(content[key])


def leaves(content: Any) -> Iterator[Any]:
    """Every value that is neither an object nor a list, without what an error repeats of the request; JSON in a text is read."""
    if isinstance(content, dict):
        content = [value for name, value in content.items() if name != "input"]
    if isinstance(content, list):
        for part in content:
            yield from leaves(part)
        return
    if isinstance(content, str) and content[:1] in "{[":
        try:
            yield from leaves(json.loads(content))
            return
        except ValueError:
            pass
    yield content


def kind_of(status: int, body: Any) -> str:
    """The fault that a status means; of two kinds of 429, the one that waiting does not mend says so in a code of its own."""
    if status == 402 or (status == 429 and "insufficient_quota" in map(str, leaves(body))):
        return "quota"
    kinds = {
        401: "denied",
        404: "unknown",
        405: "unknown",
        408: "server",
        409: "server",
        425: "server",
        429: "rate_limit",
    }
    return kinds.get(status, "server" if status >= 500 else "rejected")


def is_too_long(body: str) -> bool:
    """Whether an error says that a prompt is longer than the model reads, as a code of its own or in a sentence.

    >>> is_too_long('{"error": {"message": "Please shorten it.", "code": "context_length_exceeded"}}')
    True
    >>> is_too_long("prompt is too long: 208310 tokens > 200000 maximum")
    True
    >>> is_too_long("max_tokens must be at most 4096"), is_too_long("temperature is too large")
    (False, False)
    """
    try:
        content: Any = json.loads(body)
    except ValueError:
        content = body
    values = [str(leaf) for leaf in leaves(content)] if isinstance(content, (dict, list)) else [body]
    text = " ".join(values).lower().replace("_", " ")
    if re.search(r"\bcontext (length|size|window|limit)\b|\bexceed\w* context\b", text):
        return True
    has_prompt = re.search(r"\b(prompt|inputs?|messages?|sequence)\b", text)
    is_beyond = re.search(r"\btoo (long|many tokens)\b|\b(exceed\w*|maximum|longer than)\b|\bmust be <", text)
    return bool(has_prompt and is_beyond and ("token" in text or "too long" in text or "length" in text))


def retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds to wait before the next attempt; None where the server does not say."""
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
