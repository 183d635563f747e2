"""Several rankings made one, by ranks or by how sure each source is, and a search that asks vectors and words and reranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from gnomon.core.retrieval.hits import Hit, Where, ranked
from gnomon.core.retrieval.passages import Passage
from gnomon.core.retrieval.terms import Terms
from gnomon.errors import BadConfig, BadInput

How = Literal["rrf", "entropy"]
HOWS = ("rrf", "entropy")
"""rrf: by ranks; entropy: by scores, a source that is sure of a few hits counting more than one that is sure of none."""

RRF_K = 60
"""Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion" (2009)."""


def fuse(
    sources: Mapping[str, Sequence[Hit]],
    *,
    k: int = RRF_K,
    weights: Mapping[str, float] | None = None,
    how: How = "rrf",
) -> list[Hit]:
    """One ranking of several.

    - `rrf`: each hit scores the sum of weight / (k + rank) over the sources that have it.
    - `entropy`: the scores of a source are made z-scores and these a softmax; a hit scores the sum of weight * `certainty` of the
      source * its share in the softmax.

    Args:
        sources: name -> hits.
        k: how little the first ranks differ, for `rrf`; not a number of hits.
        weights: source -> weight; None: all 1.
        how: see above.

    Returns:
        All hits of all sources. `parts` keeps rank and raw score in each. The score is a rank and no probability.

    Raises:
        BadConfig: a weight names no source, or there is no such way.
    Source: Cormack et al. (2009) for `rrf`; arXiv 2606.13550 for weights by the entropy of scores.
    Differs: that paper's exact weight was not at hand; ours is one minus the entropy over its largest value.

    >>> a, b = ranked([("x", 0.9), ("y", 0.8)]), ranked([("y", 7.0)])
    >>> [(hit.id, sorted(hit.parts.items())) for hit in fuse({"dense": a, "terms": b})]
    [('y', [('dense', (2, 0.8)), ('terms', (1, 7.0))]), ('x', [('dense', (1, 0.9))])]
    """
    weights = weights or {}
    if how not in HOWS:
        raise BadConfig(f'fuse must be {" or ".join(HOWS)}; got "{how}".')
    if unknown := set(weights) - set(sources):
        raise BadConfig(f'There is no source "{min(unknown)}" to weigh; there are: {", ".join(sources)}.')
    scores: dict[str, float] = {}
    parts: dict[str, dict[str, tuple[int, float]]] = {}
    for source in sorted(sources):  # sums do not depend on the order in which sources are named
        hits, weight = sources[source], weights.get(source, 1.0)
        if how == "rrf":
            worth = [weight / (k + hit.rank) for hit in hits]
        else:
            raw = [hit.score for hit in hits]
            worth = [weight * certainty(raw) * share for share in _softmax(raw)]
        for hit, more in zip(hits, worth, strict=True):
            scores[hit.id] = scores.get(hit.id, 0.0) + more
            parts.setdefault(hit.id, {})[source] = (hit.rank, hit.score)
    return [replace(hit, parts=parts[hit.id]) for hit in ranked(scores.items())]


def certainty(scores: Sequence[float]) -> float:
    """How far a list of scores singles some out: 1 - H / ln n, with H the entropy of the softmax of their z-scores.

    0 where all are equal, towards 1 where few stand out; one score alone has nothing to stand out from and counts 1.

    >>> certainty([1.0, 1.0]), certainty([5.0]), certainty([]), round(certainty([3.0, 1.0, 1.0, 1.0]), 4)
    (0.0, 1.0, 0.0, 0.4295)
    """
    if len(scores) < 2:
        return float(len(scores))
    shares = np.array(_softmax(scores))
    entropy = float(-(shares * np.log(np.maximum(shares, np.finfo(float).tiny))).sum())
    return max(0.0, 1.0 - entropy / float(np.log(len(scores))))


def _softmax(scores: Sequence[float]) -> list[float]:
    """The softmax of z-scores; equal scores have equal shares."""
    values = np.asarray(scores, np.float64)
    spread = float(values.std()) if len(values) else 0.0
    # Equal numbers can differ from their mean by rounding, which a z-score would blow up.
    z = (values - values.mean()) / spread if spread > 1e-12 * (1 + abs(values).max(initial=0)) else values * 0
    powers = np.exp(z - z.max(initial=-np.inf)) if len(z) else z
    shares: list[float] = (powers / powers.sum()).tolist() if len(z) else []
    return shares


class Encodes(Protocol):
    """What a search needs of an encoder."""

    fingerprint: str

    def encode(self, texts: Sequence[str], role: str = "passage") -> Any:
        """[N, D] float32."""


class Finds(Protocol):
    """What a search needs of an index of vectors: `Vectors`, or a store on a server."""

    def search(self, queries: Any, k: int, where: Where | None = None) -> list[list[Hit]]:
        """Hits of each query."""


class Reranks(Protocol):
    """What orders candidates anew."""

    def score(self, query: str, passages: Sequence[Passage]) -> Sequence[float]:
        """A score for each passage, higher is better."""


@dataclass(frozen=True)
class Search:
    """A search over passages by vectors, by words, or by both."""

    passages: Mapping[str, Passage]
    """Id -> passage."""
    encoder: Encodes | None = None
    """Of the queries; None: words alone."""
    vectors: Finds | None = None
    """Of the passages."""
    terms: Terms | None = None
    """Of the passages; None: vectors alone."""
    reranker: Reranks | None = None
    """Orders the candidates anew; None: they stay as fused."""
    candidates: int = 100
    """Hits that are taken from each source."""
    how: How = "rrf"
    """How the two are fused, see `fuse`."""

    def search(self, query: str, k: int = 10, where: Where | None = None) -> list[Hit]:
        """The k best passages; all candidates are reranked before the list is cut.

        Raises:
            BadConfig: there is neither a source of vectors nor one of words.
            BadInput: a filter is given and the source of words cannot apply it.
        """
        sources: dict[str, Sequence[Hit]] = {}
        count = max(k, self.candidates)
        if self.encoder is not None and self.vectors is not None:
            (sources["dense"],) = self.vectors.search(
                self.encoder.encode([query], role="query"), count, where
            )
        if self.terms is not None:
            (sources["terms"],) = self.terms.search([query], count, self._among(where))
        if not sources:
            raise BadConfig("There is nothing to search: give an encoder with vectors, or terms.")
        hits = fuse(sources, how=self.how) if len(sources) > 1 else list(next(iter(sources.values())))
        if self.reranker is None or not hits:
            return hits[:k]
        scores = self.reranker.score(query, [self.passages[hit.id] for hit in hits])
        parts = {hit.id: dict(hit.parts) for hit in hits}
        order = ranked(zip((hit.id for hit in hits), map(float, scores), strict=True), k, source="reranker")
        return [replace(hit, parts={**parts[hit.id], **hit.parts}) for hit in order]

    def _among(self, where: Where | None) -> Any:
        """Places in the index of words that a filter leaves, asked of the index of vectors."""
        if where is None or self.terms is None:
            return None
        matching = getattr(self.vectors, "matching", None)
        if matching is None:
            raise BadInput("Words alone cannot be filtered: the columns lie in the index of vectors.")
        left = matching(where)
        if left is None:
            return None
        allowed = set(left)
        return np.array([i for i, name in enumerate(self.terms.ids) if name in allowed], dtype=np.int64)
