"""A pool of warm helpers that run programs, each behind its walls."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from gnomon.core.sandbox.helper import receive, send
from gnomon.core.sandbox.outcome import Limits, Outcome, Walls
from gnomon.errors import BadConfig, WorkLost

_SOURCE = str(Path(__file__).parents[3])
_START = (
    "import sys; sys.path.insert(0, {source!r}); from gnomon.core.sandbox.helper import main; "
    "del sys.path[0]; main({work!r}, {size_mb})"
)
_GRACE_S = 20.0
"""Seconds that a helper may take beyond a program's own limit before it is given up."""


def run_program(code: str, **limits: Any) -> Outcome:
    """Run one program in a helper of its own.

    Args:
        code: Python source.
        limits: fields of `Limits`: `timeout_s`, `cpu_s`, `memory_mb`, `file_mb`, `max_processes`,
            `output_kb`.

    Raises:
        BadConfig: a limit is out of range, or this system cannot fork.
    """
    with SandboxPool(1, limits=Limits(**limits)) as pool:
        return pool.map([code])[0]


def sandbox_walls() -> Walls:
    """Which of the kernel's walls stand around a program on this machine."""
    with SandboxPool(1) as pool:
        return pool.walls()


class SandboxPool:
    """Helpers that fork once per program; a context manager.

    >>> with SandboxPool(1) as pool:  # doctest: +SKIP
    ...     [outcome.status for outcome in pool.map(["x = 1", "assert False", "import sys; sys.exit(0)"])]
    ['passed', 'failed', 'exited']
    """

    def __init__(self, workers: int = 1, *, limits: Limits | None = None) -> None:
        """Prepare a pool; helpers start when they are first needed.

        Args:
            workers: programs that run at the same time.
            limits: what each program may use.

        Raises:
            BadConfig: `workers` is not positive, or this system cannot fork.
        """
        if workers < 1:
            raise BadConfig(f"workers must be >= 1; got {workers}.")
        if os.name != "posix":
            raise BadConfig("The sandbox needs Linux or macOS: it forks a process per program.")
        self.limits = limits or Limits()
        self._helpers = [_Helper(self.limits) for _ in range(workers)]

    def map(
        self, programs: Sequence[str], *, on_done: Callable[[Outcome], None] | None = None
    ) -> list[Outcome]:
        """The outcome of each program, in order. Programs that are identical run once.

        Args:
            programs: Python sources.
            on_done: called after each program that ran, in whichever thread it finished (for a progress bar).
        """
        distinct = list(dict.fromkeys(programs))
        idle: SimpleQueue[_Helper] = SimpleQueue()
        for helper in self._helpers:
            idle.put(helper)

        def run(code: str) -> Outcome:
            helper = idle.get()
            try:
                outcome = helper.run(code, self.limits)
            finally:
                idle.put(helper)
            if on_done is not None:
                on_done(outcome)
            return outcome

        if len(self._helpers) == 1 or len(distinct) < 2:
            outcomes = [run(code) for code in distinct]
        else:
            with ThreadPoolExecutor(len(self._helpers)) as threads:
                outcomes = list(threads.map(run, distinct))
        by_program = dict(zip(distinct, outcomes, strict=True))
        return [by_program[code] for code in programs]

    def walls(self) -> Walls:
        """Which of the kernel's walls stand around the programs of this pool."""
        return self._helpers[0].walls()

    def close(self) -> None:
        """End the helpers. The pool can be used again; they start anew."""
        for helper in self._helpers:
            helper.close()

    def __enter__(self) -> SandboxPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Helper:
    """The near end of one helper process."""

    def __init__(self, limits: Limits) -> None:
        self._size_mb = limits.file_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._work = ""
        self._walls: Walls | None = None

    def run(self, code: str, limits: Limits) -> Outcome:
        """Run one program; a helper that dies of it is replaced."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            send(process.stdin.fileno(), {"code": code, "limits": asdict(limits)})
            answer = select.poll()
            answer.register(process.stdout, select.POLLIN)
            ready = bool(answer.poll((limits.timeout_s + _GRACE_S) * 1000))
            reply = receive(process.stdout.fileno()) if ready else None
        except OSError:
            ready, reply = True, None
        if reply is not None:
            return Outcome(**reply)
        self.close()
        if ready:
            return Outcome("crashed", 0.0, "the helper process died")
        return Outcome("timeout", limits.timeout_s + _GRACE_S, "the helper process did not answer")

    def walls(self) -> Walls:
        self._started()
        assert self._walls is not None
        return self._walls

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._work = tempfile.mkdtemp(prefix="gnomon-sandbox-")
        Path(self._work).chmod(0o711)
        start = _START.format(source=_SOURCE, work=self._work, size_mb=self._size_mb)
        # Isolated as with -I, but for one variable: hashes must not differ from run to run, or sets would
        # change order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-B", "-X", "utf8", "-c", start],
            env={"PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._work,
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        walls = receive(self._process.stdout.fileno())
        if walls is None:
            messages = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
            self.close()
            raise WorkLost(
                f"The sandbox helper could not start: {messages[-1] if messages else 'it gave no reason'}."
            )
        self._walls = Walls(**walls)
        return self._process

    def close(self) -> None:
        """End the process, if there is one, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._work:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work = ""
