"""The real run: papers of several fields that nobody here wrote, pruned, factorised, and asked questions that a table answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval import Terms, TextEncoder, build_graph
from gnomon.core.retrieval.fusion import fuse
from gnomon.core.retrieval.hits import ranked
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.smart_slic import report
from gnomon.methods.smart_slic.config import REAL_CLAIMS, Real
from gnomon.methods.smart_slic.corpus.cleaning import clean
from gnomon.methods.smart_slic.corpus.papers import Paper
from gnomon.methods.smart_slic.corpus.pruning import PruneOptions, prune
from gnomon.methods.smart_slic.factors.matrices import tfidf
from gnomon.methods.smart_slic.factors.multiplicative import Options
from gnomon.methods.smart_slic.factors.nmfk import NMFk
from gnomon.methods.smart_slic.knowledge.asking import Question, judged, summarised
from gnomon.methods.smart_slic.knowledge.building import rows_of
from gnomon.methods.smart_slic.knowledge.planner import Planner
from gnomon.methods.smart_slic.knowledge.project import papers_at

Floats = NDArray[np.float64]
RULES: tuple[Any, ...] = ("relative", "knn", "centroid")
SETTINGS: Mapping[str, tuple[Any, float]] = {
    "NNSVD, noise .3": ("nnsvd", 0.3), "NNSVD, noise .015": ("nnsvd", 0.015), "random start, noise .015": ("random", 0.015),
}  # fmt: skip
"""What the number of topics is looked for with."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the real run."""

    core: int = 60
    copies: int = 8
    iterations: int = 300
    k_to: int = 12
    questions: int = 300
    sentences: int = 200
    outside: int = 50
    device: str = "cpu"


SCALES = {
    "smoke": Scale(8, 3, 30, 4, 12, 8, 4),
    "mini": Scale(),
    "gpu": Scale(60, 20, 1000, 20, 300, 500, 50, "cuda"),
}


def study(cfg: Real) -> Study:
    """The study on the papers that the settings name."""
    return Study(
        title="smart-slic on real papers",
        claims=REAL_CLAIMS,
        scales=SCALES,
        parts={"": Part(partial(_seed, cfg))},
        plan=lambda cfg, scale: {
            "llm_calls": 0,
            "factorisations": cfg.seeds * len(SETTINGS) * (scale.k_to - 1) * scale.copies,
        },
        page=report.real,
        summary=_summary,
    )


def _summary(results: Results) -> Mapping[str, Any]:
    return {**results.rows, "scores": results.scores(), "language model calls": 0}


def _seed(cfg: Real, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    papers = list(papers_at(cfg.source).papers)
    part.folder.mkdir(parents=True, exist_ok=True)
    vectors = _vectors(cfg, papers, part.folder.parent)
    fields = [str(paper.meta.get(cfg.field)) for paper in papers]
    _prune(scale, papers, vectors, fields, part.rng, out)
    _topics(scale, papers, vectors, fields, part.rng, out)
    _ask(scale, papers, part, out)
    _find(cfg, scale, papers, part, out)


def _vectors(cfg: Real, papers: Sequence[Paper], folder: Path) -> Floats:
    """Unit vectors of titles with abstracts, encoded once for all seeds."""
    file = folder / "vectors.npy"
    if not file.is_file():
        with TextEncoder.load(cfg.encoder, LoadConfig(device="cpu")) as encoder:
            np.save(file, encoder.encode([paper.summary for paper in papers]))
    rows: Floats = np.load(file).astype(np.float64)
    return rows


def _prune(
    scale: Scale, papers: Sequence[Paper], vectors: Floats, fields: Sequence[str], rng: Rng, out: Out
) -> None:
    """Core papers of one field among all papers, each field in turn."""
    ids = [paper.id for paper in papers]
    gains = []
    for field in sorted(set(fields)):
        inside = [i for i, name in enumerate(fields) if name == field]
        chosen = rng.child("core", field).numpy().permutation(inside)[: scale.core].tolist()
        rest = {i for i in inside if i not in set(chosen)}
        by_rule = {}
        for rule in RULES:
            pruned = prune(
                ids, vectors, [ids[i] for i in chosen], PruneOptions(rule=rule), rng=rng.child(field)
            )
            kept = {i for i, d in enumerate(pruned.decisions) if d.status == "kept"}
            right = len(kept & rest)
            scores = np.array([d.score for d in pruned.decisions])
            row = {"field": field, "rule": rule, "precision": right / max(1, len(kept)), "recall": right / max(1, len(rest)),
                   "coherence": pruned.coherence, "warned": bool(pruned.warning)}  # fmt: skip
            out.add("pruning", row)
            by_rule[rule] = (row, scores, rest, set(chosen))
        # At equal recall: as many of the best by `relative` as reach the recall of knn.
        recall = by_rule["knn"][0]["recall"]
        gains.append(_precision_at(by_rule["relative"], recall) - _precision_at(by_rule["knn"], recall))
    out.score("relative", "smallest gain in precision at the recall of knn", min(gains))


def _precision_at(ruled: tuple[Any, Floats, set[int], set[int]], recall: float) -> float:
    _, scores, rest, core = ruled
    order = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in core]
    wanted, right = recall * len(rest), 0
    for count, i in enumerate(order, 1):
        right += i in rest
        if right >= wanted - 1e-9:
            return right / count
    return right / max(1, len(order))


def _topics(
    scale: Scale, papers: Sequence[Paper], vectors: Floats, fields: Sequence[str], rng: Rng, out: Out
) -> None:
    """The curves of three settings, and how many clusters k-means would have."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    X = tfidf([clean(paper.summary) for paper in papers]).matrix
    ks = range(2, scale.k_to + 1)
    for name, (init, noise) in SETTINGS.items():
        options = Options(copies=scale.copies, iterations=scale.iterations, init=init, noise=noise)
        result = NMFk(options, rng=rng.child("topics", name)).fit(X, ks)
        agreement = float(adjusted_rand_score(fields, result.topics))
        row = {
            "method": name,
            "k": result.k,
            "adjusted Rand index to the fields": agreement,
            "warned": bool(result.warning),
        }
        out.add("topics", row)
        out.score(name, "k", result.k)
        for point in result.table:
            out.add("curves", {"method": name, **point})
    clusters = {k: KMeans(k, n_init=5, random_state=0).fit_predict(vectors) for k in ks}
    best = max(ks, key=lambda k: silhouette_score(vectors, clusters[k]))
    out.add("topics", {"method": "k-means of MiniLM, silhouette", "k": best,
                       "adjusted Rand index to the fields": float(adjusted_rand_score(fields, clusters[best]))})  # fmt: skip


def _counted(kind: int, papers: Sequence[Paper], values: tuple[str, str, str, int]) -> Question:
    """A question of one of three kinds, its answer counted on the rows."""
    author, country, venue, year = values
    if kind == 0:
        text, own = f"How many papers did {author} write?", [p.id for p in papers if author in p.authors]
    elif kind == 1:
        text = f"What is the number of articles in {venue} from {year} on?"
        own = [p.id for p in papers if p.venue == venue and (p.year or 0) >= year]
    else:
        text = f"How many papers with authors in {country} are published in {venue}?"
        own = [p.id for p in papers if country in p.countries and p.venue == venue]
    return Question(text, str(len(own)), "count", "graph", tuple(own))


def _ask(scale: Scale, papers: Sequence[Paper], part: PartOfRun, out: Out) -> None:
    """Questions whose answers are counted on the table, and questions about what is not there."""
    rows = rows_of(papers)
    planner = Planner(build_graph(part.folder / "graph", rows.statements, rows.edges, anew=True))
    draw = part.rng.child("questions").numpy()

    def pick(values: Sequence[Any]) -> Any:
        return values[int(draw.integers(len(values)))]

    authors = sorted({a for p in papers for a in p.authors})
    countries = sorted({c for p in papers for c in p.countries})
    venues, years = sorted({p.venue for p in papers}), sorted({p.year for p in papers if p.year})
    questions = [
        _counted(i % 3, papers, (pick(authors), pick(countries), pick(venues), pick(years)))
        for i in range(scale.questions)
    ]
    for i in range(scale.outside):
        strange = (
            f"How many papers did {pick(authors).split()[0]} Zzyzxqua write?",
            f"How many papers are in the Annals of {pick(countries)} Folklore?",
            "How many papers appeared in 1931?",
        )
        questions.append(Question(strange[i % 3], None, "outside", "outside"))
    judged_rows = []
    for question in questions:
        answer = planner.answer(question.text)
        row = judged(question, answer)
        row["abstained"] = answer.abstained or (question.answer is None and answer.trace.get("number") == 0)
        row["right"] = row["abstained"] if question.answer is None else row["right"]
        judged_rows.append(row)
    counted = [row for row in judged_rows if row["kind"] == "count"]
    planned = [row for row in counted if not row["abstained"]]
    exact = sum(row["right"] for row in planned) / max(1, len(planned))
    out.add("graph", {"planned": len(planned) / len(counted), "exact where planned": exact,
                      "withheld outside": summarised(judged_rows)["abstention recall"]})  # fmt: skip
    out.score("graph", "exact where planned", exact)
    out.score("graph", "planned", len(planned) / len(counted))
    out.score("graph", "withheld outside", float(summarised(judged_rows)["abstention recall"] or 0.0))
    for row in report.examples(judged_rows):
        out.add("examples", row)


def _find(cfg: Real, scale: Scale, papers: Sequence[Paper], part: PartOfRun, out: Out) -> None:
    """The paper of a sentence that is taken out of its abstract: by words, by vectors, by both."""
    draw = part.rng.child("sentences").numpy()
    rows: list[tuple[int, str]] = []
    for i in draw.permutation(len(papers)).tolist():
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", papers[i].abstract) if len(s.split()) >= 8]
        if len(sentences) >= 3 and len(rows) < scale.sentences:
            rows.append((i, sentences[int(draw.integers(1, len(sentences)))]))
    texts = {p.id: p.summary for p in papers}
    texts |= {papers[i].id: papers[i].summary.replace(sentence, " ") for i, sentence in rows}
    terms = Terms.build(part.folder / "terms", texts, anew=True)
    by_words = terms.search([sentence for _, sentence in rows], 10)
    with TextEncoder.load(cfg.encoder, LoadConfig(device="cpu")) as encoder:
        vectors = _vectors(cfg, papers, part.folder.parent).copy()
        vectors[[i for i, _ in rows]] = encoder.encode([texts[papers[i].id] for i, _ in rows])
        queries = encoder.encode([sentence for _, sentence in rows], role="query")
    scores = queries @ vectors.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    by_vectors = [
        ranked((papers[j].id, float(scores[r, j])) for j in row) for r, row in enumerate(best.tolist())
    ]
    ways = {"words": by_words, "vectors": by_vectors,
            "both": [fuse({"dense": v, "terms": w}) for v, w in zip(by_vectors, by_words, strict=True)]}  # fmt: skip
    for name, hits in ways.items():
        ranks = [
            next((r for r, hit in enumerate(row, 1) if hit.id == papers[i].id), None)
            for (i, _), row in zip(rows, hits, strict=True)
        ]
        row = {
            "by": name,
            "R@1": float(np.mean([r == 1 for r in ranks])),
            "MRR@10": float(np.mean([1 / r if r else 0.0 for r in ranks])),
        }
        out.add("finding", row)
        out.score(name, "R@1", row["R@1"])
