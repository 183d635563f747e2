"""Many requests at once: order kept, one reply per request whatever happens to it, nothing finished is lost."""

from __future__ import annotations

import asyncio
import dataclasses
import queue
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from gnomon.core.config import check
from gnomon.core.llm.base import LLM, Reply, Request, aclose
from gnomon.core.llm.stack.loop import LONGEST_FAREWELL_S, run_async, submit
from gnomon.errors import BudgetSpent, EndpointDown, LLMFailure

A = TypeVar("A")
R = TypeVar("R")

OnReply = Callable[[int, Reply], None]
"""Called with the index of a request and its reply, as each reply arrives."""


IsReadable = Callable[[int, Reply], bool]
"""Whether the reply to the request of that index holds what was asked for."""


def complete(
    llm: LLM,
    requests: Iterable[Request],
    *,
    concurrency: int = 8,
    on_reply: OnReply | None = None,
    is_readable: IsReadable | None = None,
) -> list[Reply]:
    """The reply to each request, in the order of the requests.

    May be called from any thread, also where an event loop is running, as in a notebook. An interrupt cancels what is under way;
    replies that have arrived are in the cache, where there is one.

    Args:
        llm: who is asked.
        requests: what is asked.
        concurrency: requests under way at once.
        on_reply: called in the calling thread; what it raises cancels the rest.
        is_readable: a kept reply of which it is not true is asked for again, once; None: every reply is as good as another.

    Returns:
        One reply per request. One that failed has `error` set; once a budget is spent, the rows that were not asked have
        `finish="budget"`.

    Raises:
        EndpointDown: the first requests show that none will be answered.
    """
    arrived: queue.SimpleQueue[tuple[int, Reply] | None] = queue.SimpleQueue()

    async def work() -> list[Reply]:
        try:
            return await acomplete_many(
                llm,
                requests,
                concurrency=concurrency,
                on_reply=lambda *item: arrived.put(item),
                is_readable=is_readable,
            )
        finally:
            arrived.put(None)

    future = submit(work())
    try:
        while (item := arrived.get()) is not None:
            if on_reply is not None:
                on_reply(*item)
        return future.result()
    except BaseException:
        if future.cancel():  # wait until what was under way has let go
            while arrived.get(timeout=LONGEST_FAREWELL_S) is not None:
                pass
        raise


async def acomplete_many(
    llm: LLM,
    requests: Iterable[Request],
    *,
    concurrency: int = 8,
    on_reply: OnReply | None = None,
    is_readable: IsReadable | None = None,
) -> list[Reply]:
    """`complete` for asynchronous code; runs on the loop of the caller."""
    requests = list(requests)
    # The longest prompt goes first: what it meets shows whether key, model, address and the longest of all prompts work.
    longest = max(range(len(requests)), key=lambda i: (_length(requests[i]), -i), default=0)
    order = [longest, *(i for i in range(len(requests)) if i != longest)] if requests else []

    async def one(item: tuple[int, Request]) -> Reply:
        reply = await _reply_to(llm, item[1])
        # What cannot be read is of no use to anybody: without this, a repeated command would find it in the cache for ever.
        if is_readable is not None and reply.cached and not is_readable(item[0], reply):
            again = await _reply_to(llm, dataclasses.replace(item[1], anew=True))
            reply = reply if again.finish == "budget" or again.fault == "stopped" else again
        if on_reply is not None:
            on_reply(item[0], reply)
        return reply

    replies = await map_async(one, [(i, requests[i]) for i in order], concurrency=concurrency)
    return [reply for _, reply in sorted(zip(order, replies, strict=True), key=lambda pair: pair[0])]


def close(llm: LLM) -> None:
    """Close what `llm` holds open; synchronous form of `aclose`."""
    run_async(aclose(llm))


async def map_async(
    function: Callable[[A], Awaitable[R]], items: Iterable[A], *, concurrency: int
) -> list[R]:
    """`function` of each item, in order, with at most `concurrency` under way. The first exception cancels the rest.

    Raises:
        BadConfig: `concurrency` is below 1.
    """
    check(concurrency >= 1, "concurrency", ">= 1", concurrency)
    outcomes: dict[int, R] = {}
    waiting = enumerate(items)

    async def work() -> None:
        for index, item in waiting:
            outcomes[index] = await function(item)

    workers = [asyncio.create_task(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:  # after a failure nothing more is asked, and nothing more is paid
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
    return [outcomes[index] for index in range(len(outcomes))]


def _length(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)


async def _reply_to(llm: LLM, request: Request) -> Reply:
    try:
        return await llm.acomplete(request)
    except BudgetSpent as error:  # later rows are still asked: what is cached costs nothing
        return Reply("", "budget", error=str(error))
    except EndpointDown:  # nothing that is asked there can be answered
        raise
    except LLMFailure as error:
        return Reply("", "error", error=str(error), fault="rejected")
