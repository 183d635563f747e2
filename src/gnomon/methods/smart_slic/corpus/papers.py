"""Papers as rows: read from any file of records, lists native or joined by semicolons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core.records import read_each
from gnomon.errors import BadInput

LISTS = ("authors", "author_ids", "affiliations", "countries", "references", "citations", "keywords")


@dataclass(frozen=True)
class Paper:
    """A paper and what is stated about it."""

    id: str
    title: str
    abstract: str = ""
    year: int | None = None
    authors: tuple[str, ...] = ()
    author_ids: tuple[str, ...] = ()
    affiliations: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    references: tuple[str, ...] | None = None
    """Ids of papers that it cites; None: not known, which is not the same as none."""
    citations: tuple[str, ...] | None = None
    """Ids of papers that cite it (incoming); None: not known."""
    keywords: tuple[str, ...] = ()
    venue: str = ""
    doi: str = ""
    text: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """All other columns."""

    @property
    def summary(self) -> str:
        """Title and abstract, as they were written."""
        return f"{self.title}. {self.abstract}".strip()


@dataclass(frozen=True)
class Papers:
    """What a file holds, and what was left out of it."""

    papers: tuple[Paper, ...]
    rejected: tuple[tuple[str, str], ...]
    """(where, why) of rows that are no papers."""


def read_papers(source: str | Path) -> Papers:
    """Papers of a file or folder of JSONL, Parquet, CSV.

    A row without an id or a title, or with the id of an earlier one, is left out with its reason.

    Raises:
        BadInput: nothing can be read, or no row is a paper.
    """
    papers: dict[str, Paper] = {}
    rejected = []
    for where, raw in read_each(source):
        try:
            if isinstance(raw, BadInput):
                raise raw
            paper = paper_of(raw)
            if paper.id in papers:
                raise BadInput(f'the id "{paper.id}" comes twice')
            papers[paper.id] = paper
        except BadInput as error:
            rejected.append((where, str(error)))
    if not papers:
        raise BadInput(
            f'"{source}" holds no paper; first reason: {rejected[0][1] if rejected else "it is empty"}.'
        )
    return Papers(tuple(papers.values()), tuple(rejected))


def paper_of(raw: Mapping[str, Any]) -> Paper:
    """A paper from a row.

    Raises:
        BadInput: it has no id or title, or a year that is no whole number.
    """
    texts: dict[str, Any] = {
        name: _text(raw.get(name)) for name in ("id", "title", "abstract", "venue", "doi", "text")
    }
    for name in ("id", "title"):
        if not texts[name]:
            raise BadInput(f'field "{name}" is missing or empty')
    year = raw.get("year")
    if year in (None, "") or year != year:
        year = None
    elif not str(year).removesuffix(".0").lstrip("-").isdigit():
        raise BadInput(f'field "year" is {year!r}; wanted a whole number')
    else:
        year = int(float(year))
    lists: dict[str, Any] = {name: _list(raw.get(name)) for name in LISTS}
    for name in LISTS:
        # An empty list of references is a statement; a missing one is not.
        if lists[name] is None and name not in ("references", "citations"):
            lists[name] = ()
    others = {key: value for key, value in raw.items() if key not in {*texts, *LISTS, "year"}}
    return Paper(**texts, year=year, **lists, meta=others)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def _list(value: Any) -> tuple[str, ...] | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    parts: Sequence[Any] = value.split(";") if isinstance(value, str) else list(value)
    return tuple(text for part in parts if (text := _text(part)))
