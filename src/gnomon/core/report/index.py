"""An index page over run folders: what ran, when, what came of it, and a link to each report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gnomon.core.files import write_text
from gnomon.core.report.markup import printable
from gnomon.core.report.render import render
from gnomon.core.report.values import human
from gnomon.errors import BadInput

INDEX_NAME = "index.html"
MAX_FIGURES = 6
"""Figures shown per run; the rest is on its page."""


@dataclass(frozen=True)
class RunCard:
    """One run folder, as the index shows it."""

    folder: str
    """Path of the run folder, relative to the folder of the index, with "/"."""
    status: str
    """`done`, what the report says instead, `unfinished` (no report yet) or `unreadable report`."""
    method: str = ""
    """Slug of the method; empty if unknown."""
    verb: str = ""
    """The verb that ran."""
    title: str = ""
    """Headline of the report, or the folder's name."""
    command: str = ""
    """The command line."""
    started: datetime | None = None
    """When it began; for a run that does not say, when its config was written."""
    seconds: float | None = None
    """How long it took."""
    simulated: bool = False
    """Whether its data was made up."""
    outcomes: tuple[str, ...] = ()
    """Outcome of each required claim, or of all claims where none is required."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """Key figures, ready to print."""
    link: str = ""
    """Relative link to the report; empty if there is none."""

    @property
    def verdict(self) -> str:
        """All outcomes in one: the worst of them, or nothing where nothing was claimed."""
        ranked = ("does not hold", "undecided", "holds")
        return next((outcome for outcome in ranked if outcome in self.outcomes), "")


def index_runs(folder: str | Path) -> list[RunCard]:
    """The runs in `folder` and below, newest first.

    A run folder holds `config.yaml` and `env.json`, and `report.json` once it has finished. Hidden folders
    and links are not followed, and a report that cannot be read costs its own card and no other.

    Raises:
        BadInput: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder. Name a folder that holds runs.")
    cards = [_card(path, folder) for path in _run_folders(folder)]
    return sorted(cards, key=lambda card: (-card.started.timestamp() if card.started else 0.0, card.folder))


def write_index(folder: str | Path) -> Path:
    """Write `index.html` over the runs in `folder` and return its path; errors as in `index_runs`."""
    folder = Path(folder)
    cards = index_runs(folder)
    html = render(
        "index.html.j2",
        script="index.js",
        cards=cards,
        methods=sorted({card.method for card in cards if card.method}),
    )
    write_text(folder / INDEX_NAME, html)
    return folder / INDEX_NAME


def _run_folders(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if "config.yaml" in files and "env.json" in files:
            yield Path(name)


def _card(path: Path, root: Path) -> RunCard:
    relative = path.relative_to(root).as_posix()
    env = _mapping(_json(path / "env.json"))
    report = _json(path / "report.json") if (path / "report.json").exists() else {}
    status = "unfinished"
    if (path / "report.json").exists():
        status = _text(report.get("status")) or "done" if isinstance(report, dict) else "unreadable report"
    report = _mapping(report)
    page = path / "report.html"
    values = {**env, **report}
    verdicts = [_mapping(verdict) for verdict in _sequence(report.get("verdicts"))]
    required = [verdict for verdict in verdicts if verdict.get("required", True)] or verdicts
    figures = list(_mapping(report.get("figures")).items())[:MAX_FIGURES]
    seconds = report.get("seconds")
    return RunCard(
        folder=printable(relative),
        status=status,
        method=_text(values.get("method")),
        verb=_text(values.get("verb")),
        title=_text(report.get("title")) or printable(path.resolve().name),
        command=_text(values.get("command")),
        started=_date(values.get("started")) or _written(path / "config.yaml"),
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
        simulated=report.get("simulated") is True,
        outcomes=tuple(_text(verdict.get("outcome")) for verdict in required),
        figures={printable(name): printable(human(value)) for name, value in figures},
        link=quote(f"{relative}/report.html", safe="/") if page.exists() else "",
    )


def _json(path: Path) -> Any:
    """What the file holds, or `None` if it cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return printable(value) if isinstance(value, str) else ""


def _date(value: Any) -> datetime | None:
    try:
        date = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _written(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
