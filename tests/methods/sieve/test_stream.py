import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.data.documents import Document
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve import Snippet, SnippetStream
from gnomon.methods.sieve.choosing import split_by_document


def words(text):
    return [match.span() for match in re.finditer(r"\w+", text)]


def stream_of(texts, *, limit=3, seed=0, buffer=50):
    def documents():
        return (Document(f"d{number}", text) for number, text in enumerate(texts))

    return SnippetStream(documents, spans_of=words, limit=limit, rng=Rng(seed), buffer=buffer)


def test_each_pass_holds_all_snippets_once_in_another_order():
    stream = stream_of([f"text number {n}" for n in range(200)])
    first, again, second = ([s.snippet_id for s in stream.pass_(n)] for n in (0, 0, 1))
    assert first == again != second
    assert sorted(first) == sorted(second) == sorted(f"d{n}:0-{len(f'text number {n}')}" for n in range(200))
    assert [
        s.snippet_id for s in stream_of([f"text number {n}" for n in range(200)], seed=1).pass_(0)
    ] != first


def test_a_source_that_fits_the_buffer_is_shuffled_evenly():
    counts = Counter(
        tuple(s.doc_id for s in stream_of(["a", "b", "c"], seed=seed).pass_(0)) for seed in range(1200)
    )
    # six orders, 200 expected of each; five standard deviations are 65
    assert len(counts) == 6 and all(abs(n - 200) < 65 for n in counts.values())


def test_the_window_moves_and_nothing_waits_for_ever():
    order = [int(s.text) for s in stream_of([str(n) for n in range(1000)], buffer=20).pass_(0)]
    assert sorted(order) == list(range(1000))
    assert order[0] < 20 and all(value <= place + 20 for place, value in enumerate(order))
    assert order != sorted(order)


def test_pitfall_6_duplicates_and_empty_documents_are_dropped_and_counted():
    stream = stream_of(["one two", " ", "one \n two", "three\n\nfour five six", "three"])
    found = sorted(s.snippet_id for s in stream.pass_(3))
    assert found == ["d0:0-7", "d3:0-5", "d3:7-20"]  # the first of equal texts stays, in whatever pass
    counts = stream.counts
    assert (counts.documents, counts.snippets, counts.duplicates, counts.empty) == (5, 3, 2, 1)


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_pitfall_9_an_empty_stream_is_told(texts):
    with pytest.raises(BadInput, match=f"holds no text: {len(texts)} documents were read"):
        next(stream_of(texts).pass_())


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), skip=st.integers(0, 35), buffer=st.integers(1, 40))
def test_a_pass_goes_on_where_it_stopped(n, skip, buffer):
    stream = stream_of([f"text {i}" for i in range(n)], buffer=buffer)
    assert list(stream.pass_(2, skip=skip)) == list(stream.pass_(2))[skip:]


def test_bad_sizes_are_told():
    with pytest.raises(BadConfig, match="snippet_tokens must be >= 1; got 0"):
        stream_of(["a"], limit=0)
    with pytest.raises(BadConfig, match="buffer must be >= 1; got 0"):
        stream_of(["a"], buffer=0)


def piece(doc, text, start=0):
    return Snippet(f"{doc}:{start}-{start + len(text)}", doc, text, start, start + len(text))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 25)), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from([0.2, 0.5]),
)
def test_pitfall_6_no_document_and_no_text_is_on_both_sides(pairs, seed, share):
    pieces = [piece(f"d{doc}", f"text  {words}", start) for start, (doc, words) in enumerate(pairs)]
    try:
        rest, test = split_by_document(pieces, share, Rng(seed))
    except BadInput as error:
        assert "cannot be split" in str(error)
        return
    assert sorted(rest + test, key=lambda p: p.start) == pieces
    assert not {p.doc_id for p in rest} & {p.doc_id for p in test}
    assert not {p.text for p in rest} & {p.text for p in test}
    assert 0 < len(test) <= round(share * len(pieces))


def test_unrelated_documents_fill_the_test_s_share_exactly():
    pieces = [piece(f"d{n}", f"text {n}") for n in range(40)]
    rest, test = split_by_document(pieces, 0.25, Rng(3))
    assert (len(rest), len(test)) == (30, 10)
    assert split_by_document(pieces, 0.25, Rng(3)) == (rest, test)
    assert split_by_document(pieces, 0.25, Rng(4))[1] != test
    with pytest.raises(BadInput, match="40 snippets of 1 unrelated documents cannot be split"):
        split_by_document([piece(f"d{n}", "same") for n in range(40)], 0.25, Rng(0))
