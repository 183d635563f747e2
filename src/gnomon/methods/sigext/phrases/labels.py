"""Training labels: the phrases of a document that its reference summary contains, by either of two rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gnomon.core.metrics.rouge import f_measure, rouge_tokens
from gnomon.errors import BadConfig

Rule = Literal["code", "paper"]

F_LEAST, P_LEAST, R_LEAST = 0.6, 0.8, 0.8
"""Rule `code`: stemmed ROUGE-1 from which a phrase counts as said."""
FUZZ_LEAST = 0.7
"""Rule `paper`: share of the longer text's characters."""


def label(
    phrases: Sequence[str], references: Sequence[str], rule: Rule = "code", *, language: str = "english"
) -> list[bool]:
    """Label each phrase: whether the reference contains it.

    `code`, the released implementation: stemmed ROUGE-1 of the phrase (as prediction) against every reference phrase; positive
    where the largest F is at least 0.6, or the largest precision or recall at least 0.8, each over all of them on its own.
    `paper`: the longest common subsequence of characters, over the length of the longer text, is at least 0.7 for some of them.

    Source: labelling by fuzzy matching; `paper` is Fuzz(p, q) = LCS(p, q) / max(|p|, |q|).

    Args:
        phrases: candidates of the document, [N].
        references: phrases of the summary.
        rule: which.
        language: of the stems.

    Raises:
        BadConfig: there is no such rule.

    >>> label(["40 million", "the bridge"], ["40 million transit plan"])
    [True, False]
    >>> label(["40 million", "the bridge"], ["40 million transit plan"], "paper")
    [False, False]
    """
    if rule == "paper":
        return [score >= FUZZ_LEAST for score, _ in _by_characters(phrases, references)]
    if rule != "code":
        raise BadConfig(f'rule must be "code" or "paper"; got {rule!r}.')
    index = _Index(references, language)
    return [index.best(phrase).is_positive for phrase in phrases]


@dataclass(frozen=True)
class Match:
    """Similarity of a phrase to the nearest reference phrase."""

    reference: str
    """The reference phrase; empty where none shares anything."""
    f: float
    """Largest F over all reference phrases, 0..1; rule `paper`: the largest share of characters."""
    precision: float = 0.0
    """Largest precision over all of them."""
    recall: float = 0.0
    """Largest recall over all of them."""

    @property
    def is_positive(self) -> bool:
        """Whether rule `code` marks it."""
        return self.f >= F_LEAST or self.precision >= P_LEAST or self.recall >= R_LEAST


def matches(
    phrases: Sequence[str], references: Sequence[str], rule: Rule = "code", *, language: str = "english"
) -> list[Match]:
    """The similarities behind each label, for inspection."""
    if rule == "paper":
        return [Match(near, score) for score, near in _by_characters(phrases, references)]
    index = _Index(references, language)
    return [index.best(phrase) for phrase in phrases]


class _Index:
    """Reference phrases by stem, so that a phrase is compared only with those that share one with it."""

    def __init__(self, references: Sequence[str], language: str):
        self.language, self.references = language, references
        self.sizes: list[int] = []
        self.holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, text in enumerate(references):
            stems = rouge_tokens(text, True, language)
            self.sizes.append(len(stems))
            for stem, count in Counter(stems).items():
                self.holders[stem].append((index, count))

    def best(self, phrase: str) -> Match:
        """The maxima of F, precision and recall, each on its own."""
        stems = rouge_tokens(phrase, True, self.language)
        hits: defaultdict[int, int] = defaultdict(int)
        for stem, count in Counter(stems).items():
            for index, there in self.holders.get(stem, ()):
                hits[index] += min(count, there)
        f = precision = recall = 0.0
        nearest = ""
        for index, shared in hits.items():
            p, r = shared / len(stems), shared / self.sizes[index]
            if (value := f_measure(p, r)) > f:
                f, nearest = value, self.references[index]
            precision, recall = max(precision, p), max(recall, r)
        return Match(nearest, f, precision, recall)


def _by_characters(phrases: Sequence[str], references: Sequence[str]) -> list[tuple[float, str]]:
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    if not phrases or not references:
        return [(0.0, "")] * len(phrases)
    lowered = [text.lower() for text in phrases], [text.lower() for text in references]
    table = cdist(*lowered, scorer=LCSseq.normalized_similarity, dtype=float)
    places = table.argmax(axis=1)
    return [(float(row[at]), references[at]) for row, at in zip(table, places, strict=True)]
