"""From a model's answer or a file to a clean program: white space normalised once."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Sequence
from functools import lru_cache

from gnomon.errors import BadInput

TAB_WIDTH = 4
"""Columns of a tab in indentation; the blocks of a Python 3 program may not depend on this number."""

_MAY_SPAN_LINES = re.compile(r"\"{3}|'{3}|\\[\r\n]")
"""Without one of these, no string goes over several lines, and the tokens need not be looked at."""


class Rejected(BadInput):
    """The program cannot become an edit path; the caller may record it with `reason` and go on.

    Attributes:
        reason: a fixed word to count by: `"empty"`, `"no-code"`, `"syntax-error"` or `"baseline-errors"`.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def normalise(code: str, *, indent: bool = True) -> str:
    r"""`code` with `\n` line endings, no trailing white space, and no blank line at either end.

    Strings that span lines keep their inner white space: the program means what it meant. Normalising twice
    changes nothing, and the lines of the result are `split_lines(result)`.

    Args:
        code: a program.
        indent: also write tabs in indentation as spaces, `TAB_WIDTH` columns each.

    Source: pitfall 1.

    >>> normalise("if x:  \r\n\ty = 1\r\n\n")
    'if x:\n    y = 1'
    """
    lines = code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    starts, ends = _string_edges(lines) if _MAY_SPAN_LINES.search(code) else (set(), set())
    for number, line in enumerate(lines):
        if indent and number not in starts:
            body = line.lstrip()
            line = line[: len(line) - len(body)].expandtabs(TAB_WIDTH) + body
        lines[number] = line if number in ends else line.rstrip()
    return "\n".join(_without_outer_blanks(lines))


def split_lines(code: str) -> list[str]:
    r"""The lines of a program; the empty program has none.

    >>> split_lines("a\n\nb"), split_lines("")
    (['a', '', 'b'], [])
    """
    return code.split("\n") if code else []


@lru_cache(maxsize=4)
def tokens_of(text: str) -> tuple[tokenize.TokenInfo, ...]:
    """The tokens of a Python text; the last few are kept, since a program is looked at more than once.

    Raises:
        SyntaxError, tokenize.TokenError: the text cannot be cut into tokens.
    """
    return tuple(tokenize.generate_tokens(io.StringIO(text).readline))


def _without_outer_blanks(lines: Sequence[str]) -> Sequence[str]:
    filled = [number for number, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _string_edges(lines: Sequence[str]) -> tuple[set[int], set[int]]:
    """Lines that start inside a string, and lines that end inside one; none if the text is not Python."""
    starts: set[int] = set()
    ends: set[int] = set()
    opened: list[int] = []
    try:
        for token in tokens_of("\n".join(lines)):
            name = tokenize.tok_name[token.type]
            first, last = token.start[0], token.end[0]
            if name.endswith("STRING_START"):
                opened.append(first)
            elif name.endswith("STRING_END"):
                first = opened.pop()
            elif name != "STRING":
                continue
            starts.update(range(first, last))
            ends.update(range(first - 1, last - 1))
    except (tokenize.TokenError, SyntaxError):
        return set(), set()
    return starts, ends
