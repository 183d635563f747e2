"""Where texts are cut: Python by its own syntax tree, other text by punctuation and function words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

# fmt: off
FUNCTION_WORDS = frozenset((
    "a", "about", "after", "all", "although", "an", "and", "any", "as", "at", "because", "before", "but", "by", "can", "could",
    "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in", "into", "is", "it",
    "its", "may", "might", "must", "my", "no", "nor", "not", "of", "on", "or", "our", "shall", "she", "should", "since", "so",
    "some", "than", "that", "the", "their", "then", "there", "these", "they", "this", "those", "through", "to", "under",
    "until", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whose", "will", "with", "would", "you",
    "your",
))
# fmt: on
"""Words that begin a phrase in English: articles, pronouns, prepositions, conjunctions, auxiliaries."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")

_HEAD = "if 1:\n"
"""Makes an indented piece of code a whole statement."""


def chunk_starts(pieces: Sequence[str]) -> list[int]:
    """First tokens of phrases: a function word behind a content word begins one, punctuation and a new line end one.

    Args:
        pieces: the text of each token.

    Returns:
        Token indices, 0 first; nothing where the text has no word.

    >>> pieces = "The |little |girl |went |to |the |park|.| She |was |happy|.".split("|")
    >>> chunk_starts(pieces)
    [0, 4, 8, 10]
    """
    text = "".join(pieces)
    ends = list(accumulate(map(len, pieces)))
    starts, has_content, closed, before = {0}, False, False, 0
    words = list(_WORD.finditer(text))
    if not any(match.group()[0].isalnum() for match in words):
        return []
    for match in words:
        is_word = match.group()[0].isalnum()
        is_function = match.group().lower() in FUNCTION_WORDS
        if is_word and (closed or "\n" in text[before : match.start()] or (has_content and is_function)):
            starts.add(_token_at(ends, match.start()))
            has_content = closed = False
        has_content |= is_word and not is_function
        closed |= not is_word and match.group() not in "'\u2019-"
        before = match.end()
    return sorted(starts)


def code_starts(pieces: Sequence[str], cutoff: int) -> list[int]:
    """First tokens of the parts of a program, from the top of its syntax tree down.

    A part with fewer than `cutoff` tokens stays whole; a part of one token joins what stands before it; others are taken apart.

    Args:
        pieces: the text of each token; a whole program, or an indented part of one.
        cutoff: tokens from which a part is taken apart.

    Returns:
        Token indices, 0 first; nothing where the text is no Python.

    Source: spec point 5 (parsing), with the tree of `ast` in place of a constituency tree (addendum 10).
    """
    text = "".join(pieces)
    ends = list(accumulate(map(len, pieces)))
    for head in ("", _HEAD):
        try:
            tree = ast.parse(head + text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        lines = (head + text).splitlines(keepends=True)
        begun = [0, *accumulate(map(len, lines))]
        starts = {0}
        for first, last in _parts(tree, lines, begun, len(head), ends, cutoff):
            if last > first:
                starts.add(first)
        return sorted(starts)
    return []


def _parts(
    node: ast.AST, lines: Sequence[str], begun: Sequence[int], shift: int, ends: Sequence[int], cutoff: int
) -> Iterator[tuple[int, int]]:
    """First and last token of each part below a node, in the order of the text."""
    for child in sorted(
        ast.iter_child_nodes(node), key=lambda n: (getattr(n, "lineno", 0), getattr(n, "col_offset", 0))
    ):
        span = _span(child, lines, begun)
        if span is None or span[0] < shift:  # nodes without a place, and the head that we put in front
            yield from _parts(child, lines, begun, shift, ends, cutoff)
            continue
        first, last = _token_at(ends, span[0] - shift), _token_at(ends, span[1] - 1 - shift)
        if last - first + 1 < cutoff:
            yield first, last
        else:
            yield first, last
            yield from _parts(child, lines, begun, shift, ends, cutoff)


def _span(node: ast.AST, lines: Sequence[str], begun: Sequence[int]) -> tuple[int, int] | None:
    """Characters of a node; `ast` counts columns in bytes."""
    if getattr(node, "end_lineno", None) is None:
        return None

    def place(line: int, column: int) -> int:
        return begun[line - 1] + len(lines[line - 1].encode()[:column].decode())

    return (
        place(node.lineno, node.col_offset),  # type: ignore[attr-defined]
        place(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
    )


def _token_at(ends: Sequence[int], character: int) -> int:
    """The token in which a character lies."""
    from bisect import bisect_right

    return min(bisect_right(ends, character), len(ends) - 1)
