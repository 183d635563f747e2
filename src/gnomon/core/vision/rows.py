"""Images and what is true of each: from a file, a folder, a list in JSONL or a COCO file; regions and masks beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.vision.images import open_image
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

    from gnomon.core.vision.outlines import Region

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of files that count as images in a folder."""
MASK = "_mask"
"""End of the name of a mask that lies among images."""
NAMED = 10
"""Names that a message shows."""

_COCO = re.compile(r"(?:COCO_\w+_)?(\d{12})")


@dataclass(frozen=True)
class ImageRow:
    """One image."""

    image_id: str
    """Its name in every output."""
    path: str
    """Its file."""
    caption: str | None = None
    """A caption from the list; None where there is none."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; None before it was opened."""
    regions: tuple[Region, ...] = ()
    """What is known of its parts."""
    mask: str | None = None
    """File of its mask."""
    meta: dict[str, Any] = field(default_factory=dict, compare=False)
    """Further columns of the list."""


@dataclass(frozen=True)
class _Listed:
    image: str
    image_id: int | str | None = None
    caption: str | None = None
    mask: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class Left:
    """What could not be used, by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    """Reason -> how often."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the first names that it was about."""

    def add(self, reason: str, name: str) -> None:
        """Count a case."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.names.setdefault(reason, [])
        if len(names) < NAMED:
            names.append(name)

    def sentences(self) -> list[str]:
        """One for each reason, with the first names."""
        return [
            f"{count} {reason}: {', '.join(self.names[reason])}{' ...' if count > len(self.names[reason]) else ''}"
            for reason, count in self.counts.items()
        ]


def read_images(source: Path, masks: Path | None = None) -> list[ImageRow]:
    """The images at `source`, in the order of their names or of the list.

    A file's image id is its name without ending, or the number in it where it is named as COCO names its images.

    Args:
        source: an image, a folder of images, a list of them (JSONL with `image`, and perhaps `image_id`, `caption`, `mask`).
        masks: folder of the masks, see `with_masks`: where it is the folder of the images too, files whose name ends in `_mask`,
            and the PNG beside another file of the same name, are no images.

    Raises:
        BadInput: nothing is there, two images have the same id, a list leads out of its folder or names addresses.
    """
    if source.is_dir():
        own = masks_among(source) if masks is not None and masks.resolve() == source.resolve() else set()
        rows = [_row(path) for path in sorted(source.iterdir()) if _is_image(path) and path not in own]
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


def masks_among(folder: Path) -> set[Path]:
    """The masks in a folder that holds images too: names that end in `_mask`, and a PNG beside another file of the same name."""
    files = [path for path in folder.iterdir() if _is_image(path)]
    stems = [path.stem for path in files]
    return {
        path
        for path in files
        if path.stem.endswith(MASK) or (path.suffix.lower() == ".png" and stems.count(path.stem) > 1)
    }


def with_masks(rows: Sequence[ImageRow], folder: Path) -> tuple[list[ImageRow], Left]:
    """The images with the masks of a folder, paired by name, never by order.

    Args:
        rows: images, whose own masks stay.
        folder: of masks, each named as its image, with `_mask` behind it or not.

    Returns:
        All images, and which images and which masks have no partner.

    Raises:
        BadInput: the folder is none, two masks are of one image, or no mask is of an image.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder of masks.")
    images = {Path(row.path).resolve() for row in rows}
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_image(path) or path.resolve() in images:
            continue
        name = path.stem.removesuffix(MASK)
        if name in masks:
            raise BadInput(
                f'{folder}: "{masks[name].name}" and "{path.name}" are both the mask of "{name}". Take one away.'
            )
        masks[name] = path
    left, paired = Left(), []
    for row in rows:
        own = masks.pop(Path(row.path).stem, None)
        if own is None and row.mask is None:
            left.add("images without a mask", Path(row.path).name)
        paired.append(row if own is None else replace(row, mask=str(own)))
    for path in masks.values():
        left.add("masks without an image", path.name)
    if not any(row.mask for row in paired):
        raise BadInput(f"No mask in {folder} is named as an image. {' '.join(left.sentences())}")
    return paired, left


def pictures_of(rows: Sequence[ImageRow]) -> list[Image]:
    """The images, opened.

    Raises:
        BadInput: one cannot be read; its id is named.
    """
    return [open_image(row.path, f'Image "{row.image_id}"') for row in rows]


def inside(folder: Path, name: str, where: str) -> Path:
    """The path of a file that a list names, in the list's folder.

    Raises:
        BadInput: it leads out of the folder, or is an address.
    """
    if "://" in name:
        raise BadInput(
            f'{where}: "{name}" is an address, and nothing is downloaded here. Fetch the images first.'
        )
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f'{where}: "{name}" leads out of the folder of the list. Put the images beside it.')
    return path


def image_id_of(path: Path) -> str:
    """The name of an image in outputs, from its file's: without the ending, or COCO's number."""
    match = _COCO.fullmatch(path.stem)
    return str(int(match[1])) if match else path.stem


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _row(path: Path) -> ImageRow:
    return ImageRow(image_id_of(path), str(path))


def _listed(source: Path) -> Iterator[ImageRow]:
    folder = source.parent
    for where, raw in records.read_raw(source):
        _refuse_addresses(raw, where)
        row = records.parse(raw, _Listed, where)
        path = inside(folder, row.image, where)
        image_id = image_id_of(path) if row.image_id is None else str(row.image_id)
        mask = None if row.mask is None else str(inside(folder, row.mask, where))
        yield ImageRow(image_id, str(path), row.caption, mask=mask, meta=row.meta)


def _refuse_addresses(raw: Mapping[str, Any], where: str) -> None:
    if "image" not in raw and "url" in raw:
        raise BadInput(
            f"{where}: it has a url and no image, and nothing is downloaded here. Fetch the images first."
        )
