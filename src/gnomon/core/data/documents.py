"""Documents: what is cut into snippets. They come from record files, a hub data set, or plain text files, one document a file."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.data.corpora import stdlib_code, stdlib_documentation
from gnomon.core.files import is_run_folder
from gnomon.errors import BadInput

STDLIB = {"stdlib:docs": stdlib_documentation, "stdlib:code": stdlib_code}
"""Sources that every machine has: the documentation inside this Python installation, and its code without any."""

TEXT_SUFFIXES = (".txt", ".md", ".rst")
"""Endings of plain text files."""


@dataclass(frozen=True)
class Document:
    """A text with a name."""

    doc_id: str
    """Value of the id column, else a hash of the text: equal texts are the same document."""
    text: str
    """What it says."""
    meta: dict[str, Any] = field(default_factory=dict)
    """The other columns of its row."""
    where: str = ""
    """File and row it comes from."""


@dataclass(frozen=True)
class Row:
    """A row of a source as it stands there, good or bad."""

    where: str
    """File and row it comes from."""
    raw: dict[str, Any] | None
    """Its columns; None where the row could not be read."""
    problem: str = ""
    """Why it could not be read; empty for a good row."""


def read_documents(
    source: str | Path, *, text_field: str = "text", id_field: str | None = None
) -> Iterator[Document]:
    """The documents of a source in order, one at a time.

    Args:
        source: record files (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.parquet`), a folder of those, a pattern such as
            `data/*.jsonl.gz`, a run folder, `hf://name[:split]`, plain text (`.txt`, `.md`, `.rst`; a file or a folder), or
            `stdlib:docs` or `stdlib:code`, the documentation and the bare code inside this Python installation.
        text_field: column of the text.
        id_field: column of the document's name. None: a hash of the text.

    Raises:
        BadInput: nothing is there, or at the first row that cannot be used; the message names file and row.
    """
    for row in read_rows(source, text_field=text_field):
        yield to_document(row, text_field=text_field, id_field=id_field)


def read_rows(source: str | Path, *, text_field: str = "text") -> Iterator[Row]:
    """The rows of a source in order; one that cannot be read comes with its `problem`, and reading goes on behind it.

    A plain text file is a row of two columns, `text_field` and `path`.

    Raises:
        BadInput: nothing is there.
    """
    if str(source) in STDLIB:
        for piece in STDLIB[str(source)]():
            yield Row(piece.name, {text_field: piece.text, "name": piece.name, "group": piece.group})
        return
    for part in _sources(str(source)):
        if files := _text_files(part):
            for path in files:
                yield _text_row(path, text_field)
            continue
        for where, raw in records.read_each(part):
            yield Row(where, None, str(raw)) if isinstance(raw, BadInput) else Row(where, raw)


def text_of(row: Row, text_field: str) -> str:
    """The text of a row.

    Raises:
        BadInput: the row could not be read, or has no string in that column.
    """
    if row.raw is None:
        raise BadInput(row.problem)
    text = row.raw.get(text_field)
    if text_field not in row.raw:
        names = ", ".join(f'"{name}"' for name in list(row.raw)[:8]) or "no columns"
        raise BadInput(
            f'{row.where}: field "{text_field}" is missing; the row has {names}. Name the column with --text-field.'
        )
    if not isinstance(text, str):
        raise BadInput(f'{row.where}: field "{text_field}" must be a string; got {type(text).__name__}.')
    return text


def to_document(row: Row, *, text_field: str = "text", id_field: str | None = None) -> Document:
    """A row as a document.

    Raises:
        BadInput: as in `text_of`, or the column of the name is missing.
    """
    text = text_of(row, text_field)
    raw = row.raw or {}
    name = text_id(text) if id_field is None else raw.get(id_field)
    if name is None or isinstance(name, (list, dict)):
        raise BadInput(
            f'{row.where}: field "{id_field}" is missing or no name. Name the column with --id-field.'
        )
    rest = {key: value for key, value in raw.items() if key not in (text_field, id_field)}
    return Document(str(name), text, rest, row.where)


def text_id(text: str) -> str:
    """A name made of the text alone, the same in every process.

    >>> text_id("a") == text_id("a") != text_id("b")
    True
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _sources(source: str) -> list[str]:
    """The source itself, or the files that a pattern stands for."""
    if source.startswith("hf://") or not glob.has_magic(source) or Path(source).exists():
        return [source]
    matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207  a pattern may be absolute
    if not matches:
        raise BadInput(f"{source}: no file has such a name.")
    return matches


def _text_files(source: str) -> list[Path]:
    """The plain text files that a source stands for; none when it stands for records."""
    path = Path(source)
    if path.suffix in TEXT_SUFFIXES:
        if not path.is_file():
            raise BadInput(f"{source} does not exist.")
        return [path]
    if source.startswith("hf://") or not path.is_dir() or is_run_folder(path):
        return []
    if any(child.name.endswith(records.SUFFIXES) and child.name[0] not in "._" for child in path.iterdir()):
        return []
    paths = (p for p in path.rglob("*") if p.suffix in TEXT_SUFFIXES and p.is_file())
    return sorted(p for p in paths if not any(part[0] in "._" for part in p.relative_to(path).parts))


def _text_row(path: Path, text_field: str) -> Row:
    try:
        return Row(str(path), {text_field: path.read_text("utf-8"), "path": str(path)})
    except UnicodeDecodeError:
        return Row(str(path), None, f"{path}: not UTF-8. Convert the file to UTF-8 first.")
    except OSError as error:
        return Row(str(path), None, f"{path}: cannot be read ({error.strerror}).")
