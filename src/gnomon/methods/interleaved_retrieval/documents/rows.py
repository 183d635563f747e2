"""Documents, sections, blocks and queries as rows of JSONL or Parquet."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from gnomon.core import records
from gnomon.core.vision import open_image
from gnomon.errors import BadInput

Kind = Literal["text", "image", "table"]
KINDS = ("text", "image", "table")


@dataclass(frozen=True)
class Block:
    """A paragraph, a picture or a table of a section."""

    type: Kind
    """text, image or table."""
    text: str = ""
    """Of a text."""
    image: Any = None
    """Of an image: the path of a file, bytes of one, or a PIL image; None where there is none to open, with a `problem`."""
    caption: str = ""
    """Of an image or a table."""
    header: tuple[str, ...] = ()
    """Of a table: the names of its columns; may be empty."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Of a table: cells, as many in each row."""
    problem: str = ""
    """Why its image cannot be opened, where that is clear without trying."""

    @cached_property
    def key(self) -> str:
        """A hash of what it shows, whatever its files are called."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (
            self.type,
            self.text,
            self.caption,
            *self.header,
            *(c for row in self.rows for c in row),
        ):
            digest.update(f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
        digest.update(f"{len(self.rows)} {len(self.header)}".encode())
        if isinstance(self.image, bytes):
            digest.update(self.image)
        elif isinstance(self.image, str | Path):
            path = Path(self.image)
            digest.update(path.read_bytes() if path.is_file() else b"missing")
        elif self.image is not None:
            digest.update(f"{self.image.size} {self.image.mode}".encode() + self.image.tobytes())
        return digest.hexdigest()

    def picture(self, name: str) -> Any:
        """The image as RGB.

        Args:
            name: what an error calls it.

        Raises:
            BadInput: it cannot be opened.
        """
        if self.problem:
            raise BadInput(f"{name}: {self.problem}")
        return open_image(image_of(self.image, name) if isinstance(self.image, bytes) else self.image, name)

    @property
    def file(self) -> str:
        """The path of an image's file; empty where it has none."""
        return str(self.image) if isinstance(self.image, str | Path) else ""


def image_of(data: bytes, name: str) -> Any:
    """A PIL image of the bytes of a file.

    Raises:
        BadInput: they are no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(BytesIO(data))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{name} cannot be read as an image ({error}).") from error


@dataclass(frozen=True)
class Section:
    """What stands below a heading."""

    heading: str
    """May be empty."""
    blocks: tuple[Block, ...]
    """In reading order."""


@dataclass(frozen=True)
class Document:
    """A document of sections."""

    id: str
    """Its name."""
    title: str
    """May be empty."""
    sections: tuple[Section, ...]
    """In reading order."""
    meta: dict[str, Any] = field(default_factory=dict)
    """The other columns of its row."""


@dataclass(frozen=True)
class Query:
    """What is searched for."""

    id: str
    """Its name."""
    text: str
    """May be empty where there is an image."""
    image: Any = None
    """As in `Block`."""

    @property
    def block(self) -> Block:
        """Its image as a block."""
        return Block("image", image=self.image)


def section_id(document: str, number: int) -> str:
    """The name of a section, from which that of its document can be read back.

    >>> section_id("a #1", 3)
    'a%20%231#3'
    """
    return f"{encoded(document)}#{number}"


def encoded(document: str) -> str:
    """A document's id without white space, # and %, as it stands in front of a section's number."""
    return re.sub(r"[\s%#]", lambda match: quote(match[0], safe=""), document)


def parse_document(raw: Mapping[str, Any], where: str, folder: Path, number: int = 0) -> Document:
    """A row as a document.

    Args:
        raw: `id`, `title`, `sections`; or `texts` and `images`, two lists of equal length, of which a place has one or the other.
        where: file and line, for errors.
        folder: what image paths are relative to, and never lead out of.
        number: of the row, its name where it has none.

    Raises:
        BadInput: it does not fit; the message names file, line and field.
    """
    name = str(raw.get("id") if raw.get("id") not in (None, "") else number)
    ours = {"id", "title", "sections", "texts", "images"}
    meta = {key: value for key, value in raw.items() if key not in ours}
    title = _text(raw.get("title"), "title", where)
    if raw.get("sections") is None and raw.get("texts") is not None:
        sections: list[Any] = [{"heading": "", "blocks": _interleaved(raw, where)}]
    else:
        sections = _listed(raw.get("sections"), "sections", where)
    return Document(
        name, title, tuple(_section(section, i, where, folder) for i, section in enumerate(sections)), meta
    )


def _section(raw: Any, i: int, where: str, folder: Path) -> Section:
    at = f"{where}: section {i}"
    if not isinstance(raw, Mapping):
        raise BadInput(f"{at} must be an object with heading and blocks.")
    blocks = [
        _block(block, f"{at}, block {k}", folder)
        for k, block in enumerate(_listed(raw.get("blocks"), "blocks", at))
    ]
    return Section(_text(raw.get("heading"), "heading", at), tuple(blocks))


def _block(raw: Any, at: str, folder: Path) -> Block:
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if kind not in KINDS:
        raise BadInput(f"{at}: type must be {', '.join(KINDS)}; got {kind!r}.")
    if kind == "text":
        if not isinstance(raw.get("text"), str):
            raise BadInput(f'{at}: field "text" must be a string.')
        return Block("text", text=raw["text"])
    caption = _text(raw.get("caption"), "caption", at)
    if kind == "table":
        header = [_cell(cell) for cell in raw.get("header") or ()]
        rows = [[_cell(cell) for cell in _listed(row, "rows", at)] for row in raw.get("rows") or ()]
        return table_block(header, rows, caption)
    image, problem = _image(raw, folder)
    return Block("image", image=image, caption=caption, problem=problem)


def table_block(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> Block:
    """A table whose rows all have as many cells: short ones are filled up with empty cells."""
    rows = [list(row) for row in rows]
    width = max([len(header), *map(len, rows)], default=0)
    filled = tuple((*row, *[""] * (width - len(row))) for row in rows)
    head = (*header, *[""] * (width - len(header))) if header else ()
    return Block("table", caption=caption, header=head, rows=filled)


def _image(raw: Mapping[str, Any], folder: Path) -> tuple[Any, str]:
    """The image of a row, and why there is none."""
    for value in (raw.get("bytes"), raw.get("image")):
        if isinstance(value, bytes):
            return value, ""
        if value is not None and not isinstance(value, str):
            return value, ""
    if isinstance(raw.get("b64"), str):
        try:
            return base64.b64decode(raw["b64"], validate=False), ""
        except (binascii.Error, ValueError):
            return None, "its b64 is not base64."
    path = raw.get("path") or raw.get("image")
    if isinstance(path, str):
        return within(folder, path)
    if isinstance(raw.get("url"), str):
        return None, f'"{raw["url"]}" is an address, and nothing is fetched. Download it and give its path.'
    return None, 'it has none of "path", "b64" and "bytes".'


def within(folder: Path, path: str) -> tuple[Path | None, str]:
    """A path below a folder, and why it is none."""
    whole = (folder / path).resolve()
    if not whole.is_relative_to(folder.resolve()):
        return None, f'"{path}" leads out of the folder of its document.'
    if not whole.is_file():
        return whole, f'there is no file "{path}".'
    return whole, ""


def _interleaved(raw: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    texts, images = _listed(raw["texts"], "texts", where), _listed(raw.get("images") or [], "images", where)
    if images and len(images) != len(texts):
        raise BadInput(f"{where}: {len(texts)} texts and {len(images)} images; the two lists go in step.")
    blocks: list[dict[str, Any]] = []
    for text, image in zip(texts, images or [None] * len(texts), strict=True):
        if text:
            blocks.append({"type": "text", "text": text})
        if image is not None:
            fields = image if isinstance(image, Mapping) else {"image": image}
            blocks.append(
                {"type": "image", **{key: value for key, value in fields.items() if value is not None}}
            )
    return blocks


def _listed(value: Any, name: str, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise BadInput(f'{where}: field "{name}" must be a list.')
    return list(value)


def _text(value: Any, name: str, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise BadInput(f'{where}: field "{name}" must be a string.')
    return value or ""


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Faulty:
    """A row that is no document or query."""

    id: str
    """File and line, or the document's id."""
    reason: str
    """Why."""


def read_documents(source: str | Path, *, limit: int | None = None) -> Iterator[Document | Faulty]:
    """The documents of a source in order; a row that is none comes as what is wrong with it.

    Args:
        source: record files, a folder of those, or a run of `import`; image paths are relative to the file.
        limit: only so many rows from the start.

    Raises:
        BadInput: nothing is there.
    """
    seen: set[str] = set()
    for number, (where, raw) in enumerate(records.read_each(source)):
        if limit is not None and number >= limit:
            return
        try:
            if isinstance(raw, BadInput):
                raise raw
            document = parse_document(raw, where, folder_of(where), number)
            if document.id in seen:
                raise BadInput(f'{where}: id "{document.id}" comes a second time.')
            seen.add(document.id)
            yield document
        except BadInput as error:
            yield Faulty(where, str(error))


def folder_of(where: str) -> Path:
    """The folder of the file that a row comes from, by the place that `records` gives it."""
    path = Path(where.rpartition(", ")[0] or where)
    return path.parent if path.parent != Path() else Path()


def parse_query(raw: Mapping[str, Any], where: str, folder: Path) -> Query:
    """A row as a query: `id`, `text` and perhaps `image`.

    Raises:
        BadInput: it does not fit.
    """
    if raw.get("id") in (None, ""):
        raise BadInput(f'{where}: field "id" is missing. Judgements name queries by it.')
    text = _text(raw.get("text"), "text", where)
    image: Any = None
    if raw.get("image") is not None:
        image, problem = _image({"image": raw["image"]}, folder)
        if problem:
            raise BadInput(f"{where}: image: {problem}")
    if not text.strip() and image is None:
        raise BadInput(f"{where}: a query needs a text or an image.")
    return Query(str(raw["id"]), text, image)


def read_queries(source: str | Path, *, limit: int | None = None) -> Iterator[Query | Faulty]:
    """The queries of a source in order; a row that is none comes as what is wrong with it."""
    for number, (where, raw) in enumerate(records.read_each(source)):
        if limit is not None and number >= limit:
            return
        try:
            if isinstance(raw, BadInput):
                raise raw
            yield parse_query(raw, where, folder_of(where))
        except BadInput as error:
            yield Faulty(where, str(error))


def as_row(document: Document, folder: Path | None = None) -> dict[str, Any]:
    """A document as a row that `parse_document` reads back; images by path, relative to `folder` where they lie below it."""

    def block(part: Block) -> dict[str, Any]:
        if part.type == "text":
            return {"type": "text", "text": part.text}
        if part.type == "table":
            table = {"header": list(part.header), "rows": [list(row) for row in part.rows]}
            return {"type": "table", "caption": part.caption, **table}
        if isinstance(part.image, bytes):
            return {"type": "image", "b64": base64.b64encode(part.image).decode(), "caption": part.caption}
        path = Path(part.file)
        # Both from the root: a run's folder is mostly named from where one stands.
        if part.file and folder is not None and path.absolute().is_relative_to(folder.absolute()):
            path = path.absolute().relative_to(folder.absolute())
        return {"type": "image", "path": path.as_posix(), "caption": part.caption}

    sections = [{"heading": s.heading, "blocks": [block(b) for b in s.blocks]} for s in document.sections]
    return {"id": document.id, "title": document.title, "sections": sections, **document.meta}
