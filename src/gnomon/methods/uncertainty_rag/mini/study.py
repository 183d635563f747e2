"""The miniature: scores and retrievers in a made-up language; beside it the real run, on a model and data that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.metrics.retrieve import evaluate
from gnomon.core.retrieval.encoders import TextEncoder
from gnomon.core.rng import Rng, seeded
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Study
from gnomon.core.train import TrainConfig
from gnomon.methods.uncertainty_rag.config import CLAIMS, Mini
from gnomon.methods.uncertainty_rag.mini import real, report
from gnomon.methods.uncertainty_rag.mini.world import (
    SCALES,
    SHIFTED,
    AttentionPooled,
    Chunk,
    Scale,
    draw_chunk,
    draw_pair,
    draw_pool,
    passages,
    read_world,
    tokenizer,
)
from gnomon.methods.uncertainty_rag.options import Choice, Contrast, Pool, Span
from gnomon.methods.uncertainty_rag.scoring.check import bm25_of, measured
from gnomon.methods.uncertainty_rag.scoring.reading import Information, LocalReader
from gnomon.methods.uncertainty_rag.scoring.scores import (
    FREE,
    read_pairs,
    scoped,
    score_information,
    similarity,
)
from gnomon.methods.uncertainty_rag.scoring.windows import calibrated
from gnomon.methods.uncertainty_rag.training.candidates import choose_anchors, propose
from gnomon.methods.uncertainty_rag.training.retriever import train_retriever
from gnomon.methods.uncertainty_rag.training.training_set import build_training_set, hubness

SPAN = Span(window=8)
VARIANTS = {
    "0.5 quantile": replace(SPAN, quantile=0.5),
    "ratio of probabilities": replace(SPAN, signal="probability"),
    "second chunk alone": replace(SPAN, scope="second"),
    "average over tokens": replace(SPAN, average="tokens"),
}
"""What else the specification measured, without claims."""
SIGNALS = (*(name for name in FREE if name != "span_other"), "bm25", "random")
"""What retrievers are trained by."""
CONTRAST = Contrast()
"""The temperature is the library's."""
TRAINING: Mapping[str, Any] = {
    "lr": 3e-2,
    "batch_size": 32,
    "max_length": 32,
    "warmup_ratio": 0.1,
    "epochs": 1000,
}


@dataclass(frozen=True)
class Judge:
    """The miniature's reader with a frozen span."""

    reader: LocalReader
    span: Span

    def columns(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The scores of pairs (first, second)."""
        informations, alone = self.read(pairs)
        return dict(score_information(informations, alone, self.span).columns())

    def read(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[Information], Any]:
        """The information of pairs, and of the seconds alone."""
        return read_pairs(self.reader, [(self.reader.encode(a), self.reader.encode(b)) for a, b in pairs])


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    study(cfg).run(cfg, run)


def study(cfg: Mini) -> Study:
    """The study that the settings choose."""
    named = {"model": cfg.model, "encoder": cfg.encoder, "papers": cfg.papers, "beir": cfg.beir}
    is_real = set(cfg.parts) - {"world", "docstrings"}
    options = [
        word for name, value in named.items() if is_real and value for word in (f"--{name}", _name(value))
    ]
    return Study(
        title="uncertainty-rag on real text" if is_real else "uncertainty-rag in miniature: a retriever without labels",
        claims=CLAIMS,
        scales=SCALES,
        parts={
            "world": Part(_world),
            "docstrings": Part(_docstrings),
            "gap": Part(partial(real.gap, cfg)),
            "papers": Part(partial(real.papers, cfg)),
            "retriever": Part(partial(real.retriever, cfg), once=True),
            "reranker": Part(partial(real.reranker, cfg), once=True),
        },
        plan=_plan,
        page=report.write,
        summary=lambda results: {**{name: rows for name, rows in results.rows.items() if rows}, "scores": results.scores()},
        options=options,
    )  # fmt: skip


def _name(value: str) -> str:
    """What a summary calls a path: its last part."""
    return value if value.startswith("embedded:") else value.rstrip("/").rpartition("/")[2]


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    worlds = cfg.seeds * ("world" in cfg.parts)
    return {
        "language_models": worlds,
        "retrievers": worlds * len(SIGNALS),
        "pairs": worlds * (scale.pairs + 40 * scale.anchors),
        "real_pairs": real.pairs_of(cfg),
    }


def _world(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Scores of fresh pairs, then a retriever by each of them."""
    reader = read_world(scale, part.within("lm"))
    draw = part.rng.child("fresh pairs").numpy()
    pairs = [draw_pair(i % 2 == 0, draw) for i in range(scale.pairs)]
    related = np.array([a.is_related(b) for a, b in pairs])
    texts = [(a.text, b.text) for a, b in pairs]
    informations, alone = Judge(reader, SPAN).read(texts)
    span = calibrated([i.joint for i in informations], SPAN)
    judge = Judge(reader, span)
    columns = dict(score_information(informations, alone, span).columns())
    columns["candidate"] = [str(i) for i in range(len(pairs))]
    within, labels, anchors = _within(scale, judge, part.rng)
    for name in FREE:
        pooled = measured(similarity(columns, name), related, [0] * len(pairs))["AUC"]
        inside = measured(similarity(within, name), labels, anchors)["AUC within anchor"]
        row = {"score": name, "AUC": pooled, "AUC within anchor": inside}
        out.add("pairs", row)
        out.score(name, "AUC", row["AUC"])
    for name, variant in VARIANTS.items():
        variant = calibrated([scoped(i, variant) for i in informations], variant)
        values = score_information(informations, alone, variant)
        for direction, uncertain in (("below", values.U), ("above", values.U_other)):
            out.add(
                "variants",
                {
                    "variant": name,
                    "direction": direction,
                    "AUC": measured(-uncertain, related, [0] * len(pairs))["AUC"],
                },
            )
    _retrievers(scale, judge, part, out)


def _within(scale: Scale, judge: Judge, rng: Rng) -> tuple[dict[str, Any], Any, list[int]]:
    """Some anchors, each with the same 60 candidates of which about half are related to it."""
    draw = rng.child("within").numpy()
    pairs, related, anchors, names = [], [], [], []
    for number in range(scale.within):
        anchor, other = draw_pair(True, draw)
        for i in range(60):
            candidate = draw_chunk(other.topic, other.half, draw) if i % 2 else draw_pair(False, draw)[0]
            pairs.append((candidate.text, anchor.text))
            related.append(candidate.is_related(anchor))
            anchors.append(number)
            names.append(f"{number}-{i}")
    return {**judge.columns(pairs), "candidate": names}, np.array(related), anchors


def _retrievers(scale: Scale, judge: Judge, part: PartOfRun, out: Out) -> None:
    rng = part.rng.child("retrieval")
    pool = draw_pool(scale.pool, rng.child("pool").numpy())
    chunks = passages(pool)
    settings = Pool(n_anchors=scale.anchors, m=12, n_random=28)
    anchors = choose_anchors(chunks, settings, rng)
    by_id = {chunk.id: chunk.text for chunk in chunks}
    candidates = list(propose(chunks, anchors, settings, rng))
    columns: dict[str, Any] = judge.columns([(by_id[p.candidate], by_id[p.anchor]) for p in candidates])
    for name in ("anchor", "candidate", "same_document", "bm25"):
        columns[name] = np.array([getattr(pair, name) for pair in candidates])
    tests = {
        "MRR": _search_pool(scale, rng, "plain"),
        "MRR, shifted": _search_pool(scale, rng, "shifted"),
    }
    for metric, (items, qrels) in tests.items():
        out.score("BM25 itself", metric, _mrr(_by_words(items), qrels))
    kinds = {chunk.id: chunk_ for chunk, chunk_ in zip(chunks, pool, strict=True)}
    for name in SIGNALS:
        by: Any = name
        table = columns
        if name == "random":
            by, table = (
                "bm25",
                {**columns, "bm25": rng.child("random positives").numpy().random(len(candidates))},
            )
        mined = build_training_set(table, by_id, Choice(by, k_p=4, k_n=8))
        used = [(row["anchor"], positive) for row in mined.rows for positive in row["positives"]]
        right = float(np.mean([kinds[a].is_related(kinds[b]) for a, b in used]))
        row: dict[str, Any] = {
            "signal": name,
            "related positives": right,
            **hubness([b for _, b in used], len(mined.rows)),
        }
        encoder = _encoder(scale, part.rng.child("encoder"))
        inner = part.within(f"retriever-{name}", part.rng.child("training"))
        cfg = TrainConfig(max_steps=scale.steps, checkpoint_every=0, keep_checkpoints=0, **TRAINING)
        train_retriever(encoder, mined.rows, cfg, CONTRAST, run=inner)
        for metric, (items, qrels) in tests.items():
            vectors = encoder.encode([chunk.text for chunk in items])
            rankings = {}
            for query in qrels:
                i = int(query)
                order = np.argsort(-(vectors @ vectors[i]), kind="stable")
                rankings[query] = [str(j) for j in order.tolist() if j != i]
            row[metric] = _mrr(rankings, qrels)
            out.score(name, metric, row[metric])
        out.add("retrievers", row)


def _mrr(rankings: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, int]]) -> float:
    depth = max(len(ranking) for ranking in rankings.values()) or 1
    return evaluate(rankings, qrels, ks=(depth,), resamples=100)[f"MRR@{depth}"].mean


def _search_pool(scale: Scale, rng: Rng, name: str) -> tuple[list[Chunk], dict[str, dict[str, int]]]:
    """Fresh chunks, each of them a question; relevant are those of the other half of its topic."""
    draw = rng.child("test pool", name).numpy()
    items = draw_pool(max(1, scale.pool // 2), draw, *([SHIFTED] if name == "shifted" else []))
    qrels = {str(i): {str(j): 1 for j, b in enumerate(items) if a.is_related(b)} for i, a in enumerate(items)}
    return items, qrels


def _by_words(items: Sequence[Chunk]) -> dict[str, list[str]]:
    """Every chunk's ranking of the others by BM25."""
    n, texts = len(items), [chunk.text for chunk in items]
    scores = np.array(bm25_of(texts, texts, [(i, j) for i in range(n) for j in range(n)])).reshape(n, n)
    order = np.argsort(-scores, axis=1, kind="stable")
    return {str(i): [str(j) for j in row.tolist() if j != i] for i, row in enumerate(order)}


def _encoder(scale: Scale, rng: Rng) -> TextEncoder:
    """An untrained retriever over whole words."""
    words = tokenizer()
    with seeded(rng):
        model = AttentionPooled(len(words), scale.width)
    return TextEncoder.of(model.to(scale.device), words)


def _docstrings(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """The table of scores on this Python's documentation, by a small model that has read it; related is what one module says."""
    reader, texts = real.docstring_reader(scale, part, stdlib_documentation())
    for row in real.docstring_scores(reader, texts, part.rng, 40 if scale.must_use else 6):
        out.add("docstrings", row)
