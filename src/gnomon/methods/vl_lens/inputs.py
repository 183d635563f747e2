"""From a verb's settings to images, a model and plain arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.run import Run, artifact
from gnomon.errors import BadInput
from gnomon.methods.vl_lens import config
from gnomon.methods.vl_lens.coco import Objects
from gnomon.methods.vl_lens.images import ImageRow, read_images

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle
    from gnomon.methods.vl_lens.mitigation import Setting


def read_captions(cfg: config.Chair) -> Iterator[tuple[Any, str]]:
    """Image id and caption of every row.

    Raises:
        BadInput: the captions cannot be read, or a row lacks a column.
    """
    for where, raw in records.read_raw(artifact(Path(cfg.captions), "captions")):
        for key in (cfg.id_key, cfg.caption_key):
            if key not in raw:
                raise BadInput(
                    f'{where}: field "{key}" is missing. Name the columns with --id-key and --caption-key.'
                )
        yield raw[cfg.id_key], str(raw[cfg.caption_key])


def begin(cfg: Any, run: Run, *, passes: int, **costs: Any) -> tuple[list[ImageRow], ModelHandle]:
    """The images and the model, after the cost was told.

    Raises:
        BadInput: there are no images, or no model of the kind.
        ModelMismatch: the model sees no images.
        PlanShown: this is a dry run.
    """
    rows = read_images(Path(cfg.images))
    run.plan(images=len(rows), passes_per_image=passes, **costs)
    from gnomon.core.models import ModelHandle

    return rows, ModelHandle.load(cfg.model, kind="vlm", device=cfg.device, dtype=cfg.dtype)


def pictures_of(rows: Sequence[ImageRow]) -> list[Any]:
    """The images, opened.

    Raises:
        BadInput: one cannot be read; its id is named.
    """
    from gnomon.core.models.images import open_image

    return [open_image(row.path, f'Image "{row.image_id}"') for row in rows]


def check_known(rows: Sequence[ImageRow], truth: Objects) -> None:
    """Refuse an image whose objects are not known.

    Raises:
        BadInput: there is one.
    """
    for row in rows:
        if row.image_id not in truth:
            raise BadInput(
                f'Image "{row.image_id}" ({row.path}) is not in the given --objects. Add it there or leave it out.'
            )


def writing_of(cfg: Any) -> dict[str, Any]:
    """Arguments of everything that writes captions."""
    return {"beams": cfg.beams, "max_new_tokens": cfg.max_new_tokens, "batch_size": cfg.batch_size}


def reading_of(read: config.Reading) -> dict[str, Any]:
    """Arguments of `lens`."""
    return {"lens": read.lens, "topk": read.kept, "pieces": read.pieces, "layers": list(read.layers) or None}


def setting_of(edit: config.Editing) -> Setting:
    """Where and how strongly words are erased."""
    from gnomon.methods.vl_lens.mitigation import Setting

    return Setting(edit.text_layer, edit.edit_layer, edit.alpha, edit.joint)


def threshold_of(text: str) -> str | float:
    """A number where the text is one."""
    try:
        return float(text)
    except ValueError:
        return text
