"""What a language model is shown: the best passages that fit its window, put back into the order of their documents."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gnomon.core.retrieval.hits import Hit
from gnomon.core.retrieval.passages import Passage
from gnomon.errors import BadConfig

Order = Literal["score", "document", "reverse"]
Count = Callable[[str], int]
"""Tokens of a text."""


@dataclass(frozen=True)
class Shown:
    """A passage as it is shown."""

    id: str
    """Of the passage."""
    text: str
    """What of it is shown: without what another one shows already."""


@dataclass(frozen=True)
class Context:
    """What is shown, and what did not fit."""

    passages: tuple[Shown, ...]
    """In the order in which they are shown."""
    tokens: int
    """Of the whole prompt."""
    left_out: int
    """Hits that did not fit."""


def pack(
    hits: Sequence[Hit],
    passages: Mapping[str, Passage],
    prompt: Callable[[Sequence[Shown]], str],
    count: Count,
    budget: int,
    order: Order = "document",
) -> Context:
    """The best hits that fit into a budget of tokens, in the order wanted.

    Hits are taken from the best on; one that does not fit is left out, and a shorter one behind it may still. Of passages that
    overlap, what both hold is shown once.

    Args:
        hits: the best first.
        passages: id -> passage.
        prompt: the whole prompt with these passages.
        count: tokens of a text.
        budget: tokens of the prompt at most.
        order: `score`; `document`: by documents in the order of their best hit, within them by place; `reverse`: the best last.

    Raises:
        BadConfig: not even the prompt without a passage fits, or there is no such order.
    """
    if order not in ("score", "document", "reverse"):
        raise BadConfig(f'order must be score, document or reverse; got "{order}".')
    empty = count(prompt([]))
    if empty > budget:
        raise BadConfig(
            f"The prompt without a passage has {empty} tokens and --budget allows {budget}. Raise --budget."
        )
    taken: list[str] = []
    left_out, tokens = 0, empty
    for hit in hits:
        tried = count(prompt(arranged([*taken, hit.id], passages, order)))
        if tried > budget:
            left_out += 1
        else:
            taken.append(hit.id)
            tokens = tried
    return Context(tuple(arranged(taken, passages, order)), tokens, left_out)


def arranged(ids: Sequence[str], passages: Mapping[str, Passage], order: Order) -> list[Shown]:
    """Passages in the order wanted, the best of `ids` first, with each overlap shown once."""
    ranked = list(dict.fromkeys(ids))
    documents = list(dict.fromkeys(passages[name].doc_id for name in ranked))
    if order == "document":
        ranked.sort(key=lambda name: (documents.index(passages[name].doc_id), passages[name].start, name))
    elif order == "reverse":
        ranked.reverse()
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
    shown = []
    for name in ranked:
        passage = passages[name]
        pieces = _without(passage.start, passage.end, seen[passage.doc_id])
        text = " ".join(
            passage.text[a - passage.start : b - passage.start].strip() for a, b in pieces
        ).strip()
        seen[passage.doc_id].append((passage.start, passage.end))
        if text:
            shown.append(Shown(name, text))
    return shown


def _without(start: int, end: int, seen: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of [start, end) lies in none of the intervals."""
    pieces = [(start, end)]
    for a, b in seen:
        pieces = [
            part
            for x, y in pieces
            for part in ((x, min(y, a)), (max(x, b), y))
            if part[0] < part[1] and not (part[0] >= a and part[1] <= b)
        ]
    return sorted(set(pieces))


_CITED = re.compile(r"\s*\[(\d+(?:\s*[,;]\s*\d+)*)\]")


def with_citations(text: str, shown: Sequence[Shown]) -> list[tuple[str, tuple[str, ...]]]:
    """An answer's sentences without their marks such as [2], and the passages that each names.

    A number that stands for no passage stays as `?N`, which is no passage's id.

    >>> with_citations("In 1912 [1]. By sea [2, 9].", [Shown("a#0", "x"), Shown("b#3", "y")])
    [('In 1912.', ('a#0',)), ('By sea.', ('b#3', '?9'))]
    """
    from gnomon.core.text.segments import sentences

    result = []
    for start, end in sentences(text):
        sentence = text[start:end]
        numbers = [int(n) for match in _CITED.finditer(sentence) for n in re.findall(r"\d+", match[1])]
        names = tuple(dict.fromkeys(shown[n - 1].id if 0 < n <= len(shown) else f"?{n}" for n in numbers))
        if bare := _CITED.sub("", sentence).strip():
            result.append((bare, names))
    return result
