"""Anchors, and for each the candidates that are worth a look: by words, by an encoder, and at random."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.retrieval.passages import Passage
from gnomon.core.retrieval.terms import Terms
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag.options import Pool
from gnomon.methods.uncertainty_rag.training.chunks import are_near, plain

BLOCK = 1024
"""Anchors whose similarities to all chunks exist at once."""


@dataclass(frozen=True)
class Candidate:
    """A chunk beside an anchor."""

    anchor: str
    """Id."""
    candidate: str
    """Id."""
    source: str
    """Who named it: bm25, encoder or random."""
    bm25: float
    """BM25 of the candidate for the anchor; 0 where they share no word."""
    bm25_rank: int | None
    """Its rank by BM25; None where it was not among the first m."""
    same_document: bool
    """Whether both are of one document."""


def choose_anchors(
    chunks: Sequence[Passage], pool: Pool, rng: Rng, vectors: NDArray[np.float32] | None = None
) -> list[Passage]:
    """Chunks that become anchors, in the corpus's order.

    Args:
        chunks: all that there are.
        pool: how many and by what.
        rng: draws.
        vectors: of the chunks, [N, D] of unit length; needed by kmeans and knn_spread.

    Raises:
        BadConfig: there are no vectors and the sampling needs them.
    """
    n, many = len(chunks), min(pool.n_anchors, len(chunks))
    draw = rng.child("anchors").numpy()
    if pool.anchor_sampling == "random":
        chosen = draw.permutation(n)[:many]
        return [chunks[i] for i in sorted(chosen.tolist())]
    if vectors is None:
        raise BadConfig(
            f"pool.anchor_sampling {pool.anchor_sampling} compares vectors. Name an encoder with --encoder."
        )
    if pool.anchor_sampling == "kmeans":
        from sklearn.cluster import MiniBatchKMeans

        seed = int(draw.integers(2**31))
        fitted = MiniBatchKMeans(many, random_state=seed, n_init=1, batch_size=max(1024, many)).fit(vectors)
        distance = ((vectors - fitted.cluster_centers_[fitted.labels_]) ** 2).sum(1)
        order = np.lexsort((np.arange(n), distance))
        _, first = np.unique(
            fitted.labels_[order], return_index=True
        )  # of each cluster the nearest to its centre
        return [chunks[i] for i in sorted(order[first].tolist())]
    free, picked = np.ones(n, bool), list[int]()
    neighbours = max(1, n // many)
    for i in draw.permutation(n).tolist():
        if free[i] and len(picked) < many:
            picked.append(i)
            nearest = np.argpartition(-(vectors @ vectors[i]), min(neighbours, n) - 1)[:neighbours]
            free[nearest] = False
    return [chunks[i] for i in sorted(picked)]


def propose(
    chunks: Sequence[Passage],
    anchors: Sequence[Passage],
    pool: Pool,
    rng: Rng,
    *,
    vectors: NDArray[np.float32] | None = None,
    language: str = "english",
) -> Iterator[Candidate]:
    """The candidates of each anchor, anchor by anchor: BM25's, the encoder's, then random ones.

    Never the anchor itself, nor what says the same, nor a chunk of its document that lies closer than `min_gap`; nor two that say
    the same as each other.

    Raises:
        BadConfig: candidates by an encoder are wanted and there are no vectors.
        BadInput: no chunk has a word to search by.
    """
    if pool.n_encoder and vectors is None:
        raise BadConfig("pool.n_encoder needs an encoder. Name one with --encoder.")
    row_at = {passage.id: i for i, passage in enumerate(chunks)}
    with tempfile.TemporaryDirectory() as folder:
        texts = {passage.id: passage.text for passage in chunks}
        terms = Terms.build(Path(folder) / "terms", texts, language=language)
        column = np.array([row_at[name] for name in terms.ids])
        for anchor in anchors:
            scores = np.zeros(len(chunks))
            row = terms.scores(anchor.text)
            if row is not None:
                scores[column] = row
            yield from _of(anchor, chunks, row_at[anchor.id], pool, rng, scores=scores, vectors=vectors)


def _of(
    anchor: Passage,
    chunks: Sequence[Passage],
    at: int,
    pool: Pool,
    rng: Rng,
    *,
    scores: NDArray[np.float64],
    vectors: NDArray[np.float32] | None,
) -> Iterator[Candidate]:
    taken: dict[int, str] = {}
    texts = {plain(anchor.text)}

    def take(order: Sequence[int], count: int, source: str) -> None:
        left = count
        for i in order:
            if not left:
                return
            passage = chunks[i]
            is_close = passage.doc_id == anchor.doc_id and abs(passage.order - anchor.order) <= pool.min_gap
            if i == at or i in taken or is_close or plain(passage.text) in texts:
                continue
            if source != "random" and are_near(anchor.text, passage.text, pool.near):
                continue
            taken[i] = source
            texts.add(plain(passage.text))
            left -= 1

    ranked = np.lexsort((np.arange(len(chunks)), -scores))
    ranked = ranked[scores[ranked] > 0]
    rank = {int(i): r for r, i in enumerate(ranked[: pool.m + 1].tolist(), 1)}
    take(ranked[: 4 * pool.m + 50].tolist(), pool.m, "bm25")
    if pool.n_encoder and vectors is not None:
        nearest = np.argsort(-(vectors @ vectors[at]), kind="stable")[: 4 * pool.n_encoder + 50]
        take(nearest.tolist(), pool.n_encoder, "encoder")
    draw = rng.child("random candidates", anchor.id).numpy()
    take(draw.permutation(len(chunks)).tolist(), pool.n_random, "random")
    for i, source in taken.items():
        passage = chunks[i]
        yield Candidate(
            anchor.id,
            passage.id,
            source,
            float(scores[i]),
            rank.get(i) if source == "bm25" else None,
            passage.doc_id == anchor.doc_id,
        )


def check_found(candidates: Sequence[Candidate], anchors: Sequence[Passage]) -> Mapping[str, Any]:
    """Counts of what was proposed.

    Raises:
        BadInput: nothing was.
    """
    if not candidates:
        raise BadInput(
            f"{len(anchors)} anchors have no candidates: the corpus has too few chunks, or all are next to their anchors. "
            "Lower --pool.min-gap or take a larger corpus."
        )
    return {
        "pairs": len(candidates),
        "anchors": len({pair.anchor for pair in candidates}),
        "candidates": len({pair.candidate for pair in candidates}),
        "pairs of one document": sum(pair.same_document for pair in candidates) / len(candidates),
    }
