"""Converted models in the user's cache: each a folder as `save_pretrained` writes it, made once and whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gnomon.core.config import fingerprint
from gnomon.core.files import user_folder, write_text
from gnomon.core.models.load.embedded import EMBEDDED, sha256_of

ASIDE, HASHES = ".making-", ".sha256"
"""How the folder of a model in the making begins, and the folder of hashes of the user's own files."""

ABANDONED_S = 3600.0
"""A folder in the making that nobody has written to for so long belongs to a process that was killed."""


@dataclass(frozen=True)
class Stored:
    """A folder of the cache."""

    folder: Path
    bytes: int
    """Size of its files."""
    is_whole: bool
    """False for what a killed process has left."""

    @property
    def ref(self) -> str:
        """What it was made from, where that is an embedded model."""
        return next((model.ref for model in EMBEDDED.values() if model.key == self.folder.name), "")


def models_folder() -> Path:
    """Where converted models are kept."""
    return user_folder() / "models"


def converted(key: str, convert: Callable[[Path], None]) -> Path:
    """The folder `key` of the cache, made by `convert` where it is not there yet.

    It is written aside and then renamed. Of two processes that convert at once, the first to end leaves its folder, and the other
    takes that.

    Args:
        key: name of the folder; holds a hash of what it is made from.
        convert: writes the model into the empty folder that it is given.
    """
    folder = models_folder() / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{ASIDE}{key}-"))
    try:
        convert(aside)
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)  # mkdtemp's folder is for its owner alone
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first: a folder that holds files is not replaced
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def hash_of(file: Path) -> str:
    """The SHA-256 of a file of the user's, computed anew when its size or date has changed."""
    state = file.stat()
    note = models_folder() / HASHES / fingerprint(str(file.resolve()), state.st_size, state.st_mtime_ns)
    if note.is_file():
        return note.read_text("utf-8")
    digest = sha256_of(file)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, digest)
    return digest


def stored() -> list[Stored]:
    """What the cache holds, by name."""
    root = models_folder()
    if not root.is_dir():
        return []
    return [
        Stored(folder, _bytes(folder), not folder.name.startswith(ASIDE))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and folder.name != HASHES
    ]


def clear() -> int:
    """Delete every converted model; the bytes that were freed."""
    freed = sum(entry.bytes for entry in stored())
    shutil.rmtree(models_folder(), ignore_errors=True)
    return freed


def _sweep(root: Path) -> None:
    """Delete what killed processes have left."""
    for folder in root.glob(f"{ASIDE}*"):
        files = [folder, *folder.rglob("*")]
        newest = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
        if time.time() - newest > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
