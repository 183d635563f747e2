"""Short answers compared as SQuAD compares them: by their words, without case, punctuation and articles."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_MARKS = str.maketrans("", "", string.punctuation)


def squad_words(text: str) -> list[str]:
    """The words of an answer without case, punctuation and articles, as SQuAD compares them."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_MARKS)).split()


def token_f1(prediction: str, reference: str) -> float:
    """SQuAD's F1 of the words of two answers; 1 when neither has any.

    >>> token_f1("the cat sat", "A cat.")
    0.6666666666666666
    """
    written, right = squad_words(prediction), squad_words(reference)
    if not written or not right:
        return float(written == right)
    shared = sum((Counter(written) & Counter(right)).values())
    return 2 * shared / (len(written) + len(right))


def squad_match(prediction: str, reference: str) -> float:
    """1 where two answers have the same words, else 0.

    >>> squad_match("The Cat.", "cat"), squad_match("cats", "cat")
    (1.0, 0.0)
    """
    return float(squad_words(prediction) == squad_words(reference))
