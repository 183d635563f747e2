"""Language models by role: opened, counted, kept in a cache, closed, and put on the report in one place.

with run.asking({"task": "openai:gpt-4o", "critic": "hf:critic"}, cfg.llm) as models:
    replies = complete(models["task"], requests)
    models.figures("task")  # calls, tokens, cost and faults so far
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gnomon.core.llm.base import LLM, Reply, Request, aclose, is_simulated
from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.stack.budget import Prices
from gnomon.core.llm.stack.connect import connect
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.llm.stack.meter import Meter, Metered
from gnomon.core.shortfall import Shortfall

if TYPE_CHECKING:
    from gnomon.core.report import Page

SECTION = "What was asked"
"""Title of the section of a report that holds the table."""

CAPTION = "calls of language models by the command that finished this run; cached replies cost nothing"
"""Caption of the table."""


@dataclass(frozen=True)
class Role:
    """What fills a role, where it needs more than a reference."""

    model: str | LLM | Callable[[], Any] | Any | None
    """As in `asking`."""
    settings: LLMConfig | None = None
    """How it is asked; None: as all roles are."""
    folder: Path | None = None
    """Where its replies and spending are kept; None: where those of all roles are."""
    device: str = "auto"
    """For `hf:` and `serve:`; "auto" takes a GPU when there is one."""
    batch_size: int | None = None
    """For `hf:`, prompts side by side; None: the default of `Local`."""
    name: str | None = None
    """As the report's table shows it; None: the model's own name."""


Source: TypeAlias = "str | LLM | Role | Callable[[], Any] | Any | None"
"""What may fill a role; see `asking`."""


class Recording(Protocol):
    """What `asking` needs of a run, or of a part of one."""

    folder: Path

    @property
    def books(self) -> Books:
        """What was asked in the whole run."""
        ...

    @property
    def page(self) -> Page:
        """The report of the whole run."""
        ...

    def log(self, **numbers: Any) -> None:
        """Append a row to the metrics."""
        ...


def asking(
    roles: Mapping[str, Source],
    settings: LLMConfig | None = None,
    *,
    run: Recording | None = None,
    folder: Path | None = None,
) -> Models:
    """The models of several roles, open while the `with` block lasts. Verbs call it as `run.asking`.

    A role is filled by one of these:

    - a reference (see `open_llm`): opened with limits, attempts, budget, cache and meter as in `connect`, and closed at the end;
    - an open language model: the same is put around it, and it stays open, because its owner closes it. One that another block
      of `asking` gave is handed on as it is, and counted there;
    - a function without arguments that opens something, such as a judge that is no language model: called when the block begins;
      what it returns is closed at the end, and when it is a language model it is asked and counted like any other;
    - any other object: handed on as it is;
    - None: nobody; `models[role]` is None;
    - a `Role` around one of these, for settings of its own.

    Roles that name the same model with the same settings share it, and with it connections, cache and budget; what they ask is
    counted role by role.

    Args:
        roles: role -> what fills it.
        settings: how the models are asked; None takes the defaults.
        run: where it is recorded; None: nowhere, for use outside of a run.
        folder: where replies and spending are kept, together for all roles. None: in `replies/ROLE` of the run's folder, with the
            first role of a shared model; without a run nothing is kept.

    Raises:
        BadConfig: when the block begins, a reference is misspelt.
        UserError: when the block begins, what a reference names cannot be opened. What was open by then is closed.
    """
    return Models(roles, settings, run=run, folder=folder)


class Models(Mapping[str, Any]):
    """Role -> the model that fills it. Made by `asking`; open inside of its `with` block, or between `open` and `close`."""

    def __init__(
        self,
        roles: Mapping[str, Source],
        settings: LLMConfig | None = None,
        *,
        run: Recording | None = None,
        folder: Path | None = None,
    ) -> None:
        self._roles = {
            role: source if isinstance(source, Role) else Role(source) for role, source in roles.items()
        }
        self._settings, self._run, self._folder = settings or LLMConfig(), run, folder
        self._models: dict[str, Any] = {}
        self._meters: dict[str, Meter] = {}
        self._shared: dict[Any, Any] = {}
        self._to_close: list[Any] = []

    def __getitem__(self, role: str) -> Any:
        return self._models[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __enter__(self) -> Models:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Models:
        """Open every role; all or none.

        Raises:
            UserError: as in `asking`.
        """
        try:
            for role, source in self._roles.items():
                self._models[role] = self._open(role, source)
                if self._run is not None and is_simulated(self._models[role]):
                    self._run.page.simulated = True
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Write what was asked to the metrics of the run, and close what was opened here. A second call does nothing."""
        try:
            self._enter_in_metrics()
        finally:
            run_async(self.aclose())

    async def aclose(self) -> None:
        """Close what was opened here, everything even if one of them fails; nothing is written to the metrics."""
        failures: list[Exception] = []
        while self._to_close:
            thing = self._to_close.pop()
            try:
                await _close(thing)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def figures(self, role: str) -> dict[str, Any]:
        """What was asked in this block for one role, as `Meter.figures`; all zero where no language model fills it."""
        return self._meters.get(role, Meter()).figures()

    @property
    def is_simulated(self) -> bool:
        """Whether a simulator fills any role."""
        return any(is_simulated(model) for model in self._models.values())

    def _open(self, role: str, source: Role) -> Any:
        if source.model is None:
            return None
        settings = source.settings or self._settings
        # One model for several roles is opened once; what is kept of it lies with the first of them.
        ref = source.model if isinstance(source.model, str) else id(source.model)
        key = (ref, settings, source.folder, source.device, source.batch_size)
        if key not in self._shared:
            self._shared[key] = self._open_shared(role, source, settings)
        model = self._shared[key]
        if isinstance(model, _InRole):
            self._meters[role] = model.meter
        elif _is_llm(model):
            meter = self._meters[role] = Meter(Prices.of(settings.price_in, settings.price_out))
            model = _InRole(model, meter)
            self._enter(role, model, meter)
        else:
            self._enter(role, model, None)
        return model

    def _open_shared(self, role: str, source: Role, settings: LLMConfig) -> Any:
        """The model with everything around it but the meter of a role; what is no language model, as it is."""
        model: Any = source.model
        is_ours = isinstance(model, str)
        if callable(model) and not _is_llm(model):
            model, is_ours = model(), True
            if not _is_llm(model):
                self._to_close.append(model)
        if isinstance(model, _InRole) or not (isinstance(model, str) or _is_llm(model)):
            return model
        stack = connect(
            model if is_ours else _Borrowed(model),
            settings,
            folder=self._folder_of(role, source),
            on_fault=_count_fault,
            device=source.device,
            batch_size=source.batch_size,
        )
        self._to_close.append(stack)
        return stack

    def _enter(self, role: str, model: Any, meter: Meter | None) -> None:
        if self._run is not None:
            name = self._roles[role].name or str(getattr(model, "name", type(model).__name__))
            limit = (self._roles[role].settings or self._settings).max_failed
            self._run.books.add(_Entry(role, name, meter, is_simulated(model), limit))

    def _folder_of(self, role: str, source: Role) -> Path | None:
        if source.folder is not None or self._folder is not None:
            return source.folder or self._folder
        return None if self._run is None else self._run.folder / "replies" / role

    def _enter_in_metrics(self) -> None:
        """A row for each role; written at the end of every block, so that a run that fails later has it too."""
        run, self._run = self._run, None
        if run is None:
            return
        for role, meter in self._meters.items():
            if meter.is_used:
                run.log(role=role, model=self._models[role].name, **meter.figures())


@dataclass(frozen=True)
class _Entry:
    """One role of one block."""

    role: str
    model: str
    meter: Meter | None
    """None: no language model fills the role."""
    is_simulated: bool
    max_failed: float
    """Largest share of its replies that may fail."""


class Books:
    """What was asked of language models in a run, over all its blocks.

    Args:
        folder: of the run; models that it trained itself are named by their path below it.
    """

    def __init__(self, folder: Path) -> None:
        self._entries: list[_Entry] = []
        self._folder = folder
        self.expects_faults = False  # in the made-up world of a miniature: they are counted, and no shortfall

    def add(self, entry: _Entry) -> None:
        """Enter a role of a block, whose meter goes on counting."""
        self._entries.append(entry)

    def rows(self) -> list[dict[str, Any]]:
        """The table: a row for each role and model, over all blocks; empty when no language model was opened.

        Columns in which no row has anything to say (`failed`, `sent without`, `SIMULATED` and the like) are left out.
        """
        if all(entry.meter is None for entry in self._entries):
            return []
        entries: dict[tuple[str, str], list[_Entry]] = {}
        for entry in self._entries:
            # Without the run's own folder, so that a repeated run has the same table wherever it lies.
            model = entry.model.replace(f"{self._folder}/", "")
            entries.setdefault((entry.role, model), []).append(entry)
        rows = [
            {"role": role, "model": model, **_cells(of_role)} for (role, model), of_role in entries.items()
        ]
        idle = {name for name in _OPTIONAL if not any(row[name] for row in rows)}
        return [{name: value for name, value in row.items() if name not in idle} for row in rows]

    def shortfalls(self) -> list[Shortfall]:
        """The roles in which requests failed for good or were not made, over all blocks."""
        shortfalls = []
        for role in () if self.expects_faults else dict.fromkeys(entry.role for entry in self._entries):
            entries = [entry for entry in self._entries if entry.role == role and entry.meter is not None]
            total = Meter.total(entry.meter for entry in entries if entry.meter is not None)
            shortfalls += total.shortfalls(role, min((e.max_failed for e in entries), default=1.0))
        return shortfalls

    def show(self, page: Page) -> None:
        """Add the table to a page, and SIMULATED to its title where a simulator filled a role."""
        if rows := self.rows():
            page.section(SECTION)
            page.table(rows, caption=CAPTION)
        if any(entry.is_simulated for entry in self._entries):
            page.simulated = True
            if rows:
                page.text(
                    "Rows marked SIMULATED are simulators: what is shown is that the method works, not what a language model does."
                )
            if "SIMULATED" not in page.title:
                page.title = f"SIMULATED: {page.title}"


_OPTIONAL = ("failed", "not asked", "sent without", "tokens estimated", "SIMULATED")


def _cells(entries: Sequence[_Entry]) -> dict[str, Any]:
    """The numbers of a row; blanks where no language model was asked."""
    meters = [entry.meter for entry in entries if entry.meter is not None]
    total = Meter.total(meters)
    cells = {
        "calls": total.fresh,
        "cached": total.cached,
        "failed": total.failed,
        "not asked": total.unasked,
        "sent without": _counts(total.left_out),
        "tokens in": total.tokens_in,
        "tokens out": total.tokens_out,
        "tokens estimated": total.is_estimate,
        "cost in USD": total.usd,
        "faults": _counts(total.faults) or "none",
    }
    shown = cells if meters else dict.fromkeys(cells)
    return {**shown, "SIMULATED": any(entry.is_simulated for entry in entries)}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


_meter: ContextVar[Meter | None] = ContextVar("_meter", default=None)
"""The meter of the role whose request is under way: attempts are made below, where roles may share a model."""


def _count_fault(reply: Reply) -> None:
    meter = _meter.get()
    if meter is not None:
        meter.count_fault(reply)


class _InRole(Metered):
    """A model in a role: what it is asked there is counted."""

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model."""
        before = _meter.set(self.meter)
        try:
            return await super().acomplete(request)
        finally:
            _meter.reset(before)


class _Borrowed:
    """A model that somebody else opened, and closes: it has no `aclose`."""

    def __init__(self, llm: LLM) -> None:
        self.llm, self.name = llm, llm.name

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model."""
        return await self.llm.acomplete(request)


def _is_llm(thing: Any) -> bool:
    return hasattr(thing, "acomplete")


async def _close(thing: Any) -> None:
    if hasattr(thing, "aclose"):
        await aclose(thing)
    elif hasattr(thing, "close"):
        await asyncio.to_thread(thing.close)  # it may wait for the loop that this runs on
