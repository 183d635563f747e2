"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.data.execute import map_shards, rejected
from gnomon.core.files import write_json
from gnomon.core.llm.stack.stored import estimated_tokens, room_of
from gnomon.core.models.load import model_at
from gnomon.core.run import Run
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sigext import config
from gnomon.methods.sigext import report as pages
from gnomon.methods.sigext.extractor.application import ScoreStep, stream
from gnomon.methods.sigext.extractor.model import Settings, SigExtModel, read_settings, write_settings
from gnomon.methods.sigext.extractor.training import train_extractor, tune
from gnomon.methods.sigext.phrases.data import (
    Columns,
    PrepareStep,
    Reading,
    Row,
    Split,
    checked,
    draw,
    label_figures,
    read_rows,
)
from gnomon.methods.sigext.phrases.labels import Rule, matches
from gnomon.methods.sigext.phrases.selection import kept_phrases
from gnomon.methods.sigext.summaries.evaluation import Evaluation, read_predictions, score_by_summaries
from gnomon.methods.sigext.summaries.evaluation import evaluate as measure
from gnomon.methods.sigext.summaries.prompts import Template, build_prompt, load_template
from gnomon.methods.sigext.summaries.summaries import Hints, Sampling, Summary, summarise


def prepare(cfg: config.Prepare, run: Run) -> None:
    """Find the candidate phrases of every document and label them by its summary."""
    step = PrepareStep(_reading(cfg), _columns(cfg))
    run.plan(
        rows=lambda: sum(1 for _ in records.read_raw(cfg.source)), workers=cfg.workers, engine=cfg.engine
    )
    sink = run.artifact("records", run.folder / "prepared")
    with run.progress(cfg.limit, "documents") as bar:
        totals = map_shards(
            step,
            checked(records.read_raw(cfg.source), cfg.id_field, cfg.limit),
            sink,
            engine=cfg.engine,
            workers=cfg.workers,
            shard_rows=cfg.shard_rows,
            settings=step,
            progress=bar,
        )
    refused = list(rejected(sink))
    if refused:
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), refused)
    if not totals.written:
        raise BadInput(refused[0]["reason"] if refused else f"{cfg.source} holds no rows.")
    sums = totals.sums
    figures = {
        "documents": totals.written,
        **{name: int(value) for name, value in sums.items()},
        "positive rate": sums["positive"] / sums["phrases"] if sums["phrases"] else None,
    }
    run.log(**figures)
    pages.prepared(run.page, figures, len(refused))


def labels(cfg: config.Labels, run: Run) -> None:
    """Look at labels: how many phrases are positive under either rule, and examples to read."""
    run.plan(rows=cfg.limit, rules=["code", "paper"])
    reading = _reading(cfg)
    rows = read_rows(cfg.source, reading, _columns(cfg), limit=cfg.limit)
    by_rule: dict[str, list[Row]] = {cfg.rule: rows}
    other: Rule = "paper" if cfg.rule == "code" else "code"
    second = replace(reading, rule=other)
    by_rule[other] = [replace(row, labels=tuple(second.labels(row.phrases, row.summary))) for row in rows]
    pairs = [
        a == b
        for x, y in zip(*by_rule.values(), strict=True)
        for a, b in zip(x.labels, y.labels, strict=True)
    ]
    near = [
        [
            match.reference
            for match in matches(
                [p.text for p in row.phrases],
                [p.text for p in reading.phrases(reading.clean(row.summary))],
                cfg.rule,
                language=cfg.language,
            )
        ]
        for row in rows[: cfg.show]
    ]
    figures = {rule: label_figures(labelled) for rule, labelled in by_rule.items()}
    for rule, numbers in figures.items():
        run.log(rule=rule, **numbers)
    pages.labels(run.page, rows, figures, sum(pairs) / len(pairs) if pairs else None, near)
    _say_labels(rows[: cfg.show], run)


def train(cfg: config.Train, run: Run) -> None:
    """Train an extractor on documents with reference summaries."""
    columns, reading = _columns(cfg), _reading(cfg)
    split = Split((cfg.source, *cfg.more), cfg.validation, cfg.n_train, cfg.n_validation, cfg.limit)
    rows, validation = draw(split, reading, columns, run.rng)
    steps = cfg.train.epochs * -(-len(rows) // cfg.train.batch_size)
    run.plan(
        documents=len(rows),
        validation=len(validation),
        optimiser_steps=steps if cfg.train.max_steps is None else min(steps, cfg.train.max_steps),
        longest=cfg.train.max_length,
    )

    settings = Settings(
        reading=reading,
        tokenisation=cfg.tokenisation,
        max_length=cfg.train.max_length,
        percentile=cfg.percentile,
        k=cfg.k,
        trained_on=(cfg.source, *cfg.more),
    )
    options = {"stride": cfg.stride, "batch_tokens": cfg.batch_tokens}
    extractor = SigExtModel.new(cfg.model, settings, device=cfg.device, rng=run.rng, **options)
    trained = train_extractor(extractor, rows, validation, cfg.train, run=run, batch_tokens=cfg.batch_tokens)
    if not run.is_main:
        return
    extractor.save_pretrained(run.artifact("model", run.folder / "model"))
    pages.training(run.page, trained, extractor.settings, rows, validation)


def score(cfg: config.Score, run: Run) -> None:
    """Score the phrases of documents and say which a prompt would show."""
    folder = str(model_at(cfg.extractor))
    settings = read_settings(Path(folder))
    columns = Columns(cfg.document_field, cfg.summary_field, cfg.id_field)
    run.plan(source=cfg.source, k=cfg.k or settings.k, tau=settings.tau)

    if cfg.source == "-":
        run.is_stream = True
        path = run.artifact("records", run.folder / "scored.jsonl")
        model = SigExtModel.from_pretrained(
            folder, device=cfg.device, stride=cfg.stride, batch_tokens=cfg.batch_tokens
        )
        with path.open("w", encoding="utf-8") as file:
            total = stream(model, sys.stdin, columns, cfg.k, sys.stdout, file)
    else:
        path = run.artifact("records", run.folder / "scored")
        step = ScoreStep(folder, columns, cfg.k, cfg.stride, cfg.batch_tokens, cfg.device)
        kept = replace(step, batch_tokens=0, device="")  # how the work is done changes no score
        with run.progress(None, "documents") as bar:
            totals = map_shards(
                step,
                records.read_raw(cfg.source),
                path,
                engine=cfg.engine,
                workers=cfg.workers,
                shard_rows=cfg.shard_rows,
                settings=kept,
                progress=bar,
            )
        total, refused = totals.written, list(rejected(path))
        if refused:
            records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), refused)
            if not total:
                raise BadInput(refused[0]["reason"])
            run.say(f"{len(refused)} rows cannot be used; see rejected.jsonl.")
    rows = (raw for _, raw in records.read_raw(path)) if total else iter(())
    pages.scored(run.page, rows, cfg.document_field, cfg.id_field)


def prompt(cfg: config.Prompt, run: Run) -> None:
    """Write the prompts for scored rows."""
    template = load_template(cfg.template)
    run.plan(source=cfg.source, template=cfg.template)

    def prompts() -> Iterator[dict[str, Any]]:
        for where, raw in records.read_raw(cfg.source):
            document, phrases = raw.get(cfg.document_field), raw.get("phrases")
            if not isinstance(document, str) or not isinstance(phrases, list):
                missing = cfg.document_field if not isinstance(document, str) else "phrases"
                raise BadInput(
                    f'{where}: field "{missing}" is missing. Make scored rows with `gnomon sigext score`.'
                )
            yield raw | {"prompt": build_prompt(document, kept_phrases(phrases, where), template)}

    path = run.artifact("records", run.folder / "prompts.jsonl")
    total = records.write(path, prompts())
    run.page.title = f"{total:,} prompts"
    first = next((raw["prompt"] for _, raw in records.read_raw(path)), "")
    run.page.figures({"prompts": total})
    run.page.table([{"first prompt": first[:2000]}])


def summarize(cfg: config.Summarize, run: Run) -> None:
    """Summarise documents without and with phrases, and measure both against the references."""
    template = load_template(cfg.template)
    extractor = _extractor(cfg.extractor)
    reading = Reading(cfg.language) if extractor is None else extractor.settings.reading
    k = cfg.k or (20 if extractor is None else extractor.settings.k)
    rows = read_rows(cfg.source, reading, _columns(cfg), limit=cfg.limit)
    pairs = [(arm, n) for arm in cfg.arms for n in ((0,) if arm == "none" else sorted({k, *cfg.curve}))]
    cost = _cost(cfg, rows, template, [n for _, n in pairs])
    run.plan(documents=len(rows), arms=[f"{arm}, K={n}" for arm, n in pairs], **cost)

    hints = Hints(rows, extractor, encoder=cfg.encoder, language=reading.language, rng=run.rng)
    shown = {(arm, n): hints.of(arm, max(n, 1)) for arm, n in pairs}
    sampling = Sampling(cfg.max_tokens, cfg.temperature, cfg.top_p, run.seed)
    with run.asking({"writer": cfg.writer}, cfg.llm, folder=run.folder / "replies") as models:
        llm = models["writer"]
        limit, count = room_of(llm, cfg.max_tokens)
        summaries = summarise(
            rows,
            shown,
            llm,
            template,
            sampling,
            context_tokens=cfg.context_tokens or limit,
            count=count,
            concurrency=cfg.llm.concurrency,
        )
    by_id = {row.id: row for row in rows}
    path = run.artifact("records", run.folder / "predictions.jsonl")
    records.write(path, (summary.as_record(by_id[summary.id]) for summary in summaries))
    _finish(run, rows, summaries, measure(
        rows, summaries, faithfulness=cfg.faithfulness, language=reading.language, workers=cfg.workers
    ))  # fmt: skip


def evaluate(cfg: config.Evaluate, run: Run) -> None:
    """Measure summaries that are there already."""
    run.plan(source=cfg.source)
    rows, summaries = read_predictions(cfg.source, Reading(cfg.language))
    run.page.simulated = _was_simulated(Path(cfg.source))
    _finish(run, rows, summaries, measure(
        rows, summaries, faithfulness=cfg.faithfulness, language=cfg.language, workers=cfg.workers
    ))  # fmt: skip


def tune_k(cfg: config.TuneK, run: Run) -> None:
    """Choose the number of phrases and the threshold on validation rows."""
    extractor = _extractor(cfg.extractor)
    if extractor is None:
        raise BadConfig("tune-k needs an extractor. Name one with --extractor.")
    rows = read_rows(cfg.source, extractor.settings.reading, _columns(cfg), limit=cfg.limit)
    trials = len(cfg.ks) * len(cfg.percentiles)
    ks = [] if cfg.writer is None else [k for k in cfg.ks for _ in cfg.percentiles]
    run.plan(documents=len(rows), trials=trials, **_cost(cfg, rows, load_template(cfg.template), ks))

    scores = extractor.score_rows(rows)
    if cfg.writer is None:
        result = tune(rows, scores, cfg.ks, cfg.percentiles)
        pages.tuned(run.page, result, "the phrases themselves")
    else:
        with run.asking({"writer": cfg.writer}, cfg.llm, folder=run.folder / "replies") as models:
            score_phrases = score_by_summaries(
                rows,
                models["writer"],
                load_template(cfg.template),
                Sampling(cfg.max_tokens, cfg.temperature, cfg.top_p, run.seed),
                concurrency=cfg.llm.concurrency,
                language=extractor.settings.reading.language,
            )
            result = tune(rows, scores, cfg.ks, cfg.percentiles, score_phrases)
        pages.tuned(run.page, result, f"summaries of {cfg.writer}")
    run.rewind(K=-1)
    for row in result.tried:
        run.log(**row)
    write_json(run.artifact("tuned", run.folder / "tuned.json"), asdict(result))
    if cfg.save:
        chosen = replace(extractor.settings, k=result.k, percentile=result.percentile, tau=result.tau)
        write_settings(Path(model_at(cfg.extractor)), chosen)


PHRASE_TOKENS = 6
"""Tokens of a phrase in a prompt: two words and a semicolon, rather many."""


def _cost(
    cfg: config.Summarize | config.TuneK, rows: Sequence[Row], template: Template, ks: Sequence[int]
) -> dict[str, Any]:
    """Calls, tokens and money of a summary of every document with each number of phrases."""
    documents = sum(estimated_tokens(build_prompt(row.document, (), template)) for row in rows)
    calls = len(rows) * len(ks)
    phrases = sum(min(k, len(row.phrases)) for row in rows for k in ks)
    read = len(ks) * documents + PHRASE_TOKENS * phrases
    return cfg.llm.cost(calls, read, calls * cfg.max_tokens)


def _finish(run: Run, rows: Sequence[Row], summaries: Sequence[Summary], evaluation: Evaluation) -> None:
    """Write the metrics and the page of summaries."""
    numbers = {
        name: {metric: arm.mean(metric) for metric in arm.values} for name, arm in evaluation.arms.items()
    }
    about = {
        "documents": evaluation.documents,
        "faults": evaluation.faults,
        "faithfulness": evaluation.faithfulness,
    }
    simulated = {"SIMULATED": True} if run.page.simulated else {}
    write_json(run.artifact("metrics", run.folder / "metrics.json"), {**simulated, **about, "arms": numbers})
    for name, values in numbers.items():
        run.rewind(arm=name)  # a run that goes on with more documents or arms measures all of them anew
        run.log(arm=name, **values)
    pages.summaries(run.page, rows, summaries, evaluation)


def _was_simulated(source: Path) -> bool:
    report = source / "report.json"
    return report.is_file() and bool(json.loads(report.read_text("utf-8")).get("simulated"))


def _extractor(ref: str | None) -> SigExtModel | None:

    return None if ref is None else SigExtModel.from_pretrained(ref)


def _columns(cfg: config.Rows) -> Columns:

    return Columns(cfg.document_field, cfg.summary_field, cfg.id_field)


def _reading(cfg: config.Finding) -> Reading:

    return Reading(cfg.language, cfg.scientific, cfg.rule)


def _say_labels(rows: Sequence[Row], run: Run) -> None:
    for row in rows:
        marked = [
            f"+{p.text}" if positive else p.text for p, positive in zip(row.phrases, row.labels, strict=True)
        ]
        run.say(f"{row.id}: {' | '.join(' '.join(text.split()) for text in marked)}")
