"""Peak memory of several ways to do one thing, each in a process of its own (Linux)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def memory_mib(field: str) -> float:
    """A figure of this process's memory as the kernel keeps it, such as `VmRSS`."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def peak_over_now(way: Callable[[], object]) -> float:
    """Most memory that `way` takes over what this process holds already; its result is held until then."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is held now
    before = memory_mib("VmRSS")
    kept = way()
    peak = memory_mib("VmHWM") - before
    del kept
    return peak


def in_fresh_processes(measure: Callable[[str], float], names: Iterable[str]) -> dict[str, float]:
    """`measure` of each name, in a process that does nothing else; a function of a module, not of a function."""
    # glibc otherwise keeps freed blocks of a few MiB and blurs the peak.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {name: pool.apply(measure, (name,)) for name in names}
