"""What a run asked of language models, role by role, as its report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.llm.stack.meter import Meter
from gnomon.core.shortfall import Shortfall

if TYPE_CHECKING:
    from gnomon.core.report import Page

SECTION = "What was asked"
"""Title of the section of a report that holds the table."""

CAPTION = "calls of language models by the command that finished this run; cached replies cost nothing"
"""Caption of the table."""


@dataclass(frozen=True)
class Entry:
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
        self._entries: list[Entry] = []
        self._folder = folder
        self.expects_faults = False  # in the made-up world of a miniature: they are counted, and no shortfall

    def add(self, entry: Entry) -> None:
        """Enter a role of a block, whose meter goes on counting."""
        self._entries.append(entry)

    def rows(self) -> list[dict[str, Any]]:
        """The table: a row for each role and model, over all blocks; empty when no language model was opened.

        Columns in which no row has anything to say (`failed`, `sent without`, `SIMULATED` and the like) are left out.
        """
        if all(entry.meter is None for entry in self._entries):
            return []
        entries: dict[tuple[str, str], list[Entry]] = {}
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


def _cells(entries: Sequence[Entry]) -> dict[str, Any]:
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
