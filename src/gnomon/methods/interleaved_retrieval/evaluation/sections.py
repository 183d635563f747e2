"""The second stage: sections of the best documents, by their vectors or by a reranker, against searching sections directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.retrieval.hits import Hit
from gnomon.methods.interleaved_retrieval.documents.rows import Document, section_id
from gnomon.methods.interleaved_retrieval.encoding.vectors import (
    Encoded,
    Floats,
    rank_documents,
    rank_sections,
)
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged
from gnomon.methods.interleaved_retrieval.reranking.reranker import SectionReranker

TOP = 25
"""Documents whose sections are reranked, as in the paper."""


def section_stage(
    judged: Judged,
    encoded: Encoded,
    queries: Floats,
    *,
    merge: str,
    reranker: SectionReranker | None = None,
    top: int = TOP,
    alpha: float = 0.0,
    k: int = 100,
) -> dict[str, list[list[Hit]]]:
    """Rankings of sections by name of the way.

    - sections directly: the cosine of query and section, over all sections;
    - documents, then sections: of the best `top` documents, by the same cosine;
    - documents + reranker: of these, by the reranker;
    - sections + reranker: directly, until as many DIFFERENT documents are there, then the same sections of theirs reranked. So both
      stages hand equally many documents on.

    Args:
        judged: with judgements of sections.
        encoded: the sections.
        queries: [Q, D].
        merge: how documents are compared.
        reranker: None: the first two alone.
        top: documents that are handed on.
        alpha: weight of the document's score beside the reranker's.
        k: sections ranked.
    """
    documents = rank_documents(queries, encoded, merge, top)
    direct = rank_sections(queries, encoded, len(encoded.sections))
    among = [[hit.id for hit in hits] for hits in documents]
    ways = {
        "sections directly": [hits[:k] for hits in direct],
        "documents, then sections": rank_sections(queries, encoded, k, among),
    }
    if reranker is None:
        return ways
    by_id = {document.id: document for document in judged.documents}
    owners = owners_of(encoded)
    reranked, passages = [], []
    for query, hits, best, sections in zip(judged.queries, documents, among, direct, strict=True):
        scores = {hit.id: hit.score for hit in hits}
        reranked.append(
            reranker.rerank(query, [by_id[name] for name in best], k=k, scores=scores, alpha=alpha)
        )
        distinct = distinct_documents(sections, owners, top)
        only: dict[str, list[int]] = {}
        for hit in sections:
            if owners[hit.id] in distinct:
                only.setdefault(owners[hit.id], []).append(int(hit.id.rpartition("#")[2]))
        passages.append(reranker.rerank(query, [by_id[name] for name in distinct], k=k, only=only))
    return {**ways, "documents + reranker": reranked, "sections + reranker": passages}


def owners_of(encoded: Encoded) -> dict[str, str]:
    """Section -> its document."""
    return {
        section_id(name, encoded.sections[k][0]): name
        for i, name in enumerate(encoded.documents)
        for k in range(*encoded.slice(i).indices(len(encoded.sections)))
    }


def distinct_documents(hits: Sequence[Hit], owners: Mapping[str, str], count: int) -> list[str]:
    """The first `count` different documents of a ranking of sections."""
    return list(dict.fromkeys(owners[hit.id] for hit in hits))[:count]


def terms_over_sections(
    documents: Sequence[Document], queries: Sequence[Any], form: Any, k: int
) -> list[list[Hit]]:
    """BM25 over sections, blind to pictures."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from gnomon.core.retrieval.terms import Terms
    from gnomon.methods.interleaved_retrieval.documents.serialise import plain_text

    texts = {
        section_id(d.id, i): text
        for d in documents
        for i in range(len(d.sections))
        if (text := plain_text(d, i, form)).strip()
    }
    with TemporaryDirectory() as folder:
        return Terms.build(Path(folder) / "terms", texts).search([q.text or " " for q in queries], k)
