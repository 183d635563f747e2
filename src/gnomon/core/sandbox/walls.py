"""The kernel's walls, raised once per helper process; on systems other than Linux none of them stands.

Runs inside the helper, before any program: standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 16384, 1 << 18
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 1, 4, 8
_PR_SET_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CAP_VERSION, _CAP_DAC_READ_SEARCH = 0x20080522, 2

_linux = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def unshare(flags: int) -> bool:
    """Whether this process now has its own namespaces of the kinds in `flags`."""
    return _linux and _libc is not None and _libc.unshare(flags) == 0


def separate() -> bool:
    """Leave the network and the shared memory of the machine; whether the network is gone.

    An ordinary user needs a user namespace for it, in which the process may do to itself what only root may
    otherwise.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 and unshare(CLONE_NEWUSER):
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    unshare(CLONE_NEWIPC)
    return unshare(CLONE_NEWNET)


def freeze_files(work: str, size_mb: int) -> bool:
    """Make all files read-only but those in `work`, now in memory, and hide `/proc`; whether it was done."""
    if not unshare(CLONE_NEWNS) or not _mount("none", "/", None, _MS_REC | _MS_PRIVATE, ""):
        return False
    if not _mount(
        "tmpfs", work, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size_mb}m,nr_inodes=20000,mode=0711"
    ):
        return False
    if not (_set_read_only("/", True, recursive=True) and _set_read_only(work, False, recursive=False)):
        return False
    return _mount("tmpfs", "/proc", "tmpfs", _MS_NOSUID | _MS_NODEV, "size=4k,nr_inodes=2,mode=0555")


def found_tree(work: str) -> bool:
    """Continue as the first process of a new process tree; the old one waits for its end and removes `work`.

    Returns:
        Whether it was permitted; if not, this is still the old process.
    """
    if not unshare(CLONE_NEWPID):
        return False
    child = os.fork()
    if child:
        os.closerange(0, 3)
        status = os.waitpid(child, 0)[1]
        with contextlib.suppress(OSError):
            os.rmdir(work)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _prctl(_PR_SET_PDEATHSIG, 9)
    return True


def hide_memory() -> None:
    """Let no other process of this user look into this one."""
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Become the parent of every descendant that loses its own; whether that works here."""
    return _prctl(_PR_SET_SUBREAPER, 1)


def become(uid: int | None, *, may_read: bool) -> None:
    """Give up all privileges for good, but for reading if `may_read`; with a `uid`, become that user."""
    keep = may_read and uid is not None
    if uid is not None:
        _prctl(_PR_SET_KEEPCAPS, int(keep))
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if _linux and _libc is not None:
        header = struct.pack("Ii", _CAP_VERSION, 0)
        low = 1 << _CAP_DAC_READ_SEARCH if keep else 0
        _libc.capset(header, struct.pack("6I", low, low, 0, 0, 0, 0))


def guest_user(number: int, path: str) -> tuple[int | None, bool]:
    """Which user a program shall be, and whether it needs the privilege to read all files.

    `number` tells helpers apart, whose processes are counted per user.

    Root hands programs to a user that owns nothing. Where that user cannot read the interpreter's own
    library at `path` (an interpreter in root's home), it keeps the right to read and no other.
    """
    if os.geteuid() != 0:
        return None, False
    uid = 61_000 + number % 4_000
    for may_read in (False, True):
        child = os.fork()
        if child == 0:
            try:
                become(uid, may_read=may_read)
                os.listdir(path)
                os._exit(0)
            except BaseException:
                os._exit(1)
        if os.waitpid(child, 0)[1] == 0:
            return uid, may_read
    return None, False


def tasks_of_user() -> int:
    """Processes and threads that this user runs now; 0 where that cannot be told."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
    return total


def _mount(source: str, target: str, kind: str | None, flags: int, data: str) -> bool:
    assert _libc is not None
    encoded = kind.encode() if kind else None
    return (
        _libc.mount(source.encode(), os.fsencode(target), encoded, ctypes.c_ulong(flags), data.encode()) == 0
    )


def _set_read_only(path: str, on: bool, *, recursive: bool) -> bool:
    assert _libc is not None
    change = struct.pack("4Q", _MOUNT_ATTR_RDONLY if on else 0, 0 if on else _MOUNT_ATTR_RDONLY, 0, 0)
    scope = _AT_RECURSIVE if recursive else 0
    arguments = (_AT_FDCWD, os.fsencode(path), scope, change, ctypes.c_size_t(len(change)))
    return _libc.syscall(_SYS_MOUNT_SETATTR, *arguments) == 0


def _prctl(option: int, value: int) -> bool:
    return _linux and _libc is not None and _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0
