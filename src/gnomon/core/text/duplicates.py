"""The best k of a ranking without near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

from gnomon.core.config import check


def distinct(ranked: Sequence[str], k: int, *, ratio: float = 0.70) -> list[int]:
    """Places in `ranked` of at most `k` texts that do not repeat each other, in the order in which they were kept.

    The ranking is walked from its head. A text is compared, in lower case, with those kept so far, in the order in which they were
    kept, by `2 * LCS / (len(a) + len(b))`. The first that is similar decides: if it is longer, the new text is left out; else the
    new text takes its place, at the end. The walk stops as soon as `k` are kept, so later texts replace nothing.

    Two texts that are kept may be similar to each other: the new one met a third one first and took its place.

    Args:
        ranked: texts, the best first.
        k: how many to keep, >= 1.
        ratio: similarity from which two texts say the same, within (0, 1].

    Raises:
        BadConfig: `k` or `ratio` is out of range.
    Source: arXiv 2410.02741, released implementation.

    >>> ranked = ["transit plan", "city council", "new transit plan", "budget"]
    >>> [ranked[i] for i in distinct(ranked, 3)]
    ['city council', 'new transit plan', 'budget']
    """
    from rapidfuzz.fuzz import ratio as similarity

    check(k >= 1, "k", ">= 1", k)
    check(0 < ratio <= 1, "ratio", "within (0, 1]", ratio)
    lowered = [text.lower() for text in ranked]
    kept: list[int] = []
    for at, text in enumerate(lowered):
        near = next((i for i in kept if similarity(text, lowered[i]) >= 100 * ratio), None)
        if near is not None:
            if len(lowered[near]) > len(text):
                continue
            kept.remove(near)
        kept.append(at)
        if len(kept) == k:
            break
    return kept
