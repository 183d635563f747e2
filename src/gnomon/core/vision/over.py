"""Steps over images batch by batch, so that a run that was killed goes on behind the last one; records with sidecars of facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core import env, records
from gnomon.core.config import fingerprint
from gnomon.core.data.execute import map_shards, parts
from gnomon.core.files import write_json
from gnomon.core.plain import to_plain
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.core.vision.rows import ImageRow, pictures_of
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle

Step = Callable[[list[ImageRow]], Sequence[dict[str, Any]]]
"""Records of a batch of images, in order; any number per image."""


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
