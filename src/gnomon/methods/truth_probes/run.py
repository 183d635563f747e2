"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.data.config import Shards
from gnomon.core.files import write_json
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.core.too_long import note_long
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.truth_probes import config, report
from gnomon.methods.truth_probes.answers.answers import Answer, Answering, merge, read_answers
from gnomon.methods.truth_probes.answers.data import parse_columns, read_questions
from gnomon.methods.truth_probes.answers.extraction import Extraction, drop_report
from gnomon.methods.truth_probes.answers.tasks import task_of
from gnomon.methods.truth_probes.errors import choice, clusters
from gnomon.methods.truth_probes.errors.types import type_scores
from gnomon.methods.truth_probes.probes import grid
from gnomon.methods.truth_probes.probes.application import Scorer, ScoreRow, stream
from gnomon.methods.truth_probes.probes.evaluation import Detector
from gnomon.methods.truth_probes.probes.probe import ErrorProbe, FitOptions
from gnomon.methods.truth_probes.probes.training import measure, probabilities, train_probe
from gnomon.methods.truth_probes.states.dataset import (
    Judging,
    Recipe,
    answered,
    captured,
    load_handle,
    prepared,
    read_prepared,
    stage_of,
    with_exact,
    with_labels,
)
from gnomon.methods.truth_probes.states.positions import NAMES, baselines, check_positions
from gnomon.methods.truth_probes.states.states import Capture, require_both, usable


def answer(cfg: config.Answer, run: Run) -> None:
    """Greedy answers of a model to questions, each labelled."""
    questions = read_questions(cfg.source, cfg.task, cfg.limit, parse_columns(cfg.columns))
    texts = [question.question for question in questions]
    run.plan(questions=len(questions), answers=len(questions), **_cost(cfg, texts, longest=_longest(cfg)))
    answers = with_labels(answered(cfg.source, _recipe(cfg), run), _judging(cfg), run)
    records.write(run.artifact("records", run.folder / "answers.jsonl"), answers)
    run.log(answers=len(answers), right=sum(answer.z for answer in answers))
    report.answers(run.page, answers, "Greedy answers")


def extract(cfg: config.Extract, run: Run) -> None:
    """The part of each answer that is the answer."""
    answers = read_answers(Path(cfg.source))
    run.plan(
        answers=len(answers),
        **_cost(
            cfg,
            [answer.question + answer.answer for answer in answers],
            labels=any(answer.correct is None for answer in answers),
            extract=cfg.extract,
        ),
    )
    if any(answer.correct is None for answer in answers):
        answers = with_labels(answers, _judging(cfg), run)
    answers, how = with_exact(answers, cfg.extract, _judging(cfg), run)
    records.write(run.artifact("records", run.folder / "answers.jsonl"), answers)
    dropped = drop_report(answers)
    run.log(**dropped)
    report.extracted(run.page, answers, dropped, str(how))


def represent(cfg: config.Represent, run: Run) -> None:
    """Hidden states of answers, by layer and token."""
    answers, names = read_answers(Path(cfg.source), need="exact"), check_positions(cfg.positions)
    run.plan(answers=len(usable(answers)), positions=len(names), tokens_read=_tokens(answers))
    handle = load_handle(cfg.model, narrow(LoadConfig, cfg), cfg.family)
    capture = Capture(cfg.site, cfg.layers, names)
    data = captured(handle, answers, "as extracted", run, capture, cfg.batch_tokens, cfg.too_long)
    run.log(**data.dropped)
    report.extracted(run.page, data.answers, data.dropped, "the step before")
    run.page.title = f"States of {len(data.answers):,} answers: {data.store.states.nbytes / 2**20:.1f} MiB"


def heatmap(cfg: config.Heatmap, run: Run) -> None:
    """AUC of a probe at every layer and token."""
    data = read_prepared(Path(cfg.source))
    data = data.take(range(len(data.answers))[: cfg.limit])
    require_both(data.z, str(cfg.source))
    cells = len(data.store.layers) * len(data.store.positions)
    run.plan(answers=len(data.answers), probes=cells * len(cfg.seeds))
    table = grid.heatmap(data.store, data.z, _fit(cfg), seeds=cfg.seeds, jobs=cfg.jobs)
    write_json(run.artifact("heatmap", run.folder / "heatmap.json"), {"n": table.n, "cells": table.rows()})
    for row in table.rows():
        run.log(**row)
    report.heatmap(run.page, table)


def train(cfg: config.Train, run: Run) -> None:
    """Fit an error detector on questions with answers, and save it."""
    (position,) = check_positions((cfg.position,))
    run.plan(source=cfg.source, stage=lambda: stage_of(cfg.source), splits=len(cfg.seeds), **_cost_from(cfg))
    data = prepared(cfg.source, _recipe(cfg), Capture(cfg.site, cfg.layers, (position,)), run)
    handle = load_handle(cfg.model, narrow(LoadConfig, cfg), cfg.family) if cfg.ask_p_true else None
    about = {"template": cfg.template, "stop": cfg.stop, "max_new_tokens": cfg.max_new_tokens}
    trained = train_probe(
        data, position, _fit(cfg), seeds=cfg.seeds, share=cfg.test, seed=run.seed, handle=handle, about=about
    )
    trained.probe.save(run.artifact("probe", run.folder / "probe"))
    _write_detectors(run, trained.detectors)
    title = f"An error detector at layer {trained.probe.layer}, {position}"
    report.detectors(run.page, trained.detectors, title, data.dropped, trained.seeds)


def eval(cfg: config.Eval, run: Run) -> None:
    """Measure a saved detector on other answers."""
    probe = ErrorProbe.load(Path(cfg.probe))
    # Exact answers are located as in training, unless the settings say otherwise.
    way = probe.extract if cfg.extract == "auto" else cfg.extract
    run.plan(
        source=cfg.source,
        stage=lambda: stage_of(cfg.source),
        layer=probe.layer,
        position=probe.position,
        **_cost_from(cfg, way),
    )
    recipe = _recipe(cfg, way)
    data = prepared(cfg.source, recipe, Capture(probe.site, (probe.layer,), (probe.position,)), run)
    detectors = measure(
        probe, data, load_handle(cfg.model, narrow(LoadConfig, cfg), cfg.family) if cfg.ask_p_true else None
    )
    _write_detectors(run, detectors)
    report.detectors(run.page, detectors, f"The detector of {cfg.probe} on {cfg.source}", data.dropped)


def generalise(cfg: config.Generalise, run: Run) -> None:
    """Train on each task, test on each."""
    if cfg.baseline not in NAMES:
        raise BadConfig(f'There is no baseline "{cfg.baseline}". {nearest(cfg.baseline, NAMES)}')
    data = [read_prepared(folder) for folder in cfg.tasks]
    names = _task_names(cfg.tasks, [sorted({answer.task for answer in part.answers}) for part in data])
    run.plan(tasks=names, pairs=len(names) ** 2)
    tasks = {
        name: grid.TaskStates(part.store, part.z, baselines(part.answers)[cfg.baseline])
        for name, part in zip(names, data, strict=True)
    }
    matrix = grid.generalise(tasks, _fit(cfg), seed=run.seed, share=cfg.test)
    write_json(
        run.artifact("matrix", run.folder / "matrix.json"),
        {"baseline": cfg.baseline, "pairs": matrix.rows()},
    )
    report.transfer(run.page, matrix, cfg.baseline)


def resample(cfg: config.Resample, run: Run) -> None:
    """Many sampled answers to each question, labelled, with exact answers."""
    questions = read_questions(cfg.source, cfg.task, cfg.limit, parse_columns(cfg.columns))
    texts = cfg.k * [question.question for question in questions]
    run.plan(
        questions=len(questions),
        samples=len(texts),
        **_cost(cfg, texts, extract=cfg.extract, longest=_longest(cfg)),
    )
    recipe, judging = _recipe(cfg), _judging(cfg)
    drawn = with_labels(answered(cfg.source, recipe, run, "samples"), judging, run)
    samples, how = with_exact(drawn, cfg.extract, judging, run)
    records.write(run.artifact("records", run.folder / "samples.jsonl"), samples)
    dropped = drop_report(samples)
    run.log(**dropped)
    report.answers(run.page, samples, f"{cfg.k} samples of each question")
    report.extracted(run.page, samples, dropped, str(how))


def taxonomy(cfg: config.Taxonomy, run: Run) -> None:
    """What kinds of errors a model makes, question by question."""
    samples = _samples(Path(cfg.source), cfg.more)
    run.plan(samples=len(samples))
    typed = clusters.taxonomy(samples, cfg.rule, _equality(cfg))
    n = len({answer.id for answer in samples})
    _left_out(run, n - len(typed), n, f"fewer than {clusters.FEWEST} samples of them have a label")
    records.write(run.artifact("records", run.folder / "types.jsonl"), typed)
    report.kinds(run.page, typed, cfg.rule)


def types(cfg: config.Types, run: Run) -> None:
    """Tell the kind of error from the greedy answer's hidden state."""
    data = read_prepared(Path(cfg.source))
    typed = {question.id: question for question in clusters.read_types(Path(cfg.types))}
    rows = [i for i, answer in enumerate(data.answers) if answer.id in typed]
    if not rows or (odd := [answer.id for answer in data.answers if answer.draw != 0]):
        what = f'"{odd[0]}" is a sample' if rows else f"no question has a type in {cfg.types}"
        raise BadInput(f"{cfg.source}: {what}. Give greedy answers of the same questions.")
    run.plan(questions=len(rows))
    _left_out(run, len(data.answers) - len(rows), len(data.answers), f"they have no type in {cfg.types}")
    data = data.take(rows)
    layer = data.store.layers[len(data.store.layers) // 2] if cfg.layer is None else cfg.layer
    mine = [typed[answer.id] for answer in data.answers]
    aucs = type_scores(data.store.at(layer, cfg.position), mine, _fit(cfg), seed=run.seed)
    write_json(
        run.artifact("types", run.folder / "types.json"),
        {"layer": layer, "position": cfg.position, "types": dict(aucs)},
    )
    report.types(run.page, aucs, mine)


def choose(cfg: config.Choose, run: Run) -> None:
    """Give the sampled answer that the detector trusts most, against greedy, random and majority."""
    probe, samples = ErrorProbe.load(Path(cfg.probe)), _samples(Path(cfg.source), cfg.more)
    greedy = read_answers(Path(cfg.greedy), need="label")
    run.plan(samples=len(samples), questions=len(greedy))
    chances = probabilities(
        probe, load_handle(cfg.model, narrow(LoadConfig, cfg), cfg.family), samples, run.folder / "states"
    )
    typed = clusters.taxonomy(samples, cfg.rule, _equality(cfg))
    chosen = choice.choose(samples, typed, chances, greedy)
    kept = [question for question in typed if question.id in set(chosen.ids)]
    n = len({answer.id for answer in samples})
    _left_out(run, n - len(kept), n, "they have no greedy answer with a label, or too few samples with one")
    rows = [
        {"id": name, "chosen draw": draw, **{arm: float(right[i]) for arm, right in chosen.right.items()}}
        for i, (name, draw) in enumerate(zip(chosen.ids, chosen.chosen, strict=True))
    ]
    records.write(run.artifact("records", run.folder / "choices.jsonl"), rows)
    report.choice(run.page, chosen, choice.by_type(chosen, kept))


def score(cfg: config.Score, run: Run) -> None:
    """Answers with their exact answer and the probability that they are right."""
    probe = ErrorProbe.load(Path(cfg.probe))
    way = probe.extract if cfg.extract == "as trained" else cfg.extract
    how = Extraction.parse(way, [probe.task])
    cost = _score_cost(cfg, probe, how)
    run.plan(source=cfg.source, layer=probe.layer, position=probe.position, extract=way, **cost)
    with run.asking({"extract": how.detail if how.kind == "llm" else None}, cfg.llm) as models:
        handle = load_handle(cfg.model, narrow(LoadConfig, cfg), cfg.family)
        scorer = Scorer(handle, probe, how, models["extract"], cfg.max_new_tokens, cfg.too_long)
        path = run.folder / "scores.jsonl"
        if cfg.source == "-":
            run.is_stream = True
            with path.open("w", encoding="utf-8") as file:
                total = stream(scorer, sys.stdin, sys.stdout, file)
        else:
            total = records.write(path, _scored(scorer, records.read(cfg.source, ScoreRow)))
    note_long(run, scorer.long, total)
    run.artifact("records", path)
    report.scored(run.page, [raw for _, raw in records.read_raw(path)], total)


def _left_out(run: Run, n: int, of: int, why: str) -> None:
    """Count questions that a verb goes on without; where they are many, two sources do not belong together."""
    run.missing(Shortfall("questions", n, of, why))


def _recipe(cfg: Any, extract: str | None = None) -> Recipe:
    """From questions to exact answers, for the verbs that answer questions; `extract` in place of the settings' own."""
    answering = Answering(
        samples=getattr(cfg, "k", 0),
        temperature=getattr(cfg, "temperature", 1.0),
        top_p=getattr(cfg, "top_p", 1.0),
        template=cfg.template,
        max_new_tokens=cfg.max_new_tokens,
        stop=None if cfg.stop is None else (cfg.stop,),
        batch_size=cfg.batch_size,
        too_long=cfg.too_long,
    )
    shards = Shards(engine=cfg.engine, workers=cfg.workers, shard_rows=cfg.shard_rows)
    way = str(extract or getattr(cfg, "extract", "auto"))
    return Recipe(
        cfg.model,
        narrow(LoadConfig, cfg),
        cfg.task,
        cfg.limit,
        answering,
        shards,
        _judging(cfg),
        way,
        parse_columns(cfg.columns),
        getattr(cfg, "family", None),
    )


def _judging(cfg: config.Labelling) -> Judging:
    return Judging(cfg.label, cfg.match, cfg.llm)


def _fit(cfg: config.Probing) -> FitOptions:
    return FitOptions(cfg.c, cfg.scale, cfg.max_iter)


def _equality(cfg: config.Clustering) -> clusters.Equality:
    aliases = clusters.read_aliases(cfg.aliases) if cfg.aliases else {}
    return clusters.Equality(cfg.normalise, aliases)


def _scored(scorer: Scorer, rows: Iterator[ScoreRow], together: int = 32) -> Iterator[dict[str, Any]]:
    while part := list(islice(rows, together)):
        yield from scorer.score(part)


def _samples(source: Path, more: Sequence[Path]) -> list[Answer]:
    return merge([read_answers(path, need="exact") for path in (source, *more)])


def _task_names(folders: Sequence[Path], tasks: Sequence[Sequence[str]]) -> list[str]:
    """The task of each folder; the folder's name where several tasks are mixed or two folders hold the same one."""
    single = [names[0] if len(names) == 1 else "" for names in tasks]
    return [
        name if name and single.count(name) == 1 else folder.resolve().name
        for name, folder in zip(single, folders, strict=True)
    ]


def _write_detectors(run: Run, detectors: Sequence[Detector]) -> None:
    rows = [detector.row for detector in detectors]
    write_json(run.artifact("detectors", run.folder / "detectors.json"), rows)
    for row in rows:
        run.log(detector=row["detector"], auc=row["AUC"][0] if row["AUC"] else None, n=row["n"])


JUDGE_TOKENS, EXTRACT_TOKENS = (130, 8), (190, 64)
"""Tokens of a request for a label or an exact answer before it is filled, and of its longest answer."""


def _cost(
    cfg: config.Labelling,
    texts: Sequence[str],
    *,
    labels: bool = True,
    extract: str = "auto",
    longest: int = 0,
) -> dict[str, Any]:
    """What a dry run says of language models that label answers and copy exact answers out of them, one request for each.

    A reply that cannot be read is asked for again, up to five times in all: that comes on top. `texts` hold a question each, with
    its answer where there is one already; `longest` are the tokens of one that is not there yet.
    """
    is_judged = labels and cfg.label != "match" and not cfg.label.startswith("rule:")
    is_copied = Extraction.parse(extract, []).kind == "llm"
    roles = [*([JUDGE_TOKENS] if is_judged else []), *([EXTRACT_TOKENS] if is_copied else [])]
    n = {"judge_calls": is_judged * len(texts), "extract_calls": is_copied * len(texts)}
    n = {name: calls for name, calls in n.items() if calls}
    if not n:
        return {}
    filled = sum(estimated_tokens(text) + longest for text in texts)
    read = sum(len(texts) * around + filled for around, _ in roles)
    return n | cfg.llm.cost(sum(n.values()), read, sum(len(texts) * written for _, written in roles))


def _cost_from(cfg: config.Train | config.Eval, extract: str | None = None) -> dict[str, Any]:
    """The same for the verbs that begin with questions, answers or states; of states nobody is asked."""
    way = extract or cfg.extract
    if not _cost(cfg, [""], extract=way):  # nobody is asked: read nothing for it
        return {}
    stage = stage_of(cfg.source)
    if stage == "questions":
        texts = [question.question for question in read_questions(cfg.source, cfg.task, cfg.limit)]
        return _cost(cfg, texts, extract=way, longest=_longest(cfg))
    if stage == "answers":
        answers = read_answers(Path(cfg.source))
        has_exact = all(answer.valid is not None for answer in answers)
        return _cost(
            cfg,
            [answer.question + answer.answer for answer in answers],
            labels=any(answer.correct is None for answer in answers),
            extract="line" if has_exact else way,
        )
    return {}


def _score_cost(cfg: config.Score, probe: ErrorProbe, how: Extraction) -> dict[str, Any]:
    """The same for `score`; of rows that come line by line, what each of them costs."""
    if how.kind != "llm":
        return {}
    longest = cfg.max_new_tokens or probe.max_new_tokens or task_of(probe.task or "open").max_new_tokens
    rows = [ScoreRow("")] if cfg.source == "-" else list(records.read(cfg.source, ScoreRow))
    filled = sum(
        estimated_tokens(row.question + (row.completion or "")) + (row.completion is None) * longest
        for row in rows
    )
    around, written = EXTRACT_TOKENS
    cost = cfg.llm.cost(len(rows), len(rows) * around + filled, len(rows) * written)
    per_row = {"counted": "for one row, as many rows come line by line"} if cfg.source == "-" else {}
    return {"extract_calls": len(rows)} | cost | per_row


def _longest(cfg: config.Asking) -> int:
    """Tokens of an answer at most."""
    return cfg.max_new_tokens or task_of(cfg.task).max_new_tokens


def _tokens(answers: Sequence[Answer]) -> int:
    return sum(len(answer.prompt_ids) + len(answer.output_ids) for answer in answers if answer.is_usable)
