"""From scores to the phrases that are shown: ranking, threshold, top K without near-duplicates; and words and sentences instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from gnomon.core.text import distinct, sentences, stemmer, stopwords
from gnomon.errors import BadInput
from gnomon.methods.sigext.phrases import Phrase, is_word, tokens

Granularity = Literal["phrases", "words", "sentences"]
GRANULARITIES: tuple[Granularity, ...] = ("phrases", "words", "sentences")


def ranking(scores: Sequence[float]) -> list[int]:
    """Places from the highest score to the lowest, ties by the earlier place; those without a score (NaN) are left out.

    >>> ranking([0.1, 0.5, math.nan, 0.5])
    [1, 3, 0]
    """
    known = [i for i, score in enumerate(scores) if not math.isnan(score)]
    return sorted(known, key=lambda i: (-scores[i], i))


def select(
    phrases: Sequence[Phrase], scores: Sequence[float], k: int, *, tau: float = -math.inf
) -> list[int]:
    """Places of the phrases that are shown, in the order in which they are shown: at most `k`, none under `tau`, no two alike.

    Args:
        phrases: candidates, [N].
        scores: log-probabilities, NaN where a phrase has none, [N].
        k: how many at most, >= 1.
        tau: the lowest score that is used.

    Raises:
        BadConfig: `k` is below 1.
    """
    allowed = [i for i in ranking(scores) if scores[i] >= tau]
    return [allowed[place] for place in distinct([phrases[i].text for i in allowed], k)]


def threshold(scores: Iterable[Sequence[float]], percentile: float) -> float:
    """The score that `percentile` percent of all phrases are under, between two by linear interpolation; -inf without phrases.

    >>> threshold([[-4.0, -3.0], [-2.0, -1.0, math.nan]], 75)
    -1.75
    """
    known = [score for row in scores for score in row if not math.isnan(score)]
    if not known or percentile <= 0:
        return -math.inf
    return float(np.percentile(known, percentile))


def scored_row(
    phrases: Sequence[Phrase], scores: Sequence[float], kept: Sequence[int]
) -> list[dict[str, Any]]:
    """The phrases as a record holds them: text, place, score, rank from 1 (None for those beyond the encoder's reach), kept."""
    ranks = {place: rank for rank, place in enumerate(ranking(scores), 1)}
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
    found: dict[str, Phrase] = {}
    for phrase in ranked:
        for token in tokens(phrase.text):
            if len(found) < budget and is_word(token, stop):
                place = Phrase(token.text, phrase.start + token.start, phrase.start + token.end)
                found.setdefault(stem(token.text.lower()), place)
    return list(found.values())


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
