"""Tokens of phrases: every window's tokens say the phrase again, in both ways of tokenising and for any text."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.models import train_bpe
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.sigext import Phrase, extract_phrases
from gnomon.methods.sigext.extractor import (
    DocumentEncoder,
    Encoded,
    grouped,
    padded,
    phrase_scores,
    window_of,
)

BPE = train_bpe(["the new bridge costs forty million, the old bridge is closed"] * 3, 300)
TEXT = st.lists(
    st.sampled_from(["the", "new bridge", "costs", "forty", ",", "z\u00fcrich", "\n\n", "old", "."]),
    max_size=14,
)


@pytest.mark.parametrize("mode", ["offsets", "pieces"])
@given(TEXT.map(" ".join), st.integers(4, 60))
@settings(max_examples=40)
def test_the_tokens_of_a_phrase_say_the_phrase(mode, text, length):
    phrases = extract_phrases(text)
    encoded = DocumentEncoder(BPE, mode, length).encode(text, phrases)
    assert len(encoded.input_ids) <= length
    assert encoded.input_ids[0] == BPE.bos_token_id and encoded.input_ids[-1] == BPE.eos_token_id
    for phrase, (start, end) in zip(phrases, encoded.spans, strict=True):
        if end > start:
            assert BPE.decode(encoded.input_ids[start:end]).strip() == phrase.text
    whole = DocumentEncoder(BPE, mode, 4096).encode(text, phrases)
    assert whole.n_missing == 0
    kept = [span for span in whole.spans if span[1] <= length - 1]
    assert [
        span for span in encoded.spans if span != (0, 0)
    ] == kept  # a phrase that the cut goes through has none


def test_special_tokens_are_the_tokenizer_s_own():
    encoded = DocumentEncoder(BPE, max_length=20).encode("bridge", [Phrase("bridge", 0, 6)])
    assert (encoded.input_ids[0], encoded.input_ids[-1]) == (
        0,
        1,
    )  # here; the released code writes 0 and 2 everywhere
    bare = train_bpe(["bridge"], 270)
    bare.bos_token = bare.eos_token = None
    assert DocumentEncoder(bare, max_length=20).encode("bridge", []).input_ids == bare("bridge")["input_ids"]


def test_pieces_put_white_space_between_phrases_that_touch():
    text, phrases = "old\n\nnew", [Phrase("old", 0, 3), Phrase("new", 5, 8)]
    encoded = DocumentEncoder(BPE, "pieces", 40).encode(text, phrases)
    (_, end), (start, _) = encoded.spans
    assert encoded.input_ids[end:start] == BPE(" ")["input_ids"]
    whole = DocumentEncoder(BPE, "offsets", 40).encode(text, phrases)
    assert whole.input_ids != encoded.input_ids  # a model trained one way must not be asked the other


def test_labels_mark_the_tokens_of_phrases_and_nothing_else():
    encoded = Encoded([0, 5, 6, 7, 8, 1], [(1, 3), (2, 4), (0, 0)])
    assert encoded.labels([True, False, True]) == [-100, 1, 1, 0, -100, -100]
    assert encoded.n_missing == 1


def test_windows_reach_every_phrase_that_fits_into_one():
    text = " the ".join(f"bridge{i}" for i in range(30))
    phrases = extract_phrases(text)
    encoder = DocumentEncoder(BPE, max_length=30, stride=14)
    windows = list(encoder.windows(text, phrases))
    assert len(windows) > 2 and all(len(w.input_ids) <= 30 for w in windows)
    reached = [any(w.spans[i] != (0, 0) for w in windows) for i in range(len(phrases))]
    assert all(reached)
    for window in windows:
        for phrase, (start, end) in zip(phrases, window.spans, strict=True):
            assert start == end or BPE.decode(window.input_ids[start:end]).strip() == phrase.text
    assert len(list(DocumentEncoder(BPE, max_length=30).windows(text, phrases))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "words"}, "tokenisation must be"),
        ({"max_length": 2}, "max_length must be"),
        ({"max_length": 20, "stride": 19}, "stride must be between 1 and 18"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(BadConfig, match=message):
        DocumentEncoder(BPE, **options)


def test_a_slow_tokenizer_needs_pieces():
    class Slow:
        is_fast, bos_token_id, cls_token_id, eos_token_id, sep_token_id = False, 0, None, 1, None

    with pytest.raises(ModelMismatch, match="--tokenisation pieces"):
        DocumentEncoder(Slow())


@given(st.integers(1, 4), st.integers(1, 12), st.randoms())
@settings(max_examples=30)
def test_pooled_scores_are_the_means_over_tokens(n, width, draw):
    spans = []
    for _ in range(n):
        row = [sorted((draw.randint(0, width), draw.randint(0, width))) for _ in range(draw.randint(0, 5))]
        spans.append([tuple(span) for span in row])
    logits = torch.tensor([[[draw.uniform(-9, 9) for _ in range(2)] for _ in range(width)] for _ in range(n)])
    found = phrase_scores(logits, spans)
    for b, row in enumerate(spans):
        for (start, end), value in zip(row, found[b], strict=True):
            tokens = [float(logits[b, t].log_softmax(-1)[1]) for t in range(start, end)]
            if tokens:
                assert value == pytest.approx(sum(tokens) / len(tokens), abs=1e-5)
            else:
                assert math.isnan(value)


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 80), st.sampled_from([1, 8]))
def test_groups_hold_every_row_once_within_the_budget(lengths, budget, multiple):
    groups = list(grouped(lengths, budget, multiple))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        width = -(-max(lengths[i] for i in group) // multiple) * multiple
        assert len(group) == 1 or len(group) * width <= budget


def test_rows_are_filled_on_the_right_to_the_attention_window():
    batch = padded([[5, 6, 7], [8]], 2, multiple=4)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 2], [8, 2, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]

    class Config:
        attention_window = (8, 16)

    assert (window_of(Config()), window_of(object())) == (16, 1)
