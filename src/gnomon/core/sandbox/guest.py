"""One program in the process that was forked for it: limits on, doors shut, then its code.

Runs inside the helper: standard library only.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import traceback
import types
from typing import Any, NoReturn

FILE_NAME = "program.py"


def limit(limits: dict[str, Any], tasks: int) -> None:
    """Set the kernel's limits; `tasks` is what the user already runs and must not be counted."""
    cpu, memory, size = limits["cpu_s"], limits["memory_mb"] << 20, limits["file_mb"] << 20
    wanted = {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_CPU": (cpu, cpu + 1),
        "RLIMIT_AS": (memory, memory),
        "RLIMIT_FSIZE": (size, size),
        "RLIMIT_NOFILE": (128, 128),
        "RLIMIT_NPROC": (limits["max_processes"] + tasks,) * 2,
    }
    for name, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(getattr(resource, name))[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(getattr(resource, name), (soft, hard))
        except (OSError, ValueError):
            if name != "RLIMIT_AS":  # macOS knows this limit and refuses to set it
                raise


def rehearse() -> None:
    """Do once in the helper what every program does, so that no program pays for the first time."""
    try:
        exec(
            compile(
                "def f(x: int = 1) -> int:\n    return [y for y in (x, 'a')]\nassert f() == f'{1}'",
                "",
                "exec",
            ),
            {},
        )
    except AssertionError as error:
        "".join(traceback.format_exception(type(error), error, error.__traceback__))
    "\ud800".encode("utf-8", "surrogatepass")
    with open(os.devnull, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write("x")


def run(code: str, note: int, secret: int) -> NoReturn:
    """Run `code` as `__main__` and end the process.

    Args:
        code: the program.
        note: descriptor that takes what became of it: `passed` and the secret, or a status and the reason.
        secret: descriptor that holds the secret; read only after the last line has run.
    """
    write, read, leave, own = os.write, os.read, os._exit, os.getpid()
    status, reason = b"failed", ""
    try:
        os.environ.clear()
        sys.argv[:] = [FILE_NAME]
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=FILE_NAME, __builtins__=__builtins__)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gnomon"]:
            del sys.modules[name]
        sys.modules["__main__"] = main
        with open(FILE_NAME, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(code)
        gc.enable()
        exec(compile(code, FILE_NAME, "exec"), main.__dict__)
        status = b"passed"
    except SystemExit as error:
        status, reason = b"exited", f"SystemExit: {error.code}"
    except MemoryError:
        status, reason = b"memory", "MemoryError"
    except BaseException as error:
        reason = _explain(error)
    if os.getpid() != own:
        leave(0)  # a forked twin that reached the end; only the program itself reports
    _flush(sys.stdout)
    _flush(sys.stderr)
    try:
        last = read(secret, 64) if status == b"passed" else reason.encode("utf-8", "replace")[:400]
        write(note, status + b" " + last)
    finally:
        leave(0 if status == b"passed" else 1)


def _explain(error: BaseException) -> str:
    """Print the traceback without our own frame and return its last line."""
    try:
        here = error.__traceback__
        traceback.print_exception(type(error), error, here.tb_next if here else None, limit=-8)
        return traceback.format_exception_only(type(error), error)[-1].strip()
    except BaseException:  # an exception whose own text raises, or no memory left to print it
        return type(error).__name__


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except BaseException:
        return


def settle(streams: dict[int, int], note: int, secret: int) -> tuple[int, int]:
    """Put `streams` (target -> source) and the two descriptors of ours in place, and close all others.

    Returns:
        The new numbers of `note` and `secret`, which no program that the guest starts inherits.
    """
    places = {**streams, 3: note, 4: secret}
    free = max(*places, *places.values()) + 1
    for i, source in enumerate(places.values()):
        os.dup2(source, free + i)  # out of the way, so that no target overwrites a source
    for i, target in enumerate(places):
        os.dup2(free + i, target, inheritable=target < 3)
    os.closerange(5, max(free + len(places), 256))
    return 3, 4
