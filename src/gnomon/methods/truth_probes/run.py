"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import write_json
from gnomon.core.run import Run
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes import config


def answer(cfg: config.Answer, run: Run) -> None:
    """Greedy answers of a model to questions, each labelled."""
    from gnomon.methods.truth_probes.answers.data import read_questions

    questions = read_questions(cfg.source, cfg.task, cfg.limit)
    run.plan(questions=len(questions), answers=len(questions), judge_calls=_calls(cfg.label, len(questions)))
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.states.dataset import answered, with_labels

    found = with_labels(answered(cfg, run), cfg, run)
    records.write(run.artifact("records", run.folder / "answers.jsonl"), found)
    run.log(answers=len(found), right=sum(one.z for one in found))
    report.answers(run.page, found, "Greedy answers")


def extract(cfg: config.Extract, run: Run) -> None:
    """The part of each answer that is the answer."""
    from gnomon.methods.truth_probes.answers.answers import read_answers
    from gnomon.methods.truth_probes.answers.extraction import drop_report

    answers = read_answers(Path(cfg.source))
    run.plan(answers=len(answers), llm_calls_at_most=5 * len(answers) if ":" in cfg.extract else 0)
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.states.dataset import with_exact, with_labels

    if any(one.correct is None for one in answers):
        answers = with_labels(answers, cfg, run)
    found, how = with_exact(answers, cfg.extract, cfg, run)
    records.write(run.artifact("records", run.folder / "answers.jsonl"), found)
    dropped = drop_report(found)
    run.log(**dropped)
    report.extracted(run.page, found, dropped, str(how))


def represent(cfg: config.Represent, run: Run) -> None:
    """Hidden states of answers, by layer and token."""
    from gnomon.methods.truth_probes.answers.answers import read_answers
    from gnomon.methods.truth_probes.states.positions import check_positions
    from gnomon.methods.truth_probes.states.states import usable

    answers, names = read_answers(Path(cfg.source), need="exact"), check_positions(cfg.positions)
    run.plan(answers=len(usable(answers)), positions=len(names), tokens_read=_tokens(answers))
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.states.dataset import captured, load_handle

    found = captured(
        load_handle(cfg.model, cfg.dtype),
        answers,
        "as extracted",
        run,
        site=cfg.site,
        layers=cfg.layers,
        positions=names,
        batch_tokens=cfg.batch_tokens,
    )
    run.log(**found.dropped)
    report.extracted(run.page, found.answers, found.dropped, "the step before")
    run.page.title = f"States of {len(found.answers):,} answers: {found.store.states.nbytes / 2**20:.1f} MiB"


def heatmap(cfg: config.Heatmap, run: Run) -> None:
    """AUC of a probe at every layer and token."""
    from gnomon.methods.truth_probes.states.dataset import read_prepared
    from gnomon.methods.truth_probes.states.states import require_both

    data = read_prepared(Path(cfg.source))
    data = data.take(range(len(data.answers))[: cfg.limit])
    require_both(data.z, str(cfg.source))
    cells = len(data.store.layers) * len(data.store.positions)
    run.plan(answers=len(data.answers), probes=cells * len(cfg.seeds))
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.probes.grid import heatmap as compute

    grid = compute(
        data.store, data.z, seeds=cfg.seeds, jobs=cfg.jobs, C=cfg.c, scale=cfg.scale, max_iter=cfg.max_iter
    )
    write_json(run.artifact("heatmap", run.folder / "heatmap.json"), {"n": grid.n, "cells": grid.rows()})
    for row in grid.rows():
        run.log(**row)
    report.heatmap(run.page, grid)


def train(cfg: config.Train, run: Run) -> None:
    """Fit an error detector on questions with answers, and save it."""
    from gnomon.methods.truth_probes.probes.training import train_probe
    from gnomon.methods.truth_probes.states.positions import check_positions

    (position,) = check_positions((cfg.position,))
    run.plan(source=cfg.source, stage=lambda: _stage(cfg.source), splits=len(cfg.seeds))
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.states.dataset import load_handle, prepared

    data = prepared(cfg, run, site=cfg.site, layers=cfg.layers, positions=(position,))
    handle = load_handle(cfg.model, cfg.dtype) if cfg.ask_p_true else None
    options = {"C": cfg.c, "scale": cfg.scale, "max_iter": cfg.max_iter}
    about = {"template": cfg.template, "stop": cfg.stop, "max_new_tokens": cfg.max_new_tokens}
    found = train_probe(
        data, position, seeds=cfg.seeds, share=cfg.test, seed=run.seed, handle=handle, about=about, **options
    )
    found.probe.save(run.artifact("probe", run.folder / "probe"))
    _write_detectors(run, found.detectors)
    title = f"An error detector at layer {found.probe.layer}, {position}"
    report.detectors(run.page, found.detectors, title, data.dropped, found.seeds)


def eval(cfg: config.Eval, run: Run) -> None:
    """Measure a saved detector on other answers."""
    from gnomon.methods.truth_probes.probes.probe import ErrorProbe

    probe = ErrorProbe.load(Path(cfg.probe))
    run.plan(source=cfg.source, stage=lambda: _stage(cfg.source), layer=probe.layer, position=probe.position)
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.probes.training import measure
    from gnomon.methods.truth_probes.states.dataset import load_handle, prepared

    way = probe.extract if cfg.extract == "auto" else cfg.extract
    data = prepared(
        cfg, run, site=probe.site, layers=(probe.layer,), positions=(probe.position,), extract=way
    )
    found = measure(probe, data, load_handle(cfg.model, cfg.dtype) if cfg.ask_p_true else None)
    _write_detectors(run, found)
    report.detectors(run.page, found, f"The detector of {cfg.probe} on {cfg.source}", data.dropped)


def generalise(cfg: config.Generalise, run: Run) -> None:
    """Train on each task, test on each."""
    from gnomon.errors import nearest
    from gnomon.methods.truth_probes.probes.grid import TaskStates
    from gnomon.methods.truth_probes.probes.grid import generalise as compute
    from gnomon.methods.truth_probes.states.dataset import read_prepared
    from gnomon.methods.truth_probes.states.positions import NAMES, baselines

    if cfg.baseline not in NAMES:
        raise BadConfig(f'There is no baseline "{cfg.baseline}". {nearest(cfg.baseline, NAMES)}')
    data = [read_prepared(folder) for folder in cfg.tasks]
    names = _task_names(cfg.tasks, [sorted({one.task for one in part.answers}) for part in data])
    run.plan(tasks=names, pairs=len(names) ** 2)
    from gnomon.methods.truth_probes import report

    tasks = {
        name: TaskStates(part.store, part.z, baselines(part.answers)[cfg.baseline])
        for name, part in zip(names, data, strict=True)
    }
    found = compute(tasks, seed=run.seed, share=cfg.test, C=cfg.c, scale=cfg.scale, max_iter=cfg.max_iter)
    write_json(
        run.artifact("matrix", run.folder / "matrix.json"), {"baseline": cfg.baseline, "pairs": found.rows()}
    )
    report.transfer(run.page, found, cfg.baseline)


def resample(cfg: config.Resample, run: Run) -> None:
    """Many sampled answers to each question, labelled, with exact answers."""
    from gnomon.methods.truth_probes.answers.data import read_questions
    from gnomon.methods.truth_probes.answers.extraction import drop_report

    questions = read_questions(cfg.source, cfg.task, cfg.limit)
    run.plan(questions=len(questions), samples=cfg.k * len(questions))
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.states.dataset import answered, with_exact, with_labels

    drawn = with_labels(answered(cfg, run, samples=cfg.k, name="samples"), cfg, run)
    found, how = with_exact(drawn, cfg.extract, cfg, run)
    records.write(run.artifact("records", run.folder / "samples.jsonl"), found)
    dropped = drop_report(found)
    run.log(**dropped)
    report.answers(run.page, found, f"{cfg.k} samples of each question")
    report.extracted(run.page, found, dropped, str(how))


def taxonomy(cfg: config.Taxonomy, run: Run) -> None:
    """What kinds of errors a model makes, question by question."""
    from gnomon.methods.truth_probes.errors.clusters import taxonomy as compute

    samples = _samples(Path(cfg.source), cfg.more)
    run.plan(samples=len(samples))
    from gnomon.methods.truth_probes import report

    typed = compute(samples, cfg.rule)
    records.write(run.artifact("records", run.folder / "types.jsonl"), typed)
    report.kinds(run.page, typed, cfg.rule)


def types(cfg: config.Types, run: Run) -> None:
    """Tell the kind of error from the greedy answer's hidden state."""
    from gnomon.methods.truth_probes.errors.types import type_scores
    from gnomon.methods.truth_probes.states.dataset import read_prepared

    data, typed = read_prepared(Path(cfg.source)), {one.id: one for one in _typed(Path(cfg.types))}
    if odd := [one.id for one in data.answers if one.draw != 0 or one.id not in typed]:
        raise BadInput(
            f'{cfg.source}: "{odd[0]}" is a sample, or has no type in {cfg.types}. Give greedy answers of the same questions.'
        )
    run.plan(questions=len(data.answers))
    from gnomon.methods.truth_probes import report

    layer = data.store.layers[len(data.store.layers) // 2] if cfg.layer is None else cfg.layer
    mine = [typed[one.id] for one in data.answers]
    states = data.store.at(layer, cfg.position)
    found = type_scores(states, mine, seed=run.seed, C=cfg.c, standardise=cfg.scale, max_iter=cfg.max_iter)
    write_json(
        run.artifact("types", run.folder / "types.json"),
        {"layer": layer, "position": cfg.position, "types": dict(found)},
    )
    report.types(run.page, found, mine)


def choose(cfg: config.Choose, run: Run) -> None:
    """Give the sampled answer that the detector trusts most, against greedy, random and majority."""
    from gnomon.methods.truth_probes.answers.answers import read_answers
    from gnomon.methods.truth_probes.errors.choice import by_type
    from gnomon.methods.truth_probes.errors.choice import choose as compute
    from gnomon.methods.truth_probes.errors.clusters import taxonomy as types_of
    from gnomon.methods.truth_probes.probes.probe import ErrorProbe

    probe, samples = ErrorProbe.load(Path(cfg.probe)), _samples(Path(cfg.source), cfg.more)
    greedy = read_answers(Path(cfg.greedy), need="label")
    run.plan(samples=len(samples), questions=len(greedy))
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.probes.training import probabilities
    from gnomon.methods.truth_probes.states.dataset import load_handle

    chances = probabilities(probe, load_handle(cfg.model, cfg.dtype), samples, run.folder / "states")
    typed = types_of(samples, cfg.rule)
    found = compute(samples, typed, chances, greedy)
    rows = [
        {"id": name, "chosen draw": draw, **{one: float(found.right[one][i]) for one in found.right}}
        for i, (name, draw) in enumerate(zip(found.ids, found.chosen, strict=True))
    ]
    records.write(run.artifact("records", run.folder / "choices.jsonl"), rows)
    report.choice(run.page, found, by_type(found, typed))


def score(cfg: config.Score, run: Run) -> None:
    """Answers with their exact answer and the probability that they are right."""
    from gnomon.methods.truth_probes.answers.extraction import Extraction
    from gnomon.methods.truth_probes.probes.probe import ErrorProbe

    probe = ErrorProbe.load(Path(cfg.probe))
    way = probe.extract if cfg.extract == "as trained" else cfg.extract
    run.plan(source=cfg.source, layer=probe.layer, position=probe.position, extract=way)
    from gnomon.methods.truth_probes import report
    from gnomon.methods.truth_probes.probes.application import Asked, Scorer, stream
    from gnomon.methods.truth_probes.states.dataset import load_handle

    how = Extraction.parse(way, [probe.task])
    with run.asking({"extract": how.detail if how.kind == "llm" else None}, cfg.llm) as models:
        handle = load_handle(cfg.model, cfg.dtype)
        scorer = Scorer(handle, probe, how, models["extract"], cfg.max_new_tokens)
        path = run.folder / "scores.jsonl"
        if cfg.source == "-":
            run.is_stream = True
            with path.open("w", encoding="utf-8") as file:
                total = stream(scorer, sys.stdin, sys.stdout, file)
        else:
            total = records.write(path, _scored(scorer, records.read(cfg.source, Asked)))
    run.artifact("records", path)
    report.scored(run.page, [raw for _, raw in records.read_raw(path)], total)


def _scored(scorer: Any, rows: Iterator[Any], together: int = 32) -> Iterator[dict[str, Any]]:
    from itertools import islice

    while part := list(islice(rows, together)):
        yield from scorer.score(part)


def _samples(source: Path, more: Sequence[Path]) -> list[Any]:
    from gnomon.methods.truth_probes.answers.answers import merge, read_answers

    return merge([read_answers(path, need="exact") for path in (source, *more)])


def _typed(source: Path) -> list[Any]:
    from gnomon.methods.truth_probes.errors.clusters import read_types

    return read_types(source)


def _task_names(folders: Sequence[Path], tasks: Sequence[Sequence[str]]) -> list[str]:
    """The task of each folder; the folder's name where several tasks are mixed or two folders hold the same one."""
    single = [names[0] if len(names) == 1 else "" for names in tasks]
    return [
        name if name and single.count(name) == 1 else folder.resolve().name
        for name, folder in zip(single, folders, strict=True)
    ]


def _write_detectors(run: Run, found: Sequence[Any]) -> None:
    rows = [one.row for one in found]
    write_json(run.artifact("detectors", run.folder / "detectors.json"), rows)
    for row in rows:
        run.log(detector=row["detector"], auc=row["AUC"][0] if row["AUC"] else None, n=row["n"])


def _stage(source: str) -> str:
    from gnomon.methods.truth_probes.states.dataset import stage_of

    return stage_of(source)


def _calls(label: str, answers: int) -> int:
    """Calls of a judge, if every answer takes one."""
    return 0 if label == "match" or label.startswith("rule:") else answers


def _tokens(answers: Sequence[Any]) -> int:
    return sum(len(one.prompt_ids) + len(one.output_ids) for one in answers if one.is_usable)
