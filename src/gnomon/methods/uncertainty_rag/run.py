"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.data.execute import rejected
from gnomon.core.files import write_json
from gnomon.core.models import ModelHandle, load_tokenizer
from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval import Search as Searcher
from gnomon.core.retrieval import Terms, TextEncoder, build_index, encode_corpus, read_qrels, write_run
from gnomon.core.retrieval.encoders import read_vectors
from gnomon.core.retrieval.fusion import How
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag import config, report
from gnomon.methods.uncertainty_rag.answering.answers import Asking, LongContextRAG
from gnomon.methods.uncertainty_rag.answering.evaluation import (
    by_document,
    calibration,
    compare_rankings,
    judge_answers,
)
from gnomon.methods.uncertainty_rag.answering.index import (
    CHUNKS,
    load_of,
    open_gain,
    open_search,
    read_confidence,
    read_queries,
    read_questions,
)
from gnomon.methods.uncertainty_rag.options import Choice, Contrast, Layout, Span
from gnomon.methods.uncertainty_rag.scoring import table as tables
from gnomon.methods.uncertainty_rag.scoring.check import check_once
from gnomon.methods.uncertainty_rag.scoring.reading import LocalReader, check_room
from gnomon.methods.uncertainty_rag.scoring.scores import FREE, similarity
from gnomon.methods.uncertainty_rag.scoring.served import open_reader
from gnomon.methods.uncertainty_rag.scoring.table import Source, calibrate, read_table, table_key
from gnomon.methods.uncertainty_rag.scoring.trace import SpanUncertainty, in_terminal
from gnomon.methods.uncertainty_rag.training.candidates import check_found, choose_anchors, propose
from gnomon.methods.uncertainty_rag.training.chunks import (
    Corpus,
    chunk,
    deduplicate,
    read_chunks,
    read_corpus,
    split_documents,
    write_chunks,
)
from gnomon.methods.uncertainty_rag.training.retriever import train_retriever
from gnomon.methods.uncertainty_rag.training.training_set import build_training_set, hubness_of_all

ARMS: Mapping[str, tuple[str, How]] = {
    "bm25": ("terms", "rrf"),
    "retriever": ("dense", "rrf"),
    "both, rrf": ("both", "rrf"),
    "both, entropy": ("both", "entropy"),
}
"""Ways to search an index, as `eval` compares them."""


def score(cfg: config.Score, run: Run) -> None:
    """Score pairs of chunks by a language model's own certainty."""
    corpus = _corpus(cfg)
    judged = {name for of in (read_qrels(Path(cfg.qrels)) if cfg.qrels else {}).values() for name in of}
    documents, aside = split_documents(corpus.documents, cfg.held_out, judged)
    tokenizer = load_tokenizer(cfg.tokenizer or cfg.model, narrow(LoadConfig, cfg))
    distinct = deduplicate(chunk(documents, cfg.cut, tokenizer), cfg.near)
    chunks, by_id = distinct.kept, {passage.id: passage for passage in distinct.kept}
    anchors_at_most = min(cfg.pool.n_anchors, len(chunks))
    pairs_at_most = anchors_at_most * min(len(chunks), cfg.pool.m + cfg.pool.n_random + cfg.pool.n_encoder)
    calls = pairs_at_most + anchors_at_most
    size = sum(len(c.text) for c in chunks) / len(chunks) / 3
    run.plan(
        documents=len(documents),
        set_aside=len(aside),
        chunks=len(chunks),
        removed=distinct.counts,
        pairs_at_most=pairs_at_most,
        # A server reads every pair whole, and each second chunk once by itself.
        **cfg.llm.cost(calls, (2 * pairs_at_most + anchors_at_most) * size, calls),
    )
    _note_refused(run, corpus)
    run.say(
        f"{len(chunks)} chunks of {len(documents)} documents; removed as copies: {dict(distinct.counts) or 'none'}."
    )
    write_chunks(run.artifact("chunks", run.folder / tables.CHUNKS), chunks)
    records.write(run.artifact("removed", run.folder / "removed.jsonl"), distinct.removed)
    records.write(
        run.artifact("set aside", run.folder / "set_aside.jsonl"), [{"doc_id": d.doc_id} for d in aside]
    )
    encoder = TextEncoder.load(cfg.encoder, LoadConfig(device=cfg.device)) if cfg.encoder else None
    vectors = None if encoder is None else encoder.encode([c.text for c in chunks])
    anchors = choose_anchors(chunks, cfg.pool, run.rng, vectors)
    candidates = list(propose(chunks, anchors, cfg.pool, run.rng, vectors=vectors, language=cfg.language))
    figures = {**check_found(candidates, anchors), "copies removed": len(distinct.removed)}
    source = Source(cfg.model, narrow(LoadConfig, cfg), cfg.layout, cfg.batch_tokens)
    with open_reader(source, tokenizer, cfg.llm, run) as reader:
        if cfg.cut.unit == "tokens":
            check_room(reader, cfg.cut.size)
        checked = None
        if cfg.self_check:
            piece = min(64, cfg.cut.size) if cfg.cut.unit == "tokens" else 64
            texts = [d.text for d in documents]
            checked = check_once(reader, texts, cfg.span, run, by=cfg.by, piece=piece, encoder=encoder)
            report.say_check(run, checked)
        span = calibrate(reader, candidates, by_id, cfg.span, cfg.calibration_pairs, run)
        about = {
            "fingerprint": table_key(reader, span, asdict(cfg.cut)),
            "settings": {
                "model": cfg.model,
                "dtype": cfg.dtype,
                "span": asdict(span),
                "layout": asdict(cfg.layout),
                "cut": asdict(cfg.cut),
            },
            "self_check": None if checked is None else asdict(checked),
        }
        own = None if (cfg.engine, cfg.workers) != ("local", 1) else reader
        scoring = tables.Scoring(source, own, span, cfg.layout.order, str(about["fingerprint"]))
        cosines = tables.cosines_of(candidates, chunks, vectors)
        with run.progress(None, "chunks") as bar:
            sink = scoring.fill(
                run.folder,
                candidates,
                by_id,
                cosines,
                engine=cfg.engine,
                workers=cfg.workers,
                shard_rows=cfg.shard_rows,
                progress=bar,
            )
        run.artifact("records", sink)
    refused = list(rejected(sink))
    reason = refused[0]["reason"] if refused else ""
    run.missing(Shortfall("pairs", len(refused), len(candidates), reason, is_final=True))
    tables.write_about(run.folder, about)
    table = read_table(run.folder)
    scores = [*FREE, "bm25", *(["cosine"] if vectors is not None else [])]
    report.scored(run.page, table, figures, hubness_of_all(table.columns, scores, 10), checked)


def mine(cfg: config.Mine, run: Run) -> None:
    """Choose positives and hard negatives from a table of scored pairs."""
    joined = tables.join([read_table(folder) for folder in (cfg.source, *cfg.more)])
    run.plan(pairs=len(joined), by=cfg.by)
    texts = {
        p.id: p.text for folder in (cfg.source, *cfg.more) for p in read_chunks(Path(folder) / tables.CHUNKS)
    }
    mined = build_training_set(joined.columns, texts, narrow(Choice, cfg))
    records.write(run.artifact("records", run.folder / "training.jsonl"), mined.rows)
    check = joined.about.get("self_check")
    write_json(
        run.artifact("mined", run.folder / "mined.json"), {"by": cfg.by, "self_check": check, **mined.figures}
    )
    run.say(
        f"{mined.figures['negatives removed, equal or near to a positive']} negatives removed: they say what a positive says."
    )
    scores = [name for name in (*FREE, "bm25", "cosine") if name in ("bm25", *FREE) or name in joined.columns]
    run.log(**mined.figures)
    report.mined(
        run.page, mined, hubness_of_all(joined.columns, scores, cfg.k_p), report.warn_of(run, check, cfg.by)
    )


def train(cfg: config.Train, run: Run) -> None:
    """Train a retriever on mined pairs."""
    rows = [raw for _, raw in records.read_raw(cfg.source)]
    steps = (
        -(-len(rows) // cfg.train.batch_size) * cfg.train.epochs * (2 if cfg.two_stage and cfg.hard else 1)
    )
    run.plan(rows=len(rows), optimiser_steps=steps)
    about = Path(cfg.source) / "mined.json"
    mined = json.loads(about.read_text("utf-8")) if about.is_file() else {}
    warning = report.warn_of(run, mined.get("self_check"), mined.get("by", "span"))
    encoder = TextEncoder.load(
        cfg.model,
        LoadConfig(device=cfg.device),
        pooling=cfg.pooling,
        max_tokens=cfg.train.max_length,
        too_long="cut",
    )
    trained = train_retriever(encoder, rows, cfg.train, narrow(Contrast, cfg), run=run)
    if not run.is_main:
        return
    folder = run.folder / "model"
    if not folder.exists():  # a run that goes on after its end has written it
        trained.encoder.save(folder)
    run.artifact("model", folder)
    report.trained(run.page, trained, cfg, warning)


def index(cfg: config.Index, run: Run) -> None:
    """Index a corpus: chunks, vectors and words."""
    corpus = _corpus(cfg)
    with TextEncoder.load(cfg.retriever, load_of(cfg.retriever, cfg.device)) as encoder:
        chunks = chunk(corpus.documents, cfg.cut, getattr(encoder.embeds, "tokenizer", None))
        run.plan(documents=len(corpus.documents), chunks=len(chunks), store=cfg.store or "the run's folder")
        _note_refused(run, corpus)
        with run.progress(len(chunks), "chunks") as bar:
            encode_corpus(encoder, chunks, run.folder / "encoded", progress=bar)
        ids, vectors = read_vectors(run.folder / "encoded")
        meta = [{"doc_id": c.doc_id} for c in chunks]
        where = cfg.store or str(run.folder / "vectors")
        build_index(where, ids, vectors, fingerprint=encoder.fingerprint, meta=meta, anew=True)
        Terms.build(run.folder / "terms", {c.id: c.text for c in chunks}, language=cfg.language, anew=True)
        write_chunks(run.artifact("records", run.folder / tables.CHUNKS), chunks)
        about = {
            "retriever": cfg.retriever,
            "fingerprint": encoder.fingerprint,
            "store": cfg.store,
            "cut": asdict(cfg.cut),
        }
        write_json(run.artifact("index", run.folder / "index.json"), about)
        figures = {
            "documents": len(corpus.documents),
            "chunks": len(chunks),
            "too long for the retriever": encoder.n_too_long,
        }
    run.log(**figures)
    run.page.title = f"An index of {len(chunks):,} chunks"
    run.page.figures(figures)


def search(cfg: config.Search, run: Run) -> None:
    """Search an index."""
    cfg.check_asked()
    queries = (
        {"q": cfg.query}
        if cfg.query is not None
        else read_queries(cfg.queries or "", cfg.query_field, cfg.id_field)
    )
    run.plan(queries=len(queries), k=cfg.k)
    searcher = _searcher(cfg)
    hits = {name: searcher.search(text, cfg.k) for name, text in queries.items()}
    write_run(run.artifact("run", run.folder / "run.trec"), hits, "uncertainty-rag")
    rows = [
        {"query": name, **asdict(hit), "text": searcher.passages[hit.id].text}
        for name, of in hits.items()
        for hit in of
    ]
    records.write(run.artifact("records", run.folder / "hits.jsonl"), rows)
    report.found(run.page, queries, rows)


def ask(cfg: config.Ask, run: Run) -> None:
    """Answer questions from an index with any language model."""
    cfg.check_asked()
    rows: list[dict[str, Any]] = [{"id": "q", "question": cfg.question}]
    if cfg.questions is not None:
        rows = read_questions(cfg.questions, cfg.query_field, cfg.answer_field, cfg.id_field, cfg.limit)
    asking = Asking(cfg.k, cfg.budget, cfg.order, cfg.max_tokens, cfg.template, cfg.abstain_below, run.seed)
    tokens = len(rows) * (cfg.budget or 4096)
    run.plan(questions=len(rows), **cfg.llm.cost(len(rows), tokens, len(rows) * cfg.max_tokens))
    searcher = _searcher(cfg)
    gain = open_gain(cfg.gain, cfg.device, cfg.start)
    with run.asking({"answerer": cfg.answerer}, cfg.llm) as models:
        rag = LongContextRAG(
            searcher, models["answerer"], asking, gain=gain, confidence=read_confidence(cfg.confidence)
        )
        answers = rag.answers([row["question"] for row in rows], concurrency=cfg.llm.concurrency)
    written = [
        {**row, "answer": a.text, "sentences": a.sentences, "confidence": a.confidence, "abstained": a.abstained, "trace": a.trace}
        for row, a in zip(rows, answers, strict=True)
    ]  # fmt: skip
    records.write(run.artifact("records", run.folder / "answers.jsonl"), written)
    write_json(run.folder / "asked.json", {"index": str(Path(cfg.index).resolve()), "k": cfg.k})
    report.answered(run.page, written, searcher.passages)
    if cfg.question is not None:
        run.say(answers[0].text if not answers[0].abstained else f"No answer: {answers[0].trace['why']}.")


def eval(cfg: config.Eval, run: Run) -> None:
    """Measure a table of scores, an index, or answers."""
    folder = Path(cfg.source)
    run.plan(source=cfg.source)
    if (folder / tables.ABOUT).is_file():
        _eval_table(cfg, run, read_table(folder))
    elif (folder / "index.json").is_file():
        _eval_index(cfg, run)
    elif (folder / "answers.jsonl").is_file():
        _eval_answers(cfg, run, folder)
    else:
        raise BadInput(f"{folder} is no run of score, index or ask.")


def _eval_table(cfg: config.Eval, run: Run, table: tables.Table) -> None:
    values = -similarity(table.columns, cfg.by)
    same = np.asarray(table.columns["same_document"], bool)
    other = None if cfg.reference == "none" else similarity(table.columns, cfg.reference)
    result = calibration(values, same, run.rng, other)
    write_json(run.artifact("calibration", run.folder / "calibration.json"), asdict(result))
    report.calibrated(run.page, result, cfg.by)


def _eval_index(cfg: config.Eval, run: Run) -> None:
    if cfg.queries is None or cfg.qrels is None:
        raise BadConfig("An index is measured with --queries and --qrels.")
    queries, qrels = read_queries(cfg.queries, "text", "_id"), read_qrels(Path(cfg.qrels))
    rankings: dict[str, dict[str, list[str]]] = {}
    for arm, (mode, fuse) in ARMS.items():
        searcher = open_search(cfg.source, mode, fuse, device=cfg.device)
        rankings[arm] = {
            name: by_document([hit.id for hit in searcher.search(text, 100)], searcher.passages)[:10]
            for name, text in queries.items()
            if name in qrels
        }
    rows = compare_rankings(rankings, qrels)
    write_json(run.artifact("metrics", run.folder / "metrics.json"), rows)
    for row in rows:
        run.log(**{k: v[0] if isinstance(v, tuple) else v for k, v in row.items()})
    report.compared(run.page, rows)


def _eval_answers(cfg: config.Eval, run: Run, folder: Path) -> None:
    rows = [raw for _, raw in records.read_raw(folder / "answers.jsonl") if raw.get("references")]
    if not rows:
        raise BadInput(
            f"No row of {folder} has references: name their column with --answer-field when asking."
        )
    about_asking = json.loads((folder / "asked.json").read_text("utf-8"))
    texts = [p.text for p in read_chunks(Path(about_asking["index"]) / CHUNKS)]
    result = judge_answers(rows, texts, cfg.right, cfg.fit, run.rng)
    if result.fitted.confidence is not None:
        write_json(
            run.artifact("confidence", run.folder / "confidence.json"), asdict(result.fitted.confidence)
        )
    write_json(run.artifact("metrics", run.folder / "metrics.json"), result.summary())
    report.judged(run.page, rows, result)


def explain(cfg: config.Explain, run: Run) -> None:
    """Look at a pair token by token."""
    cfg.check_asked()
    span, layout, first, second, name = cfg.span, cfg.layout, cfg.first or "", cfg.second or "", "the pair"
    if cfg.table is not None:
        table = read_table(cfg.table)
        span, layout = Span(**table.about["settings"]["span"]), Layout(**table.about["settings"]["layout"])
        texts = {p.id: p.text for p in read_chunks(Path(cfg.table) / tables.CHUNKS)}
        at = _row_of(table, cfg)
        anchor, candidate = (str(table.columns[column][at]) for column in ("anchor", "candidate"))
        pair = (candidate, anchor) if layout.order == "candidate" else (anchor, candidate)
        (first, second), name = (texts[part] for part in pair), f"{pair[0]} and {pair[1]}"
    run.plan(first=len(first), second=len(second))
    reader = LocalReader(ModelHandle.load(cfg.model, narrow(LoadConfig, cfg), kind="causal"), layout)
    traced = SpanUncertainty(reader, span).trace(first, second)
    write_json(run.artifact("trace", run.folder / "trace.json"), asdict(traced))
    run.say(in_terminal(traced, colours=sys.stderr.isatty()))
    report.explained(run.page, traced, name)


def _row_of(table: tables.Table, cfg: config.Explain) -> int:
    rows = np.arange(len(table))
    for column, wanted in (("anchor", cfg.anchor), ("candidate", cfg.candidate)):
        if wanted is not None:
            rows = rows[np.asarray(table.columns[column], dtype=str)[rows] == wanted]
    if not len(rows):
        raise BadInput(
            f"The table has no pair of anchor {cfg.anchor} and candidate {cfg.candidate or 'of any name'}."
        )
    return int(rows[np.argmax(similarity(table.columns, "span")[rows])])


def _searcher(cfg: config.Finding) -> Searcher:
    reranker = open_gain(cfg.rerank, cfg.device, cfg.start)
    return open_search(
        cfg.index, cfg.mode, cfg.fuse, reranker=reranker, candidates=cfg.candidates, device=cfg.device
    )


def _corpus(cfg: config.Documents) -> Corpus:
    return read_corpus(cfg.source, text_field=cfg.text_field, id_field=cfg.id_field, limit=cfg.limit)


def _note_refused(run: Run, corpus: Corpus) -> None:
    """List rows that cannot be used; too many of them are a failed run."""
    if corpus.copies:
        run.say(f"{corpus.copies} documents say to the letter what one before them says, and are left out.")
    if corpus.refused:
        records.write(run.artifact("refused", run.folder / "refused.jsonl"), corpus.refused)
        total = len(corpus.refused) + len(corpus.documents)
        reason = corpus.refused[0]["reason"]
        run.missing(Shortfall("rows", len(corpus.refused), total, reason, is_final=True))
