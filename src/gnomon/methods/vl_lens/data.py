"""What vl-lens asks of images beyond `core.vision`: captions of lists, which images a model can read, and their ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.files import artifact
from gnomon.core.run import Run
from gnomon.core.too_long import Long, TooLong, fit_rows, note_long, positions_of
from gnomon.core.vision.rows import ImageRow, pictures_of
from gnomon.errors import BadInput
from gnomon.methods.vl_lens.captions.chair import Objects

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle


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
