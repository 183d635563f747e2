"""A run: one execution of a verb, its folder and everything it leaves there.

The folder holds `config.yaml` (reproduces the run), `env.json`, `metrics.jsonl`, `report.html`, `report.json` and artifacts in
standard formats. Opening the same folder with the same settings continues; other settings are refused rather than mixed in.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gnomon.core import env, log
from gnomon.core.config import differences, flatten, read_settings, write_settings
from gnomon.core.files import HEADER, MARKER, is_run_folder, kept_in, write_json
from gnomon.core.inputs import Inputs
from gnomon.core.log import Advances
from gnomon.core.plain import to_plain
from gnomon.core.rng import Rng
from gnomon.core.rows import MetricRows
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadConfig, BadInput, UserError

if TYPE_CHECKING:
    from gnomon.core.llm.books import Books
    from gnomon.core.llm.config import LLMConfig
    from gnomon.core.llm.roles import Models, Source
    from gnomon.core.report import Page

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes in one run folder are then not caught
    fcntl = None  # type: ignore[assignment]

_LOCK = ".lock"


class PlanShown(Exception):
    """Raised by `Run.plan` in a dry run: the cost is known and nothing was spent."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__("dry run")
        self.plan = plan


@dataclass(frozen=True)
class Start:
    """What a run does with the folder that it finds."""

    fresh: bool = False
    """Delete what an earlier run left there."""
    dry: bool = False
    """Stop at `plan`, write nothing."""
    loose: Collection[str] = ()
    """Names of settings with which the run may be continued whatever they were before."""
    grows: Collection[str] = ()
    """Names of settings of how much is done: the run may be continued with others, and with others a finished one goes on."""
    inputs: Collection[str] = ()
    """Files and folders that are read, which must not change while the run is worked on."""
    growing: Collection[str] = ()
    """Those that may: when one of them has changed, a finished run goes on."""


class Run:
    """One execution of a verb.

    Args:
        folder: where everything goes; made when missing.
        method: the method's slug.
        verb: the verb.
        settings: resolved settings as plain values; written to `config.yaml`.
        seed: the run's seed.
        start: whether it continues, starts over, or stops at its plan.
        quiet: show no progress.
        command: the command line as typed, for the report.

    Raises:
        BadConfig: the folder holds a run with other settings, or another process is working in it.
        BadInput: the folder exists, is not empty and is not a run folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        method: str,
        verb: str,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        start: Start = Start(),
        quiet: bool = False,
        command: str = "",
    ) -> None:
        self.folder = folder
        self.method, self.verb, self.seed, self.command = method, verb, seed, command
        self.rng = Rng(seed)
        self.is_main = int(os.environ.get("RANK", "0")) == 0
        self.is_stream = False
        """True once rows go to stdout as they come: the summary then goes to stderr, and repeating the command reads anew."""
        self.is_incomplete = False
        """True when the verb ended early, or without all that it asked for: repeating the command goes on."""
        self._settings = {"seed": seed, **to_plain(settings or {})}
        self._start, self._quiet = start, quiet
        self._started = datetime.now(UTC)
        self._page: Page | None = None
        self._books: Books | None = None
        self._shortfalls: list[Shortfall] = []
        self._metrics = MetricRows(folder / "metrics.jsonl")
        self._lock: IO[str] | None = None
        if not start.dry and self.is_main:
            self._open(start.fresh)

    def _open(self, fresh: bool) -> None:
        is_ours = is_run_folder(self.folder)
        if self.folder.exists() and not is_ours and any(self.folder.iterdir()):
            raise BadInput(f"{self.folder} exists and is not a run folder. Choose another with --out.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if is_ours and fresh:
            self._empty()
        elif is_ours and (changed := self._changed({*self._start.loose, *self._start.grows})):
            self.close()
            raise BadConfig(
                f"{self.folder} holds a run with other settings ({'; '.join(changed[:3])}). "
                "Use --fresh to start over or --out for another folder."
            )
        try:
            has_more = Inputs(self.folder, self._start.inputs, self._start.growing).have_grown()
        except BadConfig:
            self.close()
            raise
        if is_ours and not fresh and (has_more or self._changed(self._start.loose)):
            (self.folder / "report.json").unlink(missing_ok=True)
        if self.finished is not None:
            return  # what produced its numbers is written there already
        header = f"{HEADER}{self.method} {self.verb} --config {MARKER}"
        write_settings(self.folder / MARKER, self._settings, header)
        write_json(self.folder / "env.json", self._environment())

    def _changed(self, ignored: Collection[str]) -> list[str]:
        """What differs from the settings that the folder was made with, but for those ignored."""
        before, now = (flatten(s) for s in (read_settings(self.folder / MARKER), self._settings))
        matter = [{n: v for n, v in settings.items() if n not in ignored} for settings in (before, now)]
        return differences(*matter)

    def _environment(self) -> dict[str, Any]:
        """What `env.json` holds: what ran, and what it ran on."""
        identity = {"method": self.method, "verb": self.verb, "command": self.command}
        return identity | {"started": self._started.isoformat(timespec="seconds")} | env.describe()

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def _take_lock(self) -> None:
        if fcntl is None:
            return
        self._lock = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise BadConfig(
                f"Another process is working in {self.folder}. Wait for it or use --out."
            ) from None

    @property
    def finished(self) -> dict[str, Any] | None:
        """The report of this run when it is complete already."""
        path = self.folder / "report.json"
        if self._start.dry or not path.exists():
            return None
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return report if report.get("status") == "done" else None

    def plan(self, **costs: object) -> None:
        """Say what the work will cost. A dry run ends here.

        Args:
            costs: names and values; a function in place of a value is called in a dry run only.

        Raises:
            PlanShown: this is a dry run.
        """
        if self._start.dry:
            plan = {name: value() if callable(value) else value for name, value in costs.items()}
            raise PlanShown(to_plain(plan))

    def log(self, **numbers: Any) -> None:
        """Append one row to `metrics.jsonl`."""
        self._must_not_be_dry("log")
        if self.is_main:
            self._metrics.append(numbers)

    def rewind(self, **where: Any) -> None:
        """Forget the rows of `metrics.jsonl` that are about to be logged anew.

        Args:
            where: `step=12` drops the rows that have a `step` above 12; a text must be equal, as in `part="seed-0"`.
        """
        if self.is_main:
            self._metrics.rewind(where)

    def asking(
        self, roles: Mapping[str, Source], settings: LLMConfig | None = None, *, folder: Path | None = None
    ) -> Models:
        """The language models of a step, open while a `with` block lasts: `with run.asking({"judge": ref}, cfg.llm) as models:`.

        Their replies are kept in this run's folder, and what was asked of them is in its metrics and in its report.

        Args:
            roles: role -> what fills it, see `gnomon.core.llm.roles.asking`.
            settings: how all roles are asked that have no settings of their own.
            folder: where replies and spending are kept; None: `replies/ROLE` in the folder of the run.
        """
        self._must_not_be_dry("asking")
        from gnomon.core.llm.roles import asking

        return asking(roles, settings, run=self, folder=folder)

    @property
    def books(self) -> Books:
        """What was asked of language models in this run; made on first use."""
        if self._books is None:
            from gnomon.core.llm.books import Books

            self._books = Books(self.folder)
        return self._books

    def within(self, name: str) -> PartOfRun:
        """A part of this run that has a subfolder, random numbers and metric rows of its own."""
        return PartOfRun(self, name)

    def progress(self, total: int | None, label: str) -> AbstractContextManager[Advances]:
        """A progress display that only the main process shows."""
        return log.progress(total, label, silent=self._quiet or not self.is_main)

    def say(self, message: str) -> None:
        """One line on stderr for the user, unless quiet."""
        if self.is_main and not self._quiet:
            log.say(message)

    def artifact(self, name: str, path: Path) -> Path:
        """Name a file or folder of this run in its report. Returns `path`."""
        self._must_not_be_dry("artifact")
        self.page.artifact(name, path.relative_to(self.folder).as_posix())
        return path

    @property
    def page(self) -> Page:
        """The run's report page; made on first use."""
        if self._page is None:
            from gnomon.core.report import Page

            self._page = Page(
                f"{self.method} {self.verb}",
                method=self.method,
                verb=self.verb,
                command=self.command,
                started=self._started,
            )
        return self._page

    def missing(self, shortfall: Shortfall) -> None:
        """Record what the run did not get; where that is too much, it ends in failure, its results kept.

        Failed replies of language models are recorded by themselves; a verb adds what it could not read in those that came.
        """
        if shortfall.count:
            self._shortfalls.append(shortfall)

    def finish(self, ended: UserError | None = None) -> dict[str, Any]:
        """Write the report and close the run.

        Args:
            ended: what ended the verb before it was through, such as an endpoint that answers no more; None: it is through.

        Returns:
            The content of `report.json`. Its status is `done`; `incomplete` where something is missing, so that the same command
            tries for it again; `failed` where that is too much, or where the verb ended early; or `streamed`.
        """
        self._must_not_be_dry("finish")
        report: dict[str, Any] = {}
        if self.is_main:
            environment = env.describe()
            write_json(self.folder / "env.json", self._environment())
            shortfalls = list(self._shortfalls)
            if self._books is not None:
                self._books.show(self.page)
                shortfalls += self._books.shortfalls()
            if ended is not None:
                self.page.ended(str(ended), kept_in(self.folder))
            self.page.shortfalls(shortfalls)
            self.page.command(self.command, (self.folder / MARKER).read_text("utf-8"), environment)
            self.page.write(self.folder, status=self._status(shortfalls, ended))
            report = json.loads((self.folder / "report.json").read_text("utf-8"))
        self.close()
        return report

    def _status(self, shortfalls: Sequence[Shortfall], ended: UserError | None) -> str:
        if ended is not None or any(shortfall.is_too_much for shortfall in shortfalls):
            return "failed"
        if self.is_stream:
            return "streamed"
        may_gain = any(not shortfall.is_final for shortfall in shortfalls)
        return "incomplete" if may_gain or self.is_incomplete else "done"

    def close(self) -> None:
        """Give the folder free for other processes; what was written stays."""
        self._metrics.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _must_not_be_dry(self, what: str) -> None:
        if self._start.dry:
            raise RuntimeError(f"Run.{what} was reached in a dry run: the verb must call run.plan first.")


class PartOfRun:
    """A part of a run, such as one arm under one seed: what training and similar work needs of a run."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self.name = run, name
        self.folder = run.folder / name
        self.rng = run.rng.child(name)
        self.is_main = run.is_main

    def within(self, name: str, rng: Rng | None = None) -> PartOfRun:
        """A part of this part, in a subfolder.

        Args:
            name: of the subfolder.
            rng: where it draws from; None: from the run's child of the whole name.
        """
        inner = self._run.within(f"{self.name}/{name}")
        inner.rng = inner.rng if rng is None else rng
        return inner

    def log(self, **numbers: Any) -> None:
        """Append a row to the run's metrics, marked with the part's name."""
        self._run.log(part=self.name, **numbers)

    def asking(
        self, roles: Mapping[str, Source], settings: LLMConfig | None = None, *, folder: Path | None = None
    ) -> Models:
        """`Run.asking` for this part: replies are kept in its subfolder, and the table of the run counts them."""
        from gnomon.core.llm.roles import asking

        return asking(roles, settings, run=self, folder=folder)

    @property
    def books(self) -> Books:
        """What was asked of language models in the whole run."""
        return self._run.books

    @property
    def page(self) -> Page:
        """The report page of the whole run."""
        return self._run.page

    def rewind(self, **where: Any) -> None:
        """Forget rows of this part that are about to be logged anew."""
        self._run.rewind(part=self.name, **where)

    def progress(self, total: int | None, label: str) -> AbstractContextManager[Advances]:
        """A progress display that says which part it is about."""
        return self._run.progress(total, f"{self.name}: {label}")


def command_line() -> str:
    """The command as typed, with the program's short name."""
    return shlex.join(["gnomon", *sys.argv[1:]])
