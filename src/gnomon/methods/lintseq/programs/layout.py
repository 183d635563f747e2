"""Which lines of a program belong together: units, blocks, clauses, and the lines a deletion may start from.

A *unit* is what cannot be cut: a statement over several lines with its brackets and strings, or a decorated
`def` line. A *block* is what is indented below a unit. A `Layout` holds both for every line, computed once
per program.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gnomon.methods.lintseq.programs.source import tokens_of

_CLAUSES = frozenset({"elif", "else", "except", "finally"})
_SILENT = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
)
_OPEN_GLOBAL = re.compile(r"[A-Z_][A-Z0-9_]*\s*(:[^=]*)?=\s*[(\[]")


@dataclass(frozen=True)
class Layout:
    """What goes with each line of a program of N lines.

    `together` and `needs` say what must leave with a line: for any line that is removed, all of
    `together[line]` is removed, and so is every line one of whose needs has no line left.
    """

    indent: tuple[int, ...]
    """[N] columns of indentation; inside a unit those of the unit, on blank lines those of the line above."""
    together: tuple[frozenset[int], ...]
    """[N] the line's unit, the block below it, and the clauses (`else`, `except` ...) that it owns."""
    needs: tuple[tuple[int, frozenset[int]], ...]
    """Pairs (line, lines): the line cannot stay when none of the lines is left, e.g. `if` without a body."""

    def tab_width(self) -> int:
        """The first indentation of the program, 4 when there is none."""
        return next((columns for columns in self.indent if columns), 4)


LayoutOf = Callable[[Sequence[str]], Layout]
"""Builds the layout of a program from its lines; another language brings its own."""


@dataclass
class _Unit:
    """A logical line of Python: physical lines `first`..`last`, and the word it starts with."""

    first: int
    last: int
    word: str
    indent: int


def python_layout(lines: Sequence[str]) -> Layout:
    """The layout of a Python program that parses.

    Source: A.3, A.5a and pitfall 7. Differs: a comment does not end a block that continues below it; what the
    grammar demands (a body for `if`, a handler for `try`) is looked up here and need not be found by a
    linter.
    """
    units = _decorated(_logical_lines(lines))
    indent = _indentation(lines, units)
    blocks = [_block(units, position, indent) for position in range(len(units))]
    together = [frozenset({line}) for line in range(len(lines))]
    needs: list[tuple[int, frozenset[int]]] = []
    for position, unit in enumerate(units):
        after, end = blocks[position]
        clauses = _clauses_of(units, after - 1, unit)
        parts = [
            range(unit.first, end),
            *(range(units[clause].first, blocks[clause][1]) for clause in clauses),
        ]
        whole = frozenset(line for part in parts for line in part)
        for line in range(unit.first, unit.last + 1):
            together[line] = whole
        if after > position + 1:
            needs.append((unit.first, frozenset(inner.first for inner in units[position + 1 : after])))
        if unit.word == "try":
            needs += _handlers_needed(units, unit, clauses)
    return Layout(tuple(indent), tuple(together), tuple(needs))


def candidates(lines: Sequence[str], *, skip_comments: bool = True, skip_globals: bool = True) -> list[int]:
    """The lines a deletion may start from.

    Every line except blank ones, comments, and the lines that continue an open upper-case literal (`TABLE =
    (` up to its closing bracket), which would draw deletions to data.

    Source: A.2.
    """
    inside = _global_continuations(lines) if skip_globals else set()
    return [
        number
        for number, line in enumerate(lines)
        if line.strip() and number not in inside and not (skip_comments and line.lstrip().startswith("#"))
    ]


def _logical_lines(lines: Sequence[str]) -> list[_Unit]:
    """The logical lines of a Python program, from its tokens."""
    units: list[_Unit] = []
    current: _Unit | None = None
    for token in tokens_of("\n".join(lines)):
        if token.type == tokenize.NEWLINE:
            current = None
        elif token.type not in _SILENT:
            if current is None:
                current = _Unit(token.start[0] - 1, 0, token.string, token.start[1])
                units.append(current)
            current.last = token.end[0] - 1
    return units


def _decorated(units: Sequence[_Unit]) -> list[_Unit]:
    """The units with decorators joined to the `def` or `class` line below them."""
    joined: list[_Unit] = []
    first: int | None = None
    for unit in units:
        if unit.word == "@":
            first = unit.first if first is None else first
        else:
            joined.append(_Unit(unit.first if first is None else first, unit.last, unit.word, unit.indent))
            first = None
    return joined


def _indentation(lines: Sequence[str], units: Sequence[_Unit], *, keep_short: bool = True) -> list[int]:
    """Columns per line: its own at the start of a unit and for a comment, otherwise the line above's."""
    firsts = {unit.first for unit in units}
    inside = {line for unit in units for line in range(unit.first + 1, unit.last + 1)}
    columns: list[int] = []
    for number, line in enumerate(lines):
        body = line.strip()
        own = number not in inside and (len(body) > 1 or (keep_short and number in firsts))
        above = columns[-1] if columns else 0
        columns.append(len(line) - len(line.lstrip()) if own else above)
    return columns


def _block(units: Sequence[_Unit], position: int, indent: Sequence[int]) -> tuple[int, int]:
    """The position of the unit after the block below `units[position]`, and the line after that block.

    Comments and blank lines at the end of a block count while they are indented deeper than its unit.
    """
    unit = units[position]
    columns = indent[unit.first]
    after = position + 1
    while after < len(units) and indent[units[after].first] > columns:
        after += 1
    if after == position + 1:
        return after, unit.last + 1
    end = units[after - 1].last + 1
    limit = units[after].first if after < len(units) else len(indent)
    while end < limit and indent[end] > columns:
        end += 1
    return after, end


def _clauses_of(units: Sequence[_Unit], last: int, head: _Unit) -> list[int]:
    """Positions of the clauses (`elif`, `else` ...) after position `last` that belong to `head`."""
    starts: list[int] = []
    if head.word in _CLAUSES:
        return starts
    for later in range(last + 1, len(units)):
        unit = units[later]
        if unit.indent > head.indent:
            continue
        if unit.indent < head.indent or unit.word not in _CLAUSES:
            break
        starts.append(later)
    return starts


def _handlers_needed(
    units: Sequence[_Unit], head: _Unit, clauses: Sequence[int]
) -> list[tuple[int, frozenset[int]]]:
    """`try` needs an `except` or a `finally`; its `else` needs an `except`."""
    of = {
        word: frozenset(units[c].first for c in clauses if units[c].word == word)
        for word in ("except", "finally", "else")
    }
    return [(head.first, of["except"] | of["finally"]), *((line, of["except"]) for line in of["else"])]


def _global_continuations(lines: Sequence[str]) -> set[int]:
    """Lines after the first of each upper-case literal at the left margin, up to its closing bracket."""
    inside: set[int] = set()
    depth = 0
    for number, line in enumerate(lines):
        if depth > 0:
            inside.add(number)
        elif not _OPEN_GLOBAL.match(line):
            continue
        depth += sum(line.count(bracket) for bracket in "([{") - sum(line.count(bracket) for bracket in ")]}")
        depth = max(depth, 0)
    return inside
