"""Files: written whole or not at all, those that come with a room, and folders of runs."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from gnomon.core.plain import to_plain
from gnomon.errors import BadInput

MARKER = "config.yaml"
HEADER = "# gnomon "
OF_EVERY_RUN = {MARKER, "env.json", "report.html", "report.json"}
"""What a run leaves in its folder about itself."""


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, in the manner of `write_text`."""
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=True, allow_nan=False)
    write_text(path, text + "\n")


def user_folder() -> Path:
    """The folder of what is kept for all runs of this user: `GNOMON_CACHE`, or the place for such files on this system."""
    chosen = os.environ.get("GNOMON_CACHE")
    return Path(chosen) if chosen else user_cache_path("gnomon")


def room_file(module: str, name: str) -> Path:
    """A file that comes with a room: a prompt, a template, a list of words.

    Args:
        module: `__name__` of any module of the room.
        name: path from the room's folder, such as `"prompts/judge.txt"`.
    """
    spec = importlib.util.find_spec(".".join(module.split(".")[:3]))
    assert spec is not None and spec.origin is not None  # the module that asks is part of it
    return Path(spec.origin).parent / name


def is_run_folder(path: Path) -> bool:
    """Whether `path` is the folder of a run (and therefore ours to continue or start over)."""
    try:
        return (path / MARKER).read_text("utf-8").startswith(HEADER)
    except (OSError, UnicodeDecodeError):
        return False


def artifact(path: Path, name: str) -> Path:
    """`path` itself, or the artifact called `name` when `path` is a run folder.

    Raises:
        BadInput: the run folder has no such artifact, or the run has not finished.
    """
    if not is_run_folder(path):
        return path
    file = path / "report.json"
    report = json.loads(file.read_text("utf-8")) if file.exists() else None
    if report is None or report.get("ended"):
        raise BadInput(f"{path} is a run that has not finished. Repeat its command to continue it.")
    artifacts = report["artifacts"]
    if name not in artifacts:
        raise BadInput(f'{path} is a run without "{name}"; it has {", ".join(artifacts) or "no artifacts"}.')
    return path / str(artifacts[name])


def kept_in(folder: Path) -> list[dict[str, Any]]:
    """What a run has left in its folder beside what every run leaves: a row with name and bytes for each file and folder."""
    rows = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.name not in OF_EVERY_RUN:
            files = path.rglob("*") if path.is_dir() else [path]
            rows.append({"file": path.name, "bytes": sum(f.stat().st_size for f in files if f.is_file())})
    return rows


def state_of(source: str) -> list[tuple[str, int, int]]:
    """Names, sizes and dates of the files behind a path; none for what is no file, such as a data set of a hub."""
    path = Path(source)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file() and not file.name.startswith(".")]
    return [(str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns) for file, stat in stats]
