"""The wall inside the interpreter: an audit hook that refuses what a program has no business doing.

It stops Python code that does not fight it, and it is all there is where the kernel's walls cannot stand.
Runs inside the
helper: standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

_REFUSED = frozenset(
    {
        "ctypes.call_function",
        "ctypes.dlopen",
        "ctypes.dlsym",
        "ctypes.dlsym/handle",
        "os.exec",
        "os.killpg",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
    }
)
_FORKS = frozenset({"os.fork", "os.forkpty"})
_PATHS = {
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.removexattr": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.setxattr": 1,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.utime": 1,
}
"""Events that change files: how many of their first arguments are paths."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def guard(folder: str, *, processes: bool, files: bool, user: bool) -> None:
    """Refuse sockets, new programs, foreign functions and what the missing walls would have held; for good.

    Args:
        folder: where the program may write.
        processes: whether the program has a process tree of its own; if not, it signals its session only.
        files: whether the file system is read-only; if not, changes outside `folder` are refused here.
        user: whether the number of processes is limited; if not, forking is refused here.
    """
    session, home = os.getsid(0), os.path.realpath(folder)
    null = os.stat(os.devnull).st_rdev

    def inside(path: Any, at: Any) -> bool:
        if isinstance(path, int):
            return True  # an open file, which was checked when it was opened
        path = os.fsdecode(path)
        if isinstance(at, int) and at >= 0 and not path.startswith("/"):
            path = os.readlink(f"/proc/self/fd/{at}") + "/" + path
        # The folder that holds the entry counts: a link may be deleted, and is no way out.
        real = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
        return real == home or real.startswith(home + "/")

    def writable(path: Any) -> bool:
        if not isinstance(path, (str, bytes)) or inside(os.path.realpath(path), None):
            return True
        return os.path.exists(path) and os.stat(path).st_rdev == null

    def allowed(event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            flags = arguments[2]
            return files or not (isinstance(flags, int) and flags & _WRITES) or writable(arguments[0])
        if event in _PATHS:
            paths = arguments[: _PATHS[event]]
            return files or all(inside(path, arguments[-1]) for path in paths)
        if event == "os.kill":
            return processes or (arguments[0] > 0 and os.getsid(arguments[0]) == session)
        if event.startswith("socket."):
            # A socketpair (asyncio needs one) leads nowhere; connecting and binding are refused.
            return event == "socket.__new__" and arguments[1] == socket.AF_UNIX
        return event not in _REFUSED and (user or event not in _FORKS)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not allowed(event, arguments):
            raise PermissionError(f"{event} is not allowed in the sandbox")

    sys.addaudithook(hook)
