"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core import records
from gnomon.core.files import write_json
from gnomon.core.models.load import LoadConfig
from gnomon.core.plain import to_plain
from gnomon.core.retrieval import Answer, TextEncoder
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadInput, LLMFailure
from gnomon.methods.smart_slic import config
from gnomon.methods.smart_slic import report as pages
from gnomon.methods.smart_slic.corpus.cleaning import clean as cleaned
from gnomon.methods.smart_slic.corpus.cleaning import is_english
from gnomon.methods.smart_slic.corpus.expansion import LocalProvider
from gnomon.methods.smart_slic.corpus.expansion import expand as grow
from gnomon.methods.smart_slic.corpus.papers import Paper, Papers
from gnomon.methods.smart_slic.corpus.providers import SERVICES, open_service
from gnomon.methods.smart_slic.corpus.pruning import PruneOptions
from gnomon.methods.smart_slic.corpus.pruning import prune as decide
from gnomon.methods.smart_slic.factors.multiplicative import Options
from gnomon.methods.smart_slic.factors.topics import Found, Kind, find_topics
from gnomon.methods.smart_slic.knowledge import real as on_papers
from gnomon.methods.smart_slic.knowledge.asking import Question, by_kind, judged, summarised
from gnomon.methods.smart_slic.knowledge.building import Rules, rows_of
from gnomon.methods.smart_slic.knowledge.project import (
    HOP,
    PAPERS,
    Where,
    open_agent,
    papers_at,
    passages_of,
    read_topics,
    write_papers,
    write_project,
)
from gnomon.methods.smart_slic.knowledge.serving import serving

CLEAN = "clean.jsonl"


def expand(cfg: config.Expand, run: Run) -> None:
    """Grow a corpus."""
    core = papers_at(cfg.source)
    _note(run, core)
    service = None
    is_service = cfg.provider.partition("@")[0] in SERVICES
    if is_service:
        service = open_service(cfg.provider, run.folder / "replies", cfg.requests)
        run.plan(core=len(core.papers), provider=cfg.provider, requests_at_most=cfg.requests, hops=cfg.hops)
    else:
        pool = papers_at(cfg.provider)
        run.plan(core=len(core.papers), pool=len(pool.papers), hops=cfg.hops)
    grown = grow(
        core.papers, service or LocalProvider(pool.papers), hops=cfg.hops, by=cfg.by, max_papers=cfg.max_papers,
        priority=cfg.priority, rng=run.rng, say=run.say,
    )  # fmt: skip
    if service is not None:
        run.say(
            f"{service.client.n_asked} requests went out, {service.client.n_kept} answers were there already."
        )
        if service.n_failed:
            total = service.n_failed + len(grown.papers)
            run.missing(
                Shortfall(
                    "papers", service.n_failed, total, "the service gave them in another form", is_final=True
                )
            )
    papers = [replace(p, meta={**p.meta, HOP: grown.hop_of[p.id]}) for p in grown.papers.values()]
    write_papers(run.artifact("records", run.folder / PAPERS), papers)
    if grown.stopped:
        run.say(grown.stopped)
        run.missing(Shortfall("hops", cfg.hops - len(grown.hops), cfg.hops, grown.stopped))
    run.log(papers=len(papers))
    pages.expanded(
        run.page, [asdict(hop) for hop in grown.hops], {"core": len(core.papers), "papers": len(papers)}
    )


def prune(cfg: config.Prune, run: Run) -> None:
    """Drop what is about something else."""
    papers = papers_at(cfg.source)
    _note(run, papers)
    core = _core(cfg.core, papers)
    options = PruneOptions(
        rule=cfg.rule,
        neighbours=cfg.neighbours,
        background=cfg.background,
        quantile=cfg.quantile,
        deviations=cfg.deviations,
    )
    run.plan(papers=len(papers.papers), core=len(core), rule=cfg.rule)
    ids = [paper.id for paper in papers.papers]
    with TextEncoder.load(cfg.encoder, LoadConfig(device=cfg.device)) as encoder:
        vectors = encoder.encode([paper.summary for paper in papers.papers])
    pruned = decide(ids, np.asarray(vectors, np.float64), core, options, rng=run.rng)
    kept = set(pruned.kept)
    write_papers(run.artifact("records", run.folder / PAPERS), [p for p in papers.papers if p.id in kept])
    records.write(run.artifact("decisions", run.folder / "decisions.jsonl"), map(asdict, pruned.decisions))
    if pruned.warning:
        run.say(f"Warning: {pruned.warning}")
    figures = {
        "papers": len(ids),
        "core": len(core),
        "kept": len(kept),
        "dropped": len(ids) - len(kept),
        "coherence": pruned.coherence,
    }
    run.log(**figures)
    titles = {paper.id: paper.title for paper in papers.papers}
    pages.pruned(
        run.page, [{**asdict(d), "title": titles[d.id]} for d in pruned.decisions], figures, pruned.warning
    )


def clean(cfg: config.Clean, run: Run) -> None:
    """Clean texts for counting words."""
    papers = papers_at(cfg.source)
    _note(run, papers)
    run.plan(papers=len(papers.papers))
    kept = [p for p in papers.papers if not cfg.english or is_english(p.summary)]
    texts = {p.id: cleaned(p.summary, steps=cfg.steps or None, frozen=cfg.frozen) for p in kept}
    write_papers(run.artifact("records", run.folder / PAPERS), kept)
    records.write(
        run.artifact("clean", run.folder / CLEAN),
        [{"id": name, "text": text} for name, text in texts.items()],
    )
    before, after = (
        sum(len(text.split()) for text in some) for some in ([p.summary for p in kept], texts.values())
    )
    figures = {
        "papers": len(kept),
        "not in English": len(papers.papers) - len(kept),
        "words before": before,
        "words after": after,
    }
    run.log(**figures)
    pages.cleaned(run.page, [(p.summary, texts[p.id]) for p in kept[:12]], figures)


def topics(cfg: config.Topics, run: Run) -> None:
    """Find topics and their number."""
    papers = papers_at(cfg.source)
    file = Path(cfg.source) / CLEAN
    by_id = {raw["id"]: raw["text"] for _, raw in records.read_raw(file)} if file.is_file() else {}
    ids = [paper.id for paper in papers.papers]
    texts = [by_id[p.id] if p.id in by_id else cleaned(p.summary) for p in papers.papers]
    ks = range(cfg.k_from, cfg.k_to + 1)
    run.plan(papers=len(ids), factorisations=len(ks) * cfg.copies, llm_calls=0)
    options = Options(
        copies=cfg.copies, iterations=cfg.iterations, init=cfg.init, noise=cfg.noise, threshold=cfg.threshold
    )
    result = find_topics(
        texts, ks, options, kind=Kind(min_df=cfg.min_df, max_df=cfg.max_df, split=cfg.split, depth=cfg.depth), rng=run.rng,
        workers=cfg.workers,
    )  # fmt: skip
    _write_topics(run, result, ids, papers.papers)
    if result.warning:
        run.say(f"Warning: {result.warning}")
    run.log(topics=len(result.words))
    titles = {paper.id: paper.title for paper in papers.papers}
    pages.topics(run.page, result, ids, titles)


def build(cfg: config.Build, run: Run) -> None:
    """Write graph and passages."""
    papers = papers_at(cfg.source)
    _note(run, papers)
    of_papers = None if cfg.topics is None else read_topics(cfg.topics)
    rules = Rules(
        affiliations=cfg.affiliations,
        same_as={row["name"]: row["same_as"] for row in _csv(cfg.same_as, "name", "same_as")},
        different={
            (row["name"], row["paper"]): row["author"]
            for row in _csv(cfg.different, "name", "paper", "author")
        },
    )
    rows = rows_of(papers.papers, rules, topics=of_papers)
    passages = [p for paper in papers.papers for p in passages_of(paper, cfg.passage_words)]
    run.plan(papers=len(papers.papers), edges=len(rows.edges), passages=len(passages), llm_calls=0)
    where = Where(graph=cfg.graph, encoder=cfg.encoder, device=cfg.device, earlier=cfg.update)
    with run.progress(len(passages), "passages") as bar:
        n_encoded = write_project(run.folder, rows, passages, where, progress=bar)
    write_papers(run.artifact("records", run.folder / PAPERS), papers.papers)
    from gnomon.core.retrieval.graph.exports import export
    from gnomon.core.retrieval.graph.references import open_graph

    graph = open_graph(cfg.graph or str(run.folder / "graph"))
    export(graph, run.folder / "triplets.csv")
    run.artifact("triplets", run.folder / "triplets.csv")
    figures: dict[str, Any] = {
        "papers": len(papers.papers),
        "passages": len(passages),
        "encoded": n_encoded,
        "language model calls": 0,
        **rows.figures,
    }
    run.say("No language model was asked while indexing.")
    run.log(**{name: value for name, value in figures.items() if isinstance(value, int)})
    pages.built(run.page, graph.types(), graph.relations(), figures)


def ask(cfg: config.Ask, run: Run) -> None:
    """Answer questions."""
    cfg.check_asked()
    questions = [cfg.question] if cfg.question is not None else _questions(str(cfg.questions))
    run.plan(questions=len(questions), **_cost(cfg, len(questions)))
    answers = _answers(cfg, run, questions)
    records.write(
        run.artifact("records", run.folder / "answers.jsonl"), [to_plain(asdict(a)) for a in answers]
    )
    run.log(questions=len(answers), abstained=sum(a.abstained for a in answers))
    pages.asked(run.page, answers)


def eval(cfg: config.Eval, run: Run) -> None:
    """Measure answers."""
    questions = [Question.of(raw, where) for where, raw in records.read_raw(cfg.questions)]
    run.plan(questions=len(questions), **_cost(cfg, len(questions)))
    answers = _answers(cfg, run, [question.text for question in questions])
    rows = [judged(question, answer) for question, answer in zip(questions, answers, strict=True)]
    records.write(run.artifact("records", run.folder / "judged.jsonl"), rows)
    summary = summarised(rows)
    write_json(run.artifact("summary", run.folder / "summary.json"), {**summary, "kinds": by_kind(rows)})
    run.log(**{name: value for name, value in summary.items() if value is not None})
    pages.evaluated(run.page, summary, by_kind(rows), rows)


def real(cfg: config.Real, run: Run) -> None:
    """The whole chain on real papers."""
    on_papers.study(cfg).run(cfg, run)


def serve(cfg: config.Serve, run: Run) -> None:
    """Answer questions on a page."""
    run.plan(source=cfg.source, port=cfg.port)
    with (
        open_agent(cfg.source, hits=cfg.hits, device=cfg.device) as agent,
        serving(agent, cfg.port) as address,
    ):
        run.say(f"{address} answers until Ctrl-C.")
        with suppress(KeyboardInterrupt):
            threading.Event().wait(None if cfg.minutes is None else 60 * cfg.minutes)
    run.page.title = "A page that answered questions"
    run.page.text(f"It stood at {address}.")


def _answers(cfg: config.Ask | config.Eval, run: Run, questions: Sequence[str]) -> list[Answer]:
    with ExitStack() as stack:
        llm = None
        if cfg.planner is not None:
            llm = stack.enter_context(run.asking({"planner": cfg.planner}, cfg.llm))["planner"]
        agent = stack.enter_context(
            open_agent(cfg.source, llm=llm, steps=cfg.steps, hits=cfg.hits, device=cfg.device)
        )
        with run.progress(len(questions), "questions") as bar:
            answers = []
            reasons = []
            for question in questions:
                try:
                    answers.append(agent.ask(question))
                except LLMFailure as error:
                    reasons.append(str(error))
                    trace = {"route": "none", "error": str(error)}
                    answers.append(Answer(question, (("Not answered.", ()),), abstained=True, trace=trace))
                bar.advance()
        if reasons and len(reasons) == len(questions):
            raise LLMFailure(reasons[0])
        if reasons:
            run.missing(Shortfall("answers", len(reasons), len(questions), reasons[0]))
        return answers


def _cost(cfg: config.Ask | config.Eval, count: int) -> dict[str, object]:
    calls = count * cfg.steps
    return {"llm_calls": 0} if cfg.planner is None else cfg.llm.cost(calls, calls * 1500, calls * 150)


def _core(file: str | None, papers: Papers) -> list[str]:
    """Ids of the core: of a file, or of hop 0."""
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise BadInput(f"{file} does not exist.")
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    core = [paper.id for paper in papers.papers if paper.meta.get(HOP) == 0]
    if not core:
        raise BadInput(
            "No paper has hop 0. Give --core, a file with the ids of core papers, or a run of expand."
        )
    return core


def _write_topics(run: Run, result: Found, ids: Sequence[str], papers: Sequence[Paper]) -> None:
    rows = [
        {
            "topic": name,
            "parent": result.parents.get(name),
            "words": words,
            "papers": sum(t == name for _, t, _ in result.places),
        }
        for name, words in result.words.items()
    ]
    records.write(run.artifact("topics", run.folder / "topics.jsonl"), rows)
    placed = [{"id": ids[column], "topic": topic, "share": share} for column, topic, share in result.places]
    records.write(run.artifact("records", run.folder / "paper_topics.jsonl"), placed)
    np.save(run.artifact("W", run.folder / "W.npy"), result.W)
    np.save(run.artifact("H", run.folder / "H.npy"), result.H)
    for name, table in result.tables.items():
        path = run.artifact(f"curve {name or 'all'}", run.folder / f"curve{'-' + name if name else ''}.csv")
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    write_papers(run.folder / PAPERS, papers)


def _csv(file: str | None, *columns: str) -> list[dict[str, str]]:
    """Rows of a CSV with a head line.

    Raises:
        BadInput: it is not there, or lacks a column.
    """
    if file is None:
        return []
    path = Path(file)
    if not path.is_file():
        raise BadInput(f"{file} does not exist.")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if rows and (missing := [name for name in columns if name not in rows[0]]):
        raise BadInput(f'{file}: column "{missing[0]}" is missing; it has {", ".join(rows[0])}.')
    return rows


def _questions(file: str) -> list[str]:
    path = Path(file)
    if not path.is_file():
        raise BadInput(f"{file} does not exist.")
    if file.endswith(".txt"):
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [Question.of(raw, where).text for where, raw in records.read_raw(file)]


def _note(run: Run, papers: Papers) -> None:
    if papers.rejected:
        rows = [{"where": where, "reason": reason} for where, reason in papers.rejected]
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), rows)
        total = len(papers.papers) + len(rows)
        run.missing(Shortfall("rows", len(rows), total, rows[0]["reason"], is_final=True))


def read_answers(folder: str | Path) -> list[dict[str, Any]]:
    """Answers of a run of `ask`, as rows."""
    return [json.loads(line) for line in (Path(folder) / "answers.jsonl").read_text("utf-8").splitlines()]
