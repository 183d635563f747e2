"""A Python function in the place of a language model: rules, look-up tables, other people's clients."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gnomon.core.config import fingerprint
from gnomon.core.llm.base import Reply, Request, Usage
from gnomon.core.llm.client import until_stop
from gnomon.core.llm.stored import estimated_tokens, tokens_asked
from gnomon.errors import UserError

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
            said = f"{self.name} raised {type(error).__name__}: {error}"
            return Reply("", "error", error=said, fault="failed")
        latency_s = time.monotonic() - began
        if isinstance(answer, Reply):
            return dataclasses.replace(answer, latency_s=latency_s)
        if not isinstance(answer, str):
            said = f"{self.name} returned {type(answer).__name__}; it must return a text or a Reply."
            return Reply("", "error", error=said, fault="failed")
        usage = Usage(tokens_asked(request), estimated_tokens(answer), is_estimate=True)
        return Reply(until_stop(answer, request.stop), "stop", usage, latency_s=latency_s)


def _source(function: Function) -> str:
    """The text of the file that a function, or the class of an object that can be called, stands in."""
    for thing in (function, type(function)):
        with contextlib.suppress(TypeError, OSError):
            return Path(inspect.getsourcefile(thing) or "").read_text("utf-8", "replace")
    return ""
