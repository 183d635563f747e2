"""One run's report: a self-contained HTML page and its numbers as JSON.

    page = Page("Edit sequences against whole programs", method="sorter", verb="mini")
    page.figures({"pass@10": 0.31, "tasks": 60})
    page.verdicts([decide(arms, claim)])
    page.section("Results")
    page.text("Means over three seeds.")
    page.table(rows, caption="pass@k", best={"pass@1": "max"})
    page.lines({"edits": [(1, 0.1, 0.08, 0.12), (10, 0.3, 0.26, 0.34)]}, x_label="k", y_label="pass@k")
    page.command("gnomon sorter mini --seeds 3", config_yaml)
    page.write(folder)

Whatever comes in may come from a model or from a stranger's data: all of it is escaped. The page asks the
network for nothing and forbids itself to, runs no script but its own, reads well in light, in dark and on
paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gnomon.core.files import write_json, write_text
from gnomon.core.report import charts, programs, tables
from gnomon.core.report.heat import heat_cells, tokens
from gnomon.core.report.markup import data_uri, printable, prose
from gnomon.core.report.render import render, render_panel
from gnomon.core.report.values import human
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

    from gnomon.core.claims import Verdict
    from gnomon.core.shortfall import Shortfall

SCHEMA = 1
"""Version of `report.json`."""


@dataclass(frozen=True)
class Block:
    """One piece of a page: which macro prints it, and with what."""

    kind: str
    data: Mapping[str, Any]


class Page:
    """A report in the making. Blocks appear in the order in which they are added."""

    def __init__(
        self,
        title: str,
        *,
        method: str,
        verb: str,
        command: str = "",
        simulated: bool = False,
        started: datetime | None = None,
    ) -> None:
        """Begin a report.

        Args:
            title: the headline.
            method: slug of the method.
            verb: the verb that ran.
            command: the command line, as typed.
            simulated: whether the data was made up for the occasion; the page says so at the top.
            started: when the run began; `None` for now.
        """
        self.title, self.method, self.verb = title, method, verb
        self.simulated = simulated
        self.started = started or datetime.now(UTC)
        self._command = command
        self._config = ""
        self._env: dict[str, str] = {}
        self._blocks: list[Block] = []
        self._slots: dict[str, int] = {}
        self._figures: dict[str, Any] = {}
        self._verdicts: list[dict[str, Any]] = []
        self._tables: list[dict[str, Any]] = []
        self._artifacts: dict[str, str] = {}
        self._shortfalls: list[dict[str, Any]] = []
        self._ended = ""
        self._charts = 0
        self._scripts: dict[Path, None] = {}

    # Words and numbers

    def section(self, title: str) -> None:
        """Begin a section."""
        self._add("section", title=title, anchor=f"s{sum(b.kind == 'section' for b in self._blocks) + 1}")

    def text(self, text: str) -> None:
        """Paragraphs; knows `code`, **bold**, *italic*, [links](https://...) and lists of "- " lines."""
        self._add("text", html=prose(text))

    def figures(self, figures: Mapping[str, Any]) -> None:
        """Key figures, shown large at the top and listed in the index of runs."""
        self._figures.update(figures)

    def verdicts(self, verdicts: Sequence[Verdict | Mapping[str, Any]]) -> None:
        """What the run says about the claims, at the top of the page."""
        for verdict in verdicts:
            self._verdicts.append(dict(verdict) if isinstance(verdict, Mapping) else verdict.as_row())

    def shortfalls(self, shortfalls: Sequence[Shortfall]) -> None:
        """What the run did not get: in the title, in a list of its own and in `report.json`."""
        if not shortfalls:
            return
        self._shortfalls += [shortfall.as_row() for shortfall in shortfalls]
        self.title = f"{self.title} ({'; '.join(shortfall.count for shortfall in shortfalls)})"
        self.section("What is missing")
        self.text("\n".join(f"- {shortfall.sentence}" for shortfall in shortfalls))

    def ended(self, reason: str, kept: Sequence[tables.Row]) -> None:
        """Why the verb ended before it was through, and what it left: in the title, a section and `report.json`.

        Args:
            reason: one or two sentences.
            kept: a row for each file that is there.
        """
        self._ended = reason
        self.title = f"{self.title}: ended early"
        self.section("Why it ended")
        self.text(f"{reason}\n\nThe same command goes on where this one ended.")
        if kept:
            self.table(kept, caption="what is kept in the folder of the run")

    def table(
        self,
        rows: Sequence[tables.Row],
        *,
        caption: str = "",
        columns: Sequence[str] | None = None,
        best: tables.Best | None = None,
    ) -> None:
        """A table. A cell may be `(value, low, high)`: a number with its interval.

        Args:
            rows: one mapping per row, column -> value.
            caption: what the table shows.
            columns: which columns, in which order; `None` takes all.
            best: column -> "max" or "min": the best value of the column is set in bold.
        """
        columns = list(columns) if columns is not None else tables.columns_of(rows)
        body = tables.cells(rows, columns, best or {})
        numeric = tables.numeric_columns(body) if body else [False] * len(columns)
        self._add("table", columns=columns, rows=body, numeric=numeric, caption=caption)
        self._tables.append({"caption": caption, "rows": [dict(row) for row in rows]})

    # Charts: an arm keeps its colour and its marker over the whole page

    def lines(
        self,
        series: Mapping[str, Sequence[charts.Point]],
        *,
        x_label: str = "",
        y_label: str = "",
        log_x: bool = False,
        caption: str = "",
    ) -> None:
        """Lines: arm -> points `(x, y)` or `(x, y, low, high)`; missing values (None, NaN) are left out."""
        slots = {arm: self._slot(arm) for arm in series}
        title = caption or y_label or self.title
        svg = charts.lines(
            series, slots, x_label=x_label, y_label=y_label, log_x=log_x, prefix=self._chart_id(), title=title
        )
        self._add("chart", svg=svg, legend=self._legend(slots), caption=caption)

    def bars(
        self, groups: Mapping[str, Mapping[str, charts.Bar]], *, y_label: str = "", caption: str = ""
    ) -> None:
        """Grouped bars: arm -> category -> value or `(value, low, high)`."""
        slots = {arm: self._slot(arm) for arm in groups}
        title = caption or y_label or self.title
        svg = charts.bars(groups, slots, y_label=y_label, prefix=self._chart_id(), title=title)
        self._add("chart", svg=svg, legend=self._legend(slots) if len(slots) > 1 else [], caption=caption)

    def dots(
        self,
        groups: Mapping[str, Mapping[str, charts.Bar]],
        *,
        x_label: str = "",
        caption: str = "",
        zero: float | None = 0.0,
    ) -> None:
        """Dots with intervals, one category per line: arm -> category -> value or `(value, low, high)`."""
        slots = {arm: self._slot(arm) for arm in groups}
        title = caption or x_label or self.title
        svg = charts.dots(groups, slots, x_label=x_label, prefix=self._chart_id(), title=title, zero=zero)
        self._add("chart", svg=svg, legend=self._legend(slots) if len(slots) > 1 else [], caption=caption)

    def heatmap(
        self,
        matrix: Sequence[Sequence[float | None]],
        *,
        x: Sequence[str] | None = None,
        y: Sequence[str] | None = None,
        caption: str = "",
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """A heat map of `matrix`, `[rows, columns]`.

        Args:
            matrix: the values; `None` and NaN stay blank.
            x: names of the columns.
            y: names of the rows.
            caption: what it shows.
            low: the value without colour; `None` takes the smallest.
            high: the value of full colour; `None` takes the largest.
        """
        self._add("heatmap", caption=caption, **heat_cells(matrix, x, y, low, high))

    # Things to look at

    def image(
        self, picture: str | Path | Image, *, caption: str = "", alt: str = "", width: int | None = None
    ) -> None:
        """A picture, embedded in the page; `width` in CSS pixels."""
        uri, natural_width, _ = data_uri(picture)
        self._add("image", uri=uri, caption=caption, alt=alt or caption, width=width or natural_width)

    def tokens(
        self,
        pairs: Sequence[tuple[str, float | None]],
        *,
        caption: str = "",
        label: str = "",
        peak: float | None = None,
    ) -> None:
        """Text coloured by a value per token.

        Args:
            pairs: text and value of each token; `None` leaves it without colour.
            caption: what it shows.
            label: what the value is, for the legend.
            peak: the value of full colour; `None` takes the largest magnitude.
        """
        shown, top = tokens(pairs, peak)
        signed = any(token.tint == "cool" for token in shown)
        self._add("tokens", tokens=shown, caption=caption, label=label, top=human(top), signed=signed)

    def diff(self, before: str, after: str, *, caption: str = "") -> None:
        """The difference of two texts, line by line."""
        self._add("diff", lines=programs.difference(before, after), caption=caption)

    def edit_path(self, states: Sequence[str], *, caption: str = "", notes: Sequence[str] = ()) -> None:
        """A program as it grows edit by edit, with a slider to walk through it.

        Args:
            states: the program before the first edit, after the first, ... after the last.
            caption: what it shows.
            notes: one remark per edit, or none.

        Raises:
            BadInput: there is no edit, or the notes are not one per edit.
        """
        if len(states) < 2:
            raise BadInput(f"An edit path needs at least two states; got {len(states)}.")
        if notes and len(notes) != len(states) - 1:
            raise BadInput(f"An edit path of {len(states) - 1} edits needs as many notes; got {len(notes)}.")
        self._add("edit_path", frames=programs.frames(states, notes), caption=caption)

    def panel(self, template: Path, script: Path | None = None, **values: Any) -> None:
        """A piece of its own kind, for what a room alone shows.

        Args:
            template: a Jinja file; what it prints is escaped unless it is `Markup`. The page's colours are CSS variables.
            script: brings every panel of the kind to life; put into the page once. Without it (and on paper) the panel must
                still say what it has to say.
            values: what the template needs.
        """
        self._add("panel", html=render_panel(template, values))
        if script is not None:
            self._scripts.setdefault(script)

    # Where it came from

    def command(self, command: str, config_yaml: str = "", env: Mapping[str, Any] | None = None) -> None:
        """How to run it again: the command line, the resolved config, and what it ran on."""
        self._command, self._config = command, config_yaml
        self._env = {str(name): human(value) for name, value in (env or {}).items()}

    def artifact(self, name: str, path: str) -> None:
        """A file that the run left, by its path relative to the run folder.

        Raises:
            BadInput: the path is absolute or leads out of the folder.
        """
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts or "\\" in path or ":" in path:
            raise BadInput(
                f'Artifact "{name}": "{path}" must be a path inside the run folder, written with "/".'
            )
        self._artifacts[name] = str(relative)

    def write(self, folder: str | Path, *, status: str = "done") -> Path:
        """Write `report.html` and `report.json` into `folder`, each whole or not at all; the page's path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        finished = datetime.now(UTC)
        report = self._report(finished, status)
        html = render(
            "page.html.j2",
            script="page.js",
            more_scripts=self._scripts,
            page=self,
            report=report,
            figures={name: human(value) for name, value in self._figures.items()},
            blocks=self._blocks,
            sections=[block.data for block in self._blocks if block.kind == "section"],
            config=self._config,
            env=self._env,
            day=self.started.strftime("%-d %B %Y, %H:%M %Z").strip(),
        )
        write_json(folder / "report.json", report)
        write_text(folder / "report.html", html)
        return folder / "report.html"

    def _report(self, finished: datetime, status: str) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "method": self.method,
            "verb": self.verb,
            "title": self.title,
            "status": status,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "seconds": round((finished - self.started).total_seconds(), 3),
            "command": self._command,
            "simulated": self.simulated,
            "figures": self._figures,
            "verdicts": self._verdicts,
            "tables": self._tables,
            "shortfalls": self._shortfalls,
            "artifacts": self._artifacts,
        } | ({"ended": self._ended} if self._ended else {})

    def _add(self, kind: str, **data: Any) -> None:
        for name in ("title", "caption", "alt", "label"):
            if name in data:
                data[name] = printable(data[name])
        self._blocks.append(Block(kind, data))

    def _slot(self, arm: str) -> int:
        return self._slots.setdefault(arm, len(self._slots) % len(charts.MARKERS))

    def _chart_id(self) -> str:
        self._charts += 1
        return f"chart{self._charts}"

    def _legend(self, slots: Mapping[str, int]) -> list[tuple[str, int, str]]:
        return [(printable(arm), slot, charts.MARKERS[slot][1]) for arm, slot in slots.items()]
