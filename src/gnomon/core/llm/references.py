"""Models by reference: one line of text names any model that can be asked, wherever it runs.

A Python function in the place of a language model: rules, look-up tables, other people's clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from gnomon.core.config import fingerprint
from gnomon.core.llm.base import LLM, Reply, Request, Usage
from gnomon.core.llm.endpoint.client import Manner, split_endpoint, until_stop
from gnomon.core.llm.endpoint.keys import VENDORS
from gnomon.core.llm.stack.stored import estimated_tokens, tokens_asked
from gnomon.core.models.load.config import LoadConfig
from gnomon.errors import BadConfig, UserError, nearest
from gnomon.lazy import function

FORMS = {
    "openai": "openai:MODEL, or openai:MODEL@http://host:8000/v1",
    "anthropic": "anthropic:MODEL",
    "gemini": "gemini:MODEL",
    "openrouter": "openrouter:MODEL",
    "http": "http://host:8000/v1#MODEL",
    "hf": "hf:FOLDER_OR_HUB_ID or hf:FILE.gguf, in this process",
    "embedded": "embedded:smollm2, a small real model that comes as a package, in this process",
    "serve": "serve:FOLDER, in a server of its own on this machine",
    "tape": "tape:FILE, recorded earlier",
    "sim": "sim:NAME?param=value, a simulator",
    "script": "script:module:function or script:path/to/file.py:function",
}
"""Scheme -> how a reference of it is written."""

IN_PROCESS = ("hf", "embedded")
"""Schemes of models that run in this process: their weights can be read."""


@dataclass(frozen=True)
class _Options:
    manner: Manner
    folder: Path | None
    load: LoadConfig
    batch_size: int | None


def open_llm(
    ref: str,
    *,
    manner: Manner | None = None,
    folder: Path | None = None,
    load: LoadConfig | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> LLM:
    """The model that `ref` names, as it is: see `connect` for one with attempts, limits, a budget and a memory.

    Args:
        ref: one of `FORMS`. `openai:MODEL` is at api.openai.com unless OPENAI_BASE_URL names another server.
        manner: how it is asked over HTTP: keys, time limit, further fields and headers; None takes the defaults.
        folder: where `serve:` keeps its log; None: a temporary folder.
        load: for `hf:` and `embedded:`, how the model is loaded, of which `serve:` takes the device; None takes the defaults.
        device: in the place of that of `load`; `"auto"` leaves that.
        batch_size: for `hf:`, prompts side by side; None: the default of `Local`.

    Raises:
        BadConfig: the reference is misspelt.
        UserError: what it names cannot be opened.
    """
    if ref.lower().endswith(".gguf") and Path(ref).is_file():
        ref = f"hf:{ref}"
    load = load or LoadConfig()
    if device != "auto":
        load = dataclasses.replace(load, device=device)
    scheme, colon, rest = ref.partition(":")
    if scheme in ("http", "https") and "#" not in ref:
        raise BadConfig(f'"{ref}" names no model. Write {FORMS["http"]}.')
    opener = _OPENERS.get(scheme)
    if opener is None:
        hint = nearest(scheme, _OPENERS) if colon else ""
        if not hint.startswith("Did"):
            hint = f"A reference is {'; '.join(FORMS.values())}."
        raise BadConfig(f'Model reference "{_short(ref)}" is of no known kind. {hint}')
    if not rest.strip("/"):
        raise BadConfig(f'Model reference "{ref}" names nothing. Write {FORMS[scheme.removesuffix("s")]}.')
    return opener(rest, _Options(manner or Manner(), folder, load, batch_size))


def open_completions(endpoint: str, manner: Manner | None = None) -> LLM:
    """A served model that continues a text instead of answering a conversation.

    Args:
        endpoint: `http://host:8000/v1#name`.
        manner: as in `open_llm`.

    Raises:
        BadConfig: the endpoint is misspelt.
    """
    from gnomon.core.llm.endpoint.chat import Completions

    url, model = split_endpoint(endpoint)
    return Completions(url, model, name=f"{url}#{model}", manner=manner or Manner())


def _open_vendor(scheme: str) -> Callable[[str, _Options], LLM]:
    def open_vendor(rest: str, options: _Options) -> LLM:
        from gnomon.core.llm.endpoint.chat import Chat

        hosted = VENDORS[scheme][0]
        elsewhere = (os.environ.get("OPENAI_BASE_URL") or hosted) if scheme == "openai" else hosted
        model, at, url = rest.rpartition("@http")
        model, url = (model, f"http{url}") if at else (rest, elsewhere)
        url, model = split_endpoint(f"{url}#{model}")
        name = f"{scheme}:{model}" if url == hosted else f"{scheme}:{model}@{url}"
        if (variable := options.manner.keys.missing(url)) is not None:
            raise BadConfig(f"{name} needs a key. Set the environment variable {variable}.")
        return Chat(url, model, name=name, manner=options.manner)

    return open_vendor


def _open_http(scheme: str) -> Callable[[str, _Options], LLM]:
    def open_http(rest: str, options: _Options) -> LLM:
        from gnomon.core.llm.endpoint.chat import Chat

        url, model = split_endpoint(f"{scheme}:{rest}")
        return Chat(url, model, name=f"{url}#{model}", manner=options.manner)

    return open_http


def _open_local(rest: str, options: _Options) -> LLM:
    from gnomon.core.llm.local import Local

    size = {} if options.batch_size is None else {"batch_size": options.batch_size}
    return Local(rest, options.load, **size)


def _open_embedded(rest: str, options: _Options) -> LLM:
    return _open_local(f"embedded:{rest}", options)


def _open_served(rest: str, options: _Options) -> LLM:
    from gnomon.core.llm.endpoint.serve import Served

    return Served(rest, device=options.load.device, log_folder=options.folder, manner=options.manner)


def _open_tape(rest: str, options: _Options) -> LLM:
    from gnomon.core.llm.stack.tape import Tape

    return Tape(Path(rest))


def _open_simulator(rest: str, options: _Options) -> LLM:
    from gnomon.core.llm.sims import open_simulator

    return open_simulator(rest)


def _open_script(rest: str, options: _Options) -> LLM:

    return Script(function(rest), f"script:{rest}")


_OPENERS: dict[str, Callable[[str, _Options], LLM]] = {
    **{scheme: _open_vendor(scheme) for scheme in VENDORS},
    "http": _open_http("http"),
    "https": _open_http("https"),
    "hf": _open_local,
    "embedded": _open_embedded,
    "serve": _open_served,
    "tape": _open_tape,
    "sim": _open_simulator,
    "script": _open_script,
}


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


# A Python function in the place of a language model: rules, look-up tables, other people's clients.

Answer = str | Reply
Function = Callable[[Request], Answer | Awaitable[Answer]]
"""A request in, a text or a whole reply out; may be a coroutine function."""


class Script:
    """`function` as a language model. One that is not asynchronous runs in a thread, so that it may take its time.

    What it raises is a failure of that request, except `UserError`, which is passed on.

    Args:
        function: answers requests.
        name: what it is called in reports; by default its module and name.
    """

    def __init__(self, function: Function, name: str | None = None):
        self.function = function
        self.name = name or f"script:{function.__module__}:{getattr(function, '__qualname__', 'function')}"
        # Another state of the file is another model: its answers are not those in the cache.
        self.identity = f"{self.name} {fingerprint(_source(function))}"

    async def acomplete(self, request: Request) -> Reply:
        """What the function answers."""
        began = time.monotonic()
        try:
            if inspect.iscoroutinefunction(self.function):
                answer = await self.function(request)
            else:
                answer = await asyncio.to_thread(self.function, request)
        except UserError:
            raise
        except Exception as error:
            message = f"{self.name} raised {type(error).__name__}: {error}"
            return Reply("", "error", error=message, fault="failed")
        latency_s = time.monotonic() - began
        if isinstance(answer, Reply):
            return dataclasses.replace(answer, latency_s=latency_s)
        if not isinstance(answer, str):
            message = f"{self.name} returned {type(answer).__name__}; it must return a text or a Reply."
            return Reply("", "error", error=message, fault="failed")
        usage = Usage(tokens_asked(request), estimated_tokens(answer), is_estimate=True)
        return Reply(until_stop(answer, request.stop), "stop", usage, latency_s=latency_s)


def _source(function: Function) -> str:
    """The text of the file that a function, or the class of an object that can be called, stands in."""
    for thing in (function, type(function)):
        with contextlib.suppress(TypeError, OSError):
            return Path(inspect.getsourcefile(thing) or "").read_text("utf-8", "replace")
    return ""
