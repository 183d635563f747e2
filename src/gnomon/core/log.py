"""Messages and progress: bars on a terminal, a line every few seconds elsewhere, nothing when quiet.

Everything here goes to stderr; stdout belongs to results. Only the main process of a job speaks.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 5.0
"""Pause between two progress lines where there is no terminal."""


class Advances(Protocol):
    """Something whose progress can be told."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """`n` more units are done; `shown` appears beside the bar, such as `loss=1.2`."""


def set_up(*, quiet: bool) -> None:
    """Send the library's log to stderr: warnings when quiet, information otherwise."""
    # Libraries below draw bars of their own when they load; ours are enough.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    root = logging.getLogger("gnomon")
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    root.propagate = False


class _ToStderr(logging.Handler):
    """Writes to what stderr is at the moment, also after it was redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextmanager
def progress(total: int | None, label: str, *, silent: bool = False) -> Iterator[Advances]:
    """Tell how far a piece of work is.

    Args:
        total: number of units; None: unknown.
        label: what is being done.
        silent: say nothing.
    """
    if silent:
        yield _Silent()
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield _Bar(bars, bars.add_task(label, total=total, shown=""))
    else:
        lines = _Lines(total, label)
        yield lines
        lines.last()


def say(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        *columns, TextColumn("{task.fields[shown]}"), console=Console(stderr=True), transient=True
    )


def _format(shown: dict[str, Any]) -> str:
    return " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


class _Silent:
    def advance(self, n: int = 1, **shown: object) -> None:
        pass


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1, **shown: object) -> None:
        if shown:
            self._bars.update(self._task, shown=_format(shown))
        self._bars.advance(self._task, n)


class _Lines:
    def __init__(self, total: int | None, label: str) -> None:
        self._total, self._label = total, label
        self._done, self._shown = 0, ""
        self._start = self._spoke = time.monotonic()

    def advance(self, n: int = 1, **shown: object) -> None:
        self._done += n
        self._shown = _format(shown) or self._shown
        now = time.monotonic()
        if now - self._spoke >= LINE_EVERY_S:
            self._spoke = now
            self._say(now)

    def last(self) -> None:
        if self._done:
            self._say(time.monotonic())

    def _say(self, now: float) -> None:
        of = f"/{self._total}" if self._total is not None else ""
        print(
            f"{self._label}: {self._done}{of} in {now - self._start:.0f} s {self._shown}".rstrip(),
            file=sys.stderr,
        )
