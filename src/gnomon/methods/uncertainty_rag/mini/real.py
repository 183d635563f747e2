"""The real run: scores, retrievers and rerankers of a pretrained model on text that nobody made up for the occasion.

Every finished piece is kept, so that a run in several sittings goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core import records
from gnomon.core.models import ModelHandle, new_llama, train_bpe, train_tiny
from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval import Cut, Terms, TextEncoder, fuse, read_qrels
from gnomon.core.retrieval.hits import Hit, ranked
from gnomon.core.retrieval.passages import Passage
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.study import Out
from gnomon.core.train import Batches, Example, TrainConfig
from gnomon.methods.uncertainty_rag.answering.evaluation import compare_rankings
from gnomon.methods.uncertainty_rag.config import Mini
from gnomon.methods.uncertainty_rag.mini.world import Scale
from gnomon.methods.uncertainty_rag.options import Choice, Contrast, Layout, Pool, Span
from gnomon.methods.uncertainty_rag.scoring.check import bm25_of, measured
from gnomon.methods.uncertainty_rag.scoring.reading import LocalReader
from gnomon.methods.uncertainty_rag.scoring.scores import (
    FREE,
    read_pairs,
    scoped,
    score_information,
    similarity,
)
from gnomon.methods.uncertainty_rag.scoring.table import (
    Scoring,
    calibrate,
    read_table,
    write_about,
)
from gnomon.methods.uncertainty_rag.scoring.windows import calibrated
from gnomon.methods.uncertainty_rag.training.candidates import choose_anchors, propose
from gnomon.methods.uncertainty_rag.training.chunks import chunk, deduplicate, read_corpus
from gnomon.methods.uncertainty_rag.training.retriever import train_retriever
from gnomon.methods.uncertainty_rag.training.training_set import build_training_set, hubness_of_all

SPANS = {"w 20": Span(), "w 8": Span(window=8)}
TOUCHING = {64: (24, 8), 128: (12, 8)}
"""Tokens a piece -> anchors and candidates of each, where the two pieces of an abstract touch."""
GAP, GAPPED = 48, 16
"""Tokens a piece, and of the gap; abstracts, all pairs of which are tried."""
SIGNALS = ("span", "gain", "nll_cond", "nll_all", "bm25", "random")
POOL = Pool(n_anchors=100, m=12, n_random=4)
QUESTIONS = 50
"""Questions that are reranked."""

_open: dict[str, Any] = {}
"""Models that the parts of a run share."""


def pairs_of(cfg: Mini) -> dict[str, int]:
    """Pairs that the real parts score."""
    touching = sum(anchors * (2 * many - 1) for anchors, many in TOUCHING.values())
    counts = {
        "gap": cfg.seeds * GAPPED**2,
        "papers": cfg.seeds * touching,
        "retriever": 16 * POOL.n_anchors,
        "reranker": 10 * QUESTIONS,
    }
    return {name: counts[name] for name in cfg.parts if name in counts}


def reader_of(cfg: Mini) -> LocalReader:
    """The causal model in float32: bfloat16 would be too coarse for differences."""
    if cfg.model not in _open:
        handle = ModelHandle.load(cfg.model, LoadConfig(dtype="float32"), kind="causal")
        _open[cfg.model] = LocalReader(handle, Layout())
    reader: LocalReader = _open[cfg.model]
    return reader


def encoder_of(cfg: Mini) -> TextEncoder:
    """A fresh copy of the encoder."""
    return TextEncoder.load(cfg.encoder, LoadConfig())


def papers(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Halves of abstracts that touch, against halves of others of the same field and of another."""
    rows = [raw for _, raw in records.read_raw(cfg.papers or "")]
    for tokens in TOUCHING:
        for row in out.once(f"touching-{tokens}", partial(_touching, cfg, rows, tokens, part.rng)):
            out.add("papers", {"seed": seed, "pieces": f"{tokens} tokens, touching", **row})


def gap(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """The control: pieces of one abstract with a gap between them, so that mere continuation earns nothing."""
    rows = [raw for _, raw in records.read_raw(cfg.papers or "")]
    for row in out.once("gap", partial(_gapped, cfg, rows, part.rng)):
        out.add("gap", {"seed": seed, **row})
        out.score(row["score"], "AUC with a gap", row["AUC"])


def _touching(cfg: Mini, rows: Sequence[Any], tokens: int, rng: Rng) -> list[dict[str, Any]]:
    """Each anchor with its own half, and halves of other papers of its field and of another field."""
    anchors, many = TOUCHING[tokens]
    reader, draw = reader_of(cfg), rng.child("touching", tokens).numpy()
    by_field: dict[str, list[tuple[list[int], list[int]]]] = {}
    for i in draw.permutation(len(rows)).tolist():
        ids = reader.encode(rows[i]["abstract"][: 12 * tokens])
        if len(ids) >= 2 * tokens:
            by_field.setdefault(rows[i]["field"], []).append((ids[:tokens], ids[tokens : 2 * tokens]))
    fields = sorted(by_field, key=lambda name: -len(by_field[name]))
    own, other = by_field[fields[0]][:anchors], by_field[fields[1]][:anchors]
    n = len(own)
    near = [(i, (i + step) % n) for i in range(n) for step in range(many)]
    far = [(i, n + (i + step) % len(other)) for i in range(n) for step in range(1, many)]
    firsts = [first for first, _ in (*own, *other)]
    columns, names = _columns(
        cfg, [(firsts[j], own[i][1]) for i, j in (*near, *far)], [j for _, j in (*near, *far)]
    )
    result = []
    for name in names:
        values = names[name](columns)
        sets = {"same field": slice(0, len(near)), "other field": None}
        row: dict[str, Any] = {"score": name}
        for what, part in sets.items():
            places = (
                list(range(len(near)))
                if part
                else [k for k, (i, j) in enumerate(near) if i == j]
                + list(range(len(near), len(near) + len(far)))
            )
            pairs = [(*near, *far)[k] for k in places]
            numbers = measured(values[places], np.array([i == j for i, j in pairs]), [i for i, _ in pairs])
            row |= {f"AUC, {what}": numbers["AUC"], f"within anchor, {what}": numbers["AUC within anchor"]}
        result.append(row)
    return result


def _gapped(cfg: Mini, rows: Sequence[Any], rng: Rng) -> list[dict[str, Any]]:
    """All pairs of a few abstracts of one field, a gap between their two pieces: find the own one."""
    reader, draw = reader_of(cfg), rng.child("gap").numpy()
    field = max({row["field"] for row in rows}, key=lambda name: sum(row["field"] == name for row in rows))
    halves: list[tuple[list[int], list[int]]] = []
    for i in draw.permutation(len(rows)).tolist():
        ids = reader.encode(rows[i]["abstract"][: 15 * GAP]) if rows[i]["field"] == field else []
        if len(ids) >= 3 * GAP and len(halves) < GAPPED:
            halves.append((ids[:GAP], ids[2 * GAP : 3 * GAP]))
    places = [(i, j) for j in range(len(halves)) for i in range(len(halves))]
    columns, names = _columns(cfg, [(halves[j][0], halves[i][1]) for i, j in places], [j for _, j in places])
    related = np.array([i == j for i, j in places])
    result = []
    for name, of in names.items():
        values = of(columns)
        best = [
            max((p for p, (i, _) in enumerate(places) if i == anchor), key=lambda p: values[p])
            for anchor in range(len(halves))
        ]
        most = max(np.unique([places[p][1] for p in best], return_counts=True)[1])
        result.append(
            {
                "score": name,
                **measured(values, related, [i for i, _ in places]),
                "anchors of the most used": int(most),
            }
        )
    return result


def _columns(
    cfg: Mini, pairs: Sequence[tuple[list[int], list[int]]], candidates: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every score of pairs of pieces, and by name how it is read from the columns."""
    reader, encoder = reader_of(cfg), _open.setdefault(cfg.encoder, encoder_of(cfg))
    informations, alone = read_pairs(reader, pairs)
    columns: dict[str, Any] = {"candidate": [str(j) for j in candidates]}
    names: dict[str, Any] = {}
    for label, span in SPANS.items():
        span = calibrated([scoped(i, span) for i in informations], span)
        scores = score_information(informations, alone, span)
        columns |= {**scores.columns(), f"below, {label}": -scores.U, f"above, {label}": -scores.U_other}
        for way in ("below", "above"):
            key = f"span, {label}, {way}"
            names["span" if key == "span, w 20, below" else key] = lambda c, k=f"{way}, {label}": np.asarray(
                c[k]
            )
    texts = [[reader.decode(ids) for ids in side] for side in zip(*pairs, strict=True)]
    columns["bm25"] = _words(texts)
    vectors = [encoder.encode(list(dict.fromkeys(side))) for side in texts]
    at = [{text: i for i, text in enumerate(dict.fromkeys(side))} for side in texts]
    columns["cosine"] = [
        float(vectors[0][at[0][a]] @ vectors[1][at[1][b]]) for a, b in zip(*texts, strict=True)
    ]
    for name in ("nll_all", "nll_cond", "gain", "gain_centred", "bm25", "cosine"):
        names[name] = lambda c, name=name: similarity(c, name)
    names["span, centred"] = lambda c: similarity(
        {"candidate": c["candidate"], "bm25": c["below, w 20"]}, "bm25", "candidate"
    )
    names["nll_all, centred"] = lambda c: similarity(c, "nll_all", "candidate")
    return columns, names


def _words(texts: Sequence[Sequence[str]]) -> list[float]:
    firsts, seconds = (list(dict.fromkeys(side)) for side in texts)
    return bm25_of(
        seconds, firsts, [(seconds.index(b), firsts.index(a)) for a, b in zip(*texts, strict=True)]
    )


def _paragraphs(cfg: Mini) -> tuple[dict[str, Passage], dict[str, str], dict[str, dict[str, int]]]:
    """Paragraphs, questions and judgements of a BEIR folder, compressed or not."""
    folder = Path(cfg.beir or "")
    source = next(path for path in (folder / "corpus.jsonl", folder / "corpus.jsonl.gz") if path.exists())
    documents = read_corpus(str(source), id_field="_id").documents
    paragraphs = {d.doc_id: Passage(d.doc_id, d.doc_id, 0, len(d.text), d.text) for d in documents}
    queries = {str(raw["_id"]): raw["text"] for _, raw in records.read_raw(folder / "queries.jsonl")}
    return paragraphs, queries, read_qrels(folder / "qrels.tsv")


def retriever(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """An encoder trained for an epoch by each signal on paragraphs alone, and left as it is; questions are never used."""
    paragraphs, queries, qrels = _paragraphs(cfg)
    judged = {name for of in qrels.values() for name in of}
    reader = reader_of(cfg)
    documents = [
        d for d in read_corpus(str(_corpus_of(cfg)), id_field="_id").documents if d.doc_id not in judged
    ]
    firsts = [p for p in chunk(documents, Cut("tokens", 64), reader.lm.tokenizer) if p.order == 0]
    chunks = deduplicate(firsts).kept
    by_id = {p.id: p for p in chunks}
    anchors = choose_anchors(chunks, POOL, part.rng)
    candidates = list(propose(chunks, anchors, POOL, part.rng))
    part.folder.mkdir(parents=True, exist_ok=True)
    span = calibrate(reader, candidates, by_id, Span(), 50, part)
    scoring = Scoring(None, reader, span, "candidate", "real run")
    scoring.fill(part.folder, candidates, by_id, None, shard_rows=16)
    write_about(part.folder, {"fingerprint": "real run", "settings": {}})
    table = read_table(part.folder)
    for row in hubness_of_all(table.columns, [*FREE, "bm25"], 4):
        out.add("hubness", row)
    texts = {name: p.text for name, p in by_id.items()}
    rankings = {"bm25": out.once("by-bm25", lambda: _by_bm25(paragraphs, queries, part))}
    for signal in ("untouched", *SIGNALS):
        rankings[f"MiniLM, {signal}"] = out.once(
            f"encoder-by-{signal}",
            partial(_trained, (cfg, paragraphs, queries, part), signal, table.columns, texts),
        )
    for row in compare_rankings(rankings, qrels):
        out.add("retrievers, real", row)


def _corpus_of(cfg: Mini) -> Path:
    folder = Path(cfg.beir or "")
    return next(path for path in (folder / "corpus.jsonl", folder / "corpus.jsonl.gz") if path.exists())


def _by_bm25(paragraphs: Any, queries: Any, part: PartOfRun) -> dict[str, list[str]]:
    terms = Terms.build(part.folder / "terms", {n: p.text for n, p in paragraphs.items()}, anew=True)
    hits = terms.search(list(queries.values()), 10)
    return {name: [hit.id for hit in of] for name, of in zip(queries, hits, strict=True)}


def _trained(
    setting: tuple[Mini, Any, Any, PartOfRun], signal: str, columns: Any, texts: Any
) -> dict[str, list[str]]:
    """Each question's ten best paragraphs by an encoder that was trained by a signal, or not at all."""
    cfg, paragraphs, queries, part = setting
    encoder = encoder_of(cfg)
    if signal != "untouched":
        by: Any = "bm25" if signal == "random" else signal
        if signal == "random":
            columns = {
                **columns,
                "bm25": part.rng.child("random positives").numpy().random(len(columns["anchor"])),
            }
        mined = build_training_set(columns, texts, Choice(by, k_p=4, k_n=4))
        inner = part.within(f"train-{signal}", part.rng.child("training"))
        training = TrainConfig(
            lr=2e-5, batch_size=16, max_length=128, warmup_ratio=0.1, checkpoint_every=0, keep_checkpoints=0
        )
        train_retriever(encoder, mined.rows, training, Contrast(), run=inner)
    names = list(paragraphs)
    vectors = encoder.encode([paragraphs[name].text for name in names])
    questions = encoder.encode(list(queries.values()), role="query")
    best = np.argsort(-(questions @ vectors.T), axis=1, kind="stable")[:, :10]
    return {query: [names[i] for i in row] for query, row in zip(queries, best.tolist(), strict=True)}


def reranker(cfg: Mini, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """BM25's ten best paragraphs of a question in another order: by gain, by span, by BM25 and gain, by an encoder."""
    paragraphs, queries, qrels = _paragraphs(cfg)
    chosen = [n for n in queries if n in qrels]
    chosen = [
        chosen[i] for i in part.rng.child("questions").numpy().permutation(len(chosen))[:QUESTIONS].tolist()
    ]
    queries = {name: queries[name] for name in chosen}
    part.folder.mkdir(parents=True, exist_ok=True)
    terms = Terms.build(part.folder / "terms", {n: p.text for n, p in paragraphs.items()}, anew=True)
    hits = dict(zip(queries, terms.search(list(queries.values()), 10), strict=True))
    scored = out.once("scored", lambda: _rerank_scores(cfg, hits, paragraphs, queries))
    rankings: dict[str, dict[str, list[str]]] = {"bm25": {n: [h.id for h in of] for n, of in hits.items()}}
    for name in ("gain", "span", "MiniLM"):
        rankings[name] = {q: [h.id for h in _ordered(scored[q], name)] for q in queries}
    rankings["rrf of bm25 and gain"] = {
        q: [hit.id for hit in fuse({"bm25": hits[q], "gain": _ordered(scored[q], "gain")})] for q in queries
    }
    for row in compare_rankings(rankings, {name: qrels[name] for name in queries}):
        out.add("rerankers", row)


def _ordered(rows: Sequence[Any], name: str) -> list[Hit]:
    return ranked([(row["id"], row[name]) for row in rows])


def _rerank_scores(cfg: Mini, hits: Any, paragraphs: Any, queries: Any) -> dict[str, list[dict[str, Any]]]:
    reader, encoder = reader_of(cfg), _open.setdefault(cfg.encoder, encoder_of(cfg))
    questions = dict(zip(queries, encoder.encode(list(queries.values()), role="query"), strict=True))
    result, span = {}, Span()
    for name, of in hits.items():
        question = reader.encode(queries[name])
        pairs = [(reader.encode(paragraphs[hit.id].text), question) for hit in of]
        informations, alone = read_pairs(reader, pairs)
        span = calibrated([scoped(i, span) for i in informations], span)  # frozen on the first question
        scores = score_information(informations, alone, span)
        cosines = encoder.encode([paragraphs[hit.id].text for hit in of]) @ questions[name]
        result[name] = [
            {"id": hit.id, "gain": float(g), "span": float(-u), "MiniLM": float(c)}
            for hit, g, u, c in zip(of, scores.gain, scores.U, cosines, strict=True)
        ]
    return result


def docstring_reader(
    scale: Scale, part: PartOfRun, pieces: Iterable[Any]
) -> tuple[LocalReader, list[tuple[str, str]]]:
    """A byte-level model that has read this Python's documentation, and the texts (module, text) that it has not."""
    texts = [(piece.group, piece.text) for piece in pieces]
    draw = part.rng.child("docstrings").numpy()
    texts = [texts[i] for i in draw.permutation(len(texts)).tolist()]
    held, read = texts[: len(texts) // 10], texts[len(texts) // 10 :]
    words = train_bpe((text for _, text in read[:2000]), 2000 if scale.must_use else 300)
    examples = []
    for _, text in read:
        ids = [words.bos_token_id, *words(text)["input_ids"]][:192]
        if len(ids) > 8:
            examples.append(Example(ids, ids))
    model = new_llama(
        words, 2 * scale.hidden, scale.layers, scale.heads, 256, part.rng.child("docs model"), is_tied=False
    )
    cfg = TrainConfig(
        lr=2e-3,
        batch_size=16,
        epochs=100,
        max_steps=scale.lm_steps,
        max_length=192,
        warmup_ratio=0.05,
        schedule="cosine",
        checkpoint_every=0,
        keep_checkpoints=0,
    )
    inner = part.within("docstrings")
    inner.folder.mkdir(parents=True, exist_ok=True)
    batches = Batches(examples, 16, pad_id=words.pad_token_id, generator=part.rng.child("docs order"))
    train_tiny(model, batches, cfg, inner, device=scale.device)
    return LocalReader(ModelHandle(model, words)), held


def docstring_scores(
    reader: LocalReader, texts: Sequence[tuple[str, str]], rng: Rng, n: int
) -> list[dict[str, Any]]:
    """Chunks of 64 tokens of two documentation strings: related where one module has both."""
    by_module: dict[str, list[list[int]]] = {}
    for module, text in texts:
        ids = reader.encode(text)[:64]
        if len(ids) == 64:
            by_module.setdefault(module, []).append(ids)
    pairs = [of[:2] for of in by_module.values() if len(of) >= 2][:n]
    places = [(i, (i + step) % len(pairs)) for i in range(len(pairs)) for step in range(min(8, len(pairs)))]
    informations, alone = read_pairs(reader, [(pairs[j][0], pairs[i][1]) for i, j in places])
    span = calibrated([i.joint for i in informations], Span())
    columns = {
        "candidate": [str(j) for _, j in places],
        **score_information(informations, alone, span).columns(),
    }
    related = np.array([i == j for i, j in places])
    return [
        {"score": name, **measured(similarity(columns, name), related, [i for i, _ in places])}
        for name in FREE
    ]
