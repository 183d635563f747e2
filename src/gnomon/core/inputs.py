"""What a run reads: files and folders by their content, noted in its folder, so that no old number is shown for new data."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from gnomon.core.config import fingerprint
from gnomon.core.files import OF_EVERY_RUN, is_run_folder, state_of, write_json
from gnomon.errors import BadConfig

NOTES = ".inputs"
WHOLE, SAMPLES, SAMPLE = 1 << 28, 64, 1 << 20
"""Bytes up to which a file is read as a whole; of a larger one so many samples of so many bytes."""


class Inputs:
    """The inputs of a run.

    Args:
        folder: of the run.
        fixed: files and folders that must be the same as when the run began.
        growing: those whose change lets a finished run go on.
    """

    def __init__(self, folder: Path, fixed: Collection[str], growing: Collection[str]):
        self._notes = folder / NOTES
        self._fixed, self._growing = sorted(set(fixed) - set(growing)), sorted(growing)

    def have_grown(self) -> bool:
        """Whether one that may change has other sizes or dates than when the run was opened last; notes what there is now.

        Raises:
            BadConfig: one that must not change has another content than when the run began.
        """
        before = json.loads(self._notes.read_text("utf-8")) if self._notes.exists() else {}
        now, grown = {}, False
        for name in self._growing:
            now[name] = {"state": fingerprint(state_of(name))}
            grown |= name in before and before[name] != now[name]
        for name in self._fixed:
            noted, state = before.get(name), fingerprint(state_of(name))
            content = noted["content"] if noted and noted["state"] == state else content_of(Path(name))
            if noted and noted["content"] != content:
                raise BadConfig(
                    f"{name} is not what it was when this run began. Use --fresh to start over or --out for another folder."
                )
            now[name] = {"state": state, "content": content}
        if now and now != before:
            write_json(self._notes, now)
        return grown


def content_of(path: Path) -> str:
    """A hash of a file's content, or of the names and contents in a folder.

    Hidden files do not count, nor does what a run leaves in its folder about itself. Of a file of more than 256 MiB samples count.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in _files(path):
        digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        _read(file, digest)
    return digest.hexdigest()


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    about_itself = OF_EVERY_RUN if is_run_folder(path) else set()
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and not (file.parent == path and file.name in about_itself)
    ]


def _read(file: Path, digest: hashlib.blake2b) -> None:
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= WHOLE:
            while block := stream.read(SAMPLE):
                digest.update(block)
            return
        for i in range(SAMPLES):
            stream.seek((size - SAMPLE) * i // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE))
