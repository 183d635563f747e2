"""The longest common subsequence of two token lists, found by the bits of whole numbers.

Row `i` of the usual table is one integer whose bit `j` is 0 where the table grows from column `j` to `j + 1`; the value at a place
is the number of zeros below it. A row follows from the one above by an addition, so a table of m x n costs m additions of n bits.

Source: Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence.

    >>> lcs_length("abcbdab", "bdcaba")
    4
    """
    rows = _rows(a, b)
    return len(b) - rows[-1].bit_count()


def lcs_places(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[int]:
    """The places in `a` of one longest common subsequence, rising.

    Of several it is the one that the package rouge-score finds: from the ends backwards, equal tokens are taken, else `b` is
    shortened if only that loses nothing, else `a`.

    >>> lcs_places("abcbdab", "bdcaba")
    [1, 2, 3, 5]
    """
    rows = _rows(a, b)
    places: list[int] = []
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            places.append(i - 1)
            i, j = i - 1, j - 1
            continue
        # Value at (i, j-1) against that at (i-1, j): zeros below the column.
        left = j - 1 - (rows[i] & ((1 << (j - 1)) - 1)).bit_count()
        above = j - (rows[i - 1] & ((1 << j) - 1)).bit_count()
        if left > above:
            j -= 1
        else:
            i -= 1
    return places[::-1]


def _rows(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[int]:
    """The rows of the table, the empty one first."""
    full = (1 << len(b)) - 1
    where: dict[Hashable, int] = {}
    for j, token in enumerate(b):
        where[token] = where.get(token, 0) | 1 << j
    rows = [full]
    for token in a:
        row, match = rows[-1], where.get(token, 0)
        rows.append(((row + (row & match)) | (row & ~match)) & full)
    return rows
