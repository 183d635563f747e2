"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.data.execute import Rejected, Totals, map_shards, rejected
from gnomon.core.files import artifact, write_json
from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval.hits import Hit
from gnomon.core.retrieval.judged import write_run
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval import config
from gnomon.methods.interleaved_retrieval import report as pages
from gnomon.methods.interleaved_retrieval.documents.importers import ImportStep, files_below
from gnomon.methods.interleaved_retrieval.documents.ocr import Reader, with_words, words_of
from gnomon.methods.interleaved_retrieval.documents.rows import (
    Document,
    Query,
    as_row,
    read_documents,
    read_queries,
)
from gnomon.methods.interleaved_retrieval.documents.serialise import Form
from gnomon.methods.interleaved_retrieval.encoding.encoder import InterleavedEncoder
from gnomon.methods.interleaved_retrieval.encoding.export import export_sentence_transformers
from gnomon.methods.interleaved_retrieval.encoding.opened import open_encoder
from gnomon.methods.interleaved_retrieval.encoding.settings import Retrieving
from gnomon.methods.interleaved_retrieval.encoding.shards import EncodeStep, read_rows
from gnomon.methods.interleaved_retrieval.encoding.training import (
    Training,
    mined,
    pairs_of,
    train_retriever,
    with_adapters,
)
from gnomon.methods.interleaved_retrieval.encoding.vectors import rank_documents, rank_sections
from gnomon.methods.interleaved_retrieval.evaluation import comparison, controls
from gnomon.methods.interleaved_retrieval.evaluation import real as on_notebooks
from gnomon.methods.interleaved_retrieval.evaluation.explanation import explain
from gnomon.methods.interleaved_retrieval.evaluation.judged import read_judged, split_faulty
from gnomon.methods.interleaved_retrieval.reranking.reranker import SectionReranker
from gnomon.methods.interleaved_retrieval.reranking.training import Negatives, train_reranker
from gnomon.methods.interleaved_retrieval.store import DocumentIndex, Earlier


def import_(cfg: config.Import, run: Run) -> None:
    """Turn files into documents."""
    root, names = files_below(Path(cfg.source))
    run.plan(files=len(names), workers=cfg.workers, engine=cfg.engine)
    sink = run.artifact("records", run.folder / "documents")
    with run.progress(len(names), "files") as bar:
        totals = map_shards(
            ImportStep(str(root), str(sink), cfg.split, cfg.strict), names, sink, engine=cfg.engine,
            workers=cfg.workers, shard_rows=cfg.shard_rows, settings=[cfg.split, cfg.strict], progress=bar,
        )  # fmt: skip
    refused = list(rejected(sink))
    files = [row for row in refused if not row["record"].get("image")]
    _note(run, refused)
    run.missing(
        Shortfall("files", len(files), len(names), files[0]["reason"] if files else "", is_final=True)
    )
    if not totals.written:
        raise BadInput(refused[0]["reason"] if refused else f"{cfg.source} holds no documents.")
    if cfg.ocr:
        _read_figures(sink, run)
    figures = {
        "documents": totals.written,
        "files": len(names),
        **{k: int(v) for k, v in totals.sums.items()},
    }
    run.log(**figures)
    documents, _ = split_faulty(read_documents(sink, limit=pages.SHOWN))
    pages.imported(run.page, figures, refused, documents)


def _read_figures(sink: Path, run: Run) -> None:
    """Put the words of pictures into captions, in place."""
    reader = Reader()
    for path in sorted(sink.glob("part-*.jsonl")):
        documents, _ = split_faulty(read_documents(path))
        with run.progress(len(documents), "figures") as bar:
            words = words_of(documents, reader.words, bar)
        records.write(path, (as_row(document, sink) for document in with_words(documents, words)))


def train(cfg: config.Train, run: Run) -> None:
    """Train a retriever or a reranker."""
    documents, left_out = split_faulty(read_documents(cfg.source, limit=cfg.limit))
    queries, more = split_faulty(read_queries(cfg.queries))
    from gnomon.core.retrieval.judged import read_qrels

    pairing = pairs_of(queries, documents, read_qrels(Path(cfg.qrels)))
    problems = [*left_out, *more, *pairing.left_out]
    if not pairing.pairs:
        raise BadInput(problems[0] if problems else "No judgement names a document that is there.")
    shared = controls.leaks([pair.query for pair in pairing.pairs], documents)
    if cfg.drop_query_images:
        documents = [controls.without_images(document, shared.keys) for document in documents]
    steps = cfg.train.epochs * -(-len(pairing.pairs) // cfg.train.batch_size)
    steps = steps if cfg.train.max_steps is None else min(steps, cfg.train.max_steps)
    run.plan(documents=len(documents), pairs=len(pairing.pairs), optimiser_steps=steps)
    _note(run, [{"reason": reason} for reason in problems])
    bad = len(left_out) + len(more)
    run.missing(Shortfall("rows", bad, bad + len(documents) + len(queries), problems[0] if problems else "",
                          is_final=True))  # fmt: skip
    handle = ModelHandle.load(cfg.model, LoadConfig(device=cfg.device))
    how = Retrieving(
        form=_form(cfg),
        merge=cfg.merge,
        max_length=cfg.train.max_length,
        temperature=cfg.temperature,
        pick=cfg.pick,
    )
    if cfg.part == "retriever":
        encoder = InterleavedEncoder.new(handle, how)
        if cfg.train.lora_rank is not None:
            encoder = with_adapters(encoder, cfg.train.lora_rank)
        options = Training(
            sections=cfg.train_max_sections, negatives=cfg.negatives, learn_temperature=cfg.learn_temperature,
            piece_tokens=cfg.piece_tokens,
        )  # fmt: skip
        history = train_retriever(encoder, documents, pairing.pairs, cfg.train, run=run, options=options)
        ready: Any = encoder
    else:
        top = _top(cfg, documents, pairing.pairs)
        reranker = SectionReranker.new(handle, how, rng=run.rng.child("head"))
        if cfg.train.lora_rank is not None:
            reranker = reranker.with_adapters(cfg.train.lora_rank)
        negatives = Negatives(count=cfg.num_negatives, kinds=cfg.negative_kinds, target=cfg.target)
        history = train_reranker(
            reranker, documents, pairing.pairs, top, cfg.train, run=run, negatives=negatives
        )
        ready = reranker
    if not run.is_main:
        return
    folder = run.folder / "model"
    if not folder.exists():
        ready.save_pretrained(folder)
    run.artifact("model", folder)
    pages.trained(run.page, cfg, history, ready.units.troubles, shared, len(pairing.pairs))


def _top(cfg: config.Train, documents: Sequence[Document], pairs: Sequence[Any]) -> list[list[int]]:
    """Per pair the numbers of the best documents: the retriever's, or BM25's."""
    if cfg.retriever is None:
        count = min(cfg.top, len(documents) - 1)
        return (
            [list(pair.negatives) for pair in mined(documents, pairs, count)]
            if count
            else [[] for _ in pairs]
        )
    encoder = open_encoder(cfg.retriever, LoadConfig(device=cfg.device))
    encoded = encoder.encode_sections(documents)
    queries = encoder.encode_queries([pair.query for pair in pairs])
    numbers = {document.id: i for i, document in enumerate(documents)}
    return [
        [numbers[hit.id] for hit in hits] for hits in rank_documents(queries, encoded, encoder.merge, cfg.top)
    ]


@dataclass(frozen=True)
class _Opened:
    """Opens the encoder of an index, in whichever process."""

    cfg: config.Index

    def __call__(self) -> Any:
        form = None if self.cfg.as_written else _form(self.cfg)
        return open_encoder(
            self.cfg.model, self.cfg.load, form=form, merge=self.cfg.merge, strict=self.cfg.strict,
            batch_tokens=self.cfg.batch_tokens,
        )  # fmt: skip


def index(cfg: config.Index, run: Run) -> None:
    """Index documents, or bring an earlier index up to date."""
    total = sum(1 for _ in read_documents(cfg.source))
    run.plan(documents=total, workers=cfg.workers, engine=cfg.engine, update=cfg.update)
    encoder = _Opened(cfg)()
    form = encoder.how.form if isinstance(encoder, InterleavedEncoder) else encoder.form
    earlier = None if cfg.update is None else Earlier(str(artifact(Path(cfg.update), "index")))
    step = EncodeStep(_Opened(cfg), form, cfg.exact, earlier)
    sink = run.folder / "sections"
    settings = [encoder.fingerprint, cfg.exact, cfg.strict, cfg.update]
    with run.progress(total, "documents") as bar:
        totals = map_shards(
            step, read_documents(cfg.source), sink, engine=cfg.engine, workers=cfg.workers,
            shard_rows=cfg.shard_rows, settings=settings, progress=bar,
        )  # fmt: skip
    refused = list(rejected(sink))
    _note(run, refused)
    _missing(run, refused, totals, total)
    built = DocumentIndex.build(
        run.artifact("index", run.folder / "index"), read_rows(sink), encoder=encoder, form=form,
        width=cfg.store, anew=True,
    )  # fmt: skip
    if cfg.publish is not None:
        _publish(cfg.publish, built)
    if cfg.export and isinstance(encoder, InterleavedEncoder):
        folder = run.artifact("sentence-transformers", run.folder / "sentence-transformers")
        if not folder.exists():
            export_sentence_transformers(encoder, folder)
    figures = {name: int(value) for name, value in totals.sums.items()}
    rows = built.rows()
    bytes_each = 4 * built.dim + len(rows) * built.dim * (4 if cfg.store == "f32" else 2) / len(built)
    figures |= {"bytes a document": int(bytes_each)}
    if cfg.store == "f16":
        run.say(f"Stored in 16 bits: cosines of sections change by {built.loss:.1e} at most.")
        run.page.text(f"Stored in 16 bits: cosines of sections change by {built.loss:.1e} at most.")
    run.log(**figures)
    pages.indexed(run.page, figures, refused, built)


def _missing(run: Run, refused: Sequence[Any], totals: Totals, total: int) -> None:
    whole = [row for row in refused if "kind" not in row["record"]]
    first = whole[0]["reason"] if whole else ""
    run.missing(Shortfall("documents", len(whole), total, first, is_final=True))
    for kind, what in (("image", "images"), ("block", "blocks"), ("section", "sections")):
        own = [row for row in refused if row["record"].get("kind") == kind]
        if own:
            run.say(f"{len(own)} {what} were left out; see rejected.jsonl. The first: {own[0]['reason']}")
            run.page.text(f"{len(own)} {what} were left out, such as: {own[0]['reason']}")


def _publish(reference: str, built: DocumentIndex) -> None:
    """Section vectors of unit length in a store, by section and part, filterable by document."""
    from gnomon.core.retrieval.stores.references import build_index
    from gnomon.methods.interleaved_retrieval.documents.rows import section_id
    from gnomon.methods.interleaved_retrieval.encoding.vectors import unit

    encoded, rows = built.encoded, built.rows()
    ids = [f"{section_id(r['document'], r['section'])}.{r['part']}" for r in rows]
    meta = [{"document": r["document"], "section": r["section"]} for r in rows]
    build_index(reference, ids, unit(encoded.vectors), fingerprint=built.fingerprint, meta=meta, anew=True)


def search(cfg: config.Search, run: Run) -> None:
    """Find documents and sections for queries."""
    queries, left_out = _queries(cfg)
    run.plan(queries=len(queries), k=cfg.k, top=cfg.top)
    where = artifact(Path(cfg.index), "index")
    encoder = open_encoder(cfg.model, cfg.load, form=DocumentIndex.open(where).form)
    built = DocumentIndex.open(where, fingerprint=encoder.fingerprint)
    _note(run, [{"reason": reason} for reason in left_out])
    run.missing(Shortfall("queries", len(left_out), len(left_out) + len(queries), left_out[0] if left_out else "",
                          is_final=True))  # fmt: skip
    vectors = encoder.encode_queries(queries)
    documents = built.search(vectors, max(cfg.k, cfg.top))
    among = [[hit.id for hit in hits[: cfg.top]] for hits in documents]
    rows: dict[str, Document] = {}
    if cfg.reranker is not None or cfg.explain:
        if cfg.source is None:
            raise BadConfig("--reranker and --explain read documents again: name them with --source.")
        rows = {d.id: d for d in split_faulty(read_documents(cfg.source))[0]}
    if cfg.reranker is None:
        sections = rank_sections(vectors, built.encoded, cfg.k, among)
    else:
        reranker = SectionReranker.from_pretrained(cfg.reranker, cfg.load)
        sections = [
            reranker.rerank(
                query, [rows[name] for name in names if name in rows], k=cfg.k, alpha=cfg.alpha,
                scores={hit.id: hit.score for hit in hits},
            )
            for query, names, hits in zip(queries, among, documents, strict=True)
        ]  # fmt: skip
    documents = [hits[: cfg.k] for hits in documents]
    for name, hits_of in (("documents", documents), ("sections", sections)):
        path = run.artifact(f"{name} found", run.folder / f"{name}.trec")
        write_run(path, {q.id: own for q, own in zip(queries, hits_of, strict=True)}, "interleaved")
    records.write(
        run.artifact("records", run.folder / "hits.jsonl"),
        (_hits_row(q, d, s, built) for q, d, s in zip(queries, documents, sections, strict=True)),
    )
    reasons = {}
    for query, hits in list(zip(queries, documents, strict=True))[: cfg.explain]:
        if hits and hits[0].id in rows:
            reasons[query.id] = (hits[0].id, *explain(encoder, query, rows[hits[0].id], merge=built.merge))
    pages.searched(run.page, queries, documents, sections, built, reasons)


def _queries(cfg: config.Search) -> tuple[list[Query], list[str]]:
    queries = [Query(f"q{i}", text, cfg.image) for i, text in enumerate(cfg.text)]
    if cfg.image is not None and not queries:
        queries = [Query("q0", "", cfg.image)]
    left_out: list[str] = []
    if cfg.queries is not None:
        rows, left_out = split_faulty(read_queries(cfg.queries))
        queries += rows
    if not queries:
        raise BadConfig("There is no query: give --text, --image or --queries.")
    return queries, left_out


def _hits_row(
    query: Query, documents: Sequence[Hit], sections: Sequence[Hit], built: DocumentIndex
) -> dict[str, Any]:
    """A query's hits, each section with its blocks and the files of their pictures."""

    def section(hit: Hit) -> dict[str, Any]:
        title, heading, blocks = built.shown(hit.id)
        about = {"title": title, "heading": heading, "blocks": [vars(block) for block in blocks]}
        return {"id": hit.id, "score": hit.score, "rank": hit.rank, **about}

    return {
        "id": query.id,
        "text": query.text,
        "documents": [{"id": hit.id, "score": hit.score, "rank": hit.rank} for hit in documents],
        "sections": [section(hit) for hit in sections],
    }


def eval(cfg: config.Eval, run: Run) -> None:
    """Compare all arms on judged queries."""
    both = read_judged(cfg.source, cfg.queries, cfg.qrels, limit=cfg.limit)
    run.plan(documents=len(both.documents), queries=len(both.queries))
    _note(run, [{"reason": reason} for reason in both.left_out])
    shared = controls.leaks(both.queries, both.documents)
    if cfg.drop_query_images:
        both = replace(both, documents=[controls.without_images(d, shared.keys) for d in both.documents])
    encoder = open_encoder(cfg.model, cfg.load)
    rivals = {name: open_encoder(ref, cfg.load) for name, _, ref in (r.partition("=") for r in cfg.rivals)}
    texts = None if cfg.text_encoder is None else open_encoder(cfg.text_encoder)
    reranker = None if cfg.reranker is None else SectionReranker.from_pretrained(cfg.reranker, cfg.load)
    result = comparison.compare(
        both, encoder, rivals=rivals, texts=texts, reranker=reranker, top=cfg.top, pools=cfg.pools,
        rng=run.rng,
    )  # fmt: skip
    for row in result.arms.rows:
        run.log(**{k: v[0] if isinstance(v, tuple) else v for k, v in row.items()})
    write_run(
        run.artifact("documents found", run.folder / "documents.trec"),
        {q.id: own for q, own in zip(both.queries, result.arms.hits["all"], strict=True)}, "interleaved",
    )  # fmt: skip
    write_json(run.artifact("metrics", run.folder / "metrics.json"), result.as_rows(shared))
    if result.alarm is not None and result.alarm.rings:
        run.say(result.alarm.sentence)
    pages.compared(run.page, both, result, shared)


def real(cfg: config.Real, run: Run) -> None:
    """Run all arms on real notebooks."""
    on_notebooks.study(cfg).run(cfg, run)


def _form(cfg: config.Writing) -> Form:
    return narrow(Form, {**vars(Form()), **{k: v for k, v in vars(cfg).items() if k in vars(Form())}})


def _note(run: Run, refused: Sequence[Any]) -> None:
    """List what was left out."""
    if refused:
        rows = [row if not isinstance(row, Rejected) else vars(row) for row in refused]
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), rows)
