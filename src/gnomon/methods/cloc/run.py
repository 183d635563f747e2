"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.data.execute import map_shards, rejected
from gnomon.core.files import room_file, write_json
from gnomon.core.llm import complete
from gnomon.core.llm.base import Message, Request
from gnomon.core.models.load import LoadConfig, model_at
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.core.vision.boxes import clean, convert
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.over import readable
from gnomon.core.vision.parts import image_part
from gnomon.core.vision.rows import ImageRow, Left, pictures_of, read_images
from gnomon.errors import BadInput
from gnomon.methods.cloc import config
from gnomon.methods.cloc import report as pages
from gnomon.methods.cloc.evaluation.evaluation import encode, evaluate
from gnomon.methods.cloc.labelling.phrases import tagger
from gnomon.methods.cloc.labelling.vesl import LabelStep
from gnomon.methods.cloc.regions.model import SETTINGS, ClocModel, has_prompter, load_cloc
from gnomon.methods.cloc.training.data import Source, labelled, read_rows
from gnomon.methods.cloc.training.training import train as train_model

CAPTION_TOKENS = 120
"""Of a captioner's answer, at most."""


def train(cfg: config.Train, run: Run) -> None:
    """Train a model with region texts."""
    rows, left = _rows(cfg, run)
    items, more = labelled(rows)
    _note(run, left, rows)
    _note(run, more, rows)
    if not items:
        raise BadInput(f"Nothing can be learnt from {cfg.source}. {' '.join(more.sentences())}")
    n_regions = sum(len(item.regions) for item in items)
    steps = cfg.train.epochs * -(-len(items) // cfg.train.batch_size)
    run.plan(
        images=len(items), regions=n_regions, optimiser_steps=min(steps, cfg.train.max_steps or steps),
        frozen=", ".join(cfg.freeze) or "nothing",
    )  # fmt: skip
    model = load_cloc(cfg.model, narrow(LoadConfig, cfg), shape=cfg.shape, rng=run.rng, asked_by="cloc train")
    history = train_model(model, items, cfg.loss, cfg.train, run=run, freeze=cfg.freeze)
    if not run.is_main:
        return
    folder = run.artifact("model", run.folder / "model")
    model.save_pretrained(folder)
    if model.towers.n_cut:
        run.say(f"{model.towers.n_cut} texts were longer than the text tower reads, and were cut.")
    losses = history.curve("loss")
    figures = {"images": len(items), "regions": n_regions, "steps": len(losses), "last loss": losses[-1],
               "inverse temperature": float(model.model.logit_scale.detach().exp())}  # fmt: skip
    run.log(**{"last loss": losses[-1]})
    pages.trained(run.page, figures, losses)


def apply(cfg: config.Apply, run: Run) -> None:
    """Embed boxes, and find phrases."""
    rows, left = _rows(cfg, run)
    if cfg.boxes is not None:
        rows = _with_boxes(rows, Path(cfg.boxes), cfg.format, left)
    _note(run, left, rows)
    n_boxes = sum(len(row.regions) for row in rows)
    run.plan(images=len(rows), boxes=n_boxes, phrases=len(cfg.phrases) * len(rows))
    model = load_cloc(cfg.model, narrow(LoadConfig, cfg), asked_by="cloc apply")
    _check_prompter(cfg.model)
    written, vectors, shown = [], [], []
    with run.progress(len(rows), "images") as bar:
        for start in range(0, len(rows), cfg.batch_size):
            some = rows[start : start + cfg.batch_size]
            pictures = pictures_of(some)
            image = model.encode_image(pictures)
            own = [
                [region.box for region in row.regions] or [(0.0, 0.0, *picture.size)]
                for row, picture in zip(some, pictures, strict=True)
            ]
            embeds = model.encode_regions(image, own)
            grounded = model.ground(image, [cfg.phrases] * len(some)) if cfg.phrases else [[]] * len(some)
            for row, boxes, values, results in zip(some, own, embeds, grounded, strict=True):
                texts = [region.text for region in row.regions] or [None] * len(boxes)
                for box, text in zip(boxes, texts, strict=True):
                    written.append({"image_id": row.image_id, "box": list(map(float, box)), "text": text})
                vectors.append(values)
                for phrase, result in zip(cfg.phrases, results, strict=True):
                    shown.append(_found(row.image_id, phrase, result))
            bar.advance(len(some))
    table = torch.cat(vectors).float().cpu()
    from safetensors.torch import save_file

    save_file(
        {"embeddings": table.contiguous()}, run.artifact("embeddings", run.folder / "embeddings.safetensors")
    )
    records.write(run.artifact("records", run.folder / "regions.jsonl"), written)
    if cfg.npz:
        np.savez(
            run.artifact("npz", run.folder / "embeddings.npz"), embedding=table.numpy(),
            image=np.array([w["image_id"] for w in written]), box=np.array([w["box"] for w in written]),
        )  # fmt: skip
    if shown:
        records.write(run.artifact("grounded", run.folder / "grounded.jsonl"), shown)
    run.log(regions=len(written))
    pages.applied(run.page, rows, written, table, _texts(model, written, cfg.phrases), shown)


def ground(cfg: config.Ground, run: Run) -> None:
    """Find phrases in images."""
    rows = readable(run, read_images(Path(cfg.source)))
    phrases = [[*cfg.phrases, *map(str, row.meta.get("phrases") or ())] for row in rows]
    if not any(phrases):
        raise BadInput(f"There is nothing to look for: give --phrases, or rows of {cfg.source} with phrases.")
    run.plan(images=len(rows), phrases=sum(map(len, phrases)))
    model = load_cloc(cfg.model, narrow(LoadConfig, cfg), asked_by="cloc ground")
    _check_prompter(cfg.model)
    written = []
    with run.progress(len(rows), "images") as bar:
        for row, own in zip(rows, phrases, strict=True):
            image = model.encode_image(pictures_of([row]))
            written += [
                _found(row.image_id, phrase, result)
                for phrase, result in zip(own, model.ground(image, [own])[0], strict=True)
            ]
            bar.advance()
    records.write(run.artifact("records", run.folder / "grounded.jsonl"), written)
    if model.threshold is None:
        run.say(
            "No threshold was chosen for what is not there: eval does that. Every phrase counts as there."
        )
    pages.grounded(run.page, rows, written)


def label(cfg: config.Label, run: Run) -> None:
    """Make region texts from captions."""
    rows = readable(run, read_images(Path(cfg.source)))
    name, _ = tagger()
    cost = (
        {} if cfg.captioner is None else cfg.llm.cost(len(rows), len(rows) * 900, len(rows) * CAPTION_TOKENS)
    )
    run.plan(images=len(rows), detector=cfg.detector, tagger=name, **cost)
    n_silent = 0
    if cfg.captioner is not None:
        captions = _captioned(cfg, rows, run)
        n_silent = captions.count(None)
        rows = [replace(row, caption=caption) for row, caption in zip(rows, captions, strict=True) if caption]
        if n_silent:
            run.missing(Shortfall("captions", n_silent, len(captions), "the captioner gave none"))
    elif not any(row.caption for row in rows):
        raise BadInput(f"No image of {cfg.source} has a caption. Give a list with captions, or --captioner.")
    step = LabelStep(
        cfg.detector, LoadConfig(device=cfg.device), cfg.threshold, cfg.most_phrases, cfg.nested, name
    )
    sink = run.artifact("records", run.folder / "labelled")
    with run.progress(len(rows), "images labelled") as bar:
        map_shards(
            step, rows, sink, engine=cfg.engine, workers=cfg.workers, shard_rows=cfg.shard_rows,
            settings=replace(step, load=LoadConfig()), progress=bar,
        )  # fmt: skip
    refused = list(rejected(sink))
    if refused:
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), refused)
        run.missing(Shortfall("images", len(refused), len(rows), refused[0]["reason"], is_final=True))
    written = [raw for _, raw in records.read_raw(sink)] if len(refused) < len(rows) else []
    counts = [len(row["regions"]) for row in written]
    lengths = [len(region["text"].split()) for row in written for region in row["regions"]]
    figures = {
        "images": len(written), "regions": sum(counts), "regions an image": float(np.mean(counts)) if counts else 0.0,
        "words a text": float(np.mean(lengths)) if lengths else 0.0, "images without a region": counts.count(0), "tagger": name,
    }  # fmt: skip
    run.log(**{key: value for key, value in figures.items() if not isinstance(value, str)})
    pages.made_labels(run.page, written, figures)


def _captioned(cfg: config.Label, rows: Sequence[ImageRow], run: Run) -> list[str | None]:
    """A caption of each image by a language model that sees; None where it gave none."""
    prompt = room_file("gnomon.methods.cloc", "prompts/caption.txt").read_text("utf-8").strip()
    requests = [
        Request(
            (Message("user", prompt, images=(image_part(row.path, f'Image "{row.image_id}"'),)),),
            max_tokens=CAPTION_TOKENS,
        )
        for row in rows
    ]
    with run.asking({"captioner": str(cfg.captioner)}, cfg.llm) as models:
        replies = complete(models["captioner"], requests, concurrency=cfg.llm.concurrency)
    return [None if reply.error or not reply.text.strip() else reply.text.strip() for reply in replies]


def eval(cfg: config.Eval, run: Run) -> None:
    """Measure regions."""
    rows, left = _rows(cfg, run)
    _note(run, left, rows)
    items, more = labelled(rows)
    _note(run, more, rows)
    is_trained = has_prompter(cfg.model)
    n_regions = sum(len(item.regions) for item in items)
    run.plan(images=len(items), regions=n_regions, encodings=len(items) + (n_regions if cfg.crops else 0))
    if not is_trained:
        run.say(
            f"{cfg.model} has no trained Prompter: the rows that pool tokens, and crops, are measured alone."
        )
    model = load_cloc(cfg.model, narrow(LoadConfig, cfg), asked_by="cloc eval")
    with run.progress(len(items), "images") as bar:
        encoded = encode(model, items, on_image=bar.advance)
    table = evaluate(model, items, encoded, run.rng, has_prompter=is_trained, crops=cfg.crops)
    summary = {
        "regions": table.rows, "grounding": table.grounding, "image to text R@1": table.images[0],
        "text to image R@1": table.images[1], "phrases left out, several instances": table.n_ambiguous,
        "threshold": table.threshold,
    }  # fmt: skip
    write_json(run.artifact("summary", run.folder / "summary.json"), summary)
    if table.threshold is not None:
        stored = "stored beside the model" if cfg.store_threshold else "--store-threshold keeps it"
        run.say(
            f"A phrase is there from a cosine of {table.threshold:.3f}, chosen on half of the phrases; {stored}."
        )
        if cfg.store_threshold:
            set_threshold(cfg.model, table.threshold)
    run.log(**{f"accuracy, {row['regions by']}": row["accuracy"] for row in table.rows})
    pages.evaluated(run.page, table, len(items))


def _rows(cfg: config.Data, run: Run) -> tuple[list[ImageRow], Left]:
    rows, left = read_rows(Source(cfg.source, cfg.regions, cfg.names))
    return readable(run, rows[: cfg.limit]), left


def _note(run: Run, left: Left, rows: Sequence[ImageRow]) -> None:
    """Count what could not be used; images without regions, and specks of masks, are no fault."""
    lost = sum(count for reason, count in left.counts.items() if reason.startswith("regions"))
    n_regions = sum(len(row.regions) for row in rows) + lost
    for reason, count in left.counts.items():
        if reason == "images without regions" or reason.startswith("parts"):
            run.say(f"{count:,} {reason}.")
            continue
        total = n_regions if reason.startswith("regions") else max(len(rows), count)
        example = f"for example {', '.join(left.names[reason][:3])}"
        run.missing(Shortfall(reason, count, total, example, is_final=True))


def _check_prompter(ref: str) -> None:
    if not has_prompter(ref):
        raise BadInput(
            f"{ref} has no trained Prompter, so its regions would be random. Train one with `gnomon cloc train`."
        )


def _with_boxes(rows: Sequence[ImageRow], file: Path, form: Any, left: Left) -> list[ImageRow]:
    """Boxes of a user's own file, by image."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for _, raw in records.read_raw(file):
        by_id.setdefault(str(raw.get("image_id", raw.get("image"))), []).append(raw)
    results = []
    for row in rows:
        listed = [*by_id.pop(row.image_id, []), *by_id.pop(Path(row.path).name, [])]
        boxes = [raw.get("box") or () for raw in listed]
        usable = [i for i, box in enumerate(boxes) if len(box) == 4]
        for _ in range(len(boxes) - len(usable)):
            left.add("regions left out, no box of four numbers", row.image_id)
        assert row.size is not None
        cleaned = clean(convert([boxes[i] for i in usable], form, "xyxy"), row.size)
        for reason in cleaned.dropped.values():
            left.add(f"regions left out, {reason}", row.image_id)
        texts = [listed[usable[i]].get("text") for i in cleaned.kept]
        regions = [
            Region((b[0], b[1], b[2], b[3]), t) for b, t in zip(cleaned.boxes.tolist(), texts, strict=True)
        ]
        results.append(replace(row, regions=tuple(regions)))
    for name in by_id:
        left.add("regions without an image", name)
    return results


def _found(image_id: str, phrase: str, result: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "phrase": phrase,
        "box": list(result.box),
        "score": result.score,
        "is_there": result.is_there,
    }


def _texts(model: ClocModel, written: Sequence[dict[str, Any]], phrases: Sequence[str]) -> dict[str, Any]:
    """Unit embeddings of all phrases and texts at hand, for the page."""
    names = sorted({*phrases, *(w["text"] for w in written if w["text"])})
    return dict(zip(names, model.encode_text(names), strict=True)) if names else {}


def set_threshold(folder: str, threshold: float) -> None:
    """Store the cosine below which a phrase is not there, as `eval` chose it, in a trained model's folder."""
    file = Path(model_at(folder)) / SETTINGS
    settings = json.loads(file.read_text("utf-8"))
    write_json(file, {**settings, "threshold": threshold})
