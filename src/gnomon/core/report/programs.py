"""Programs as they grow: an edit path as one frame per step, and the plain difference of two texts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gnomon.core.report.markup import printable


@dataclass(frozen=True)
class Line:
    """One line of a frame."""

    kind: str
    """`same`, `add` or `del`."""
    text: str
    number: int | None
    """Line number in the newer text; `None` for a deleted line."""
    step: int = 0
    """The edit that wrote the line, counted from 1; 0 if it was there from the start."""


@dataclass(frozen=True)
class Frame:
    """The program after one edit."""

    lines: list[Line]
    note: str

    @property
    def added(self) -> int:
        """Lines that this edit wrote."""
        return sum(line.kind == "add" for line in self.lines)

    @property
    def removed(self) -> int:
        """Lines that this edit deleted."""
        return sum(line.kind == "del" for line in self.lines)


def frames(states: Sequence[str], notes: Sequence[str]) -> list[Frame]:
    """One frame per edit between consecutive `states`, each line with the edit that wrote it.

    Args:
        states: the texts of the program, first to last. Where the first is not empty, its lines have step 0.
        notes: one per edit, or none at all.
    """
    written = [0] * len(_lines(states[0])) if states else []
    result = []
    for step, (before, after) in enumerate(pairwise(states), start=1):
        lines, now = [], []
        for line, origin in _walk(before, after):
            step_of = step if line.kind == "add" else written[origin]
            lines.append(Line(line.kind, line.text, line.number, step_of))
            if line.kind != "del":
                now.append(step_of)
        written = now
        result.append(Frame(lines, printable(notes[step - 1]) if notes else ""))
    return result


def difference(before: str, after: str) -> list[Line]:
    """The lines of both texts, each marked as kept, added or deleted."""
    return [line for line, _ in _walk(before, after)]


def _walk(before: str, after: str) -> list[tuple[Line, int]]:
    """The merged lines of both texts; with each kept or deleted line, its index in `before`."""
    old, new = _lines(before), _lines(after)
    merged: list[tuple[Line, int]] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            merged += [
                (Line("same", new[j], j + 1), i) for i, j in zip(range(i1, i2), range(j1, j2), strict=True)
            ]
            continue
        merged += [(Line("del", old[i], None), i) for i in range(i1, i2)]
        merged += [(Line("add", new[j], j + 1), -1) for j in range(j1, j2)]
    return merged


def _lines(text: str) -> list[str]:
    return [printable(line) for line in text.split("\n")] if text else []
