"""Hashed word n-grams of many texts at once, without a Python loop over words.

A batch is one array of characters. Words are runs of word characters; the hash of a word is a polynomial in its
characters modulo 2^64, which prefix sums give for all words together: with S the running sum of c_i B^i, the word at
[a, b) has the hash (S_b - S_a) B^-a, wherever in the batch it stands. B is odd and so has an inverse. Longer n-grams
mix the hashes of their words in order. All of it is integer arithmetic: how texts are batched changes no count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

BASE = 0x9E3779B97F4A7C15  # odd: invertible modulo 2^64
ORDER = 0xD6E8FEB86659FD93  # odd: tells "a b" from "b a"
CHUNK = 1 << 17  # characters at once, so that the arrays stay in the processor's cache

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """How often each n-gram bucket occurs in each text; only what occurs, ordered by text and bucket."""

    first: int
    """Place of the first text of this piece in the batch."""
    n_texts: int
    """Texts in this piece."""
    rows: Integers
    """Text of each entry, from 0 within the piece, [E]."""
    buckets: Integers
    """Bucket of each entry, [E]."""
    counts: Integers
    """Occurrences, >= 1, [E]."""


def count_ngrams(texts: Sequence[str], bits: int, longest: int) -> Iterator[Counts]:
    """The n-grams of a batch, in pieces of some texts each.

    Words are runs of letters, digits and underscores of the lower-cased text (`\\w+` of Python's `re`).

    Args:
        texts: the batch; any Unicode, also empty.
        bits: n-grams fall into `2**bits` buckets.
        longest: n-grams of 1 to this many words, within a text.
    """
    lowered = [text.lower() for text in texts]
    lengths = np.fromiter(map(len, lowered), np.int64, len(lowered))
    first = 0
    for end in _chunk_ends(lengths):
        yield _count(lowered[first:end], lengths[first:end], first, bits, longest)
        first = end


def _chunk_ends(lengths: Integers) -> list[int]:
    """Where to cut the batch, so that a piece holds about `CHUNK` characters or one text."""
    if not len(lengths):
        return []
    chunk = np.cumsum(lengths + 1) // CHUNK
    return [*(np.flatnonzero(np.diff(chunk)) + 1).tolist(), len(lengths)]


def _count(lowered: Sequence[str], lengths: Integers, first: int, bits: int, longest: int) -> Counts:
    n = len(lowered)
    starts, hashes = _hash_words("\n" + "\n".join(lowered) + "\n")
    # Text i begins behind its line break, and behind all texts before it with theirs.
    begins = np.concatenate([[0], np.cumsum(lengths + 1)])
    rows = np.repeat(np.arange(n), np.diff(np.searchsorted(starts, begins + 1)))
    # Keys that fit into 32 bits sort twice as fast.
    key_type: Any = np.uint32 if n << bits <= 1 << 32 else np.uint64
    keys, grams = [], hashes
    for length in range(1, longest + 1):
        if length > 1:
            grams = _mix(grams[:-1] * np.uint64(ORDER) + hashes[length - 1 :])
        bucket = (_mix(grams) >> np.uint64(64 - bits)).astype(key_type)
        whole = rows[: len(grams)] == rows[length - 1 :] if length > 1 else slice(None)
        keys.append((rows[: len(grams)].astype(key_type) << key_type(bits) | bucket)[whole])
    ordered = np.sort(np.concatenate(keys))
    is_new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    places = np.flatnonzero(is_new)
    distinct = ordered[places].astype(np.int64)
    counts = np.diff(places, append=len(ordered))
    return Counts(first, n, distinct >> bits, distinct & ((1 << bits) - 1), counts)


def _hash_words(text: str) -> tuple[Integers, NDArray[np.uint64]]:
    """Start and hash of each word of a text that begins and ends with a line break."""
    codes = (
        np.frombuffer(text.encode("ascii"), np.uint8)
        if text.isascii()
        else np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    )
    is_word = _word_characters()[codes]
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(1 << (len(codes) - 1).bit_length())
    sums = np.cumsum(codes * powers[: len(codes)], dtype=np.uint64)
    return starts, (sums[ends - 1] - sums[starts - 1]) * inverses[starts]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every input bit over all output bits (the last steps of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


@lru_cache(maxsize=2)
def _powers(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """BASE to the powers 0..n-1 modulo 2^64, and their inverses."""
    inverse = pow(BASE, -1, 1 << 64)
    tables = []
    for factor in (BASE, inverse):
        steps = np.full(n, factor, np.uint64)
        steps[0] = 1
        tables.append(np.multiply.accumulate(steps))
    return tables[0], tables[1]


@lru_cache(maxsize=1)
def _word_characters() -> NDArray[np.bool_]:
    """True at the code points that `\\w` matches."""
    code_points = np.arange(0x110000, dtype=np.uint32).view("U1")
    is_word = np.char.isalnum(code_points)
    is_word[ord("_")] = True
    return is_word
