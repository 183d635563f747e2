"""The key-phrase slot: the best K phrases of a row, near-duplicates left out, and K itself as something to be searched."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

from gnomon.errors import BadInput
from gnomon.methods.crispo.rows import Example

FEWEST, MOST = 3, 60
"""K stays between these."""
FACTOR = 1.5
"""K is tried this much larger and smaller."""


def phrases_of(row: Example) -> tuple[str, ...]:
    """The phrases of a row, the best first; those beyond the extractor's reach have no rank and are left out.

    Raises:
        BadInput: the row has none, or in another form than `gnomon sigext score` writes.
    """
    found: Any = row.meta.get("phrases")
    how = "Write them with: gnomon sigext score EXTRACTOR ROWS --document-field input"
    if found is None:
        raise BadInput(f'Row "{row.id}" has no key phrases for the slot INSERT_KEYPHRASES_HERE. {how}')
    try:
        known = (phrase for phrase in found if phrase["rank"] is not None)
        ranked = sorted(known, key=lambda phrase: phrase["rank"])
        return tuple(str(phrase["text"]) for phrase in ranked)
    except (TypeError, KeyError):
        raise BadInput(
            f'Row "{row.id}": "phrases" must be a list of objects with "text" and "rank". {how}'
        ) from None


def key_phrases(row: Example, k: int) -> str:
    """The best `k` phrases that differ from each other, joined by "; "."""
    return _joined(phrases_of(row), k)


@lru_cache(maxsize=10_000)
def _joined(ranked: tuple[str, ...], k: int) -> str:
    from gnomon.core.text import distinct

    return "; ".join(ranked[i] for i in distinct(ranked, k))


def next_k(k: int, draw: random.Random) -> int:
    """Another K: half as large again or that much smaller, within 3..60.

    >>> {next_k(10, random.Random(i)) for i in range(20)} == {7, 15}
    True
    """
    larger, smaller = max(k + 1, round(k * FACTOR)), min(k - 1, round(k / FACTOR))
    return min(MOST, max(FEWEST, larger if draw.random() < 0.5 else smaller))


def stated_k(text: str | None) -> int | None:
    """The K that a reply states, when it is a number within 3..60."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isdecimal() and FEWEST <= int(stripped) <= MOST else None
