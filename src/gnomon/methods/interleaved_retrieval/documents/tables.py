"""Tables: read from HTML with their merged cells, and written as text row by row."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from gnomon.methods.interleaved_retrieval.documents.rows import Block, table_block

Format = Literal["markdown", "html", "kv"]


def linear_table(block: Block, how: Format = "markdown") -> str:
    """A table as text: caption first, then the names of the columns, then row by row.

    Args:
        block: the table.
        how: markdown; html; or kv, which names the column in front of every cell.

    >>> print(linear_table(table_block(["a", "b"], [["1", "2"]], "two"), "kv"))
    two
    a: 1; b: 2
    """
    lines = [block.caption] if block.caption else []
    if how == "kv":
        names = block.header or tuple("" for _ in (block.rows[0] if block.rows else ()))
        lines += [
            "; ".join(
                f"{_flat(n)}: {_flat(c)}" if n else _flat(c) for n, c in zip(names, row, strict=True) if c
            )
            for row in block.rows
        ] or [", ".join(_flat(name) for name in block.header)]
    elif how == "html":
        cells = [("th", block.header)] if block.header else []
        cells += [("td", row) for row in block.rows]
        lines += [
            "<table>",
            *("<tr>" + "".join(f"<{t}>{escape(c)}</{t}>" for c in row) + "</tr>" for t, row in cells),
            "</table>",
        ]
    else:
        rows = [row for row in (block.header, *block.rows) if row]
        lines += ["| " + " | ".join(_flat(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
        if block.header:
            at = len(lines) - len(block.rows)
            lines.insert(at, "|" + "---|" * len(block.header))
    return "\n".join(lines)


def _flat(cell: str) -> str:
    return " ".join(cell.split())


def html_tables(soup: Any) -> list[Block]:
    """The tables of an HTML fragment that bs4 has parsed, outermost ones, empty ones left out."""
    tables = [table for table in soup.find_all("table") if table.find_parent("table") is None]
    return [block for table in tables if (block := html_table(table)).rows or block.header]


def html_table(table: Any) -> Block:
    """A table of HTML, its merged cells repeated.

    A cell that spans rows or columns stands in each of them. The names of the columns are the first rows that hold `th` alone,
    joined by a slash where there are several.
    """
    grid: list[list[str]] = []
    is_head: list[bool] = []
    hanging: dict[
        int, tuple[int, str]
    ] = {}  # column -> rows that a cell from above still spans, and its text
    for row in [r for r in table.find_all("tr") if r.find_parent("table") is table]:
        cells: list[str] = []
        kinds: list[bool] = []
        for cell in [c for c in row.find_all(["td", "th"]) if c.find_parent("tr") is row]:
            _from_above(cells, hanging)
            text = " ".join(cell.get_text(" ", strip=True).split())
            down = _span(cell, "rowspan")
            for _ in range(_span(cell, "colspan")):
                if down > 1:
                    hanging[len(cells)] = (down - 1, text)
                cells.append(text)
            kinds.append(cell.name == "th")
        _from_above(cells, hanging)
        if cells:
            grid.append(cells)
            is_head.append(bool(kinds) and all(kinds))
    caption = table.find("caption")
    heads = 0
    while heads < len(grid) and is_head[heads]:
        heads += 1
    if heads == len(grid) and heads:  # a table of nothing but th: its first row names the columns
        heads = 1
    header = _joined(grid[:heads])
    return table_block(header, grid[heads:], caption.get_text(" ", strip=True) if caption else "")


def _from_above(cells: list[str], hanging: dict[int, tuple[int, str]]) -> None:
    while len(cells) in hanging:
        column = len(cells)
        left, text = hanging.pop(column)
        if left > 1:
            hanging[column] = (left - 1, text)
        cells.append(text)


def _joined(rows: Sequence[Sequence[str]]) -> list[str]:
    width = max(map(len, rows), default=0)
    names = [[row[i] for row in rows if i < len(row) and row[i]] for i in range(width)]
    return ["/".join(dict.fromkeys(parts)) for parts in names]


def _span(cell: Any, name: str) -> int:
    value = str(cell.get(name, "1")).strip()
    return max(1, min(int(value), 1000)) if value.isdigit() else 1
