"""The target distribution, worked by hand and by the formula in so many words."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_elm import small_model, small_tokenizer
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.elm import elm_target, erase_loss, retain_loss
from gnomon.methods.elm.erasure import Reweighting, Target, eta_along, reweight, target_of
from gnomon.methods.elm.texts import start_ids, text_ids


def logs(*probabilities):
    return torch.tensor([list(map(math.log, probabilities))])


def test_by_hand_an_expert_s_answer_loses_to_the_novice_s():
    """p = (.5, .25, .25), expert (.8, .1, .1), novice (.2, .4, .4), eta 1: p n / e = (.125, 1, 1), over 2.125."""
    index, value = reweight(
        logs(0.5, 0.25, 0.25), logs(0.8, 0.1, 0.1), logs(0.2, 0.4, 0.4), torch.ones(1), top_k=3, temperature=1.0
    )  # fmt: skip
    found = torch.zeros(1, 3, dtype=torch.float64).scatter(1, index, value)
    assert found[0].tolist() == pytest.approx([0.125 / 2.125, 1 / 2.125, 1 / 2.125])


def test_by_hand_eta_minus_one_enhances():
    """p e / n = (2, 1/16, 1/16), over 2.125."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    passes = [logs(0.5, 0.25, 0.25)[None], logs(0.8, 0.1, 0.1)[None], logs(0.2, 0.4, 0.4)[None]]
    target = target_of(
        passes,
        mask,
        Reweighting(eta=1.0, top_k=3, temperature=1.0, eta_schedule="constant", action="enhance"),
    )
    assert target.index[0, 0, 0] == 0
    assert float(target.value[0, 0, 0]) == pytest.approx(2 / 2.125)


def literal(bare, expert, novice, eta, top_k, temperature):
    """The specification in so many words: log-softmax of each, in float64, the edit, the rest at -inf, softmax."""
    p, e, n = ((z.double() / temperature).log_softmax(-1) for z in (bare, expert, novice))
    edit = p + eta * (n - e)
    kept = edit.topk(top_k, -1)
    return torch.full_like(edit, -math.inf).scatter(-1, kept.indices, kept.values).softmax(-1)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 2.0, 500.0]), st.integers(1, 7))
def test_no_log_softmax_is_needed(seed, eta, top_k):
    draw = torch.Generator().manual_seed(seed)
    bare, expert, novice = (torch.randn(4, 7, generator=draw) * 3 for _ in range(3))
    index, value = reweight(bare, expert, novice, torch.full((4,), eta), top_k=top_k, temperature=1.2)
    found = torch.zeros(4, 7, dtype=torch.float64).scatter(1, index, value)
    assert torch.allclose(found, literal(bare, expert, novice, eta, top_k, 1.2), atol=1e-9)
    assert (found > 0).sum(-1).max() <= top_k


def test_many_rows_are_worked_in_parts():
    draw = torch.Generator().manual_seed(0)
    bare, expert, novice = (torch.randn(300, 5, generator=draw) for _ in range(3))
    whole = reweight(bare, expert, novice, torch.ones(300), top_k=2)
    parts = reweight(bare[290:], expert[290:], novice[290:], torch.ones(10), top_k=2)
    assert torch.equal(whole[0][290:], parts[0])
    assert torch.equal(whole[1][290:], parts[1])


def test_eta_rises_to_each_text_s_own_end():
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    found = eta_along(mask, 9.0, "ramp", 1.0)
    assert found[0].tolist() == [1.0, 5.0, 9.0]
    assert found[1, :2].tolist() == [1.0, 9.0]
    assert found[2, 0] == 1.0  # one token: where the ramp begins
    assert eta_along(mask, 9.0, "constant").unique().tolist() == [9.0]


def test_support_is_one_where_q_is_one_hot():
    value = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.3, 0.7]]], dtype=torch.float64)
    target = Target(torch.zeros(1, 3, 2, dtype=torch.long), value, torch.tensor([[True, True, False]]))
    assert target.support[0, :2].tolist() == pytest.approx([1.0, 2.0])
    assert target.mean_support == pytest.approx(1.5)


@pytest.fixture(scope="module")
def small():
    tokenizer = small_tokenizer()
    return small_model(tokenizer), tokenizer


def test_one_call_of_all_passes_is_three_calls_alone(small):
    """Prefixes and texts of different lengths side by side give what each gives alone, without any padding."""
    model, tokenizer = small
    texts = [text_ids(tokenizer, "z1 is zv2 . the cat"), text_ids(tokenizer, "z3 is")]
    experts = [text_ids(tokenizer, "text of expert in zor :"), text_ids(tokenizer, "expert :")]
    novices = [text_ids(tokenizer, "novice"), text_ids(tokenizer, "text of novice in zor : the")]
    start = [tokenizer.bos_token_id]
    found = elm_target(
        model, texts, experts, novices, Reweighting(eta=2.0, top_k=5, eta_schedule="constant"), start=start
    )
    for i, text in enumerate(texts):
        rows = []
        for prefix in (start, experts[i], novices[i]):
            with torch.no_grad():
                rows.append(model(torch.tensor([[*prefix, *text]])).logits[0, -len(text) :])
        q = literal(*rows, 2.0, 5, 1.2)
        mine = torch.zeros_like(q).scatter(1, found.index[i, : len(text)], found.value[i, : len(text)])
        assert torch.allclose(mine, q, atol=1e-5)
    assert found.mask.tolist() == [[True] * 6, [True] * 2 + [False] * 4]


def test_equal_personas_leave_the_model_as_it_is(small):
    model, tokenizer = small
    text = [text_ids(tokenizer, "z1 is zv2 .")]
    same = [text_ids(tokenizer, "text of expert in zor :")]
    found = elm_target(
        model, text, same, same, Reweighting(eta=1000.0, top_k=len(tokenizer), temperature=1.0)
    )
    with torch.no_grad():
        p = model(torch.tensor(text)).logits[0].double().softmax(-1)
    q = torch.zeros_like(p).scatter(1, found.index[0], found.value[0])
    assert torch.allclose(p, q, atol=1e-6)


def test_random_targets_repeat_and_follow_no_model(small):
    model, tokenizer = small
    text = [text_ids(tokenizer, "z1 is zv2 .")]
    draws = [
        elm_target(
            model,
            text,
            text,
            text,
            Reweighting(eta=1.0, top_k=3, action="random"),
            noise=torch.Generator().manual_seed(s),
        )
        for s in (0, 0, 1)
    ]
    assert torch.equal(draws[0].index, draws[1].index)
    assert not torch.equal(draws[0].index, draws[2].index)


def test_bad_requests_are_told(small):
    model, tokenizer = small
    text = [text_ids(tokenizer, "z1 is")]
    with pytest.raises(
        BadConfig, match=r"top_k must be in 1..\d+, the size of the model's vocabulary; got 999"
    ):
        elm_target(model, text, text, text, Reweighting(eta=1.0, top_k=999))
    with pytest.raises(BadConfig, match="temperature must be > 0"):
        elm_target(model, text, text, text, Reweighting(eta=1.0, top_k=2, temperature=0.0))
    with pytest.raises(BadInput, match="Text 0 has no tokens"):
        elm_target(model, [[]], text, text, Reweighting(eta=1.0, top_k=2))
    with pytest.raises(BadInput, match="need as many prefixes"):
        elm_target(model, text, [*text, *text], text, Reweighting(eta=1.0, top_k=2))


def full(target, vocabulary):
    q = torch.zeros(*target.mask.shape, vocabulary, dtype=torch.float64)
    return q.scatter(-1, target.index, target.value)


def test_erase_loss_is_the_cross_entropy_over_the_whole_vocabulary():
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 9, generator=draw)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    passes = [torch.randn(2, 3, 9, generator=draw) for _ in range(3)]
    target = target_of(passes, mask, Reweighting(eta=2.0, top_k=4, eta_schedule="constant"))
    wanted = -(full(target, 9) * logits.double().log_softmax(-1)).sum(-1)[mask].sum()
    assert float(erase_loss(logits, target)) == pytest.approx(float(wanted), rel=1e-6)
    likeliest = full(target, 9).argmax(-1)
    hard = -logits.log_softmax(-1).gather(-1, likeliest[..., None]).squeeze(-1)[mask].sum()
    assert float(erase_loss(logits, target, "hard")) == pytest.approx(float(hard), rel=1e-6)


def test_retain_loss_is_zero_at_the_start_and_the_divergence_after():
    mask = torch.tensor([[True, False]])
    old = torch.stack([logs(0.5, 0.5), logs(0.1, 0.9)], 1)
    new = torch.stack([logs(0.25, 0.75), logs(0.5, 0.5)], 1)
    assert float(retain_loss(old, old, mask)) == pytest.approx(0, abs=1e-7)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(retain_loss(new, old, mask)) == pytest.approx(expected)
    assert float(retain_loss(new, old, mask, "hard")) == pytest.approx(-math.log(0.25))


def test_the_bare_text_starts_as_the_tokenizer_would(tiny_tokenizer):
    assert start_ids(tiny_tokenizer) == []  # it adds no special token
