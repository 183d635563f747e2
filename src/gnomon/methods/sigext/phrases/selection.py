"""Choice of the phrases to show: ranking, threshold, top K without near-duplicates; and ranking metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gnomon.core.metrics.ranking import auc
from gnomon.core.text import distinct, sentences, stemmer, stopwords
from gnomon.errors import BadInput
from gnomon.methods.sigext.phrases.phrases import Phrase, is_word, tokens

Granularity = Literal["phrases", "words", "sentences"]
GRANULARITIES: tuple[Granularity, ...] = ("phrases", "words", "sentences")


def ranking(scores: Sequence[float]) -> list[int]:
    """Indices from the highest score to the lowest, ties by the earlier index; those without a score (NaN) are left out.

    >>> ranking([0.1, 0.5, math.nan, 0.5])
    [1, 3, 0]
    """
    scored = [i for i, score in enumerate(scores) if not math.isnan(score)]
    return sorted(scored, key=lambda i: (-scores[i], i))


def select(
    phrases: Sequence[Phrase], scores: Sequence[float], k: int, *, tau: float = -math.inf
) -> list[int]:
    """Indices of the phrases that are shown, in the order in which they are shown: at most `k`, none under `tau`, no two alike.

    Args:
        phrases: candidates, [N].
        scores: log-probabilities, NaN where a phrase has none, [N].
        k: how many at most, >= 1.
        tau: the lowest score that is used.

    Raises:
        BadConfig: `k` is below 1.
    """
    allowed = [i for i in ranking(scores) if scores[i] >= tau]
    return [allowed[index] for index in distinct([phrases[i].text for i in allowed], k)]


def threshold(scores: Iterable[Sequence[float]], percentile: float) -> float:
    """The score that `percentile` percent of all phrases are under, between two by linear interpolation; -inf without phrases.

    >>> threshold([[-4.0, -3.0], [-2.0, -1.0, math.nan]], 75)
    -1.75
    """
    scored = [score for row in scores for score in row if not math.isnan(score)]
    if not scored or percentile <= 0:
        return -math.inf
    return float(np.percentile(scored, percentile))


def scored_row(
    phrases: Sequence[Phrase], scores: Sequence[float], kept: Sequence[int]
) -> list[dict[str, Any]]:
    """The phrases as a record holds them: text, place, score, rank from 1 (None for those beyond the encoder's reach), kept."""
    ranks = {index: rank for rank, index in enumerate(ranking(scores), 1)}
    return [
        {
            "text": phrase.text,
            "start": phrase.start,
            "end": phrase.end,
            "score": None if math.isnan(score) else round(score, 6),
            "rank": ranks.get(i),
            "kept": i in kept,
        }
        for i, (phrase, score) in enumerate(zip(phrases, scores, strict=True))
    ]


def kept_phrases(rows: Sequence[dict[str, Any]], where: str) -> list[Phrase]:
    """The phrases of a scored record that are shown, in their order.

    Raises:
        BadInput: a phrase lacks a field.
    """
    try:
        kept = sorted((row for row in rows if row["kept"]), key=lambda row: row["rank"] or 0)
        return [Phrase(row["text"], row["start"], row["end"]) for row in kept]
    except (KeyError, TypeError):
        raise BadInput(
            f'{where}: a phrase has "text", "start", "end", "rank" and "kept". Make them with `gnomon sigext score`.'
        ) from None


def as_granularity(
    document: str,
    phrases: Sequence[Phrase],
    scores: Sequence[float],
    kept: Sequence[int],
    granularity: Granularity,
    *,
    language: str = "english",
) -> list[Phrase]:
    """What is shown in place of the kept phrases when single words or whole sentences are asked for, of as many words in all.

    Words are the content words of the candidates, each stem once, in the order of the best phrase that holds them. Sentences are
    taken whole in the order of the mean score of the phrases in them, as long as they fit; one at least.

    Args:
        document: the document.
        phrases: candidates, [N].
        scores: their scores, NaN for none, [N].
        kept: places of the phrases that would be shown; their words are the budget.
        granularity: `phrases` gives them as they are.
        language: of the stems.
    """
    chosen = [phrases[i] for i in kept]
    if granularity == "phrases" or not chosen:
        return chosen
    budget = sum(len(tokens(phrase.text)) for phrase in chosen)
    if granularity == "words":
        return _words([phrases[i] for i in ranking(scores)], budget, language)
    ranked = _sentences(document, phrases, scores)
    taken: list[Phrase] = []
    used = 0
    for sentence in ranked:
        size = sum(any(map(str.isalnum, token.text)) for token in tokens(sentence.text))
        if not taken or used + size <= budget:
            taken.append(sentence)
            used += size
    return taken


def _words(ranked: Sequence[Phrase], budget: int, language: str) -> list[Phrase]:
    stem, stop = stemmer(language), stopwords(language)
    words: dict[str, Phrase] = {}
    for phrase in ranked:
        for token in tokens(phrase.text):
            if len(words) < budget and is_word(token, stop):
                word = Phrase(token.text, phrase.start + token.start, phrase.start + token.end)
                words.setdefault(stem(token.text.lower()), word)
    return list(words.values())


def _sentences(document: str, phrases: Sequence[Phrase], scores: Sequence[float]) -> list[Phrase]:
    """Sentences that hold a scored phrase, the best first."""
    ranked = []
    for start, end in sentences(document):
        inside = [
            score
            for phrase, score in zip(phrases, scores, strict=True)
            if start <= phrase.start < end and not math.isnan(score)
        ]
        if inside:
            ranked.append((-sum(inside) / len(inside), start, end))
    return [Phrase(document[start:end], start, end) for _, start, end in sorted(ranked)]


# Ranking metrics

KS = (5, 10, 20)
"""Where precision and recall are measured."""


@dataclass(frozen=True)
class Ranks:
    """Means over the documents that have a positive phrase; NaN where there is none."""

    precision: dict[int, float]
    """K -> share of the K best that are positive; of all, where there are fewer than K."""
    recall: dict[int, float]
    """K -> share of the positives among the K best."""
    r_precision: float
    """Share of positives among as many of the best as there are positives."""
    auc: float | None
    """Chance that a positive phrase scores above a negative one, over all documents together; None with one class only."""
    positive_rate: float
    """Share of all phrases that are positive."""
    documents: int
    """Documents measured."""
    skipped: int
    """Documents without a positive phrase, left out."""
    unscored: int
    """Phrases without a score, beyond the encoder's reach: never found."""

    def figures(self) -> dict[str, float | int | None]:
        """All metrics by the names that reports use."""
        at = {f"precision@{k}": value for k, value in self.precision.items()}
        at |= {f"recall@{k}": value for k, value in self.recall.items()}
        return at | {
            "R-precision": self.r_precision,
            "AUC": self.auc,
            "positive rate": self.positive_rate,
            "documents": self.documents,
            "skipped": self.skipped,
            "unscored": self.unscored,
        }


def measure(
    labels: Sequence[Sequence[bool]], scores: Sequence[Sequence[float]], ks: Sequence[int] = KS
) -> Ranks:
    """Ranking metrics over documents.

    Args:
        labels: whether each phrase is positive, one list per document.
        scores: its score, NaN for none, in the same shape.
        ks: where precision and recall are measured.

    >>> found = measure([[True, False, True], [False]], [[0.9, 0.8, 0.1], [0.5]], ks=(2,))
    >>> found.precision[2], found.recall[2], found.r_precision, found.skipped
    (0.5, 0.5, 0.5, 1)
    """
    rows: list[list[float]] = []
    for wanted, values in zip(labels, scores, strict=True):
        n_positive = sum(wanted)
        if not n_positive:
            continue
        hits_by_rank = np.cumsum([int(wanted[i]) for i in ranking(values)] or [0])
        hits = [int(hits_by_rank[min(k, len(hits_by_rank)) - 1]) for k in (*ks, n_positive)]
        row = [hit / min(k, len(wanted)) for hit, k in zip(hits, ks, strict=False)]
        rows.append([*row, *(hit / n_positive for hit in hits)])
    means = np.mean(rows, axis=0) if rows else np.full(2 * len(ks) + 1, math.nan)
    pairs = [
        (y, s)
        for wanted, values in zip(labels, scores, strict=True)
        for y, s in zip(wanted, values, strict=True)
    ]
    scored = [(y, s) for y, s in pairs if not math.isnan(s)]
    return Ranks(
        dict(zip(ks, map(float, means), strict=False)),
        dict(zip(ks, map(float, means[len(ks) :]), strict=False)),
        float(means[-1]),
        auc([y for y, _ in scored], [s for _, s in scored]) if scored else None,
        sum(y for y, _ in pairs) / len(pairs) if pairs else math.nan,
        len(rows),
        len(labels) - len(rows),
        len(pairs) - len(scored),
    )
