"""Records in and out: JSONL (plain, .gz, .zst), Parquet, a folder of those, or a hub data set `hf://name`.

A row type is a dataclass. Rows are checked at the border: an error names the file and the line, and columns that the row type does
not know survive in its `meta` when it has one.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import IO, Any, Literal, TypeVar, cast

from gnomon.core.files import artifact
from gnomon.core.plain import to_plain
from gnomon.errors import BadInput, nearest

R = TypeVar("R")

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")
"""File endings that `read` and `write` know (`.json`: one array of objects, or JSONL)."""

_WORDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def read(source: str | Path, row: type[R], *, rename: Mapping[str, str] | None = None) -> Iterator[R]:
    """The records of a source, one at a time.

    Args:
        source: a file, a folder of record files (read in name order; names that begin with `_` or `.` are skipped), a run
            folder (its artifact `records`), or `hf://name`, `hf://name:split` or `hf://name:config:split`.
        row: dataclass to fill.
        rename: column in the source -> field of `row`.

    Raises:
        BadInput: the source cannot be read or a record does not fit; the message names file, line and field.
    """
    for where, raw in read_raw(source):
        yield parse(raw, row, where, rename)


def read_raw(source: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a source as dicts, each with the place it came from ("pages.jsonl, line 3").

    Raises:
        BadInput: the source cannot be read, or at the first line that is not a record.
    """
    for where, raw in read_each(source):
        if isinstance(raw, BadInput):
            raise raw
        yield where, raw


def read_each(source: str | Path) -> Iterator[tuple[str, dict[str, Any] | BadInput]]:
    """Like `read_raw`, but a line that is not a record comes as the error it is, and reading goes on behind it."""
    if str(source).startswith("hf://"):
        yield from _read_hub(str(source))
        return
    for path in files(Path(source)):
        if path.name.endswith(".parquet"):
            yield from _read_parquet(path)
        elif path.name.endswith(".json") and (rows := _whole_array(path)) is not None:
            for number, raw in enumerate(rows, 1):
                yield f"{path}, item {number}", _object(raw, f"{path}, item {number}")
        else:
            yield from _read_lines(path)


def read_stream(lines: Iterable[str], where: str = "stdin") -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a stream of JSON lines, each as soon as its line is there, with its place ("stdin, line 3").

    Blank lines are skipped.

    Raises:
        BadInput: at the first line that is no JSON object; the message has its number.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            position = f"{where}, line {number}"
            raw = _loads(line, position)
            if isinstance(raw, BadInput):
                raise raw from None
            yield position, raw


def send(record: Any, *sinks: IO[str]) -> None:
    """Write a record to streams as one JSON line that can be read at once."""
    for sink in sinks:
        sink.write(to_line(record))
        sink.flush()


def files(source: Path) -> list[Path]:
    """The record files behind a path, in name order.

    Raises:
        BadInput: nothing is there, or the ending is not one of `SUFFIXES`.
    """
    source = artifact(source, "records")
    if source.is_dir():
        paths = sorted(p for p in source.iterdir() if p.name.endswith(SUFFIXES) and p.name[0] not in "._")
        if not paths:
            raise BadInput(f"{source} holds no record files ({', '.join(SUFFIXES)}).")
        return paths
    if not source.exists():
        hint = ""
        if source.parent.is_dir():
            names = [p.name for p in source.parent.iterdir() if p.name.endswith(SUFFIXES)]
            hint = f" {nearest(source.name, names)}" if names else ""
        raise BadInput(f"{source} does not exist.{hint}")
    if not source.name.endswith(SUFFIXES):
        raise BadInput(f"{source}: unknown kind of file. Records come as {', '.join(SUFFIXES)}.")
    return [source]


@contextmanager
def open_bytes(path: Path, mode: Literal["r", "w"] = "r") -> Iterator[IO[bytes]]:
    """A byte stream over a plain, gzip or zstandard file."""
    if path.name.endswith(".gz"):
        # Name and time stay out of the header, so that the same records give the same bytes.
        with path.open(f"{mode}b") as raw, gzip.GzipFile("", f"{mode}b", fileobj=raw, mtime=0) as packed:
            yield cast(IO[bytes], packed)
    elif path.name.endswith(".zst"):
        import zstandard

        with zstandard.open(path, f"{mode}b") as packed:
            # zstandard's reader has no lines; the buffer adds them.
            yield io.BufferedReader(packed) if mode == "r" else packed
    else:
        with path.open(f"{mode}b") as stream:
            yield stream


def _read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadInput]]:
    number = 0
    try:
        with open_bytes(path) as stream:
            for number, line in enumerate(stream, 1):
                if not line.isspace():
                    where = f"{path}, line {number}"
                    yield where, _loads(line, where)
    except BadInput:
        raise
    except Exception as error:  # a damaged archive: each packer has an error class of its own
        if not isinstance(error, (OSError, EOFError)) and not type(error).__module__.startswith(
            ("zlib", "zstandard")
        ):
            raise
        raise BadInput(
            f"{path}, after line {number}: cannot be read on ({error}). Is the file complete?"
        ) from None


def _loads(line: bytes | str, where: str) -> dict[str, Any] | BadInput:
    try:
        return _object(json.loads(line.decode("utf-8") if isinstance(line, bytes) else line), where)
    except UnicodeDecodeError:
        return BadInput(f"{where}: not UTF-8. Convert the file to UTF-8 first.")
    except json.JSONDecodeError as error:
        return BadInput(f"{where}: not valid JSON ({error.msg} at column {error.colno}).")


def _whole_array(path: Path) -> list[Any] | None:
    """The items of a file that is one JSON array; None when it is not."""
    try:
        text = path.read_text("utf-8")
        loaded = json.loads(text) if text.lstrip().startswith("[") else None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as a JSON array ({error}).") from None
    return cast("list[Any] | None", loaded)


def _object(raw: Any, where: str) -> dict[str, Any] | BadInput:
    if isinstance(raw, dict):
        return raw
    return BadInput(f"{where}: a record is a JSON object; got {type(raw).__name__}.")


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1024):
            for raw in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", raw
    except (OSError, pyarrow.ArrowException) as error:
        raise BadInput(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}).") from None


def _read_hub(reference: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name, *rest = reference.removeprefix("hf://").split(":")
    if len(rest) > 2:
        raise BadInput(
            f"{reference}: a hub data set is written hf://name, hf://name:split or hf://name:config:split."
        )
    split = rest[-1] if rest else "train"
    import datasets

    try:
        stream = datasets.load_dataset(name, *rest[:-1], split=split or "train", streaming=True)
    except Exception as error:
        reason = shorten(str(error), 300, placeholder=" ...") or type(error).__name__
        raise BadInput(f"{reference}: the data set could not be opened ({reason}).") from None
    for number, raw in enumerate(stream, 1):
        yield f"{reference}, row {number}", dict(raw)


@cache
def _fields(row: Any) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(row)
    return {
        f.name: (hints[f.name], f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(row)
    }


def parse(raw: Mapping[str, Any], row: type[R], where: str, rename: Mapping[str, str] | None = None) -> R:
    """One record of type `row` from a dict.

    Raises:
        BadInput: a field is missing or has the wrong type; `where` begins the message.
    """
    fields = _fields(cast(Any, row))
    values = {(rename or {}).get(name, name): value for name, value in raw.items()}
    typed = {name: value for name, value in values.items() if name in fields and name != "meta"}
    for name, (kind, required) in fields.items():
        if name == "meta":
            continue
        if name not in typed:
            if required:
                raise BadInput(f'{where}: field "{name}" is missing. The record has {_names(raw)}.')
        elif not _fits(typed[name], kind):
            got = type(typed[name]).__name__
            raise BadInput(f'{where}: field "{name}" must be {_word(kind)}; got {got}.')
    if "meta" in fields:
        inherited = values.get("meta")
        rest = {name: value for name, value in values.items() if name not in fields}
        typed["meta"] = (dict(inherited) if isinstance(inherited, dict) else {}) | rest
    return row(**typed)


def _names(raw: Mapping[str, Any]) -> str:
    return ", ".join(f'"{name}"' for name in list(raw)[:8]) or "no fields"


def _fits(value: Any, kind: Any) -> bool:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in args)
    if kind is type(None):
        return value is None
    if origin is tuple and args[-1:] == (Ellipsis,):
        return isinstance(value, (list, tuple)) and all(_fits(item, args[0]) for item in value)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, args[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _word(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _word(part) for part in typing.get_args(kind))
    if origin in (list, tuple) and typing.get_args(kind):
        return f"a list of which each item is {_word(typing.get_args(kind)[0])}"
    return _WORDS.get(origin or kind, getattr(kind, "__name__", str(kind)))


def to_raw(record: Any) -> dict[str, Any]:
    """A record as a dict; what `meta` holds comes back as columns, so reading and writing keeps unknown columns."""
    raw: dict[str, Any] = to_plain(record)
    meta = raw.pop("meta", None) if dataclasses.is_dataclass(record) else None
    return raw | meta if isinstance(meta, dict) else raw


def write(path: Path, rows: Iterable[Any]) -> int:
    """Write records so that the file appears complete or not at all. Returns how many.

    Args:
        path: its ending chooses the format: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.
        rows: dataclass instances or dicts.

    Raises:
        BadInput: the ending is not one of these.
    """
    if not path.name.endswith(SUFFIXES) or path.name.endswith(".json"):
        raise BadInput(
            f"{path}: unknown kind of file. Records are written as .jsonl, .jsonl.gz, .jsonl.zst or .parquet."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        count = (
            _write_parquet(partial, rows) if path.name.endswith(".parquet") else _write_json(partial, rows)
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write_json(path: Path, rows: Iterable[Any]) -> int:
    count = 0
    with open_bytes(path, "w") as stream:
        for record in rows:
            stream.write(to_line(record).encode())
            count += 1
    return count


def to_line(record: Any) -> str:
    """A record as one line of JSONL, line end included."""
    raw = to_raw(record)
    line = json.dumps(raw, ensure_ascii=False)
    if not line.isascii():
        try:
            line.encode()
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form; its JSON escape keeps it
            line = json.dumps(raw)
    return line + "\n"


def _write_parquet(path: Path, rows: Iterable[Any]) -> int:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([to_raw(record) for record in rows])
    pyarrow.parquet.write_table(table, path, compression="zstd")
    return int(table.num_rows)
