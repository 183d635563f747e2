"""Vectorised n-gram counts against a plain loop over words."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.methods.sieve.students import count_ngrams, ngrams

M = 1 << 64


def mix(value):
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD % M
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 % M
    return value ^ value >> 33


def plain_counts(text, bits, longest):
    """Bucket -> occurrences, word by word in Python."""
    hashes = [
        sum(ord(c) * pow(ngrams.BASE, k, M) for k, c in enumerate(word)) % M
        for word in re.findall(r"\w+", text.lower())
    ]
    counts = {}
    for start in range(len(hashes)):
        gram = hashes[start]
        for length in range(1, longest + 1):
            if start + length > len(hashes):
                break
            if length > 1:
                gram = mix((gram * ngrams.ORDER + hashes[start + length - 1]) % M)
            bucket = mix(gram) >> 64 - bits
            counts[bucket] = counts.get(bucket, 0) + 1
    return counts


def fast_counts(texts, bits, longest):
    found = [{} for _ in texts]
    for piece in count_ngrams(texts, bits, longest):
        for row, bucket, count in zip(piece.rows, piece.buckets, piece.counts, strict=True):
            found[piece.first + row][int(bucket)] = int(count)
    return found


any_text = st.text(st.characters(codec=None), max_size=40) | st.text("aB1_ -\n\t.ßΣİé", max_size=40)


@given(st.lists(any_text, max_size=6), st.sampled_from([4, 12, 20, 28]), st.integers(1, 4))
def test_counts_are_those_of_a_loop_over_words(texts, bits, longest):
    assert fast_counts(texts, bits, longest) == [plain_counts(text, bits, longest) for text in texts]


@settings(deadline=None)
@given(st.lists(any_text, min_size=1, max_size=8), st.integers(1, 60))
def test_pieces_do_not_change_the_counts(texts, chunk):
    whole = fast_counts(texts, 20, 2)
    before, ngrams.CHUNK = ngrams.CHUNK, chunk
    try:
        assert fast_counts(texts, 20, 2) == whole
    finally:
        ngrams.CHUNK = before
    assert [fast_counts([text], 20, 2)[0] for text in texts] == whole


def test_word_characters_are_those_of_the_regular_expression():
    table = ngrams._word_characters()
    every = "".join(map(chr, range(0x110000)))
    wanted = np.zeros(0x110000, bool)
    for match in re.finditer(r"\w+", every):
        wanted[match.start() : match.end()] = True
    assert (table == wanted).all()


def test_n_grams_stay_within_their_text_and_keep_their_order():
    together, apart, swapped = fast_counts(["red apple", "apple red", "red"], 20, 2)
    assert len(together) == 3 and len(swapped) == 1
    shared = together.keys() & apart.keys()
    assert len(shared) == 2 and swapped.keys() < shared


def test_many_texts_need_wider_keys():
    texts = [f"word{i % 7} and" for i in range(40)]
    assert fast_counts(texts, 28, 2) == [plain_counts(text, 28, 2) for text in texts]


def test_distinct_words_rarely_share_a_bucket():
    words = [f"w{i}" for i in range(20_000)]
    (piece,) = count_ngrams([" ".join(words)], 20, 1)
    # 20,000 balls into 2^20 bins leave 20,000 - 189 distinct bins on average, with a standard deviation of 14.
    assert len(piece.buckets) == pytest.approx(20_000 - 189, abs=70)
