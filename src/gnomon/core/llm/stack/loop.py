"""Asynchronous work from synchronous code: one event loop in a thread of its own, so that a caller may have a loop itself.

All synchronous calls share the loop, and with it connections, limits and requests under way, whichever thread they come from.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

LONGEST_FAREWELL_S = 10.0
"""How long an interrupted call waits for what it has cancelled."""


class _House:
    """The loop and its thread, made on first use."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    def started(self) -> asyncio.AbstractEventLoop:
        with self.lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                self.thread = threading.Thread(target=self.loop.run_forever, name="gnomon-llm", daemon=True)
                self.thread.start()
            return self.loop


_house = _House()
os.register_at_fork(after_in_child=_house.__init__)  # type: ignore[misc]  # a forked process has no such thread


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start `work` on the shared loop.

    Raises:
        RuntimeError: called on that loop itself, where waiting for the result would wait for ever.
    """
    loop = _house.started()
    if threading.current_thread() is _house.thread:
        work.close()
        raise RuntimeError(
            "A synchronous call was made from asynchronous code of gnomon.core.llm; await it instead."
        )
    return asyncio.run_coroutine_threadsafe(work, loop)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run on the shared loop; an interrupt cancels it and waits until it has let go."""
    over = threading.Event()

    async def watched() -> T:
        try:
            return await work
        finally:
            over.set()

    future = submit(watched())
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            over.wait(LONGEST_FAREWELL_S)
        raise


async def on_shared_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run on the shared loop whichever loop awaits it; cancelling the wait cancels the work."""
    if asyncio.get_running_loop() is _house.started():
        return await work
    return await asyncio.wrap_future(submit(work))


class PerLoop(Generic[T]):
    """One object per event loop: what asyncio ties to the loop it was first used on."""

    def __init__(self, make: Callable[[], T]):
        self._make = make
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def made(self) -> T | None:
        """The object of the running loop where there is one already."""
        return self._made.get(asyncio.get_running_loop())

    def get(self) -> T:
        """The object of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            self._made[loop] = self._make()
        return self._made[loop]
