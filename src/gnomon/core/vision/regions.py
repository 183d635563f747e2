"""Regions of images read from COCO files, YOLO rows and JSONL: those of boxes that cannot be used are counted by reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.vision.boxes import Form, Unit, clean, convert
from gnomon.core.vision.masks import Stored
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.rows import ImageRow, Left, image_id_of, inside
from gnomon.errors import BadInput


@dataclass(frozen=True)
class _Listed:
    image_id: int | str
    box: list[float]
    text: str | None = None
    score: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def with_regions(
    rows: Sequence[ImageRow],
    source: Path,
    *,
    names: Sequence[str] | None = None,
    form: Form = "xyxy",
    unit: Unit = "pixels",
) -> tuple[list[ImageRow], Left]:
    """The images with their regions.

    Args:
        rows: images.
        source: a COCO file (`.json` with `annotations`), a folder of YOLO files (`class x y w h`, in shares of the image, one row a
            region), or JSONL rows with `image_id`, `box` and perhaps `text` and `score`.
        names: of YOLO's classes by number; None: the number stands for the name.
        form: of boxes in JSONL.
        unit: of boxes in JSONL.

    Returns:
        All images, and what could not be used: regions by reason, images without regions, regions without an image.

    Raises:
        BadInput: the source cannot be read, or none of its regions is of an image.
    """
    if source.is_dir():
        regions, left = _yolo(rows, source, names)
    elif source.suffix.lower() == ".json" and "annotations" in (whole := _load(source)):
        regions, left = _coco_regions(rows, whole, source)
    else:
        regions, left = _jsonl(rows, source, form, unit)
    for row in rows:
        if row.image_id not in regions:
            left.add("images without regions", row.image_id)
    if not any(regions.values()):
        raise BadInput(f"{source}: none of its regions is of an image. {' '.join(left.sentences())}")
    return [replace(row, regions=(*row.regions, *regions.get(row.image_id, ()))) for row in rows], left


def read_coco(source: Path, folder: Path | None = None) -> tuple[list[ImageRow], Left]:
    """The images of a COCO file with their regions, in its order.

    Args:
        source: the file.
        folder: of the images; None: the file's own.

    Raises:
        BadInput: it is no COCO file, an image leads out of the folder, or a file is missing.
    """
    whole = _load(source)
    if not isinstance(whole.get("images"), list):
        raise BadInput(f'{source}: a COCO file has "images"; this one has {", ".join(whole) or "nothing"}.')
    folder = folder or source.parent
    rows = []
    for i, image in enumerate(whole["images"]):
        where = f"{source}, image {i}"
        if "file_name" not in image or "id" not in image:
            raise BadInput(
                f'{where}: an image needs "id" and "file_name". Images that are addresses alone are not fetched.'
            )
        path = inside(folder, str(image["file_name"]), where)
        if not path.is_file():
            raise BadInput(f'{where}: there is no file "{path}". Name the folder of the images.')
        rows.append(ImageRow(str(image["id"]), str(path)))
    if "annotations" not in whole:
        return rows, Left()
    regions, left = _coco_regions(rows, whole, source)
    return [replace(row, regions=tuple(regions.get(row.image_id, ()))) for row in rows], left


def _load(source: Path) -> dict[str, Any]:
    try:
        whole = json.loads(source.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{source} cannot be read as JSON ({error}).") from error
    return whole if isinstance(whole, dict) else {}


def _coco_regions(
    rows: Sequence[ImageRow], whole: Mapping[str, Any], source: Path
) -> tuple[dict[str, list[Region]], Left]:
    """Regions of each image in a COCO file; its images are found by id, or by the names of their files."""
    by_id, left = {row.image_id: row for row in rows}, Left()
    by_file = {Path(row.path).name: row.image_id for row in rows}
    ids = {
        str(i["id"]): by_file.get(Path(str(i.get("file_name", ""))).name)
        for i in whole.get("images", ())
        if "id" in i
    }
    classes = {c["id"]: str(c["name"]) for c in whole.get("categories", ())}
    regions: dict[str, list[Region]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for i, entry in enumerate(whole["annotations"]):
        where = f"{source}, annotation {i}"
        if "image_id" not in entry or "bbox" not in entry:
            raise BadInput(f'{where}: an annotation needs "image_id" and "bbox".')
        name = ids.get(str(entry["image_id"])) or str(entry["image_id"])
        if name not in by_id:
            left.add("regions without an image", name)
            continue
        region = Region(
            (0.0, 0.0, 0.0, 0.0), classes.get(entry.get("category_id"), entry.get("caption")), entry.get("score"),
            entry.get("segmentation") or None, bool(entry.get("iscrowd")),
        )  # fmt: skip
        _add(
            regions, left, by_id[name], sizes, [(convert(entry["bbox"], "xywh", "xyxy")[0].tolist(), region)]
        )
    return regions, left


def _yolo(
    rows: Sequence[ImageRow], folder: Path, names: Sequence[str] | None
) -> tuple[dict[str, list[Region]], Left]:
    by_stem = {Path(row.path).stem: row for row in rows}
    regions: dict[str, list[Region]] = {}
    left, sizes = Left(), {}  # type: ignore[var-annotated]
    for file in sorted(folder.glob("*.txt")):
        row = by_stem.get(file.stem)
        if row is None:
            left.add("files of regions without an image", file.name)
            continue
        regions.setdefault(row.image_id, [])
        size = _size(row, sizes)
        for where, numbers in _yolo_rows(file):
            label = int(numbers[0])
            if names is not None and not 0 <= label < len(names):
                raise BadInput(f"{where}: class {label} of {len(names)} names.")
            box = convert(numbers[1:5], "cxcywh", "xyxy", units=("unit", "pixels"), size=size)[0].tolist()
            score = numbers[5] if len(numbers) == 6 else None
            region = Region((0.0, 0.0, 0.0, 0.0), str(label) if names is None else names[label], score)
            _add(regions, left, row, sizes, [(box, region)])
    return regions, left


def _yolo_rows(file: Path) -> Iterator[tuple[str, list[float]]]:
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError as error:
            raise BadInput(f"{where}: {error}. A row is: class x y w h.") from error
        if len(numbers) not in (5, 6):
            raise BadInput(
                f"{where}: {len(numbers)} numbers. A row is class x y w h, in shares of the image."
            )
        yield where, numbers


def _jsonl(
    rows: Sequence[ImageRow], source: Path, form: Form, unit: Unit
) -> tuple[dict[str, list[Region]], Left]:
    by_id, left = {row.image_id: row for row in rows}, Left()
    regions: dict[str, list[Region]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for where, raw in records.read_raw(source):
        listed = records.parse(raw, _Listed, where)
        name = str(listed.image_id)
        name = name if name in by_id else image_id_of(Path(name))
        if name not in by_id:
            left.add("regions without an image", name)
            continue
        if len(listed.box) != 4:
            raise BadInput(f"{where}: a box has four numbers; got {len(listed.box)}.")
        size = _size(by_id[name], sizes)
        box = convert(listed.box, form, "xyxy", units=(unit, "pixels"), size=size)[0].tolist()
        region = Region((0.0, 0.0, 0.0, 0.0), listed.text, listed.score)
        _add(regions, left, by_id[name], sizes, [(box, region)])
    return regions, left


def _add(
    regions: dict[str, list[Region]],
    left: Left,
    row: ImageRow,
    sizes: dict[str, tuple[int, int]],
    boxes: Sequence[tuple[Sequence[float], Region]],
) -> None:
    """Put those whose box can be used with the image's others."""
    cleaned = clean([box for box, _ in boxes], _size(row, sizes))
    own = regions.setdefault(row.image_id, [])
    for box, i in zip(cleaned.boxes.tolist(), cleaned.kept, strict=True):
        own.append(replace(boxes[i][1], box=(box[0], box[1], box[2], box[3])))
    for reason in cleaned.dropped.values():
        left.add(f"regions left out, {reason}", row.image_id)


def _size(row: ImageRow, sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """The upright size of an image, read from the head of its file where it is not known."""
    if row.image_id not in sizes:
        sizes[row.image_id] = row.size or Stored.of(row.path, f'Image "{row.image_id}"').upright
    return sizes[row.image_id]
