"""The miniature: expansion and pruning, the number of topics, and five systems that are asked the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.retrieval import Answer, Search, Terms, build_graph
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.smart_slic import report
from gnomon.methods.smart_slic.config import CLAIMS, Mini
from gnomon.methods.smart_slic.corpus.expansion import LocalProvider, expand
from gnomon.methods.smart_slic.corpus.papers import Paper
from gnomon.methods.smart_slic.corpus.pruning import RULES, PruneOptions, prune
from gnomon.methods.smart_slic.factors.matrices import tfidf
from gnomon.methods.smart_slic.factors.multiplicative import Options
from gnomon.methods.smart_slic.factors.nmfk import NMFk
from gnomon.methods.smart_slic.knowledge.agent import Agent
from gnomon.methods.smart_slic.knowledge.asking import judged, summarised
from gnomon.methods.smart_slic.knowledge.building import rows_of
from gnomon.methods.smart_slic.knowledge.planner import Planner
from gnomon.methods.smart_slic.knowledge.project import passages_of
from gnomon.methods.smart_slic.mini.world import (
    FAR,
    SCALES,
    SUBJECTS,
    Scale,
    World,
    draw_world,
    questions_about,
)

Floats = NDArray[np.float64]
KINDS = ("counting", "two hops", "metadata", "content", "unanswerable")


def mini(cfg: Mini, run: Run) -> None:
    """Run every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def vectors_of(papers: Sequence[Paper]) -> Floats:
    """Unit vectors of made-up words: TF-IDF and its leading singular directions."""
    from sklearn.decomposition import TruncatedSVD

    X = tfidf([p.abstract for p in papers], min_df=2, max_df=0.9).matrix.T
    reduced = TruncatedSVD(min(40, min(X.shape) - 1), random_state=0).fit_transform(X)
    norms = np.linalg.norm(reduced, axis=1, keepdims=True)
    unit: Floats = reduced / np.where(norms > 0, norms, 1)
    return unit


def _corpus(world: World, out: Out, rng: Rng) -> list[Paper]:
    """Two hops around the core, pruned by each rule; what knn keeps goes on."""
    core = [p for p in world.papers if p.id in set(world.core)]
    cited_by: dict[str, list[str]] = {}
    for paper in world.papers:
        for name in paper.references or ():
            cited_by.setdefault(name, []).append(paper.id)
    pool = [Paper(**{**p.__dict__, "citations": tuple(cited_by.get(p.id, ()))}) for p in world.papers]
    grown = expand([p for p in pool if p.id in {c.id for c in core}], LocalProvider(pool), hops=4, rng=rng)
    papers = list(grown.papers.values())
    is_domain = {p.id: world.subjects[i] < SUBJECTS for i, p in enumerate(world.papers)}
    n_domain = sum(is_domain.values())
    # Foreign papers that no link leads to are in a user's pool all the same.
    papers += [p for p in pool if p.id not in grown.papers]
    vectors = vectors_of(papers)
    kept: dict[str, list[str]] = {}
    rules: tuple[Any, ...] = RULES
    for rule in rules:
        pruned = prune([p.id for p in papers], vectors, world.core, PruneOptions(rule=rule), rng=rng)
        kept[rule] = pruned.kept
        right = sum(is_domain[name] for name in pruned.kept)
        row = {
            "rule": rule,
            "precision": right / len(pruned.kept),
            "recall": right / n_domain,
            "coherence": pruned.coherence,
        }
        out.add("pruning", {**row, "reached by links": len(grown.papers)})
        out.score(rule, "precision", row["precision"])
        out.score(rule, "recall", row["recall"])
    chosen = set(kept["knn"])
    return [p for p in papers if p.id in chosen]


def _topics(scale: Scale, world: World, out: Out, rng: Rng) -> None:
    """How many topics, by NMFk and by what else one would look at; on the papers of the domain."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    papers = [p for i, p in enumerate(world.papers) if world.subjects[i] < SUBJECTS]
    truth = [s for s in world.subjects if s < SUBJECTS]
    X = tfidf([p.abstract for p in papers], min_df=2, max_df=0.9).matrix
    options = Options(copies=scale.copies, iterations=scale.iterations)
    ks = range(2, scale.k_to + 1)
    result = NMFk(options, rng=rng.child("topics")).fit(X, ks)
    rows: list[dict[str, Any]] = [
        {
            "method": "NMFk",
            "k": result.k,
            "adjusted Rand index": float(adjusted_rand_score(truth, result.topics)),
        }
    ]
    dense = vectors_of(papers)
    clusters = {k: KMeans(k, n_init=5, random_state=0).fit_predict(dense) for k in ks}
    best = max(ks, key=lambda k: silhouette_score(dense, clusters[k]))
    rows.append(
        {
            "method": "k-means, silhouette",
            "k": best,
            "adjusted Rand index": float(adjusted_rand_score(truth, clusters[best])),
        }
    )
    rows.append(
        {
            "method": "k-means, told six",
            "k": SUBJECTS,
            "adjusted Rand index": float(adjusted_rand_score(truth, clusters[SUBJECTS])),
        }
    )
    errors = [row["error"] for row in result.table]
    bends = np.diff(errors, 2)  # where the error curve bends most
    rows.append(
        {"method": "error elbow", "k": int(list(ks)[int(np.argmax(bends)) + 1]), "adjusted Rand index": None}
    )
    for row in rows:
        out.add("topics", row)
        if row["adjusted Rand index"] is not None:
            out.score(str(row["method"]), "adjusted Rand index", row["adjusted Rand index"])
        out.score(str(row["method"]), "distance to six topics", abs(int(row["k"]) - SUBJECTS))
    for curve_row in result.table:
        out.add("curve", curve_row)


def _systems(scale: Scale, world: World, papers: Sequence[Paper], part: PartOfRun, out: Out) -> None:
    """The same questions to every system."""
    rows = rows_of(papers)
    graph = build_graph(part.folder / "graph", rows.statements, rows.edges, anew=True)
    passages = {p.id: p for paper in papers for p in passages_of(paper, 60)}
    terms = Terms.build(part.folder / "terms", {name: p.text for name, p in passages.items()}, anew=True)
    agent = Agent(Planner(graph), Search(passages, terms=terms), passages, hits=1)

    def passages_alone(question: str) -> Answer:
        hits = agent.search.search(question, 1)
        sentences = tuple((passages[hit.id].text, (hit.id,)) for hit in hits)
        return Answer(question, sentences, abstained=not hits, trace={"route": "passages"})

    def graph_alone(question: str) -> Answer:
        answer = agent.planner.answer(question)
        return Answer(
            question, answer.sentences, abstained=answer.abstained, trace={**answer.trace, "route": "graph"}
        )

    def nothing(question: str) -> Answer:
        return Answer(question, (("Not in the corpus.", ()),), abstained=True, trace={"route": "outside"})

    questions = questions_about(world, papers, scale.questions, part.rng)
    systems = {"no retrieval": nothing, "passages": passages_alone, "graph": graph_alone, "routed": agent.ask}
    for name, system in systems.items():
        rows_of_system = [judged(question, system(question.text)) for question in questions]
        near, far = (
            [row for row in rows_of_system if row["kind"].endswith(FAR) == is_far] for is_far in (False, True)
        )
        summary, of_near, of_far = (summarised(some) for some in (rows_of_system, near, far))
        kinds = {kind: _share(near, kind) for kind in KINDS} | {
            f"{kind}{FAR}": _share(far, f"{kind}{FAR}") for kind in KINDS[:-1]
        }
        shares = {"near words": of_near["exact match"], "far words": of_far["exact match"]}
        out.add(
            "systems",
            {"system": name, **shares, **{k: v for k, v in summary.items() if v is not None}, **kinds},
        )
        out.score(name, "exact match", float(of_near["exact match"]))
        out.score(name, "exact match, far words", float(of_far["exact match"]))
        out.score(name, "exact match, counting", kinds["counting"])
        out.score(name, "exact match, content", kinds["content"])
        out.score(name, "abstention", float(summary["abstention recall"]))
        wrong = [row for row in rows_of_system if not row["right"] and not row["abstained"]]
        out.score(name, "wrong and not withheld", len(wrong) / len(rows_of_system))
        if name == "routed":
            out.score(name, "citation precision", float(summary["citation precision"] or 0.0))
            for row in report.examples(rows_of_system):
                out.add("examples", row)


def _share(rows: Sequence[Mapping[str, Any]], kind: str) -> float:
    some = [row["right"] for row in rows if row["kind"] == kind]
    return sum(some) / len(some) if some else 0.0


def _seed(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """One field."""
    world = draw_world(scale, part.rng)
    papers = _corpus(world, out, part.rng)
    _topics(scale, world, out, part.rng)
    part.folder.mkdir(parents=True, exist_ok=True)
    _systems(scale, world, papers, part, out)


def _summary(results: Results) -> Mapping[str, Any]:
    return {**results.rows, "scores": results.scores()}


STUDY = Study(
    title="smart-slic in miniature: a made-up field",
    claims=CLAIMS,
    scales=SCALES,
    parts={"": Part(_seed)},
    plan=lambda cfg, scale: {"papers": cfg.seeds * (scale.domain + scale.foreign), "llm_calls": 0},
    page=report.mini,
    summary=_summary,
)
