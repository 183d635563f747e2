"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core import records
from gnomon.core.config import check, narrow
from gnomon.core.files import write_json
from gnomon.core.models import ModelHandle
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.run import Run
from gnomon.core.vision.draw import overlay
from gnomon.core.vision.over import facts, file_name, over_images, readable, sidecar
from gnomon.core.vision.rows import ImageRow, pictures_of, read_images
from gnomon.methods.vl_lens import config, report
from gnomon.methods.vl_lens.captions import chair as chairs
from gnomon.methods.vl_lens.captions.captions import Writing, describe
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.data import check_truth, read_captions, that_fit
from gnomon.methods.vl_lens.erasure import mitigation
from gnomon.methods.vl_lens.erasure.mitigation import Rewritten, Setting, rewrite
from gnomon.methods.vl_lens.erasure.sweep import halves, sweep_halves, writer
from gnomon.methods.vl_lens.lens import detection, masks
from gnomon.methods.vl_lens.lens import lens as lenses
from gnomon.methods.vl_lens.lens.detection import Detection
from gnomon.methods.vl_lens.lens.lens import LensResult, Reading


def caption(cfg: config.Caption, run: Run) -> None:
    """Captions of images."""
    rows, handle = _begin(cfg, run, passes=1)
    vocabulary, writing = Vocabulary.read(cfg.synonyms), _writing(cfg)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        texts = describe(handle, pictures_of(batch), cfg.prompt, writing)
        return [
            {"image_id": row.image_id, "caption": text, "objects": vocabulary.objects(text)}
            for row, text in zip(batch, texts, strict=True)
        ]

    path = over_images(run, "captions", rows, cfg.batch_size, step, facts(handle, cfg.model, cfg))
    report.captions(run.page, _rows_of(path))


def lens(cfg: config.Lens, run: Run) -> None:
    """How strongly and where the image tokens carry words, layer by layer."""
    check(bool(cfg.words), "words", "one or more words", cfg.words)
    rows, handle = _begin(cfg, run, passes=1)
    about, reading = facts(handle, cfg.model, cfg), _reading(cfg.read)
    maps = run.folder / "maps"
    maps.mkdir(exist_ok=True)

    def read(pictures: Sequence[Any]) -> LensResult:
        return lenses.lens(handle, pictures, cfg.prompt, cfg.words, reading, batch_size=cfg.batch_size)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        pictures = pictures_of(batch)
        result = read(pictures)
        table = []
        for b, row in enumerate(batch):
            table += [{"image_id": row.image_id, **peak} for peak in result.peaks(b)]
            for word in cfg.words if result.layouts[b].tiles else ():
                target = maps / f"{file_name(row.image_id, word)}.png"
                overlay(pictures[b], result.heatmap(b, word)).save(target)
                sidecar(target, about | {"image_id": row.image_id, "word": word})
        return table

    path = over_images(run, "lens", rows, cfg.batch_size, step, about)
    run.artifact("maps", maps)
    report.confidences(run.page, [row.image_id for row in rows], _rows_of(path), cfg.read.lens)
    if shown := rows[: cfg.shown]:
        pictures = pictures_of(shown)
        result = read(pictures)
        run.page.section("Look inside")
        for b, row in enumerate(shown):
            report.explore(run.page, result, b, pictures[b], name=row.image_id, lens=cfg.read.lens)


def detect(cfg: config.Detect, run: Run) -> None:
    """Objects in captions that the image tokens do not support."""
    vocabulary = Vocabulary.read(cfg.synonyms)
    truth = chairs.read_objects(cfg.objects, vocabulary)
    rows, handle = _begin(cfg, run, passes=3)
    if cfg.objects:
        check_truth(rows, truth)
    how = Detection(vocabulary, cfg.threshold, _writing(cfg), _reading(cfg.read))

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        pictures = pictures_of(batch)
        without = [picture for row, picture in zip(batch, pictures, strict=True) if row.caption is None]
        written = iter(describe(handle, without, cfg.prompt, how.writing))
        texts = [next(written) if row.caption is None else row.caption for row in batch]
        by_image = detection.detect(handle, pictures, texts, how=how, prompt=cfg.prompt)
        return [
            {
                "image_id": row.image_id,
                **asdict(finding),
                **({"is_hallucinated": finding.object not in truth[row.image_id]} if cfg.objects else {}),
            }
            for row, findings in zip(batch, by_image, strict=True)
            for finding in findings
        ]

    path = over_images(run, "detections", rows, cfg.batch_size, step, facts(handle, cfg.model, cfg))
    table = _rows_of(path)
    scored = []
    if cfg.objects and table:
        labels = [raw.pop("is_hallucinated") for raw in table]
        findings = [detection.Finding(**{k: v for k, v in raw.items() if k != "image_id"}) for raw in table]
        scored = [{"score": name, **values} for name, values in detection.score(findings, labels).items()]
    for row in scored:
        run.log(**row)
    report.detections(run.page, table, scored)


def erase(cfg: config.Erase, run: Run) -> None:
    """Captions before and after words are erased from the image tokens."""
    check(bool(cfg.words), "words", "one or more words", cfg.words)
    rows, handle = _begin(cfg, run, passes=2)
    vocabulary, writing = Vocabulary.read(cfg.synonyms), _writing(cfg)

    def change(pictures: Sequence[Any]) -> list[Rewritten]:
        before = describe(handle, pictures, cfg.prompt, writing)
        words = [list(cfg.words)] * len(pictures)
        after = rewrite(handle, pictures, cfg.prompt, words, _setting(cfg.edit), writing)
        return [Rewritten.of(a, b, cfg.words, vocabulary) for a, b in zip(before, after, strict=True)]

    _rewrite(run, rows, vocabulary, change, cfg.batch_size, facts(handle, cfg.model, cfg))


def mitigate(cfg: config.Mitigate, run: Run) -> None:
    """Captions without the objects that the image tokens do not support."""
    rows, handle = _begin(cfg, run, passes=2 + 2 * cfg.iterations)
    vocabulary = Vocabulary.read(cfg.synonyms)
    how = Detection(vocabulary, cfg.threshold, _writing(cfg), _reading(cfg.read))

    def change(pictures: Sequence[Any]) -> list[Rewritten]:
        return mitigation.mitigate(
            handle, pictures, _setting(cfg.edit), how, prompt=cfg.prompt, iterations=cfg.iterations
        )

    _rewrite(run, rows, vocabulary, change, cfg.batch_size, facts(handle, cfg.model, cfg))


def segment(cfg: config.Segment, run: Run) -> None:
    """Masks of what a word names."""
    from PIL import Image

    rows, handle = _begin(cfg, run, passes=1)
    about, threshold, reading = facts(handle, cfg.model, cfg), _threshold(cfg.threshold), _reading(cfg.read)
    folder = run.folder / "masks"
    folder.mkdir(exist_ok=True)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        table = []
        for row, picture in zip(batch, pictures_of(batch), strict=True):
            mask, heat = masks.segment(handle, picture, cfg.word, threshold, reading, prompt=cfg.prompt)
            name = file_name(row.image_id, cfg.word)
            Image.fromarray((np.asarray(mask) * 255).astype(np.uint8)).save(folder / f"{name}.png")
            overlay(picture, np.asarray(heat) * mask).save(folder / f"{name}.overlay.png")
            np.save(folder / f"{name}.npy", np.asarray(heat, np.float32))
            sidecar(folder / f"{name}.png", about | {"image_id": row.image_id})
            shares = {"share": float(np.mean(mask)), "peak": float(np.max(heat))}
            table.append({"image_id": row.image_id, "word": cfg.word, "mask": f"masks/{name}.png", **shares})
        return table

    path = over_images(run, "segments", rows, cfg.batch_size, step, about)
    run.artifact("masks", folder)
    report.segments(run.page, _rows_of(path), cfg.word, run.folder)


def sweep(cfg: config.Sweep, run: Run) -> None:
    """The setting that erases most hallucinated objects and few others."""
    check(bool(cfg.objects), "objects", "one or more files that say what is in the images", cfg.objects)
    vocabulary = Vocabulary.read(cfg.synonyms)
    truth = chairs.read_objects(cfg.objects, vocabulary)
    grid = list(product(cfg.text_layers, cfg.edit_layers, cfg.alphas))
    rows, handle = _begin(
        cfg, run, passes=1, settings=len(grid), captions_at_most=2 * cfg.mentions * (len(grid) + 1)
    )
    check_truth(rows, truth)
    about, writing = facts(handle, cfg.model, cfg), _writing(cfg)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        texts = describe(handle, pictures_of(batch), cfg.prompt, writing)
        return [{"image_id": row.image_id, "caption": text} for row, text in zip(batch, texts, strict=True)]

    path = over_images(run, "captions", rows, cfg.batch_size, step, about)
    captions = [raw["caption"] for raw in _rows_of(path)]
    swept = sweep_halves(
        halves(captions, [truth[row.image_id] for row in rows], vocabulary, cfg.mentions, run.rng),
        [Setting(*values) for values in grid],
        writer(handle, [row.path for row in rows], cfg.prompt, writing),
        vocabulary,
        cfg.bound,
        run=run,
    )
    write_json(run.artifact("sweep", run.folder / "sweep.json"), about | swept)
    report.sweep(run.page, swept)


def chair(cfg: config.Chair, run: Run) -> None:
    """CHAIR: how often captions name objects that are not in the image."""
    check(bool(cfg.objects), "objects", "one or more files that say what is in the images", cfg.objects)
    vocabulary = Vocabulary.read(cfg.synonyms)
    truth = chairs.read_objects(cfg.objects, vocabulary)
    captions = list(read_captions(Path(cfg.captions), cfg.id_key, cfg.caption_key))
    run.plan(captions=len(captions), images_known=len(truth))
    figures = chairs.chair(captions, truth, vocabulary)
    rows = figures.pop("rows")
    records.write(run.artifact("rows", run.folder / "rows.jsonl"), rows)
    write_json(run.artifact("chair", run.folder / "chair.json"), figures)
    run.log(**figures)
    report.chair(run.page, figures, rows)


def _begin(cfg: Any, run: Run, *, passes: int, **costs: Any) -> tuple[list[ImageRow], ModelHandle]:
    """The images and the model, after the cost was shown.

    Raises:
        BadInput: there are no images, none can be read or fits into the model, or there is no model of the kind.
        ModelMismatch: the model sees no images.
        PlanShown: this is a dry run.
    """
    rows = read_images(Path(cfg.images))
    run.plan(images=len(rows), passes_per_image=passes, **costs)
    rows = readable(run, rows)
    handle = ModelHandle.load(cfg.model, narrow(LoadConfig, cfg), kind="vlm", family=cfg.family)
    return that_fit(run, handle, rows, cfg.prompt, cfg.too_long), handle


def _rewrite(
    run: Run,
    rows: Sequence[ImageRow],
    vocabulary: Vocabulary,
    change: Callable[[Sequence[Any]], list[Rewritten]],
    batch_size: int,
    about: dict[str, Any],
) -> None:
    """Run an edit over the images, and show what it changed."""

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        changed = change(pictures_of(batch))
        return [{"image_id": row.image_id, **asdict(new)} for row, new in zip(batch, changed, strict=True)]

    path = over_images(run, "captions", rows, batch_size, step, about)
    report.rewritten(
        run.page, [(str(raw.pop("image_id")), _read_back(raw)) for raw in _rows_of(path)], vocabulary
    )


def _read_back(raw: dict[str, Any]) -> Rewritten:
    """What changed in a caption, from its row in a file, where tuples are lists."""
    values: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Rewritten(**values)


def _rows_of(path: Path) -> list[dict[str, Any]]:
    return [raw for _, raw in records.read_raw(path)]


def _writing(cfg: Any) -> Writing:
    return Writing(cfg.beams, cfg.max_new_tokens, cfg.batch_size)


def _reading(read: config.Reading) -> Reading:
    return Reading(read.lens, read.kept, pieces=read.pieces, layers=list(read.layers) or None)


def _setting(edit: config.Editing) -> Setting:
    return Setting(edit.text_layer, edit.edit_layer, edit.alpha, edit.joint)


def _threshold(text: str) -> str | float:
    """A number where the text is one."""
    try:
        return float(text)
    except ValueError:
        return text
