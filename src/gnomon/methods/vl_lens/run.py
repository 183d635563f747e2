"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.config import check
from gnomon.core.files import write_json
from gnomon.core.run import Run
from gnomon.methods.vl_lens import config
from gnomon.methods.vl_lens.captions.chair import read_objects
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.data import (
    ImageRow,
    begin,
    check_known,
    pictures_of,
    read_captions,
    reading_of,
    setting_of,
    threshold_of,
    writing_of,
)

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle
    from gnomon.methods.vl_lens.erasure.mitigation import Rewritten

SHOWN = 20
"""Captions that a report shows."""


def caption(cfg: config.Caption, run: Run) -> None:
    """Captions of images."""
    rows, handle = begin(cfg, run, passes=1)
    from gnomon.methods.vl_lens.captions.captions import describe
    from gnomon.methods.vl_lens.data import facts, over_images

    vocabulary = Vocabulary.read(cfg.synonyms)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        texts = describe(handle, pictures_of(batch), cfg.prompt, **writing_of(cfg))
        return [
            {"image_id": row.image_id, "caption": text, "objects": vocabulary.objects(text)}
            for row, text in zip(batch, texts, strict=True)
        ]

    path = over_images(run, "captions", rows, cfg.batch_size, step, facts(handle, cfg))
    done = list(records.read_raw(path))
    run.page.figures({"images": len(done)})
    run.page.table([raw for _, raw in done[:SHOWN]], caption="captions")


def lens(cfg: config.Lens, run: Run) -> None:
    """How strongly and where the image tokens carry words, layer by layer."""
    check(bool(cfg.words), "words", "one or more words", cfg.words)
    rows, handle = begin(cfg, run, passes=1)
    import numpy as np

    from gnomon.methods.vl_lens import report
    from gnomon.methods.vl_lens.data import facts, file_name, over_images, overlay, sidecar
    from gnomon.methods.vl_lens.lens.lens import lens

    said = facts(handle, cfg)
    maps = run.folder / "maps"
    maps.mkdir(exist_ok=True)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        pictures = pictures_of(batch)
        found = lens(
            handle, pictures, cfg.prompt, cfg.words, batch_size=cfg.batch_size, **reading_of(cfg.read)
        )
        told = []
        for b, row in enumerate(batch):
            scores = np.asarray(found.scores[b])
            for w, word in enumerate(cfg.words):
                layer, token = np.unravel_index(int(scores[:, :, w].argmax()), scores.shape[:2])
                told.append(
                    {
                        "image_id": row.image_id,
                        "word": word,
                        "confidence": float(scores[:, :, w].max()),
                        "layer": int(found.layers[layer]),
                        "token": int(token),
                        "by_layer": [float(v) for v in scores[:, :, w].max(1)],
                    }
                )
                if found.layouts[b].tiles:
                    target = maps / f"{file_name(row.image_id, word)}.png"
                    overlay(pictures[b], found.heatmap(b, word)).save(target)
                    sidecar(target, said | {"image_id": row.image_id, "word": word})
        return told

    path = over_images(run, "lens", rows, cfg.batch_size, step, said)
    run.artifact("maps", maps)
    table = [raw for _, raw in records.read_raw(path)]
    run.page.text(
        f"Internal confidence: the most that any image token at any layer gives to a word, by the {cfg.read.lens} lens."
    )
    by_image = {row.image_id: {"image": row.image_id} for row in rows}
    for raw in table:
        by_image[raw["image_id"]][raw["word"]] = raw["confidence"]
    run.page.table(list(by_image.values())[:SHOWN], caption="internal confidence")
    shown = rows[: cfg.shown]
    if shown:
        pictures = pictures_of(shown)
        found = lens(
            handle, pictures, cfg.prompt, cfg.words, batch_size=cfg.batch_size, **reading_of(cfg.read)
        )
        run.page.section("Look inside")
        for b, row in enumerate(shown):
            report.explore(run.page, found, b, pictures[b], name=row.image_id, lens=cfg.read.lens)


def detect(cfg: config.Detect, run: Run) -> None:
    """Objects in captions that the image tokens do not support."""
    vocabulary = Vocabulary.read(cfg.synonyms)
    truth = read_objects(cfg.objects, vocabulary)
    rows, handle = begin(cfg, run, passes=3)
    from gnomon.methods.vl_lens.captions.captions import describe
    from gnomon.methods.vl_lens.data import facts, over_images
    from gnomon.methods.vl_lens.lens import detection

    if cfg.objects:
        check_known(rows, truth)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        pictures = pictures_of(batch)
        silent = [picture for row, picture in zip(batch, pictures, strict=True) if row.caption is None]
        written = iter(describe(handle, silent, cfg.prompt, **writing_of(cfg)))
        texts = [next(written) if row.caption is None else row.caption for row in batch]
        found = detection.detect(
            handle,
            pictures,
            texts,
            prompt=cfg.prompt,
            vocabulary=vocabulary,
            threshold=cfg.threshold,
            batch_size=cfg.batch_size,
            **reading_of(cfg.read),
        )
        return [
            {
                "image_id": row.image_id,
                **asdict(one),
                **({"is_hallucinated": one.object not in truth[row.image_id]} if cfg.objects else {}),
            }
            for row, findings in zip(batch, found, strict=True)
            for one in findings
        ]

    path = over_images(run, "detections", rows, cfg.batch_size, step, facts(handle, cfg))
    table = [raw for _, raw in records.read_raw(path)]
    doubtful = [raw for raw in table if not raw["is_supported"]]
    run.page.figures({"mentions": len(table), "not supported": len(doubtful)})
    if cfg.objects and table:
        labels = [raw.pop("is_hallucinated") for raw in table]
        findings = [detection.Finding(**{k: v for k, v in raw.items() if k != "image_id"}) for raw in table]
        scored = [{"score": name, **values} for name, values in detection.score(findings, labels).items()]
        run.page.table(
            scored,
            caption="telling hallucinated mentions: average precision and area under the ROC curve",
            best={"ap": "max", "auc": "max"},
        )
        for row in scored:
            run.log(**row)
    run.page.table(
        (doubtful or table)[:SHOWN], caption="mentions that are not supported" if doubtful else "mentions"
    )


def erase(cfg: config.Erase, run: Run) -> None:
    """Captions before and after words are erased from the image tokens."""
    check(bool(cfg.words), "words", "one or more words", cfg.words)
    rows, handle = begin(cfg, run, passes=2)
    from gnomon.methods.vl_lens.captions.captions import describe
    from gnomon.methods.vl_lens.erasure.mitigation import Rewritten, rewrite

    vocabulary = Vocabulary.read(cfg.synonyms)

    def change(pictures: Sequence[Any]) -> list[Rewritten]:
        before = describe(handle, pictures, cfg.prompt, **writing_of(cfg))
        words = [list(cfg.words)] * len(pictures)
        after = rewrite(handle, pictures, cfg.prompt, words, setting_of(cfg.edit), **writing_of(cfg))
        return [Rewritten.of(a, b, cfg.words, vocabulary) for a, b in zip(before, after, strict=True)]

    _rewrite(cfg, run, rows, handle, vocabulary, change)


def mitigate(cfg: config.Mitigate, run: Run) -> None:
    """Captions without the objects that the image tokens do not support."""
    rows, handle = begin(cfg, run, passes=2 + 2 * cfg.iterations)
    from gnomon.methods.vl_lens.erasure.mitigation import mitigate

    vocabulary = Vocabulary.read(cfg.synonyms)

    def change(pictures: Sequence[Any]) -> list[Rewritten]:
        return mitigate(
            handle,
            pictures,
            setting_of(cfg.edit),
            prompt=cfg.prompt,
            vocabulary=vocabulary,
            threshold=cfg.threshold,
            iterations=cfg.iterations,
            **writing_of(cfg),
            **reading_of(cfg.read),
        )

    _rewrite(cfg, run, rows, handle, vocabulary, change)


def _rewrite(
    cfg: Any, run: Run, rows: list[ImageRow], handle: ModelHandle, vocabulary: Vocabulary, change: Any
) -> None:
    """Run an edit over the images, and show what it changed."""
    from gnomon.methods.vl_lens import report
    from gnomon.methods.vl_lens.data import facts, over_images

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        changed = change(pictures_of(batch))
        return [{"image_id": row.image_id, **asdict(one)} for row, one in zip(batch, changed, strict=True)]

    path = over_images(run, "captions", rows, cfg.batch_size, step, facts(handle, cfg))
    done = [(str(raw.pop("image_id")), _read_back(raw)) for _, raw in records.read_raw(path)]
    run.page.figures(
        {
            "images": len(done),
            **{n: sum(len(getattr(c, n)) for _, c in done) for n in ("removed", "kept", "new")},
        }
    )
    changed = [(name, c) for name, c in done if c.caption != c.caption_edited]
    report.changes(
        run.page,
        (changed or done)[:SHOWN],
        vocabulary,
        caption=f"{len(changed)} of {len(done)} captions changed",
    )


def _read_back(raw: dict[str, Any]) -> Rewritten:
    """What changed in a caption, from its row in a file, where tuples are lists."""
    from gnomon.methods.vl_lens.erasure.mitigation import Rewritten

    values: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Rewritten(**values)


def segment(cfg: config.Segment, run: Run) -> None:
    """Masks of what a word names."""
    rows, handle = begin(cfg, run, passes=1)
    import numpy as np
    from PIL import Image

    from gnomon.methods.vl_lens.data import facts, file_name, over_images, overlay, sidecar
    from gnomon.methods.vl_lens.lens.masks import segment

    said = facts(handle, cfg)
    threshold = threshold_of(cfg.threshold)
    folder = run.folder / "masks"
    folder.mkdir(exist_ok=True)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        told = []
        for row, picture in zip(batch, pictures_of(batch), strict=True):
            mask, heat = segment(
                handle, picture, cfg.word, threshold, prompt=cfg.prompt, **reading_of(cfg.read)
            )
            name = file_name(row.image_id, cfg.word)
            Image.fromarray((np.asarray(mask) * 255).astype(np.uint8)).save(folder / f"{name}.png")
            overlay(picture, np.asarray(heat) * mask).save(folder / f"{name}.overlay.png")
            np.save(folder / f"{name}.npy", np.asarray(heat, np.float32))
            sidecar(folder / f"{name}.png", said | {"image_id": row.image_id})
            told.append(
                {
                    "image_id": row.image_id,
                    "word": cfg.word,
                    "mask": f"masks/{name}.png",
                    "share": float(np.mean(mask)),
                    "peak": float(np.max(heat)),
                }
            )
        return told

    path = over_images(run, "segments", rows, cfg.batch_size, step, said)
    run.artifact("masks", folder)
    table = [raw for _, raw in records.read_raw(path)]
    run.page.table(table[:SHOWN], caption=f"masks of {cfg.word}: share of the image, and the largest score")
    for raw in table[:SHOWN]:
        target = run.folder / raw["mask"]
        run.page.image(target.with_suffix(".overlay.png"), caption=str(raw["image_id"]), width=320)


def sweep(cfg: config.Sweep, run: Run) -> None:
    """The setting that erases most hallucinated objects and few others."""
    check(bool(cfg.objects), "objects", "one or more files that say what is in the images", cfg.objects)
    vocabulary = Vocabulary.read(cfg.synonyms)
    truth = read_objects(cfg.objects, vocabulary)
    grid = list(product(cfg.text_layers, cfg.edit_layers, cfg.alphas))
    rows, handle = begin(
        cfg, run, passes=1, settings=len(grid), captions_at_most=2 * cfg.mentions * (len(grid) + 1)
    )
    check_known(rows, truth)
    from gnomon.methods.vl_lens.captions.captions import describe
    from gnomon.methods.vl_lens.data import facts, over_images
    from gnomon.methods.vl_lens.erasure.mitigation import Setting
    from gnomon.methods.vl_lens.erasure.sweep import halves, page_of, sweep_halves, writer

    said = facts(handle, cfg)

    def step(batch: list[ImageRow]) -> list[dict[str, Any]]:
        texts = describe(handle, pictures_of(batch), cfg.prompt, **writing_of(cfg))
        return [{"image_id": row.image_id, "caption": text} for row, text in zip(batch, texts, strict=True)]

    path = over_images(run, "captions", rows, cfg.batch_size, step, said)
    captions = [raw["caption"] for _, raw in records.read_raw(path)]
    found = sweep_halves(
        halves(captions, [truth[row.image_id] for row in rows], vocabulary, cfg.mentions, run.rng),
        [Setting(*values) for values in grid],
        writer(handle, [row.path for row in rows], cfg.prompt, **writing_of(cfg)),
        vocabulary,
        cfg.bound,
        run=run,
    )
    write_json(run.artifact("sweep", run.folder / "sweep.json"), said | found)
    page_of(run.page, found)


def chair(cfg: config.Chair, run: Run) -> None:
    """CHAIR: how often captions name objects that are not in the image."""
    check(bool(cfg.objects), "objects", "one or more files that say what is in the images", cfg.objects)
    vocabulary = Vocabulary.read(cfg.synonyms)
    truth = read_objects(cfg.objects, vocabulary)
    captions = list(read_captions(cfg))
    run.plan(captions=len(captions), images_known=len(truth))
    from gnomon.methods.vl_lens.captions.chair import chair

    found = chair(captions, truth, vocabulary)
    rows = found.pop("rows")
    records.write(run.folder / "rows.jsonl", rows)
    run.artifact("rows", run.folder / "rows.jsonl")
    write_json(run.artifact("chair", run.folder / "chair.json"), found)
    run.log(**found)
    run.page.figures({"CHAIR_i": found["chair_i"], "CHAIR_s": found["chair_s"], "recall": found["recall"]})
    run.page.table([found], caption="all captions")
    wrong = [row for row in rows if row["hallucinated"]]
    run.page.table(
        [
            {name: ", ".join(v) if isinstance(v, list) else v for name, v in row.items()}
            for row in wrong[:SHOWN]
        ],
        caption="captions with hallucinated objects",
    )
