"""Images with captions and regions, out of the forms in which users have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core.vision.boxes import clean, convert
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.regions import read_coco, with_regions
from gnomon.core.vision.rows import ImageRow, Left, read_images
from gnomon.errors import BadInput
from gnomon.methods.cloc.training.training import Labelled

LEAST_PART = 16
"""Pixels of the smallest connected part of a mask that becomes a region."""


@dataclass(frozen=True)
class Source:
    """Where images and their regions are."""

    images: str
    """An image, a folder, a JSONL list (`image`, `caption`, perhaps `regions`, or GRIT's `ref_exps`/`noun_chunks`), a COCO file."""
    regions: str | None = None
    """A COCO file, a folder of YOLO rows or of class-index masks, Visual Genome's region file, JSONL; None: the list's own."""
    names: str | None = None
    """File with the names of classes by number: one a line, or YAML with `names`."""


def read_rows(source: Source) -> tuple[list[ImageRow], Left]:
    """Images with their regions, if there are any, and what could not be used.

    Raises:
        BadInput: nothing can be read.
    """
    path, left = Path(source.images), Left()
    rows = read_coco(path)[0] if path.suffix == ".json" else read_images(path)
    rows = [_with_own(row, left) for row in rows]
    if source.regions is None:
        return rows, left
    names = None if source.names is None else read_names(Path(source.names))
    regions = Path(source.regions)
    if regions.is_dir() and any(regions.glob("*.png")) and not any(regions.glob("*.txt")):
        return [_with_parts(row, regions, names, left) for row in rows], left
    if regions.suffix == ".json" and _is_genome(regions):
        return _with_genome(rows, regions, left), left
    rows, more = with_regions(rows, regions, names=names)
    for reason, count in more.counts.items():
        for name in more.names[reason]:
            left.add(reason, name)
        left.counts[reason] = left.counts.get(reason, 0) - len(more.names[reason]) + count
    return rows, left


def labelled(rows: Sequence[ImageRow]) -> tuple[list[Labelled], Left]:
    """Images to learn from: one without a caption is described by the texts of its regions, one without either is left out."""
    items, left = [], Left()
    for row in rows:
        regions = tuple(region for region in row.regions if region.text and not region.is_crowd)
        caption = row.caption or " and ".join(dict.fromkeys(str(region.text) for region in regions))
        if not caption:
            left.add("images without a caption or a region's text", row.image_id)
            continue
        items.append(Labelled(row, caption, regions, row.size))
    return items, left


def read_names(file: Path) -> list[str]:
    """Names of classes by number; a number without a name has itself for one.

    Lines, or YAML with `names`, count classes from 0. YAML with `classes` has names by the values of a mask, 0 being no class.

    Raises:
        BadInput: there is no such file, or it holds no names.
    """
    if not file.is_file():
        raise BadInput(f"{file} does not exist.")
    text = file.read_text("utf-8")
    names: Any = [line.strip() for line in text.splitlines() if line.strip()]
    if file.suffix in (".yaml", ".yml"):
        import yaml

        whole = yaml.safe_load(text)
        names = whole
        if isinstance(whole, Mapping):
            names = whole.get("names")
            if names is None and isinstance(by_value := whole.get("classes"), Mapping):
                names = {int(value) - 1: name for value, name in by_value.items() if int(value) > 0}
    if isinstance(names, Mapping):
        names = [str(names.get(i, i)) for i in range(max(map(int, names), default=-1) + 1)]
    if not names:
        raise BadInput(
            f"{file} holds no names: one a line, or YAML with `names`, or with `classes` by the values of masks."
        )
    return [str(name) for name in names]


def _with_own(row: ImageRow, left: Left) -> ImageRow:
    """Regions that stand in the image's own row, in pixels or, as GRIT has them, in shares of the image."""
    listed, unit = row.meta.get("regions"), "pixels"
    if listed is None:
        listed, unit = list(_grit(row)), "unit"
    if not listed:
        return row
    size = row.size
    if size is None and row.meta.get("width") and row.meta.get("height"):
        size = (int(row.meta["width"]), int(row.meta["height"]))
    if size is None:
        from gnomon.core.vision.masks import Stored

        size = Stored.of(row.path, f'Image "{row.image_id}"').upright
    width, height = size
    boxes, texts = [], []
    for entry in listed:
        box = entry.get("box") if isinstance(entry, Mapping) else None
        if not isinstance(box, Sequence) or len(box) != 4:
            left.add("regions left out, no box of four numbers", row.image_id)
            continue
        boxes.append([float(n) for n in box])
        texts.append((entry.get("text"), entry.get("score")))
    cleaned = clean(
        convert(boxes, "xyxy", "xyxy", units=("unit" if unit == "unit" else "pixels", "pixels"), size=(width, height)),
        (width, height),
    )  # fmt: skip
    for reason in cleaned.dropped.values():
        left.add(f"regions left out, {reason}", row.image_id)
    regions = [
        Region((b[0], b[1], b[2], b[3]), *texts[i])
        for b, i in zip(cleaned.boxes.tolist(), cleaned.kept, strict=True)
    ]
    return replace(row, regions=tuple(regions), size=(width, height))


def _grit(row: ImageRow) -> Iterator[dict[str, Any]]:
    """Phrases of a caption with boxes in shares of the image: start, end, x1, y1, x2, y2, score (GRIT)."""
    for entry in row.meta.get("ref_exps") or row.meta.get("noun_chunks") or ():
        start, end, *box, score = entry
        yield {"box": box, "text": (row.caption or "")[int(start) : int(end)].strip(), "score": score}


def _is_genome(file: Path) -> bool:
    with file.open(encoding="utf-8") as stream:
        return stream.read(64).lstrip().startswith("[")


def _with_genome(rows: Sequence[ImageRow], file: Path, left: Left) -> list[ImageRow]:
    """Visual Genome's region descriptions: x, y, width, height and phrase."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for image in json.loads(file.read_text("utf-8")):
        for region in image.get("regions", ()):
            by_id.setdefault(str(region.get("image_id", image.get("id"))), []).append(region)
    results = []
    for row in rows:
        own = by_id.pop(row.image_id, None)
        if own is None:
            left.add("images without regions", row.image_id)
            results.append(row)
            continue
        listed = [
            {"box": [r["x"], r["y"], r["x"] + r["width"], r["y"] + r["height"]], "text": r.get("phrase")}
            for r in own
        ]
        results.append(_with_own(replace(row, meta={**row.meta, "regions": listed}), left))
    for name in by_id:
        left.add("regions without an image", name)
    if not any(row.regions for row in results):
        raise BadInput(f"{file}: none of its regions is of an image. {' '.join(left.sentences())}")
    return results


def _with_parts(row: ImageRow, folder: Path, names: Sequence[str] | None, left: Left) -> ImageRow:
    """Boxes of the connected parts of a class-index mask; 0 is background, class i has the value i + 1."""
    from PIL import Image
    from scipy import ndimage

    file = folder / f"{Path(row.path).stem}.png"
    if not file.is_file():
        left.add("images without a mask", row.image_id)
        return row
    values = np.asarray(Image.open(file))
    if values.ndim != 2:
        raise BadInput(f"{file}: a mask of classes has one channel; this one has {values.shape[-1]}.")
    regions = []
    for value in sorted(set(np.unique(values).tolist()) - {0}):
        name = str(value - 1) if names is None or value > len(names) else names[value - 1]
        parts, count = ndimage.label(values == value)
        for number, where in enumerate(ndimage.find_objects(parts, count), 1):
            if int((parts[where] == number).sum()) < LEAST_PART:
                left.add(f"parts of fewer than {LEAST_PART} pixels", row.image_id)
                continue
            rows_here, columns = where
            regions.append(Region((columns.start, rows_here.start, columns.stop, rows_here.stop), name))
    return replace(row, regions=tuple(regions), size=(values.shape[1], values.shape[0]))
