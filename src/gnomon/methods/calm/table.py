"""Verdicts of one judge as arrays, aligned on the items of each set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gnomon.methods.calm.agreement import UNPARSED, Codes, Floats
from gnomon.methods.calm.trials import PLAIN, TIE, Verdict

ABSENT = -9
"""Code of an item that a condition was not asked about."""


def code_of(row: Verdict) -> int:
    """The verdict as a number: a response from 0, `TIE`, or `UNPARSED`.

    >>> code_of(Verdict("j", "alignment", "a", "plain", "", 0, [0, 1], choice="R2"))
    1
    """
    if row.choice is None:
        return UNPARSED
    return TIE if row.choice == "tie" else int(row.choice[1:]) - 1


@dataclass
class Table:
    """The rows of one judge, found by set, probe and condition."""

    rows: dict[tuple[str, str, str], list[Verdict]] = field(default_factory=dict)
    """(set, probe, condition) -> rows."""

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Table:
        """The table of these rows."""
        table = cls()
        for row in verdicts:
            table.rows.setdefault((row.set, row.probe, row.condition), []).append(row)
        return table

    def conditions(self) -> list[tuple[str, str, str]]:
        """Every (set, probe, condition) with a change, in the order of the rows."""
        return [key for key in self.rows if key[1] != PLAIN]

    def plain(self, set: str, items: Sequence[str], condition: str = "") -> list[Codes]:
        """Plain verdicts on these items, one array `[N]` per draw; `ABSENT` where an item has none."""
        rows = self.rows.get((set, PLAIN, condition), [])
        draws = sorted({row.draw for row in rows})
        place = {item: i for i, item in enumerate(items)}
        found = {draw: np.full(len(items), ABSENT, dtype=np.int64) for draw in draws}
        for row in rows:
            if row.item in place:
                found[row.draw][place[row.item]] = code_of(row)
        return [found[draw] for draw in draws]

    def items(self, key: tuple[str, str, str]) -> list[str]:
        """The items of a condition, in the order of the rows."""
        return list(dict.fromkeys(row.item for row in self.rows[key]))


def by_slot(
    rows: Sequence[Verdict], items: Sequence[str], base: dict[str, list[int]], candidates: int
) -> Codes:
    """Verdicts in every rotation, `[C, N]`, with answers told by their slot in rotation 0; `UNPARSED` where one is missing.

    Args:
        rows: of one number of candidates, the plain rotation among them.
        items: the items.
        base: item -> slots of rotation 0.
        candidates: C.
    """
    place = {item: i for i, item in enumerate(items)}
    found = np.full((candidates, len(items)), UNPARSED, dtype=np.int64)
    for row in rows:
        order = base[row.item]
        rotation = order.index(row.slots[0])
        code = code_of(row)
        found[rotation, place[row.item]] = order.index(code) if code >= 0 else code
    return found


def scores_of(rows: Sequence[Verdict], items: Sequence[str]) -> Floats:
    """Scores by item, `[N]`; NaN where there is none."""
    place = {item: i for i, item in enumerate(items)}
    found = np.full(len(items), np.nan)
    for row in rows:
        if row.item in place and row.score is not None:
            found[place[row.item]] = row.score
    return found
