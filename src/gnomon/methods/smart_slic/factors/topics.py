"""Topics of texts: one of the factorisations, words that describe each topic, and the place of every text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.methods.smart_slic.factors.joint import SPLIT, HNMFk
from gnomon.methods.smart_slic.factors.matrices import cooccurrence, sppmi, tfidf
from gnomon.methods.smart_slic.factors.multiplicative import Options
from gnomon.methods.smart_slic.factors.nmfk import NMFk

Floats = NDArray[np.float64]
WORDS = 10
"""That describe a topic."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Which words count, and which factorisation it is."""

    min_df: int = 5
    """Texts that a word must be in."""
    max_df: float = 0.5
    """Share of texts that it may be in."""
    split: bool = False
    """Topics common to words by texts and to words by words (SPLIT)."""
    depth: int = 1
    """Levels; above 1 each topic is divided again (HNMFk)."""


@dataclass(frozen=True)
class Found:
    """Topics, the place of every text, and the curves that the numbers were chosen from."""

    words: Mapping[str, list[str]]
    """Topic -> its heaviest words."""
    parents: Mapping[str, str]
    """Topic -> the one above; none at the top."""
    places: Sequence[tuple[int, str, float]]
    """(text, topic, share of its weights): every text in one topic of each level."""
    W: Floats
    """[words, topics of the top level], columns of sum 1."""
    H: Floats
    """[topics of the top level, texts]."""
    tables: Mapping[str, Sequence[Mapping[str, float]]]
    """What was divided (empty: the whole) -> a row for each number that was tried."""
    warning: str
    """Why a choice is not to be trusted; empty where it is."""


def find_topics(
    texts: Sequence[str],
    ks: Iterable[int],
    options: Options | None = None,
    *,
    kind: Kind | None = None,
    rng: Rng | None = None,
    workers: int = 1,
) -> Found:
    """Topics of clean texts.

    Args:
        texts: clean, words between spaces.
        ks: numbers of topics to try.
        options: of every factorisation.
        kind: which words count, and which factorisation it is.
        rng: where copies are drawn.
        workers: threads.
    """
    kind = kind or Kind()
    of_words = tfidf(texts, min_df=kind.min_df, max_df=kind.max_df)
    X, vocabulary, rng = of_words.matrix, np.array(of_words.vocabulary), rng or Rng(0)
    wanted = sorted(set(ks))

    def heaviest(column: Floats) -> list[str]:
        order = np.argsort(-column, kind="stable")[:WORDS]
        return [str(vocabulary[i]) for i in order if column[i] > 0]

    if kind.depth > 1:
        tree = HNMFk(options, depth=kind.depth, rng=rng, workers=workers)
        topics = tree.fit(X, wanted)
        top = tree.results[""]
        places = [
            (int(column), topic.id, float(weight))
            for topic in topics
            for column, weight in zip(topic.columns, topic.weights, strict=True)
        ]
        return Found(
            {t.id: heaviest(t.words) for t in topics}, {t.id: t.parent for t in topics if t.parent is not None}, sorted(places),
            top.W, top.H, {name: r.table for name, r in tree.results.items()},
            " ".join(r.warning for r in tree.results.values() if r.warning),
        )  # fmt: skip
    if kind.split:
        counts = cooccurrence(texts, of_words.vocabulary)
        result = SPLIT(options, rng=rng, workers=workers).fit([X, sppmi(counts).matrix], wanted)
        W, H = result.common.W, result.weights[0]
        tables = {"": result.common.table}
        warning = result.common.warning
    else:
        single = NMFk(options, rng=rng, workers=workers).fit(X, wanted)
        W, H, tables, warning = single.W, single.H, {"": single.table}, single.warning
    totals = H.sum(0)
    best = H.argmax(0)
    shares = np.divide(H[best, np.arange(H.shape[1])], totals, out=np.zeros(H.shape[1]), where=totals > 0)
    places = [
        (i, str(topic), float(share)) for i, (topic, share) in enumerate(zip(best, shares, strict=True))
    ]
    return Found({str(k): heaviest(W[:, k]) for k in range(W.shape[1])}, {}, places, W, H, tables, warning)
