"""Images in, records out: images from a file, a folder or a list in JSONL; records with sidecars of facts; pictures.

A step over images runs batch by batch, so that a run that was killed goes on behind the last finished batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core import env, records
from gnomon.core.config import fingerprint
from gnomon.core.data.execute import map_shards, parts
from gnomon.core.files import artifact, write_json
from gnomon.core.plain import to_plain
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.core.too_long import Long, TooLong, fit_rows, note_long, positions_of
from gnomon.core.vision import open_image
from gnomon.errors import BadInput
from gnomon.methods.vl_lens.captions.chair import Objects

if TYPE_CHECKING:
    from PIL.Image import Image

    from gnomon.core.models import ModelHandle

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of files that count as images in a folder."""

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
    match = _COCO.fullmatch(path.stem)
    return str(int(match[1])) if match else path.stem


def read_captions(
    source: Path, id_key: str = "image_id", caption_key: str = "caption"
) -> Iterator[tuple[Any, str]]:
    """Image id and caption of every row.

    Args:
        source: JSONL, or the folder of a caption run.
        id_key: column of the image id.
        caption_key: column of the caption.

    Raises:
        BadInput: the captions cannot be read, or a row lacks a column.
    """
    for where, raw in records.read_raw(artifact(source, "captions")):
        for key in (id_key, caption_key):
            if key not in raw:
                raise BadInput(
                    f'{where}: field "{key}" is missing. Name the columns with --id-key and --caption-key.'
                )
        if not isinstance(raw[caption_key], str):
            raise BadInput(
                f'{where}: field "{caption_key}" must be a string; got {type(raw[caption_key]).__name__}.'
            )
        yield raw[id_key], raw[caption_key]


def pictures_of(rows: Sequence[ImageRow]) -> list[Any]:
    """The images, opened.

    Raises:
        BadInput: one cannot be read; its id is named.
    """
    return [open_image(row.path, f'Image "{row.image_id}"') for row in rows]


def readable(run: Run, rows: Sequence[ImageRow]) -> list[ImageRow]:
    """The images that can be read; the others are left out, counted on the page, and listed with reasons in `skipped.jsonl`.

    Raises:
        BadInput: none can be read; the first reason is given.
    """
    good, skipped = [], []
    with run.progress(len(rows), "images read") as bar:
        for row in rows:
            try:
                (picture,) = pictures_of([row])
                good.append(replace(row, size=picture.size))
            except BadInput as error:
                skipped.append({"image_id": row.image_id, "image": row.path, "reason": str(error)})
            bar.advance()
    if not good:
        raise BadInput(f"None of {len(rows)} images can be read. {skipped[0]['reason']}")
    if skipped:
        records.write(run.artifact("skipped", run.folder / "skipped.jsonl"), skipped)
        run.missing(Shortfall("images", len(skipped), len(rows), skipped[0]["reason"]))
    return good


def that_fit(
    run: Run, handle: ModelHandle, rows: Sequence[ImageRow], prompt: str, how: TooLong
) -> list[ImageRow]:
    """The images that the model can read with the prompt; the others are left out, counted and listed in `too_long.jsonl`.

    Args:
        run: whose folder gets the list.
        handle: the model.
        rows: images that `readable` has opened.
        prompt: the question about them.
        how: `skip` or `error`.

    Raises:
        BadInput: none fits, or one does not and `how` is `error`.
    """
    positions, question = positions_of(handle.model), handle.prompt(prompt)
    if positions is None:
        return list(rows)
    lengths: dict[
        tuple[int, int] | None, int
    ] = {}  # how many tokens an image takes depends on its size alone
    kept: list[ImageRow] = []
    long: list[Long] = []
    for row in rows:
        if row.size not in lengths:
            lengths[row.size] = len(handle.see([question], pictures_of([row]))[0].ids)
        caption = handle.tokenizer.encode(row.caption, add_special_tokens=False) if row.caption else []
        ids = [0] * (lengths[row.size] + len(caption))
        # One position is left for the first token of a caption.
        fitted = fit_rows([ids], [row.image_id], positions - 1, how, model=str(handle.model.name_or_path))
        kept += [row] if fitted.kept else []
        long += fitted.long
    note_long(run, long, len(rows), "images")
    if not kept:
        first = long[0]
        raise BadInput(
            f'None of {len(rows)} images fits: "{first.id}" takes {first.tokens} tokens with the prompt, and the model reads '
            f"{first.room}. Use smaller images or a shorter prompt."
        )
    return kept


def check_truth(rows: Sequence[ImageRow], truth: Objects) -> None:
    """Refuse an image without ground truth.

    Raises:
        BadInput: there is one.
    """
    for row in rows:
        if row.image_id not in truth:
            raise BadInput(
                f'Image "{row.image_id}" ({row.path}) is not in the given --objects. Add it there or leave it out.'
            )


# Records with their sidecars, and pictures.

Step = Callable[[list[ImageRow]], Sequence[dict[str, Any]]]
"""Records of a batch of images, in order; any number per image."""


def facts(handle: ModelHandle, model: str, settings: Any) -> dict[str, Any]:
    """Content of a sidecar: the model, its number type, all settings of the verb and the versions of everything.

    Args:
        handle: the loaded model.
        model: its folder or hub id.
        settings: a dataclass or plain values.
    """
    return {
        "model": model,
        "architecture": type(handle.model).__name__,
        "dtype": str(handle.model.dtype).removeprefix("torch."),
        "layers": len(handle.sites.top.blocks),
        "settings": to_plain(settings),
        "versions": env.describe(),
    }


def over_images(
    run: Run, name: str, rows: Sequence[ImageRow], batch_size: int, step: Step, about: dict[str, Any]
) -> Path:
    """Run `step` over the images batch by batch, and leave its records in `NAME.jsonl` with their sidecar.

    A run that was killed goes on behind the last finished batch.

    Args:
        run: whose folder gets the file.
        name: of the file.
        rows: the images.
        batch_size: images per call.
        step: from a batch of images to records.
        about: content of the sidecar; see `facts`.
    """
    sink = run.folder / "_parts" / name
    with run.progress(len(rows), name) as bar:
        map_shards(
            partial(_on_batch, step),
            rows,
            sink,
            shard_rows=batch_size,
            settings=about["settings"],
            progress=bar,
        )
    path = run.folder / f"{name}.jsonl"
    records.write(path, (raw for part in parts(sink) for _, raw in records.read_raw(part)))
    sidecar(path, about)
    return run.artifact(name, path)


def _on_batch(step: Step, rows: Iterator[ImageRow]) -> Iterator[dict[str, Any]]:
    yield from step(list(rows))


def sidecar(path: Path, about: dict[str, Any]) -> Path:
    """Write facts about `path` beside it, as `NAME.json` for `NAME.jsonl`."""
    beside = path.with_suffix(".json")
    write_json(beside, about)
    return beside


def file_name(*names: str) -> str:
    """A file name made of ids and words, also where these hold signs that file names must not.

    >>> file_name("cat_1", "dog"), file_name("../cat", "hot dog")
    ('cat_1.dog', 'cat.hot-dog.2fb1b5')
    """
    plain = [re.sub(r"[^\w-]+", "-", name).strip("-") for name in names]
    changed = [] if plain == list(names) else [fingerprint(names, length=6)]
    return ".".join([*plain, *changed])


def overlay(picture: Image, heat: np.ndarray) -> Image:
    """The picture in dark grey with a heat map over it, in colour from its smallest value to its largest.

    Args:
        picture: any mode.
        heat: [H, W] of the picture's size.
    """
    from PIL import Image

    low, span = float(heat.min()), float(heat.max() - heat.min())
    share = (heat - low)[..., None] / span if span > 0 else np.zeros((*heat.shape, 1))
    grey = np.asarray(picture.convert("L"), np.float64)[..., None] * 0.6
    warm = np.array([255.0, 140.0, 20.0])
    return Image.fromarray((grey * (1 - 0.75 * share) + warm * 0.75 * share).round().astype(np.uint8))
