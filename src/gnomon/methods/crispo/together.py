"""Work side by side, stopped so that nothing that is being paid for gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from gnomon.errors import BudgetSpent

T = TypeVar("T")


async def side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in their order.

    When one fails the others are cancelled, and its error is raised. When the budget is spent they are waited for: what is under
    way is paid for, and its answer goes into the cache; what is not yet asked is refused by the budget by itself.
    """
    tasks = [asyncio.create_task(one) for one in work]
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            errors = [error for one in done if (error := one.exception()) is not None]
            if any(not isinstance(error, BudgetSpent) for error in errors):
                break
    finally:
        for one in waiting:
            one.cancel()
        if waiting:
            await asyncio.wait(waiting)
    failed = [one for one in tasks if not one.cancelled() and one.exception() is not None]
    if failed:
        # An error that a user must mend comes before a budget that is merely spent.
        failed.sort(key=lambda one: isinstance(one.exception(), BudgetSpent))
        failed[0].result()
    return [one.result() for one in tasks]
