"""The best k of a ranking without near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

from gnomon.core.config import check


def distinct(ranked: Sequence[str], k: int, *, ratio: float = 0.70) -> list[int]:
    """Places in `ranked` of at most `k` texts that do not repeat each other, in the order in which they were kept.

    The ranking is walked from its head. A text is compared, in lower case, with all that are kept so far, by
    `2 * LCS / (len(a) + len(b))`. If one that is similar is longer, the new text is left out; else it takes the place of all that
    are similar, at the end. No two texts that are kept are similar to each other. The walk stops as soon as `k` are kept, so later
    texts replace nothing.

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
        near = {i for i in kept if similarity(text, lowered[i]) >= 100 * ratio}
        if any(len(lowered[i]) > len(text) for i in near):
            continue  # shorter ones that are similar stay too: without the new text nothing repeats them
        kept = [i for i in kept if i not in near]
        kept.append(at)
        if len(kept) == k:
            break
    return kept
