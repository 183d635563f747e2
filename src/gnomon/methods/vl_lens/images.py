"""The images that a verb reads: a file, a folder, or a list in JSONL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.errors import BadInput

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of files that count as images in a folder."""

_COCO = re.compile(r"(?:COCO_\w+_)?(\d{12})")


@dataclass(frozen=True)
class ImageRow:
    """One image to look at."""

    image_id: str
    """Its name in every output."""
    path: str
    """Where it is."""
    caption: str | None = None
    """A caption that came with it."""


@dataclass(frozen=True)
class _Listed:
    image: str
    image_id: int | str | None = None
    caption: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def read_images(source: Path) -> list[ImageRow]:
    """The images at `source`, in the order of their names or of the list.

    A file's image id is its name without ending, or the number in it where it is named as COCO names its images.

    Raises:
        BadInput: nothing is there, two images have the same id, or a list leads out of its folder.
    """
    if source.is_dir():
        rows = [_row(path) for path in sorted(source.iterdir()) if path.suffix.lower() in SUFFIXES]
        if not rows:
            raise BadInput(f"{source} holds no images ({', '.join(SUFFIXES)}).")
    elif source.suffix.lower() in SUFFIXES and source.exists():
        rows = [_row(source)]
    elif source.name.endswith(records.SUFFIXES):
        rows = list(_listed(source))
        if not rows:
            raise BadInput(f"{source} lists no images.")
    elif source.exists():
        raise BadInput(f"{source}: not an image ({', '.join(SUFFIXES)}) and not a list of images (.jsonl).")
    else:
        raise BadInput(f"{source} does not exist. Name an image, a folder of images or a JSONL list of them.")
    seen: set[str] = set()
    for row in rows:
        if row.image_id in seen:
            raise BadInput(
                f'{source}: two images have the id "{row.image_id}". Give them an "image_id" each in a JSONL list.'
            )
        seen.add(row.image_id)
    return rows


def _row(path: Path) -> ImageRow:
    return ImageRow(_image_id(path), str(path))


def _listed(source: Path) -> Iterator[ImageRow]:
    folder = source.parent
    for where, raw in records.read_raw(source):
        row = records.parse(raw, _Listed, where)
        path = folder / row.image
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BadInput(
                f'{where}: "{row.image}" leads out of the folder of the list. Put the images beside it.'
            )
        image_id = _image_id(path) if row.image_id is None else str(row.image_id)
        yield ImageRow(image_id, str(path), row.caption)


def _image_id(path: Path) -> str:
    found = _COCO.fullmatch(path.stem)
    return str(int(found[1])) if found else path.stem
