"""What a model is shown of a section: pieces in reading order, each with the number of its block."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, Section, section_id
from gnomon.methods.interleaved_retrieval.documents.tables import Format, linear_table

log = logging.getLogger(__name__)

PREFIX = -1
"""Number of the block of what stands in front of a section: title and heading."""

ORDER = {"image": 0, "text": 1, "table": 2}
"""Grouped as the paper does: images, then text, then tables."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a section is written for a model."""

    prefix: Literal["title", "heading", "both", "none"] = "both"
    """What stands in front of a section."""
    table_format: Literal["markdown", "html", "kv"] = "markdown"
    """How a table is written: markdown; html; kv names the column in front of every cell."""
    block_order: Literal["reading", "grouped"] = "reading"
    """reading: as the document has them; grouped: images, then text, then tables, as in the paper."""
    tile_images: int = 1
    """So many images of a section become one picture, side by side in two rows; 1: each is seen by itself. The paper: 4."""
    images: Literal["seen", "captions", "none"] = "seen"
    """seen: the picture, then its caption; captions: the caption alone; none: neither."""
    tables: bool = True
    """Whether tables are shown."""
    captions: bool = True
    """Whether captions of images are shown."""

    def __post_init__(self) -> None:
        if self.tile_images < 1:
            raise BadConfig(f"tile_images must be >= 1; got {self.tile_images}.")

    def without(self, *modalities: str) -> Form:
        """The same without "images" or "tables"."""
        form = replace(self, images="none") if "images" in modalities else self
        return replace(form, tables=False) if "tables" in modalities else form


@dataclass
class Troubles:
    """Blocks that could not be shown: name -> reason."""

    images: dict[str, str] = field(default_factory=dict)
    """Images that cannot be opened."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Blocks that did not fit."""
    empty: dict[str, str] = field(default_factory=dict)
    """Sections without anything to show."""

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.images) + len(self.dropped) + len(self.empty)

    def add(self, other: Troubles) -> None:
        """Take in those of another."""
        self.images |= other.images
        self.dropped |= other.dropped
        self.empty |= other.empty


Numbered = tuple[int, Any]
"""Number of a block in its section, `PREFIX` in front of all, and a piece: a string or a PIL image."""


def section_pieces(
    document: Document, number: int, form: Form, *, strict: bool = False, troubles: Troubles | None = None
) -> list[Numbered]:
    """The pieces of a section, each with the number of its block; none where nothing is to be shown.

    An image that cannot be opened is left out, with its caption kept, and noted in `troubles`.

    Args:
        document: whose section.
        number: of the section.
        form: how it is written.
        strict: such an image is an error.
        troubles: where it is noted.

    Raises:
        BadInput: strict, and an image cannot be opened; document, section and block are named.
    """
    section = document.sections[number]
    blocks = list(enumerate(section.blocks))
    if form.block_order == "grouped":
        blocks.sort(key=lambda pair: ORDER[pair[1].type])
    pieces: list[Numbered] = []
    pictures: list[tuple[int, Any]] = []

    def flush() -> None:
        pieces.extend((numbers[0], image) for numbers, image in tiled(pictures, form.tile_images))
        pictures.clear()

    for i, block in blocks:
        if block.type == "image" and form.images == "seen":
            name = f'Image of block {i} in section {number} of document "{document.id}"'
            try:
                pictures.append((i, block.picture(name)))
            except BadInput as error:
                if strict:
                    raise
                if troubles is not None:
                    troubles.images[f"{section_id(document.id, number)}, block {i}"] = str(error)
            if form.tile_images == 1:
                flush()
        text = _text_of(block, form)
        if text:
            if not (block.type == "image" and form.tile_images > 1):
                flush()
            pieces.append((i, text))
    flush()
    if not any(i != PREFIX for i, _ in pieces) and not section.heading:
        return []
    front = prefix_of(document, section, form)
    return _spaced([(PREFIX, front), *pieces] if front else pieces)


def _text_of(block: Block, form: Form) -> str:
    """What a block says in words."""
    if block.type == "text":
        return block.text.strip()
    if block.type == "table":
        return linear_table(block, _format(form)) if form.tables else ""
    return block.caption.strip() if form.captions and form.images != "none" else ""


def _format(form: Form) -> Format:
    return form.table_format


def prefix_of(document: Document, section: Section, form: Form) -> str:
    """Title and heading, as far as they are wanted and differ."""
    wanted = {
        "title": [document.title],
        "heading": [section.heading],
        "both": [document.title, section.heading],
        "none": [],
    }
    return "\n".join(dict.fromkeys(text.strip() for text in wanted[form.prefix] if text.strip()))


def _spaced(pieces: list[Numbered]) -> list[Numbered]:
    """A line end between two texts."""
    spaced: list[Numbered] = []
    for i, piece in pieces:
        if isinstance(piece, str) and spaced and isinstance(spaced[-1][1], str):
            piece = f"\n{piece}"
        spaced.append((i, piece))
    return spaced


def tiled(pictures: Sequence[tuple[int, Any]], count: int) -> list[tuple[list[int], Any]]:
    """Pictures with the numbers of their blocks; of `count` each, one is made: two rows, each picture in a cell of equal size."""
    from PIL import Image

    if count == 1:
        return [([i], image) for i, image in pictures]
    tiles = []
    for first in range(0, len(pictures), count):
        group = pictures[first : first + count]
        if len(group) == 1:
            tiles.append(([group[0][0]], group[0][1]))
            continue
        columns = -(-len(group) // 2) if len(group) > 2 else len(group)
        rows = -(-len(group) // columns)
        width, height = max(p.width for _, p in group), max(p.height for _, p in group)
        whole = Image.new("RGB", (columns * width, rows * height), "white")
        for k, (_, picture) in enumerate(group):
            whole.paste(picture, (k % columns * width, k // columns * height))
        tiles.append(([i for i, _ in group], whole))
    return tiles


def query_pieces(query: Query) -> list[Numbered]:
    """The pieces of a query: its image first, then its text.

    Raises:
        BadInput: the image cannot be opened.
    """
    pieces: list[Numbered] = []
    if query.image is not None:
        pieces.append((0, query.block.picture(f'Image of query "{query.id}"')))
    if query.text.strip():
        pieces.append((1, query.text.strip()))
    return pieces


def plain_text(document: Document, number: int | None = None, form: Form = Form()) -> str:
    """A section, or all of a document, as text for encoders of text and for BM25: captions stand for images."""
    form = replace(form, images="captions" if form.images == "seen" else form.images)
    numbers = range(len(document.sections)) if number is None else [number]
    texts = ["".join(str(piece) for _, piece in section_pieces(document, i, form)) for i in numbers]
    return "\n\n".join(text for text in texts if text)


def key_of(document: Document, number: int, form: Form) -> str:
    """A hash of all that a section shows in this form, whatever its document is called."""
    import hashlib

    section = document.sections[number]
    digest = hashlib.blake2b(repr(form).encode(), digest_size=16)
    digest.update(prefix_of(document, section, form).encode("utf-8", "surrogatepass"))
    for block in section.blocks:
        digest.update(block.key.encode())
    return digest.hexdigest()
