"""Transformers as students: learning, determinism, scoring that does not depend on company, saving, errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_sieve_students import corpus, save_bert, save_t5, save_t5_classifier, small_tokenizer
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, ModelMismatch, UserError
from gnomon.methods.sieve.students import (
    StudentConfig,
    Tokens,
    epoch_batches,
    focal_parts,
    open_student,
    plan_batches,
    split_held_out,
)

QUICK = {"lr": 5e-3, "max_steps": 6, "batch_size": 16, "max_tokens": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {
        "t5": save_t5(tmp_path_factory.mktemp("t5")),
        "bert": save_bert(tmp_path_factory.mktemp("bert")),
        "bert-1": save_bert(tmp_path_factory.mktemp("bert-1"), num_labels=1),
        "bert-5": save_bert(tmp_path_factory.mktemp("bert-5"), num_labels=5),
        "bert-base": save_bert(tmp_path_factory.mktemp("bert-base"), headed=False),
        "t5-classifier": save_t5_classifier(tmp_path_factory.mktemp("t5-classifier")),
    }
    yield made


def quick_fit(student, seed=0, n=40, **more):
    texts, labels = corpus(n)
    return student.fit(texts, labels, [1.0] * n, Rng(seed), **more)


ALL = ["t5", "bert", "bert-1", "bert-5", "bert-base", "t5-classifier"]


@pytest.mark.slow
@pytest.mark.parametrize("which", ALL)
def test_every_kind_learns_two_topics(folders, which):
    student = open_student(folders[which], StudentConfig(**QUICK | {"max_steps": 60, "epochs": 60}))
    took = quick_fit(student, n=120)
    texts, labels = corpus(200, seed=1)
    assert ((student.predict(texts) > 0.5) == labels).mean() > 0.9
    assert took.held_out == 18 and took.held_out_loss is not None and took.best_step <= took.steps <= 60


@pytest.mark.parametrize("which", ["t5", "bert", "t5-classifier"])
def test_the_same_generator_gives_the_same_bits_and_touches_no_global_stream(folders, which):
    texts, _ = corpus(20, seed=3)
    before = torch.random.get_rng_state()
    scores = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 7 * len(scores))  # what the caller's stream holds is no matter
        at_call = torch.random.get_rng_state()
        student = open_student(folders[which], StudentConfig(**QUICK))
        quick_fit(student, seed)
        scores.append(student.predict(texts).tolist())
        assert torch.equal(torch.random.get_rng_state(), at_call)
    torch.random.set_rng_state(before)
    assert scores[0] == scores[1] != scores[2]


def test_every_fit_begins_anew(folders):
    texts, _ = corpus(10, seed=3)
    student = open_student(folders["t5"], StudentConfig(**QUICK))
    quick_fit(student)
    first = student.predict(texts).tolist()
    quick_fit(student, seed=5, n=30)
    assert student.predict(texts).tolist() != first
    quick_fit(student)
    assert student.predict(texts).tolist() == first


def test_the_weights_with_the_best_loss_on_the_part_kept_back_stay(folders):
    config = StudentConfig(**QUICK | {"lr": 0.05, "max_steps": 20, "patience": 2, "held_out": 0.3})
    student = open_student(folders["t5"], config)
    texts, labels = corpus(40)
    weights = [2.0 if label else 0.5 for label in labels]
    groups = [f"d{i % 13}" for i in range(40)]
    took = student.fit(texts, labels, weights, Rng(0), groups=groups)
    assert (
        took.best_step < took.steps
    )  # it ran on for the sake of its patience, or to the end, without a better loss
    kept = split_held_out(np.array(labels), groups, 0.3, Rng(0).child("fit", "held out").numpy())[1]
    assert took.held_out == len(kept)
    p = student.predict([texts[i] for i in kept])
    alphas = np.array(weights)[kept] / np.mean(weights)
    wanted = focal_parts(np.log(p / (1 - p)), np.array(labels)[kept], alphas, 2.0)[0].mean()
    assert took.held_out_loss == pytest.approx(wanted, rel=1e-4)


def test_one_pass_is_enough(folders):
    student = open_student(folders["t5"], StudentConfig(**QUICK))
    took = student.fit(["vote"] + ["goal of"] * 9, [1] + [0] * 9, [0.9] + [0.1] * 9, Rng(0))
    assert took.held_out == 0 and took.held_out_loss is None and took.best_step == took.steps == 6


def test_steps_are_capped_by_epochs_too(folders):
    student = open_student(folders["t5"], StudentConfig(**QUICK | {"epochs": 2, "held_out": 0.0}))
    assert quick_fit(student).steps == 2 * 3


def test_what_cannot_be_learned_is_said(folders):
    student = open_student(folders["t5"], StudentConfig(**QUICK))
    with pytest.raises(BadInput, match="both verdicts"):
        student.fit(["a", "b"], [1, 1], [1.0, 1.0], Rng(0))
    wild = open_student(folders["t5"], StudentConfig(**QUICK | {"lr": 1e30}))
    with pytest.raises(UserError, match=r"Training stopped at step \d: the loss is nan"):
        quick_fit(wild)


@pytest.mark.parametrize("which", ALL)
def test_scores_do_not_depend_on_batch_order_or_padding_side(folders, which):
    texts = [*corpus(30, seed=2)[0], "", "unheard of words " * 20, "vote </s> goal <pad> <extra_id_0>"]
    student = open_student(folders[which], StudentConfig(**QUICK))
    quick_fit(student, n=20)
    wanted = np.array([student.predict([text])[0] for text in texts])
    assert len(set(wanted.round(6))) > 10
    reordered = student.predict(texts[::-1])[::-1]
    np.testing.assert_allclose(student.predict(texts), wanted, atol=1e-5)
    np.testing.assert_allclose(reordered, wanted, atol=1e-5)
    student.config = replace(student.config, score_tokens=1)  # each text alone
    np.testing.assert_allclose(student.predict(texts), wanted, atol=1e-5)
    student.config = replace(student.config, score_tokens=90)
    student.tokens.tokenizer.padding_side = "left"
    np.testing.assert_allclose(student.predict(texts), wanted, atol=1e-5)
    assert student.predict([]).shape == (0,)


def test_markup_in_a_text_is_text(folders):
    tokens = open_student(folders["t5"], StudentConfig(**QUICK)).tokens
    (plain,) = tokens.encode(["vote </s> goal"])
    assert plain.count(tokens.tokenizer.eos_token_id) == 1 and plain[-1] == tokens.tokenizer.eos_token_id


def test_a_text_is_cut_to_what_the_model_can_read(folders):
    long = "vote " * 100
    assert len(open_student(folders["t5"], StudentConfig(max_tokens=50)).tokens.encode([long])[0]) == 50
    assert len(open_student(folders["bert"], StudentConfig(max_tokens=50)).tokens.encode([long])[0]) == 32


def test_spans_are_the_tokens_without_special_ones(folders):
    student = open_student(folders["t5"], StudentConfig(max_tokens=4))
    text = "The vote, ÉLAN...  goal of the match"
    words = [text[start:end] for start, end in student.token_spans(text)]
    assert words == ["The", "vote", ",", "ÉLAN", "...", "goal", "of", "the", "match"]
    assert student.token_spans("") == []


@pytest.mark.parametrize("which", ["t5", "bert-base"])
def test_a_saved_student_scores_the_same_and_fits_the_same(folders, which, tmp_path):
    texts, _ = corpus(20, seed=3)
    student = open_student(folders[which], StudentConfig(**QUICK))
    quick_fit(student)
    student.save(tmp_path)
    again = open_student(tmp_path)
    assert (again.name, again.config) == (student.name, student.config)
    assert again.predict(texts).tolist() == student.predict(texts).tolist()
    quick_fit(again)
    assert again.predict(texts).tolist() == student.predict(texts).tolist()


def test_an_adapted_student_keeps_its_start(folders, tmp_path):
    texts, _ = corpus(20, seed=3)
    config = StudentConfig(**QUICK, adapt_steps=3, adapt_batch_size=8)
    student, plain = (open_student(f"t5-encoder:{folders['t5']}", config) for _ in range(2))
    student.adapt(texts, Rng(0))
    for one in (student, plain):
        quick_fit(one)
    assert student.predict(texts).tolist() != plain.predict(texts).tolist()
    student.save(tmp_path)
    again = open_student(tmp_path)
    quick_fit(again)
    assert again.predict(texts).tolist() == student.predict(texts).tolist()


def test_references_find_their_kind(folders):
    assert open_student(folders["t5"]).kind == open_student(f"t5-encoder:{folders['t5-classifier']}").kind
    assert open_student(folders["t5-classifier"]).kind == open_student(folders["bert"]).kind
    assert open_student(folders["t5"]).kind == "t5-encoder" != open_student(folders["bert"]).kind
    with pytest.raises(ModelMismatch, match="BertForSequenceClassification; t5-encoder needs a T5"):
        open_student(f"t5-encoder:{folders['bert']}")


def test_what_cannot_be_opened_is_said(folders, tmp_path, checkpoint):
    for ref, message in {
        "hashed-liner": 'No student is called "hashed-liner".*Did you mean "hashed-linear"?',
        "t5-encoder": "t5-encoder needs a T5 to begin from",
        "t5-encodr:x": 'No kind of student is called "t5-encodr". Did you mean "t5-encoder"?',
        "t5-encoder:no/where": 'Model "no/where" is neither a folder here nor a hub model',
        "no/where": 'Model "no/where" is neither a folder here nor a hub model',
        tmp_path: "has no config.json",
    }.items():
        with pytest.raises(BadInput, match=message):
            open_student(ref)
    save_t5(tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    (tmp_path / "bare" / "tokenizer_config.json").unlink()
    with pytest.raises(BadInput, match="No tokenizer could be loaded"):
        open_student(tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="has no safetensors weights"):
        small_tokenizer().save_pretrained(tmp_path / "bare")
        open_student(tmp_path / "bare")
    save_bert(tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    (tmp_path / "own" / "config.json").write_text(json.dumps(config | {"model_type": "unheard"}))
    with pytest.raises(ModelMismatch, match="does not know"):
        open_student(tmp_path / "own")
    with pytest.raises(BadConfig, match=r"student\.device must be"):
        StudentConfig(device="gpu")
    with pytest.raises(BadConfig, match=r"student\.max_steps must be >= 1 or None; got 0"):
        StudentConfig(max_steps=0)
    with pytest.raises(BadConfig, match=r"student\.score_tokens must be >= 1 or None; got 0"):
        StudentConfig(score_tokens=0)


def test_a_fast_tokenizer_is_asked_for():
    with pytest.raises(ModelMismatch, match="needs a fast tokenizer"):
        Tokens(object(), 8)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = plan_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    ordered = [lengths[i] for batch in batches for i in batch]
    assert ordered == sorted(ordered)


def test_an_epoch_holds_every_row_once_in_batches_of_like_length():
    lengths = Rng(0).numpy().integers(1, 100, 200).tolist()
    rows = np.arange(0, 200, 2)
    batches = epoch_batches(lengths, rows, 8, Rng(1))
    epochs = [[next(batches) for _ in range(13)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == rows.tolist()
        assert max(np.ptp([lengths[i] for i in batch]) for batch in epoch) < 25
    assert [batch.tolist() for batch in epochs[0]] != [batch.tolist() for batch in epochs[1]]
