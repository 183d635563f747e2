"""Retrieval metrics per query, as trec_eval and BEIR compute them, with intervals by a bootstrap over queries.

Papers mix up two of them: `success@k` is whether any relevant document is among the first k, `recall@k` which share of all relevant
ones is. Print both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

Qrels = Mapping[str, Mapping[str, int]]
"""Query -> document -> relevance; above 0 is relevant."""
Rankings = Mapping[str, Sequence[str]]
"""Query -> documents, the best first."""


def success_at(ranking: Sequence[str], relevance: Mapping[str, int], k: int) -> float:
    """1 where a relevant document is among the first k, else 0.

    >>> success_at(["a", "b"], {"b": 1, "c": 1}, 2)
    1.0
    """
    return float(any(relevance.get(name, 0) > 0 for name in ranking[:k]))


def recall_at(ranking: Sequence[str], relevance: Mapping[str, int], k: int) -> float:
    """Relevant documents among the first k, over all relevant ones.

    >>> recall_at(["a", "b"], {"b": 1, "c": 1}, 2)
    0.5
    """
    wanted = _n_relevant(relevance)
    return sum(relevance.get(name, 0) > 0 for name in ranking[:k]) / wanted if wanted else 0.0


def precision_at(ranking: Sequence[str], relevance: Mapping[str, int], k: int) -> float:
    """Relevant documents among the first k, over k; a shorter ranking counts as filled with others."""
    return sum(relevance.get(name, 0) > 0 for name in ranking[:k]) / k


def reciprocal_rank(ranking: Sequence[str], relevance: Mapping[str, int], k: int | None = None) -> float:
    """1 / rank of the first relevant document among the first k, 0 without one.

    >>> reciprocal_rank(["a", "b"], {"b": 1})
    0.5
    """
    ranks = (rank for rank, name in enumerate(ranking[:k], 1) if relevance.get(name, 0) > 0)
    return 1 / first if (first := next(ranks, 0)) else 0.0


def average_precision_of(ranking: Sequence[str], relevance: Mapping[str, int], k: int | None = None) -> float:
    """Mean over all relevant documents of the precision at their rank; one that is not among the first k adds 0."""
    hits, total = 0, 0.0
    for rank, name in enumerate(ranking[:k], 1):
        if relevance.get(name, 0) > 0:
            hits += 1
            total += hits / rank
    wanted = _n_relevant(relevance)
    return total / wanted if wanted else 0.0


def ndcg_at(
    ranking: Sequence[str], relevance: Mapping[str, int], k: int | None = None, *, gain: str = "linear"
) -> float:
    """Discounted gain of the first k over that of the best order: gain / log2(rank + 1).

    Args:
        ranking: documents, the best first.
        relevance: of the judged documents; the others have 0, and so have negative ones.
        k: None: all.
        gain: `"linear"`, as trec_eval and BEIR have it, or `"exponential"`, 2^rel - 1.

    >>> round(ndcg_at(["a", "b"], {"b": 2}), 4)
    0.6309
    """
    gains: dict[str, Callable[[int], float]] = {"linear": float, "exponential": lambda rel: 2.0**rel - 1}
    if gain not in gains:
        raise BadConfig(f'gain must be "linear" or "exponential"; got "{gain}".')
    worth = gains[gain]

    def discounted(values: Sequence[int]) -> float:
        return sum(worth(max(0, rel)) / math.log2(rank + 1) for rank, rel in enumerate(values[:k], 1))

    best = discounted(sorted(relevance.values(), reverse=True))
    return discounted([relevance.get(name, 0) for name in ranking]) / best if best else 0.0


def _n_relevant(relevance: Mapping[str, int]) -> int:
    return sum(rel > 0 for rel in relevance.values())


@dataclass(frozen=True)
class RetrievalScore:
    """A metric over queries."""

    mean: float
    """Over the queries."""
    low: float
    """Lower end of the 95% bootstrap interval over queries."""
    high: float
    """Upper end."""
    per_query: Mapping[str, float]
    """Query -> value."""


def evaluate(
    rankings: Rankings,
    qrels: Qrels,
    *,
    ks: Sequence[int] = (1, 5, 10, 100),
    gain: str = "linear",
    resamples: int = 2000,
    rng: Rng | None = None,
) -> dict[str, RetrievalScore]:
    """`success@k`, `recall@k`, `precision@k`, `MRR@k`, `nDCG@k` for each k, and `MAP`, over the queries with a relevant document.

    A query without a ranking counts as 0; a ranking without a relevant document is left out, as trec_eval does.

    Args:
        rankings: query -> documents, the best first.
        qrels: query -> document -> relevance.
        ks: cut-offs.
        gain: of nDCG, see `ndcg_at`.
        resamples: of the bootstrap; the same for all metrics, so that they can be compared.
        rng: where they come from; the same default every time.

    Raises:
        BadInput: no query has a relevant document, or a ranking names a document twice.
    """
    queries = [query for query, relevance in qrels.items() if _n_relevant(relevance)]
    if not queries:
        raise BadInput("No query has a relevant document.")
    for query, ranking in rankings.items():
        if len(set(ranking)) < len(ranking):
            raise BadInput(f'The ranking of query "{query}" names a document twice.')
    metrics: dict[str, Callable[[Sequence[str], Mapping[str, int]], float]] = {}
    for k in ks:
        metrics |= {
            f"success@{k}": lambda r, q, k=k: success_at(r, q, k),  # type: ignore[misc]
            f"recall@{k}": lambda r, q, k=k: recall_at(r, q, k),  # type: ignore[misc]
            f"precision@{k}": lambda r, q, k=k: precision_at(r, q, k),  # type: ignore[misc]
            f"MRR@{k}": lambda r, q, k=k: reciprocal_rank(r, q, k),  # type: ignore[misc]
            f"nDCG@{k}": lambda r, q, k=k: ndcg_at(r, q, k, gain=gain),  # type: ignore[misc]
        }
    metrics["MAP"] = average_precision_of
    draws = (rng or Rng(0)).child("queries").numpy().integers(len(queries), size=(resamples, len(queries)))
    scores = {}
    for name, metric in metrics.items():
        values = np.array([metric(rankings.get(query, ()), qrels[query]) for query in queries])
        low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
        scores[name] = RetrievalScore(
            float(values.mean()), float(low), float(high), dict(zip(queries, values.tolist(), strict=True))
        )
    return scores
