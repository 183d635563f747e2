"""Span corruption: what is cut out, that nothing is lost, and that a T5 learns from it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_sieve_students import corpus, save_bert, small_tokenizer
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.sieve.students import (
    StudentConfig,
    Tokens,
    corrupt,
    find_sentinels,
    new_t5,
    noise_mask,
    open_student,
    pretrain,
)

SENTINELS = list(range(1000, 1100))


def spans_of(mask):
    return int(mask[0]) + int((mask[1:] & ~mask[:-1]).sum())


@given(st.integers(2, 600), st.integers(0, 9))
def test_the_share_and_the_spans_are_fixed_by_the_length(length, seed):
    mask = noise_mask(length, np.random.default_rng(seed))
    n_noise = min(max(round(0.15 * length), 1), length - 1)
    assert len(mask) == length and mask.sum() == n_noise and not mask[0] and mask[-1]
    assert spans_of(mask) == max(round(n_noise / 3), 1)


def test_every_place_but_the_first_can_be_cut_out():
    masks = np.stack([noise_mask(40, np.random.default_rng(seed)) for seed in range(400)])
    often = masks.mean(0)
    assert often[0] == 0 and (often[1:-1] > 0.02).all()
    # 40 tokens: 6 are noise, in 2 spans. Of the 5 ways to divide 6 in two, all are equally likely.
    first = [np.diff(np.flatnonzero(np.diff(mask.astype(int), prepend=0, append=0)))[0] for mask in masks]
    assert np.bincount(first, minlength=6)[1:].min() > 50 and max(first) == 5


def test_a_text_worked_by_hand():
    # 7 tokens: 1 is noise, in 1 span that ends the text.
    assert corrupt([5, 6, 7, 8, 9, 10, 11], SENTINELS, 1, np.random.default_rng(0)) == (
        [5, 6, 7, 8, 9, 10, 1000, 1],
        [1000, 11, 1],
    )


@given(st.lists(st.integers(2, 99), min_size=2, max_size=120), st.integers(0, 9))
def test_source_and_target_hold_the_whole_text(ids, seed):
    source, target = corrupt(ids, SENTINELS, 1, np.random.default_rng(seed))
    assert source.pop() == target.pop() == 1
    spans = {}
    for token in target:
        if token >= 1000:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    assert list(spans) == SENTINELS[: len(spans)] and all(spans.values())
    assert [token for part in source for token in spans.get(part, [part])] == ids


@pytest.mark.slow
def test_a_t5_learns_and_the_same_generator_repeats_it():
    tokenizer = small_tokenizer()
    texts, _ = corpus(60)

    def losses(seed):
        model = new_t5(tokenizer, d_model=16, layers=1, heads=2, generator=Rng(0))
        settings = {"steps": 25, "lr": 0.01, "batch_size": 16, "precision": "float32"}
        return pretrain(model, Tokens(tokenizer, 64), texts, rng=Rng(seed), **settings)

    before = torch.random.get_rng_state()
    first = losses(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.mean(first[-3:]) < np.mean(first[:3]) - 0.7
    assert losses(1) == first != losses(2)


def test_without_sentinels_or_text_it_says_so(tmp_path):
    tokenizer = small_tokenizer()
    assert len(find_sentinels(tokenizer)) == 100
    with pytest.raises(BadInput, match="No unlabelled text has two tokens"):
        pretrain(
            None,
            Tokens(tokenizer, 8),
            ["one", ""],
            steps=1,
            lr=1,
            batch_size=1,
            precision="float32",
            rng=Rng(0),
        )
    from gnomon.core.models import train_bpe

    with pytest.raises(ModelMismatch, match="no <extra_id_0>"):
        find_sentinels(train_bpe(["a b"], 300))


def test_a_student_without_a_decoder_ignores_unlabelled_text(tmp_path):
    student = open_student(save_bert(tmp_path), StudentConfig(adapt_steps=3))
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    student.adapt(["a b c", "d e f"], Rng(0))
    assert all(torch.equal(before[name], value) for name, value in student.model.state_dict().items())
