"""The self-check: can the language model tell, on the user's own corpus, pieces of one document from pieces of others?

Two pieces of a document with a gap between them are a related pair, so that mere continuation earns nothing; pieces of different
documents are an unrelated one. Every score is tried on the same 200 pairs before anything is spent on the corpus.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.metrics.ranking import auc
from gnomon.core.retrieval.terms import Terms
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.uncertainty_rag.options import By, Centre, Span
from gnomon.methods.uncertainty_rag.scoring.reading import Reader
from gnomon.methods.uncertainty_rag.scoring.scores import (
    SCORES,
    read_pairs,
    scoped,
    score_information,
    similarity,
)
from gnomon.methods.uncertainty_rag.scoring.windows import calibrated

PAIRS = 200
PER_ANCHOR = 8
"""Candidates of an anchor: its document's own piece, and pieces of others."""
LEAST_PIECE = 8
"""Tokens of the smallest piece."""
MARGIN = 0.05
"""By how much another score must be better for a warning."""


class Encodes(Protocol):
    """What the score `cosine` needs."""

    def encode(self, texts: Sequence[str], role: str = "passage") -> Any:
        """[N, D], unit length."""
        ...


@dataclass(frozen=True)
class SelfCheck:
    """How well each score tells related pairs from unrelated ones."""

    rows: list[dict[str, Any]]
    """Per score: `score`, `AUC` (pooled), `AUC within anchor`, `MRR` of the own piece."""
    chosen: str
    """The score that the settings choose."""
    n_pairs: int
    """Pairs tried."""
    n_documents: int
    """Documents that they come from."""
    piece: int
    """Tokens a piece at most; the gap is as long."""

    @property
    def best(self) -> str:
        """The score with the best AUC."""
        return str(max(self.rows, key=lambda row: row["AUC"])["score"])

    def of(self, score: str) -> dict[str, Any]:
        """The row of a score."""
        return next(row for row in self.rows if row["score"] == score)

    @property
    def warning(self) -> str:
        """What to do where another score is better by more than `MARGIN`; empty where none is."""
        gap = self.of(self.best)["AUC"] - self.of(self.chosen)["AUC"]
        if gap <= MARGIN:
            return ""
        return (
            f"On pieces of your own documents {self.chosen} has an AUC of {self.of(self.chosen)['AUC']:.2f} and {self.best} one of "
            f"{self.of(self.best)['AUC']:.2f}. To choose that: --by {self.best}."
        )


def self_check(
    reader: Reader,
    texts: Sequence[str],
    span: Span,
    *,
    by: By = "span",
    centre: Centre = "none",
    piece: int = 64,
    rng: Rng,
    encoder: Encodes | None = None,
) -> tuple[SelfCheck, Span]:
    """Try every score on pairs of pieces of the user's documents.

    Args:
        reader: reads pairs.
        texts: of documents.
        span: its sigma is calibrated on these pairs where it is not set.
        by: the score that is chosen.
        centre: as chosen.
        piece: tokens a piece at most; documents shorter than three pieces give smaller ones.
        rng: draws documents.
        encoder: for `cosine`; None: without it.

    Returns:
        What it found, and the span with its sigma.

    Raises:
        BadInput: fewer than two documents are long enough for two pieces with a gap.
    """
    halves = _pieces(reader, texts, piece, rng)
    n, others = len(halves), min(PER_ANCHOR, len(halves))
    # Anchor i is tried with its own document's piece and those of the next documents: every candidate meets as many anchors.
    places = [(i, (i + step) % n) for i in range(n) for step in range(others)]
    candidates, anchors = [halves[j][0] for _, j in places], [halves[i][1] for i, _ in places]
    pairs = list(zip(candidates, anchors, strict=True))
    if reader.layout.order == "anchor":
        pairs = [(anchor, candidate) for candidate, anchor in pairs]
    informations, alone = read_pairs(reader, pairs)
    span = calibrated([scoped(information, span) for information in informations], span)
    words = [[reader.decode(ids) for ids in pair] for pair in halves]
    columns: dict[str, Any] = {
        "candidate": [str(j) for _, j in places],
        **score_information(informations, alone, span).columns(),
        "bm25": bm25_of([second for _, second in words], [first for first, _ in words], places),
    }
    if encoder is not None:
        left, right = (encoder.encode([pair[side] for pair in words]) for side in (0, 1))
        columns["cosine"] = [float(right[i] @ left[j]) for i, j in places]
    related = np.array([i == j for i, j in places])
    rows = []
    for name in SCORES:
        if name == "cosine" and encoder is None:
            continue
        values = similarity(columns, name, centre if name == by else "none")
        rows.append({"score": name, **measured(values, related, [i for i, _ in places])})
    return SelfCheck(rows, by, len(places), n, piece), span


def check_once(
    reader: Reader, texts: Sequence[str], span: Span, run: Any, *, by: By, piece: int, encoder: Encodes | None
) -> SelfCheck:
    """The self-check of a run, kept in its `self_check.json`: a run that goes on reads it back."""
    path = run.folder / "self_check.json"
    if not path.exists():
        checked, _ = self_check(reader, texts, span, by=by, piece=piece, rng=run.rng, encoder=encoder)
        write_json(path, asdict(checked))
    return SelfCheck(**json.loads(path.read_text("utf-8")))


def measured(
    values: NDArray[np.float64], related: NDArray[np.bool_], anchors: Sequence[Any]
) -> dict[str, Any]:
    """AUC over all pairs, mean AUC within an anchor, and MRR of its first related candidate.

    Args:
        values: similarity of each pair, [N].
        related: whether it is related, [N].
        anchors: of each pair; those with one class only do not count in the last two.
    """
    groups: dict[Any, list[int]] = {}
    for row_at, anchor in enumerate(anchors):
        groups.setdefault(anchor, []).append(row_at)
    within, ranks = [], []
    for places in groups.values():
        mine, labels = values[places], related[places]
        if labels.all() or not labels.any():
            continue
        within.append(auc(labels, mine) or 0.0)
        # Of equal scores the related one counts as the later half: a tie is no success.
        best = mine[labels].max()
        ranks.append(1 / (1 + (mine[~labels] > best).sum() + (mine[~labels] == best).sum() / 2))
    return {
        "AUC": auc(related, values),
        "AUC within anchor": float(np.mean(within)) if within else None,
        "MRR": float(np.mean(ranks)) if ranks else None,
    }


def _pieces(reader: Reader, texts: Sequence[str], piece: int, rng: Rng) -> list[tuple[list[int], list[int]]]:
    """Two pieces of each of some documents, a gap as long as a piece between them."""
    halves = []
    for i in rng.child("self-check").numpy().permutation(len(texts)).tolist():
        # A start of the document that holds three pieces is enough; all of a book need not be cut into tokens.
        ids = reader.encode(texts[i][: 40 * piece])
        size = min(piece, len(ids) // 3)
        if size >= LEAST_PIECE:
            halves.append((ids[:size], ids[2 * size : 3 * size]))
        if len(halves) == PAIRS // PER_ANCHOR:
            break
    if len(halves) < 2:
        raise BadInput(
            f"The self-check needs two documents of {3 * LEAST_PIECE} tokens or more, and {len(texts)} documents have "
            f"{len(halves)}. One document alone cannot say what is unrelated; --no-self-check goes on without."
        )
    return halves


def bm25_of(queries: Sequence[str], texts: Sequence[str], places: Sequence[tuple[int, int]]) -> list[float]:
    """BM25 of text j for query i, for each pair of places; 0 where they share no word."""
    with tempfile.TemporaryDirectory() as folder:
        names = {f"{j:06d}": text for j, text in enumerate(texts)}
        try:
            terms = Terms.build(Path(folder) / "terms", names)
        except BadInput:  # no text has a word: words tell nothing apart
            return [0.0] * len(places)
        scores = {i: terms.scores(queries[i]) for i in {i for i, _ in places}}
    values = []
    for i, j in places:
        row = scores[i]
        values.append(0.0 if row is None else float(row[j]))
    return values
