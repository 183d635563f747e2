"""Where shards are worked on: this process, local processes, or Ray. An engine knows nothing about the step."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from gnomon.errors import UserError, WorkLost
from gnomon.lazy import optional

S = TypeVar("S")
"""What is handed to a worker: a shard of records."""
T = TypeVar("T")
"""What comes back: counts over the shard."""

IN_FLIGHT = 4
"""Shards handed out per worker: enough to keep all of them busy, few enough to hold little in memory."""


def local(work: Callable[[S], T], shards: Iterator[S], workers: int) -> Iterator[T]:
    """Work in this process, or in `workers` processes that end with this one."""
    if workers == 1:
        yield from map(work, shards)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=settle) as pool:
        waiting: set[Future[T]] = set()
        try:
            for shard in shards:
                waiting.add(pool.submit(work, shard))
                if len(waiting) >= IN_FLIGHT * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise WorkLost(
                "A worker process died (killed, or out of memory). Finished shards are kept: repeat the command to continue, "
                "with fewer --workers if memory is short."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def settle() -> None:
    """In a worker: one thread for numerics, and an end as soon as the parent is gone, however it went."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def ray(work: Callable[[S], T], shards: Iterator[S], workers: int) -> Iterator[T]:
    """Work through Ray Data. Every node must see the sink under the same path, as with any cluster file system.

    Shards travel in windows, so that a source of any size passes through a bounded object store.

    Raises:
        MissingExtra: Ray is not installed.
        WorkLost: Ray gave a shard up.
        UserError: the step raised it.
    """
    cluster = optional("ray", "Ray", "ray")
    data = optional("ray.data", "Ray", "ray")
    if not cluster.is_initialized():
        # RAY_ADDRESS in the environment chooses a running cluster; without it Ray starts on this machine.
        address = os.environ.get("RAY_ADDRESS")
        size: dict[str, Any] = {} if address else {"num_cpus": workers}
        cluster.init(
            address=address, include_dashboard=False, log_to_driver=False, configure_logging=False, **size
        )
    data.DataContext.get_current().enable_progress_bars = False

    def run(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"totals": work(row["shard"])}
        except UserError as error:  # a value crosses processes as it is; Ray wraps what is raised
            return {"totals": error}

    while window := list(itertools.islice(shards, IN_FLIGHT * workers)):
        rows = [{"shard": shard} for shard in window]
        mapped = data.from_items(rows, override_num_blocks=len(rows)).map(run, concurrency=workers)
        try:
            for row in mapped.iter_rows():
                if isinstance(row["totals"], UserError):
                    raise row["totals"]
                yield row["totals"]
        except cluster.exceptions.RayError as error:
            if isinstance(cause := getattr(error, "cause", None), Exception) and not isinstance(
                cause, OSError
            ):
                raise  # a bug: Ray's message holds the traceback of the step
            raise WorkLost(
                f"Ray gave up a shard ({error}). Finished shards are kept: repeat the command to continue."
            ) from None
