"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.data.documents import Document, Row, read_documents, read_rows, text_of
from gnomon.core.data.execute import map_shards, rejected
from gnomon.core.llm.stack.stored import tokens_asked
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadInput, BudgetSpent
from gnomon.methods.sieve import config, report
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.stream import SnippetStream
from gnomon.methods.sieve.fitting.application import ApplyStep, share_of
from gnomon.methods.sieve.fitting.cost import Cost, call_usd, measured
from gnomon.methods.sieve.fitting.evaluation import evaluate
from gnomon.methods.sieve.fitting.model import SieveModel
from gnomon.methods.sieve.fitting.sieve import Fit, FitSettings, fit_stream, judged
from gnomon.methods.sieve.fitting.state import RoundState
from gnomon.methods.sieve.judging.client import LONGEST
from gnomon.methods.sieve.judging.filters import LONG, Filter, filter_of, load_filter, request_of
from gnomon.methods.sieve.judging.judges import GO_ON, Judge
from gnomon.methods.sieve.judging.labels import Label, LabelStore, read_label
from gnomon.methods.sieve.judging.rating import KEY, SHEET, export_disagreements, read_ratings
from gnomon.methods.sieve.judging.references import judge_of, source_of
from gnomon.methods.sieve.students import Student, check_student, open_student
from gnomon.methods.sieve.students.linear import HashedLinear

if TYPE_CHECKING:
    from gnomon.core.llm.roles import Models

TEST_IN = 10
"""One document in this many is set aside when a test is asked for."""


def label(cfg: config.Label, run: Run) -> None:
    """Let the judge label uniformly drawn snippets."""
    chosen = load_filter(cfg.filter)
    run.plan(
        snippets=cfg.n, judge=cfg.judge, filter=chosen.name, **_judging_cost(cfg, chosen, cfg.n * cfg.repeat)
    )
    stream = _stream(cfg, lambda: _documents(cfg), HashedLinear().token_spans, run)
    snippets = list(islice(stream.pass_(0), cfg.n))
    if len(snippets) < cfg.n:
        run.say(f"The source holds {len(snippets)} different snippets; all of them are labelled.")
    draws = []
    with _asking(cfg, run) as models:
        for draw in range(cfg.repeat):
            judge = judge_of(models["judge"], chosen, cfg.llm, temperature=cfg.temperature, draw=draw)
            path = run.folder / ("labels.jsonl" if draw == 0 else f"labels-{draw + 1}.jsonl")
            title = f"labels, draw {draw + 1}" if cfg.repeat > 1 else "labels"
            with run.progress(len(snippets), title) as bar:
                draws.append(judged(judge, snippets, path, progress=bar))
            run.artifact("records" if draw == 0 else f"records-{draw + 1}", path)
    _count_missing(run, [row for rows in draws for row in rows], cfg.llm.max_failed)
    passes = sum(row.label == 1 for row in draws[0])
    run.log(labels=len(draws[0]), passes=passes, **models.figures("judge"))
    report.labels(run.page, draws, chosen)


def fit(cfg: config.Fit, run: Run) -> None:
    """Train a light filter on few, well-chosen verdicts of the judge."""
    chosen = load_filter(cfg.filter)
    selection = cfg.selection
    check_student(cfg.model)
    run.plan(
        rounds=-(-selection.budget // selection.batch),
        trainings=-(-selection.budget // selection.batch) + selection.folds,
        judge=cfg.judge,
        filter=chosen.name,
        student=cfg.model,
        **_judging_cost(cfg, chosen, selection.budget + cfg.test),
    )

    if cfg.test and next(_documents(cfg, test=True), None) is None:
        raise BadInput(
            f"{cfg.source} holds too few documents to set one in {TEST_IN} aside. Leave out --test, or give more."
        )
    student = open_student(cfg.model, cfg.student)
    with _asking(cfg, run) as models:
        judge = judge_of(models["judge"], chosen, cfg.llm)
        fitted = _fitted(cfg, chosen, judge, student, run)
        run.artifact("model", run.folder / "model")
        run.artifact("labels", fitted.store.path)
        tested: list[Label] = []
        stopped = fitted.outcome.stopped
        if cfg.test and not stopped:
            tested, stopped = _tested(cfg, judge, student, fitted, run)
    _count_missing(run, [*fitted.store.rows, *tested], cfg.llm.max_failed)
    run.is_incomplete = bool(stopped)
    if stopped:
        run.say(f"{stopped} The filter can be used; {GO_ON}")
        if not fitted.outcome.stopped:
            run.page.text(f"The test is not complete: {stopped}")
    report.fit(run.page, fitted, chosen, tested)


def _fitted(cfg: config.Fit, chosen: Filter, judge: Judge, student: Student, run: Run) -> Fit:
    """The fit, with a row of metrics for each round."""
    stream = _stream(cfg, lambda: _documents(cfg, test=False), student.token_spans, run)
    with run.progress(cfg.selection.budget, "labels") as bar:

        def on_round(state: RoundState, _: Student) -> None:
            run.log(
                round=state.number,
                labels=state.labels,
                pass_share=state.pass_share,
                width=state.widths[-1] if state.widths else 1.0,
                read=state.read,
                held_out_loss=state.fitted.held_out_loss if state.fitted else None,
                training_s=state.fitted.seconds if state.fitted else None,
            )
            bar.advance(state.labels)

        return fit_stream(
            stream,
            chosen,
            judge,
            student,
            run.folder,
            FitSettings(cfg.selection, cfg.student, cfg.mode, cfg.rule),
            rng=run.rng.child("fit"),
            on_round=on_round,
        )


def _tested(
    cfg: config.Fit, judge: Judge, student: Student, fitted: Fit, run: Run
) -> tuple[list[Label], str]:
    """The judge's labels of snippets from the documents that were set aside, and why it stopped, if it did."""
    stream = _stream(cfg, lambda: _documents(cfg, test=True), student.token_spans, run)
    learned = {row.text for row in fitted.store.rows}
    snippets = list(islice((s for s in stream.pass_(0) if s.text not in learned), cfg.test))
    path = run.folder / "test.jsonl"
    stopped = ""
    with run.progress(len(snippets), "test labels") as bar:
        try:
            tested = judged(judge, snippets, path, progress=bar)
        except BudgetSpent as error:
            store, stopped = LabelStore(path), str(error)
            tested = [store[s.snippet_id] for s in snippets if s.snippet_id in store]
    run.artifact("test", path)
    return tested, stopped


def apply(cfg: config.Apply, run: Run) -> None:
    """Filter documents with a trained model."""
    step = ApplyStep.of(
        cfg.model,
        text_field=cfg.text_field,
        rule=cfg.rule,
        keep=cfg.keep,
        threshold=cfg.threshold,
        keep_share=cfg.keep_share,
    )

    def rows() -> Iterator[Row]:
        every = read_rows(cfg.source, text_field=cfg.text_field)
        return share_of(every, shards=cfg.shards, shard=cfg.shard, block=cfg.shard_rows)

    run.plan(
        records=lambda: sum(1 for _ in rows()),
        judge_calls=0,
        model=str(step.folder),
        version=step.version,
        engine=cfg.engine,
        workers=cfg.workers,
    )
    sink = run.artifact("records", run.folder / "filtered")
    with run.progress(None, "documents") as bar:
        totals = map_shards(
            step,
            rows(),
            sink,
            engine=cfg.engine,
            workers=cfg.workers,
            shard_rows=cfg.shard_rows,
            settings=step.settings,
            progress=bar,
        )
    if not totals.read:
        raise BadInput(f"{cfg.source} holds no records.")
    refusals = rejected(sink)
    if totals.rejected:
        path = run.folder / "rejected.jsonl"
        records.write(path, refusals)
        run.artifact("rejected", path)
    run.log(read=totals.read, written=totals.written, rejected=totals.rejected, **totals.sums)
    report.applied(run.page, totals, step.card, records.read_raw(sink), cfg.text_field)


def eval(cfg: config.Eval, run: Run) -> None:
    """Compare a trained model with labels, and export disagreements for human rating."""
    model = SieveModel.load(cfg.model)
    snippets, labels, truth = _labelled(cfg)
    run.plan(snippets=len(snippets), judge_calls=0, model=str(cfg.model), version=model.card.version)
    scores = model.student.predict([s.text for s in snippets])
    figures = evaluate(scores, labels, model.card.threshold, truth, documents=[s.doc_id for s in snippets])
    passes = model.decide(scores)
    rows = [
        {"snippet_id": s.snippet_id, "text": s.text, "label": label, "score": score, "pass": bool(is_pass)}
        for s, label, score, is_pass in zip(snippets, labels, scores.tolist(), passes, strict=True)
    ]
    records.write(run.artifact("records", run.folder / "scored.jsonl"), rows)
    if cfg.disagreements and any(r["label"] is not None and r["label"] != r["pass"] for r in rows):
        folder = run.folder / "rating"
        if not (folder / SHEET).exists():
            export_disagreements(
                folder,
                snippets,
                labels,
                passes.astype(int).tolist(),
                filter_of(model.card.filter, str(cfg.model)),
                rng=run.rng,
                most=cfg.disagreements,
            )
        run.artifact("rating sheet", folder / SHEET)
        run.artifact("rating key", folder / KEY)
    preference = read_ratings(cfg.ratings) if cfg.ratings else None
    run.log(**figures["judge"])
    report.evaluation(run.page, figures, rows, model.card, preference)


def _labelled(cfg: config.Eval) -> tuple[list[Snippet], list[int | None], list[int | None] | None]:
    """Snippets, the judge's labels and, where a column is named, the true ones."""
    snippets: list[Snippet] = []
    labels: list[int | None] = []
    truth: list[int | None] = []
    for number, row in enumerate(read_rows(cfg.source, text_field=cfg.text_field)):
        text = text_of(row, cfg.text_field)
        raw = row.raw or {}
        labels.append(_label_in(row, cfg.label_field, "--label-field"))
        if cfg.truth_field:
            truth.append(_label_in(row, cfg.truth_field, "--truth-field"))
        name = str(raw.get("snippet_id", number))
        snippets.append(Snippet(name, str(raw.get("doc_id", name)), text, 0, len(text)))
    if not snippets:
        raise BadInput(f"{cfg.source} holds no records.")
    return snippets, labels, truth if cfg.truth_field else None


def _label_in(row: Row, name: str, option: str) -> int | None:

    raw = row.raw or {}
    if name not in raw:
        raise BadInput(f'{row.where}: field "{name}" is missing. Name the column with {option}.')
    return read_label(raw[name], f'{row.where}, field "{name}"')


def cost(cfg: config.Cost, run: Run) -> None:
    """What filtering costs with the student and with the judge alone."""
    of_fit = measured(cfg.run) if cfg.run else {}
    numbers = {name: of_fit.get(name, getattr(cfg, name)) for name in _COSTED}
    bill = Cost(
        snippets=cfg.snippets,
        labels=round(numbers["labels"]),
        usd_per_call=call_usd(numbers["tokens_in"], numbers["tokens_out"], cfg.price_in, cfg.price_out),
        training_s=numbers["training_s"],
        snippets_per_s=numbers["snippets_per_s"],
        usd_per_hour=cfg.usd_per_hour,
        stream_scored=round(of_fit.get("stream_scored", 0)),
    )
    run.plan(**bill.figures())
    report.bill(run.page, bill, measured_names=sorted(of_fit))


_COSTED = ("labels", "tokens_in", "tokens_out", "training_s", "snippets_per_s")
"""Settings of `cost` that a fit has measured."""


def _count_missing(run: Run, rows: Sequence[Label], limit: float) -> None:
    """Say how many snippets have no verdict and why, so that the same command asks about them again."""
    # Those that are too long for the judge are counted with its prompts: nothing is gained by asking again.
    reasons = Counter(row.problem for row in rows if row.label is None and row.problem != LONG)
    if reasons:
        run.missing(Shortfall("labels", reasons.total(), len(rows), reasons.most_common(1)[0][0], limit))


def _judging_cost(cfg: config.Label | config.Fit, chosen: Filter, calls: int) -> dict[str, Any]:
    """What a dry run says of the judge: calls, and tokens and money where a language model is asked; repeats come on top."""
    cost: dict[str, Any] = {"judge_calls": calls}
    if not isinstance(source_of(cfg.judge), str):
        return cost
    around = tokens_asked(request_of("", chosen))
    return cost | cfg.llm.cost(calls, calls * (around + cfg.snippet_tokens), calls * LONGEST[chosen.style])


def _asking(cfg: config.Label | config.Fit, run: Run) -> Models:
    """The judge that the settings name, while it is needed."""
    return run.asking({"judge": source_of(cfg.judge)}, cfg.llm, folder=run.folder / "replies")


def _documents(cfg: config.Label | config.Fit, test: bool | None = None) -> Iterator[Document]:
    """The documents of the source; where a fit wants a test, those set aside or those that are left."""
    documents = read_documents(cfg.source, text_field=cfg.text_field, id_field=cfg.id_field)
    if isinstance(cfg, config.Label) or not cfg.test:
        return documents
    return (d for d in documents if (zlib.crc32(d.doc_id.encode()) % TEST_IN == 0) == test)


def _stream(cfg: config.Text, documents: Any, spans_of: Any, run: Run) -> Any:

    return SnippetStream(documents, spans_of=spans_of, limit=cfg.snippet_tokens, rng=run.rng.child("stream"))


__all__: Sequence[str] = ("apply", "cost", "eval", "fit", "label")
