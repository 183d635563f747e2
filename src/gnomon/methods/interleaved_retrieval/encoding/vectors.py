"""From the vectors of sections to those of documents, and what compares them with a query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.core.retrieval.hits import Hit, ranked
from gnomon.errors import BadConfig, ModelMismatch, nearest
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query, section_id
from gnomon.methods.interleaved_retrieval.documents.serialise import Troubles

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """The vectors of the sections of some documents."""

    documents: list[str]
    """Ids of the documents, those without a vector left out."""
    offsets: NDArray[np.int64]
    """[N + 1]: the vectors of document i are `vectors[offsets[i]:offsets[i + 1]]`."""
    sections: list[tuple[int, int]]
    """Per vector the numbers of its section and part."""
    blocks: list[tuple[int, ...]]
    """Per vector the numbers of its blocks."""
    tokens: NDArray[np.int64]
    """Per vector how many tokens were read."""
    vectors: Floats
    """[M, D], raw: not of unit length."""
    image_tokens: int = 0
    """Tokens of images, of all."""

    def slice(self, i: int) -> slice:
        """Places of the vectors of document i."""
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    @property
    def section_ids(self) -> list[str]:
        """The name of each vector's section; parts share theirs."""
        return [
            section_id(name, self.sections[k][0])
            for i, name in enumerate(self.documents)
            for k in range(*self.slice(i).indices(len(self.sections)))
        ]

    def subset(self, documents: Sequence[int]) -> Encoded:
        """Of some documents alone, by their numbers."""
        rows = [k for i in documents for k in range(int(self.offsets[i]), int(self.offsets[i + 1]))]
        counts = [int(self.offsets[i + 1] - self.offsets[i]) for i in documents]
        return Encoded(
            [self.documents[i] for i in documents],
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            [self.sections[k] for k in rows],
            [self.blocks[k] for k in rows],
            self.tokens[rows],
            self.vectors[rows],
        )


class EncodesSections(Protocol):
    """What makes vectors of sections and queries: a vision-language model, or an encoder of text."""

    @property
    def merge(self) -> str:
        """How the vectors of sections become one of a document."""
        ...

    @property
    def troubles(self) -> Troubles:
        """What could not be shown."""
        ...

    @property
    def fingerprint(self) -> str:
        """A name that two share only where they give equal vectors."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def encode_sections(
        self, documents: Sequence[Document], *, exact: bool = False, cache: Mapping[str, Any] | None = None
    ) -> Encoded:
        """The raw vectors of all sections; `exact`: each section by itself; `cache`: key of a section -> rows that are there."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """[Q, D], of unit length."""
        ...


def unit(vectors: Floats) -> Floats:
    """Vectors of unit length.

    Raises:
        ModelMismatch: one is not finite, or zero throughout.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ModelMismatch("A vector is not finite, or 0 throughout. Load the model in float32 or bfloat16.")
    scaled: Floats = (vectors / lengths).astype(np.float32)
    return scaled


def _mean(vectors: Floats, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    # In float64, in the order of the sections: the sum is then the same wherever it is taken again.
    mean: NDArray[np.float64] = vectors.astype(np.float64).mean(0)
    return mean


def _norm_mean(vectors: Floats, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    return _mean(unit(vectors), tokens)


def _token_weighted_mean(vectors: Floats, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    weights = tokens.astype(np.float64) / tokens.sum()
    mean: NDArray[np.float64] = (vectors.astype(np.float64) * weights[:, None]).sum(0)
    return mean


MERGES: Mapping[str, Callable[[Floats, NDArray[np.int64]], NDArray[np.float64]]] = {
    "mean": _mean,
    "norm_mean": _norm_mean,
    "token_weighted_mean": _token_weighted_mean,
}
"""Name -> function of the raw vectors [n, D] of a document's sections and their tokens [n]: mean of the raw vectors, of vectors of
unit length, or weighted by tokens. Scaled to unit length afterwards."""


def merged(encoded: Encoded, how: str = "mean") -> Floats:
    """The vectors of documents, [N, D] of unit length.

    Raises:
        BadConfig: there is no such way.
    """
    if how not in MERGES:
        raise BadConfig(f'No merge is called "{how}". {nearest(how, (*MERGES, "max_sim"))}')
    rows = [
        MERGES[how](encoded.vectors[encoded.slice(i)], encoded.tokens[encoded.slice(i)])
        for i in range(len(encoded.documents))
    ]
    return unit(np.stack(rows).astype(np.float32))


def section_scores(queries: Floats, encoded: Encoded) -> Floats:
    """Cosines of queries [Q, D] and sections, [Q, M]."""
    scores: Floats = queries @ unit(encoded.vectors).T
    return scores


def best_sections(scores: Floats, offsets: NDArray[np.int64]) -> Floats:
    """The best section of each document, [Q, N]: max-sim."""
    best: Floats = np.maximum.reduceat(scores, offsets[:-1], axis=1)
    return best


def rank_documents(queries: Floats, encoded: Encoded, merge: str, k: int) -> list[list[Hit]]:
    """The k best documents of each query by the cosine of merged vectors, or by the best section (`max_sim`)."""
    if merge == "max_sim":
        scores = best_sections(section_scores(queries, encoded), encoded.offsets)
    else:
        scores = queries @ merged(encoded, merge).T
    return [ranked(zip(encoded.documents, row.tolist(), strict=True), k) for row in scores]


def rank_sections(
    queries: Floats, encoded: Encoded, k: int, among: Sequence[Sequence[str]] | None = None
) -> list[list[Hit]]:
    """The k best sections of each query; of several parts of a section the best counts.

    Args:
        queries: [Q, D].
        encoded: the sections.
        k: hits a query.
        among: per query the ids of the documents whose sections may be returned; None: all.
    """
    names, owners = (
        encoded.section_ids,
        np.repeat(np.arange(len(encoded.documents)), np.diff(encoded.offsets)),
    )
    number_of = {name: i for i, name in enumerate(encoded.documents)}
    hits = []
    for q, row in enumerate(section_scores(queries, encoded)):
        best: dict[str, float] = {}
        allowed = None if among is None else {number_of[name] for name in among[q] if name in number_of}
        for name, owner, score in zip(names, owners.tolist(), row.tolist(), strict=True):
            if (allowed is None or owner in allowed) and score > best.get(name, -np.inf):
                best[name] = score
        hits.append(ranked(best.items(), k))
    return hits
