"""The helper process: warm, behind the walls, forking once per program.

    gnomon ── helper ── program ── whatever it starts

The helper keeps the clock, reads the output and clears up. Where it may, it is the first process of a
process tree of its own: nothing in that tree can harm it, and one call ends everything else there.
Elsewhere it adopts orphans and ends its children one by one. Runs with the standard library only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import struct
import time
from typing import Any, NoReturn

from gnomon.core.sandbox import guest, walls
from gnomon.core.sandbox.guard import guard

TAIL = 4096
"""Bytes kept of each stream."""
_WARM = ("bisect", "collections", "copy", "functools", "heapq", "itertools", "math", "re", "string", "typing")
"""Modules that programs find loaded. Every fork pays for them: none with a large library behind it."""


class Helper:
    """State of the helper: its walls and how many programs it has run."""

    def __init__(self, work: str, size_mb: int) -> None:
        self.work, self.count, number = work, 0, os.getpid()
        tasks = walls.tasks_of_user()
        self.network = walls.separate()
        self.processes = walls.found_tree(work)
        children = f"/proc/self/task/{os.getpid()}/children"
        hidden = self.processes or not os.path.exists(children)
        self.children = None if hidden else os.open(children, os.O_RDONLY)
        walls.adopt_orphans()
        self.files = walls.freeze_files(work, size_mb)
        self.uid, self.may_read = walls.guest_user(number, os.path.dirname(os.__file__))
        self.user = self.uid is not None or os.geteuid() != 0
        # Processes are counted per user, and per user namespace where there is one.
        self.tasks = 4 if self.uid is not None or self.network else tasks + 4
        walls.hide_memory()

    def run(self, code: str, limits: dict[str, Any], parent: int) -> dict[str, Any]:
        """Run one program to its end or to a limit, and leave nothing of it behind."""
        self.count += 1
        folder = f"{self.work}/{self.count}"
        os.mkdir(folder, 0o700)
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)
        secret = os.urandom(16).hex().encode()
        pipes = {name: os.pipe() for name in ("out", "err", "note", "secret")}
        os.write(pipes["secret"][1], secret)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._program(code, limits, folder, pipes)
        for _, write_end in pipes.values():
            os.close(write_end)
        os.close(pipes.pop("secret")[0])
        reader = _Reader({name: ends[0] for name, ends in pipes.items()}, limits["output_kb"] << 10)
        stopped, end = reader.follow(child, began + limits["timeout_s"], parent)
        seconds = time.monotonic() - began
        self._sweep(child)
        reader.drain()
        _remove(folder)
        return {"seconds": seconds, **_outcome(reader.tails, stopped, end, secret, seconds, limits["cpu_s"])}

    def _program(
        self, code: str, limits: dict[str, Any], folder: str, pipes: dict[str, tuple[int, int]]
    ) -> NoReturn:
        """Shut the doors from inside and hand over."""
        note = pipes["note"][1]
        try:
            os.setsid()
            streams = {0: os.open(os.devnull, os.O_RDONLY), 1: pipes["out"][1], 2: pipes["err"][1]}
            note, secret = guest.settle(streams, note, pipes["secret"][0])
            os.chdir(folder)
            os.umask(0o077)
            guest.limit(limits, self.tasks)
            walls.become(self.uid, may_read=self.may_read)
            guard(folder, processes=self.processes, files=self.files, user=self.user)
            guest.run(code, note, secret)
        except BaseException as error:
            os.write(note, f"crashed before the program began: {error!r}".encode()[:400])
        finally:
            os._exit(1)

    def _sweep(self, child: int) -> None:
        """End the program and every process that it started."""
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        while True:
            with contextlib.suppress(OSError):
                if self.processes:
                    os.kill(-1, signal.SIGKILL)  # everything in this tree but ourselves
                elif self.children is not None:
                    for pid in os.pread(self.children, 65536, 0).split():
                        os.kill(int(pid), signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


class _Reader:
    """What comes through the pipes of one program."""

    def __init__(self, pipes: dict[str, int], most: int) -> None:
        self.pipes, self.most = pipes, most
        self.names = {fd: name for name, fd in pipes.items()}
        self.tails = dict.fromkeys(pipes, b"")
        self.seen = dict.fromkeys(pipes, 0)
        self.poll = select.poll()
        for fd in pipes.values():
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLIN | select.POLLHUP)

    def follow(self, child: int, deadline: float, parent: int) -> tuple[str, int | None]:
        """Read until `child` ends: why it was stopped, or its exit code (a signal is negative)."""
        watch = os.pidfd_open(child) if hasattr(os, "pidfd_open") else None
        self.poll.register(parent, select.POLLHUP)
        if watch is not None:
            self.poll.register(watch, select.POLLIN)
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    return "timeout", None
                for fd, _ in self.poll.poll(left * 1000 if watch is not None else min(left * 1000, 5)):
                    if fd == parent:
                        return "crashed", None  # nobody is left to report to: end the program and follow
                    if fd in self.names:
                        self._take(fd)
                if max(self.seen["out"], self.seen["err"]) > self.most:
                    return "output", None
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    return "", os.waitstatus_to_exitcode(status)
        finally:
            self.poll.unregister(parent)
            if watch is not None:
                self.poll.unregister(watch)
                os.close(watch)

    def drain(self) -> None:
        """Read what is left once all writers are gone."""
        for fd in list(self.pipes.values()):
            while fd in self.names:
                self._take(fd)

    def _take(self, fd: int) -> None:
        name = self.names[fd]
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            data = b""
        if data:
            self.seen[name] += len(data)
            self.tails[name] = (self.tails[name] + data)[-TAIL:]
        else:
            self.poll.unregister(fd)
            del self.pipes[name], self.names[fd]
            os.close(fd)


def _outcome(
    tails: dict[str, bytes], stopped: str, end: int | None, secret: bytes, seconds: float, cpu_s: int
) -> dict[str, Any]:
    """Status, reason and output of a program that ended with exit code `end` or was stopped."""
    status, _, reason = tails["note"].decode("utf-8", "replace").partition(" ")
    if end is None:
        status, reason = stopped, f"stopped after {seconds:.1f} s"
    elif end < 0:
        name = signal.Signals(-end).name if -end in set(signal.Signals) else f"signal {-end}"
        late = name == "SIGXCPU" or (name == "SIGKILL" and seconds >= cpu_s)
        status, reason = "timeout" if late else "crashed", name
    elif tails["note"] == b"passed " + secret and end == 0:
        status, reason = "passed", ""
    elif status not in ("failed", "memory", "exited", "crashed") or not reason:
        status, reason = "exited", f"left with exit code {end} before its last line"
    texts = {name: tails[name].decode("utf-8", "replace") for name in ("out", "err")}
    return {"status": status, "error": reason, "stdout": texts["out"], "stderr": texts["err"]}


def _remove(folder: str) -> None:
    """Delete `folder` and all in it, also what a program has made undeletable, as far as we may."""
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(folder)


def send(fd: int, value: Any) -> None:
    """Write one message: its length, then JSON."""
    data = json.dumps(value).encode("ascii")
    data = struct.pack("I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int) -> Any:
    """Read one message; `None` at the end."""
    head = _exactly(fd, 4)
    return json.loads(_exactly(fd, struct.unpack("I", head)[0])) if len(head) == 4 else None


def _exactly(fd: int, size: int) -> bytes:
    parts = []
    while size and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(work: str, size_mb: int) -> NoReturn:
    """Serve programs from stdin, outcomes to stdout, until stdin ends."""
    requests, replies = os.dup(0), os.dup(1)
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    for name in _WARM:
        importlib.import_module(name)
    helper = Helper(work, size_mb)
    guest.rehearse()
    gc.collect()
    gc.disable()
    gc.freeze()
    send(replies, {name: getattr(helper, name) for name in ("network", "files", "processes", "user")})
    with contextlib.suppress(BrokenPipeError):
        while request := receive(requests):
            send(replies, helper.run(request["code"], request["limits"], requests))
    _remove(work)
    os._exit(0)
