"""What a program may use, what became of it, and which walls stood around it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from gnomon.errors import BadConfig

Status = Literal["passed", "failed", "exited", "timeout", "memory", "output", "crashed"]


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Raises:
        BadConfig: a limit is not positive, or memory is too small for an interpreter.
    """

    timeout_s: float = 10.0
    """Wall-clock seconds."""
    cpu_s: int = 10
    """CPU seconds of each process."""
    memory_mb: int = 512
    """Address space of each process, in MiB, interpreter included; at least 64."""
    file_mb: int = 16
    """Size of each file written, in MiB; where the working folder is in memory, of all of them together."""
    max_processes: int = 16
    """Processes and threads that the program may have at once."""
    output_kb: int = 1024
    """Output to each of stdout and stderr, in KiB; more ends the program."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise BadConfig(f"{field.name} must be > 0; got {value}.")
        if self.memory_mb < 64:
            raise BadConfig(
                f"memory_mb must be >= 64, which the interpreter itself needs; got {self.memory_mb}."
            )


@dataclass(frozen=True)
class Outcome:
    """What became of a program."""

    status: Status
    """`passed`: ran to its last line. `failed`: raised. `exited`: left before its last line, with whatever
    exit code. `timeout`: wall clock or CPU time. `memory`: asked for too much. `output`: wrote too much.
    `crashed`: killed by a signal, or its process died."""
    seconds: float
    """Wall-clock seconds."""
    error: str = ""
    """The exception or signal, in one line."""
    stdout: str = ""
    """The last 4 KiB written to stdout."""
    stderr: str = ""
    """The last 4 KiB written to stderr, traceback included."""

    @property
    def passed(self) -> bool:
        """Whether the program ran to its last line."""
        return self.status == "passed"


@dataclass(frozen=True)
class Walls:
    """Which of the kernel's walls stand around a program on this machine; limits and audit hook always do."""

    network: bool
    """A network namespace of its own: no way out, whatever the program does."""
    files: bool
    """A read-only file system, the working folder in memory excepted; `/proc` hidden."""
    processes: bool
    """A process tree of its own: nothing outside can be signalled, nothing inside outlives the program."""
    user: bool
    """No privileges, and the limit on processes is effective."""

    def missing(self) -> list[str]:
        """One sentence for each wall that does not stand here."""
        sentences = {
            "network": "Only an audit hook inside the interpreter keeps programs from the network.",
            "files": "Programs can write wherever this user can.",
            "processes": "Programs can see other processes of this user.",
            "user": "Programs run with the rights of root and without a limit on the number of processes.",
        }
        return [sentence for wall, sentence in sentences.items() if not getattr(self, wall)]
