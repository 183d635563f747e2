"""Judged queries over documents, and rankings scored against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core.metrics.retrieve import RetrievalScore, evaluate
from gnomon.core.retrieval.hits import Hit
from gnomon.core.retrieval.judged import read_qrels
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import (
    Document,
    Faulty,
    Query,
    encoded,
    read_documents,
    read_queries,
)

KS = (1, 10, 20, 100)
"""Cut-offs."""
SHOWN = ("success@1", "success@10", "recall@10", "recall@100", "MRR@10", "nDCG@10")
"""Metrics of the tables."""

Qrels = Mapping[str, Mapping[str, int]]


@dataclass
class Judged:
    """Documents, queries, and which answer which."""

    documents: list[Document]
    queries: list[Query]
    """Those with a relevant document among the documents."""
    qrels: dict[str, dict[str, int]]
    """Query -> document -> relevance."""
    sections: dict[str, dict[str, int]]
    """Query -> section (`doc#3`) -> relevance; empty where only documents are judged."""
    left_out: list[str] = field(default_factory=list)
    """Rows and queries that were left out, with reasons."""

    def scored(
        self, rankings: Mapping[str, Sequence[str]], *, sections: bool = False
    ) -> dict[str, RetrievalScore]:
        """Metrics over the queries.

        Args:
            rankings: query -> ids, the best first.
            sections: they are sections; a section counts only if its document is right too, since its name holds it.
        """
        judgements = self.sections if sections else self.qrels
        return evaluate(rankings, judgements, ks=KS)

    def row(
        self, arm: str, hits: Sequence[Sequence[Hit]], *, sections: bool = False, **more: Any
    ) -> dict[str, Any]:
        """A row of a table: an arm with its metrics, those that users compare with their intervals."""
        rankings = {query.id: [hit.id for hit in own] for query, own in zip(self.queries, hits, strict=True)}
        scores = self.scored(rankings, sections=sections)
        numbers = {name: (scores[name].mean, scores[name].low, scores[name].high) for name in SHOWN}
        return {"arm": arm, **numbers, **more}


def judged(
    documents: Sequence[Document], queries: Sequence[Query], judgements: Qrels, left_out: Sequence[str] = ()
) -> Judged:
    """Judgements sorted into those of documents and those of sections; one of a section judges its document too.

    Raises:
        BadInput: no query has a relevant document.
    """
    plain = {document.id: document for document in documents}
    named = {encoded(document.id): document for document in documents}
    result = Judged(list(documents), [], {}, {}, list(left_out))
    for query in queries:
        of_query: dict[str, int] = {}
        sections: dict[str, int] = {}
        for name, relevance in judgements.get(query.id, {}).items():
            head, mark, number = name.rpartition("#")
            if name in plain:
                of_query[name] = max(of_query.get(name, 0), relevance)
            elif mark and head in named and number.isdigit():
                document = named[head]
                if int(number) >= len(document.sections):
                    result.left_out.append(f'query "{query.id}": document "{head}" has no section {number}')
                    continue
                of_query[document.id] = max(of_query.get(document.id, 0), relevance)
                sections[name] = relevance
            else:
                result.left_out.append(f'query "{query.id}": there is no document "{name}"')
        if any(relevance > 0 for relevance in of_query.values()):
            result.queries.append(query)
            result.qrels[query.id] = of_query
            if sections:
                result.sections[query.id] = sections
        else:
            result.left_out.append(f'query "{query.id}" has no relevant document')
    if not result.queries:
        raise BadInput("No query has a relevant document among the documents. Judgements name them by id.")
    return result


def read_judged(source: str, queries: str, qrels: str, *, limit: int | None = None) -> Judged:
    """Documents, queries and judgements of files.

    Raises:
        BadInput: a file cannot be read, or nothing fits together.
    """
    rows, left_out = split_faulty(read_documents(source, limit=limit))
    query_rows, more = split_faulty(read_queries(queries))
    return judged(rows, query_rows, read_qrels(Path(qrels)), [*left_out, *more])


def split_faulty(rows: Any) -> tuple[list[Any], list[str]]:
    """Rows that can be used, and why the others cannot."""
    good, bad = [], []
    for row in rows:
        if isinstance(row, Faulty):
            bad.append(row.reason)
        else:
            good.append(row)
    return good, bad
