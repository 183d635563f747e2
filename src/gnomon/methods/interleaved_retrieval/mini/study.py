"""The miniature: documents whose facts lie in different modalities and different sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Study
from gnomon.methods.interleaved_retrieval.config import CLAIMS, PARTS, Mini
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query
from gnomon.methods.interleaved_retrieval.encoding.shards import section_rows
from gnomon.methods.interleaved_retrieval.encoding.vectors import rank_documents, rank_sections
from gnomon.methods.interleaved_retrieval.evaluation.arms import Arms
from gnomon.methods.interleaved_retrieval.evaluation.controls import by_pool, swapped
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged
from gnomon.methods.interleaved_retrieval.evaluation.sections import section_stage, terms_over_sections
from gnomon.methods.interleaved_retrieval.mini import measures, report
from gnomon.methods.interleaved_retrieval.mini.measures import ARMS, NEGATIVES, PLAIN, Seed
from gnomon.methods.interleaved_retrieval.mini.world import FACTS, SCALES, Scale, new_world, query_of
from gnomon.methods.interleaved_retrieval.store import DocumentIndex

MERGED = ("mean", "norm_mean", "token_weighted_mean", "max_sim")
FULL = ("interleaved", "images greyed", "text only", "max-sim, trained for it", "caption as text")
SHORT = tuple(name for name, arm in ARMS.items() if arm.is_short)
TOP = 10
"""Documents whose sections are ranked."""


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    study().run(cfg, run)


def study() -> Study:
    """The study; parts of a seed share its world and its retrievers."""
    seeds: dict[int, Seed] = {}

    def of(work: Callable[[Seed, Out], None], scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
        if seed not in seeds:
            seeds.clear()  # one world at a time
            seeds[seed] = Seed(scale, part.rng, part, new_world(scale, part.rng.child("world")))
        work(seeds[seed], out)

    work = (documents, one_section, dilution, sections, ablations, index)
    return Study(
        title="interleaved-retrieval in miniature: a word, a colour and a cell",
        claims=CLAIMS,
        scales=SCALES,
        parts={name: Part(partial(of, function)) for name, function in zip(PARTS, work, strict=True)},
        plan=_plan,
        page=report.write,
        summary=lambda results: {name: results.rows.get(name, []) for name in report.TABLES},
    )


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    return {
        "retriever_steps": scale.steps * len(FULL) + scale.ablation * len(SHORT),
        "reranker_steps": scale.rerank_steps * len(NEGATIVES),
        "documents": scale.test,
    }


def _score(out: Out, table: str, arms: Arms) -> None:
    """Rows of arms as scores and as a table."""
    for row in arms.rows:
        out.score(row["arm"], "R@1", row["success@1"][0])
        out.score(row["arm"], "R@10", row["success@10"][0])
        plain = {name: value[0] if isinstance(value, tuple) else value for name, value in row.items()}
        kept = ("arm", "success@1", "success@10", "MRR@10", "tokens", "seconds")
        out.add(table, {name: plain[name] for name in kept if name in plain})


def documents(seed: Seed, out: Out) -> None:
    """The acceptance: each arm trained by itself, and controls on the interleaved one."""
    both = seed.judged
    arms = Arms(both)
    for name in FULL:
        encoder, own = seed.encoder(name), measures.documents_of(seed, ARMS[name], both.documents)
        merges = MERGED if name == "interleaved" else (encoder.merge,)
        arms.encoded(name, encoder, encoder.encode_queries(both.queries), documents=own, merges=merges)
    encoder = seed.encoder("interleaved")
    queries = encoder.encode_queries(both.queries)
    arms.hits["max-sim, scored alone"] = arms.hits["interleaved, max_sim"]
    arms.rows = [
        {**row, "arm": row["arm"].replace("interleaved, max_sim", "max-sim, scored alone")}
        for row in arms.rows
    ]
    grey = measures.documents_of(seed, ARMS["images greyed"], both.documents)
    arms.encoded("images greyed in the index alone", encoder, queries, documents=grey)
    arms.encoded("images swapped", encoder, queries, documents=swapped(both.documents))
    arms.encoded("no tables in the index alone", encoder.with_form(PLAIN.without("tables")), queries)
    arms.terms("BM25", PLAIN)
    _score(out, "documents", arms)
    out.show("documents", both.documents[0])


def one_section(seed: Seed, out: Out) -> None:
    """Queries that one section answers: there the best section is expected to match or beat the mean."""
    both, encoder = seed.judged, seed.encoder("interleaved")
    rival = seed.encoder("max-sim, trained for it")
    queries: list[Query] = []
    qrels: dict[str, dict[str, int]] = {}
    for k, fact in enumerate(FACTS):
        for word in sorted({seed.world.facts[d.id][k] for d in both.documents}):
            queries.append(query_of(f"{fact}:{word}", [word], seed.rng.child("one", word)))
            qrels[queries[-1].id] = {d.id: 1 for d in both.documents if seed.world.facts[d.id][k] == word}
    arms = Arms(Judged(both.documents, queries, qrels, {}))
    arms.encoded("mean", encoder, encoder.encode_queries(queries), merges=("mean", "max_sim"))
    arms.encoded("max-sim, trained for it", rival, rival.encode_queries(queries), merges=("max_sim",))
    for row in arms.rows:
        plain = {name: value[0] if isinstance(value, tuple) else value for name, value in row.items()}
        out.add("one section", {n: plain[n] for n in ("arm", "success@1", "MRR@10", "nDCG@10")})


def dilution(seed: Seed, out: Out) -> None:
    """Success by the number of sections, and by the size of the pool."""
    encoder, both = seed.encoder("interleaved"), seed.judged
    queries = encoder.encode_queries(both.queries)
    for n in seed.scale.lengths:
        own, _ = measures.long_documents(seed, n)
        arms = Arms(Judged(own, both.queries, both.qrels, {}))
        arms.encoded("mean", encoder, queries, merges=("mean", "max_sim"))
        for row in arms.rows:
            numbers = {name: row[name][0] for name in ("success@1", "success@10")}
            out.add("sections of a document", {"arm": row["arm"], "sections": n, **numbers})
    encoded = encoder.encode_sections(both.documents)
    for row in by_pool(both, encoded, queries, "mean", seed.scale.pools, seed.rng):
        out.add("size of the pool", row)


def sections(seed: Seed, out: Out) -> None:
    """Rerankers among the sections of the documents that the retriever ranks first."""
    both, encoder = seed.judged, seed.encoder("interleaved")
    pairs = measures.fact_queries(seed, both.documents, "test fact")
    judged = Judged(
        both.documents, [p.query for p in pairs],
        {p.query.id: {both.documents[p.document].id: 1} for p in pairs}, measures.section_judgements(seed, pairs),
    )  # fmt: skip
    encoded = encoder.encode_sections(both.documents)
    # The first stage is asked with all three words, the second with the one that a section answers.
    wholes = {query.id: i for i, query in enumerate(both.queries)}
    ranked = rank_documents(encoder.encode_queries(both.queries), encoded, "mean", TOP)
    among = [[hit.id for hit in ranked[wholes[both.documents[p.document].id]]] for p in pairs]
    vectors = encoder.encode_queries(judged.queries)
    ways = {
        "retriever's vectors": rank_sections(vectors, encoded, TOP, among),
        "BM25": _among(terms_over_sections(both.documents, judged.queries, PLAIN, 600), among),
    }
    by_id = {document.id: document for document in both.documents}
    for name in NEGATIVES:
        reader = measures.reranker(seed, name)
        ways[name] = [
            reader.rerank(query, [by_id[n] for n in names], k=TOP)
            for query, names in zip(judged.queries, among, strict=True)
        ]
        if name == "reranker":
            direct = section_stage(judged, encoded, vectors, merge="mean", reranker=reader, top=TOP)
            ways |= {
                way: hits
                for way, hits in direct.items()
                if way in ("sections directly", "sections + reranker")
            }
    for name, hits in ways.items():
        row = judged.row(name, hits, sections=True)
        numbers = {metric: row[metric][0] for metric in ("success@1", "success@10", "MRR@10")}
        out.add("rerankers", {"arm": name, **numbers})
        out.score(name, "section MRR@10", numbers["MRR@10"])


def _among(hits: Sequence[Sequence[Any]], among: Sequence[Sequence[str]]) -> list[list[Any]]:
    return [
        [hit for hit in own if hit.id.rpartition("#")[0] in set(names)]
        for own, names in zip(hits, among, strict=True)
    ]


def ablations(seed: Seed, out: Out) -> None:
    """Trained for fewer steps: what is read of a text, order, tiles, merges, tables."""
    arms = Arms(seed.judged)
    for name in SHORT:
        encoder = seed.encoder(name)
        own = measures.documents_of(seed, ARMS[name], arms.judged.documents)
        queries = encoder.encode_queries(arms.judged.queries)
        arms.encoded(name, encoder, queries, documents=own, merges=(encoder.merge,))
    for row in arms.rows:
        out.add(
            "ablations", {n: _first(row[n]) for n in ("arm", "success@1", "success@10", "MRR@10", "tokens")}
        )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def index(seed: Seed, out: Out) -> None:
    """An index that was changed and one that is built anew from the changed documents, byte by byte."""
    encoder, before = seed.encoder("interleaved"), seed.world.test[: min(40, len(seed.world.test))]
    changed = list(before[:-1])  # the last is deleted
    changed[0] = _edited(before[0], before[1])
    newcomer, _ = measures.long_documents(seed, 3)
    new = newcomer[-1]
    after = [*changed, Document("new", new.title, new.sections)]
    folder = seed.part.folder / "index"
    rows = [row for document in before for row in section_rows(encoder, document, PLAIN)]
    updated = DocumentIndex.build(folder / "updated", rows, encoder=encoder, form=PLAIN, anew=True)
    updated = updated.update_section(encoder, changed[0], 1).delete([before[-1].id])
    updated = updated.add(encoder, [after[-1]])
    again = [row for document in after for row in section_rows(encoder, document, PLAIN)]
    DocumentIndex.build(folder / "rebuilt", again, encoder=encoder, form=PLAIN, anew=True)
    out.score("updated", "bytes that differ", _differences(folder / "updated", folder / "rebuilt"))
    out.add(
        "index",
        {
            "documents": len(updated),
            "bytes that differ": _differences(folder / "updated", folder / "rebuilt"),
        },
    )


def _edited(document: Document, other: Document) -> Document:
    sections = (document.sections[0], other.sections[1], *document.sections[2:])
    return Document(document.id, document.title, sections)


def _differences(a: Path, b: Path) -> int:
    """Bytes of vectors that differ between two indexes."""
    count = 0
    for name in ("sections.f32", "docs.f32"):
        first, second = ((at / (at / "current").read_text().strip() / name).read_bytes() for at in (a, b))
        count += abs(len(first) - len(second)) + sum(x != y for x, y in zip(first, second, strict=False))
    return count
