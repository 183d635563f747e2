"""The helper process: warm, behind the walls, forking once per program.

    gnomon ── helper ── warden ── init (1 of its own process tree) ── program

The helper keeps the clock and reads the output. It adopts orphans, so that ending a program means ending every child that
the kernel can still name. The warden exists because a process can found a process tree but not enter it; where that is
not permitted it takes the part of init itself. Runs with the standard library only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import secrets
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from typing import Any, NoReturn

from gnomon.core.sandbox import guest, walls

TAIL = 4096
"""Bytes kept of each stream."""
_WARM = (
    "bisect collections copy datetime functools heapq itertools math operator random re string typing".split()
)


class Helper:
    """State of the helper: its walls and its descriptors."""

    def __init__(self, work: str, size_mb: int) -> None:
        self.work = work
        children = f"/proc/self/task/{os.getpid()}/children"
        self.children = os.open(children, os.O_RDONLY) if os.path.exists(children) else None  # noqa: PTH110
        tasks = walls.tasks_of_user()
        walls.adopt_orphans()
        self.network = walls.separate()
        self.own_tree = self._can_found_tree()
        self.files = walls.freeze_files(work, size_mb)
        self.uid, self.may_read = walls.guest_user(os.path.dirname(os.__file__))  # noqa: PTH120
        counted_apart = self.uid is not None or self.network
        self.tasks = 4 if counted_apart else tasks + 4
        self.user = self.uid is not None or os.geteuid() != 0

    def _can_found_tree(self) -> bool:
        child = os.fork()
        if child == 0:
            os._exit(0 if walls.unshare(walls.CLONE_NEWPID) else 1)
        return os.waitpid(child, 0)[1] == 0

    def run(self, code: str, limits: dict[str, Any], parent: int) -> dict[str, Any]:
        """Run one program to its end or to a limit, and leave nothing of it behind."""
        folder = tempfile.mkdtemp(dir=self.work)
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)
        secret = secrets.token_hex(16).encode()
        pipes = {name: os.pipe() for name in ("out", "err", "note", "secret", "end")}
        os.write(pipes["secret"][1], secret)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._warden(code, limits, folder, pipes)
        for name, (_, write_end) in pipes.items():
            os.close(write_end)
        os.close(pipes.pop("secret")[0])
        reader = _Reader({name: ends[0] for name, ends in pipes.items()}, limits["output_kb"] << 10)
        stopped = reader.follow(began + limits["timeout_s"], parent)
        seconds = time.monotonic() - began
        self._sweep(child)
        reader.drain()
        shutil.rmtree(folder, onerror=_force)
        return {"seconds": seconds, **_outcome(reader, stopped, secret, seconds, limits)}

    def _warden(
        self, code: str, limits: dict[str, Any], folder: str, pipes: dict[str, tuple[int, int]]
    ) -> NoReturn:
        """Found a process tree, put init into it, and wait."""
        try:
            walls.die_with_parent()
            os.setsid()
            if self.own_tree and walls.unshare(walls.CLONE_NEWPID):
                init = os.fork()
                if init:
                    os.close(pipes["end"][1])
                    os.waitpid(init, 0)
                    os._exit(0)
                walls.die_with_parent()
                os.setsid()
            program = os.fork()
            if program == 0:
                self._program(code, limits, folder, pipes)
            for name in ("out", "err", "note"):
                os.close(pipes[name][1])
            while True:
                pid, status = os.wait()
                if pid == program:
                    os.write(pipes["end"][1], struct.pack("i", status))
                    break
        finally:
            os._exit(0)

    def _program(
        self, code: str, limits: dict[str, Any], folder: str, pipes: dict[str, tuple[int, int]]
    ) -> NoReturn:
        """Shut the doors from inside and hand over."""
        note = pipes["note"][1]
        try:
            nothing = os.open(os.devnull, os.O_RDONLY)
            streams = {0: nothing, 1: pipes["out"][1], 2: pipes["err"][1]}
            note, secret = guest.settle(streams, (note, pipes["secret"][0]))
            os.chdir(folder)
            os.umask(0o077)
            guest.limit(limits, self.tasks)
            walls.become(self.uid, may_read=self.may_read)
            guest.reset_signals()
            guest.guard(self.own_tree)
            guest.run(code, note, secret)
        except BaseException as error:
            os.write(note, f"crashed before the program began: {error!r}".encode()[:400])
        finally:
            os._exit(1)

    def _sweep(self, child: int) -> None:
        """End the warden's tree and every orphan of it."""
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        while True:
            for pid in self._living() or [child]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _living(self) -> list[int]:
        if self.children is None:
            return []
        return [int(pid) for pid in os.pread(self.children, 65536, 0).split()]


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

    def follow(self, deadline: float, parent: int) -> str:
        """Read until init reports the end; why it stopped earlier, if it did."""
        self.poll.register(parent, select.POLLHUP)
        try:
            while "end" in self.pipes:
                left = deadline - time.monotonic()
                if left <= 0:
                    return "timeout"
                for fd, event in self.poll.poll(left * 1000):
                    if fd == parent:
                        os._exit(1)  # nobody is left to report to; the kernel ends our children
                    self._take(fd)
                if max(self.seen["out"], self.seen["err"]) > self.most:
                    return "output"
            return ""
        finally:
            self.poll.unregister(parent)

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
    reader: _Reader, stopped: str, secret: bytes, seconds: float, limits: dict[str, Any]
) -> dict[str, Any]:
    """Status, reason and output."""
    note, end = reader.tails["note"], reader.tails["end"]
    code = os.waitstatus_to_exitcode(struct.unpack("i", end)[0]) if len(end) == 4 else None
    status, _, reason = note.decode("utf-8", "replace").partition(" ")
    if stopped:
        status, reason = stopped, f"stopped after {seconds:.1f} s"
    elif code is None:
        status, reason = "crashed", "its process tree ended without a report"
    elif code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        late = name == "SIGXCPU" or (name == "SIGKILL" and seconds >= limits["cpu_s"])
        status, reason = "timeout" if late else "crashed", name
    elif note == b"passed " + secret and code == 0:
        status, reason = "passed", ""
    elif status not in ("failed", "memory", "exited", "crashed") or not reason:
        status, reason = "exited", f"left with exit code {code} before its last line"
    texts = {name: reader.tails[name].decode("utf-8", "replace") for name in ("out", "err")}
    return {"status": status, "error": reason, "stdout": texts["out"], "stderr": texts["err"]}


def _force(function: Any, path: str, _: Any) -> None:
    """Delete what a program has made undeletable, as far as we may."""
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)  # noqa: PTH101, PTH120
        os.chmod(path, 0o700)  # noqa: PTH101
        function(path)


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
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    for name in _WARM:
        importlib.import_module(name)
    helper = Helper(work, size_mb)
    gc.collect()
    gc.disable()
    gc.freeze()
    send(
        replies,
        {name: getattr(helper, name) for name in ("network", "files")}
        | {"processes": helper.own_tree, "user": helper.user},
    )
    while request := receive(requests):
        send(replies, helper.run(request["code"], request["limits"], requests))
    sys.stderr.flush()
    os._exit(0)
