"""A folder that one process writes while many read: a change is a new generation beside the old one, and then a pointer moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gnomon.core.files import write_text
from gnomon.errors import BadConfig, BadInput

try:
    import fcntl
except ImportError:  # not a POSIX system: two writers are then not caught
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

_POINTER, _LOCK, _PREFIX = "current", ".lock", "generation-"
_TRIES = 5


@contextmanager
def locked(path: Path, index: str | Path) -> Iterator[None]:
    """The right to write an index, by a lock on a file.

    Args:
        path: of the file; its folder is made.
        index: that is written, for the message.

    Raises:
        BadConfig: another process is writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BadConfig(f'Another process is writing the index in "{index}". Wait for it.') from None
        yield


class Generations:
    """The generations of an index in a folder.

    A writer that is killed leaves the pointer where it was, and the next one sweeps away what it left. Readers that have opened a
    generation go on reading it when it is swept away: open files live on.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def current(self) -> Path:
        """The newest generation that is whole.

        Raises:
            BadInput: there is none.
        """
        try:
            return self.folder / (self.folder / _POINTER).read_text("utf-8").strip()
        except OSError:
            raise BadInput(f'There is no index in "{self.folder}". Build one first.') from None

    def read(self, opened: Callable[[Path], T]) -> T:
        """What `opened` makes of the newest generation; asked again where a writer has just swept it away."""
        for _ in range(_TRIES - 1):
            at = self.current()
            try:
                return opened(at)
            except FileNotFoundError:
                if self.current() == at:
                    raise
        return opened(self.current())

    @contextmanager
    def writing(self, *, anew: bool = False) -> Iterator[Path]:
        """An empty folder to write the next generation into; when the `with` block ends well, it is the newest.

        Args:
            anew: an index may be there already, and is replaced.

        Raises:
            BadConfig: another process is writing, or one is there and is not to be replaced.
        """
        with locked(self.folder / _LOCK, self.folder):
            has_one = (self.folder / _POINTER).exists()
            others = [path for path in self.folder.iterdir() if path.name[0] != "." and path.name != _POINTER]
            if not has_one and any(not path.name.startswith(_PREFIX) for path in others):
                raise BadConfig(f'"{self.folder}" holds other files. Choose another folder for the index.')
            if has_one and anew is False:
                raise BadConfig(f'"{self.folder}" holds an index already. Open it, or build it anew.')
            numbers = [
                int(path.name.removeprefix(_PREFIX)) for path in others if path.name.startswith(_PREFIX)
            ]
            new = self.folder / f"{_PREFIX}{max(numbers, default=0) + 1:06d}"
            new.mkdir()
            yield new
            write_text(self.folder / _POINTER, new.name)
            for path in self.folder.glob(f"{_PREFIX}*"):
                if path != new:
                    shutil.rmtree(path)
