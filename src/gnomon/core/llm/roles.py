"""Language models by role: opened, counted, kept in a cache, closed, and put on the report in one place.

with run.asking({"task": "openai:gpt-4o", "critic": "hf:critic"}, cfg.llm) as models:
    replies = complete(models["task"], requests)
    models.figures("task")  # calls, tokens, cost and faults so far
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gnomon.core.llm.base import LLM, Reply, Request, aclose, is_remote, is_simulated
from gnomon.core.llm.books import Books, Entry
from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.stack.budget import Prices
from gnomon.core.llm.stack.connect import connect
from gnomon.core.llm.stack.guard import Guarded, guard_of
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.llm.stack.meter import Meter, Metered
from gnomon.errors import BudgetSpent, EndpointDown

if TYPE_CHECKING:
    from gnomon.core.report import Page


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
        guards = self._guards()
        for guard in guards if len(guards) > 1 else ():
            guard.before_load = partial(self._try_others, guard)
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

    def _guards(self) -> dict[Guarded, str]:
        """The guard of each model over the network that was opened here, with the first role that it fills."""
        guards: dict[Guarded, str] = {}
        for role, model in self._models.items():
            if isinstance(model, _InRole) and not isinstance(model.llm, _InRole) and is_remote(model):
                guard = guard_of(model)
                if guard is not None:
                    guards.setdefault(guard, role)
        return guards

    async def _try_others(self, loaded: Guarded) -> None:
        """One short request to each model that was not asked yet, before the load of `loaded` is paid for."""
        guards = {guard: role for guard, role in self._guards().items() if guard is not loaded}
        for guard in guards:  # before anything is awaited: two that tried each other would wait for ever
            guard.before_load = None
        for guard, role in guards.items():
            try:
                reply = await guard.probe()
            except EndpointDown as down:
                if isinstance(down.reply, Reply):
                    self._meters[role].count(down.reply)
                raise EndpointDown(f"{role}: {down}") from None
            except BudgetSpent:
                continue
            if reply is not None and reply.error is None:
                self._meters[role].count(reply)
            elif reply is not None:
                self._meters[role].count_fault(reply)

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
            self._run.books.add(Entry(role, name, meter, is_simulated(model), limit))

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
