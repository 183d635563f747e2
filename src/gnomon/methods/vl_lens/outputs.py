"""What verbs leave beside their records: pictures, and sidecars that say how everything was made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core import env, records
from gnomon.core.config import fingerprint
from gnomon.core.data.execute import map_shards, parts
from gnomon.core.files import write_json
from gnomon.core.models import ModelHandle
from gnomon.core.plain import to_plain
from gnomon.core.run import Run
from gnomon.methods.vl_lens.images import ImageRow

if TYPE_CHECKING:
    from PIL.Image import Image

Step = Callable[[list[ImageRow]], Sequence[dict[str, Any]]]
"""Records of a batch of images, in order; any number per image."""


def facts(handle: ModelHandle, cfg: Any) -> dict[str, Any]:
    """What a sidecar says: the model, its number type, all settings of the verb and the versions of everything."""
    return {
        "model": cfg.model,
        "architecture": type(handle.model).__name__,
        "dtype": str(handle.model.dtype).removeprefix("torch."),
        "layers": len(handle.sites.top.blocks),
        "settings": to_plain(cfg),
        "versions": env.describe(),
    }


def over_images(
    run: Run, name: str, rows: Sequence[ImageRow], batch_size: int, step: Step, said: dict[str, Any]
) -> Path:
    """Run `step` over the images batch by batch, and leave its records in `NAME.jsonl` with their sidecar.

    A run that was killed goes on behind the last finished batch.

    Args:
        run: whose folder gets the file.
        name: of the file.
        rows: the images.
        batch_size: images per call.
        step: makes records.
        said: content of the sidecar.
    """
    sink = run.folder / "_parts" / name
    with run.progress(len(rows), name) as bar:
        map_shards(
            partial(_on_batch, step),
            rows,
            sink,
            shard_rows=batch_size,
            settings=said["settings"],
            progress=bar,
        )
    path = run.folder / f"{name}.jsonl"
    records.write(path, (raw for part in parts(sink) for _, raw in records.read_raw(part)))
    sidecar(path, said)
    return run.artifact(name, path)


def _on_batch(step: Step, rows: Iterator[ImageRow]) -> Iterator[dict[str, Any]]:
    yield from step(list(rows))


def sidecar(path: Path, said: dict[str, Any]) -> Path:
    """Write what is said about `path` beside it, as `NAME.json` for `NAME.jsonl`."""
    beside = path.with_suffix(".json")
    write_json(beside, said)
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
