"""Labels against counts by hand, packed passes against separate ones, losses against formulas, metrics against other libraries."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.models import GenConfig, ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.rollout import Reward, Task, next_turn
from gnomon.core.train import TrainConfig
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.building.labels import label
from gnomon.methods.adaptive_sampling.building.samples import (
    Drawing,
    Labelling,
    check_labels,
    cuts_of,
    draw_samples,
    labelled,
    rewards_of,
)
from gnomon.methods.adaptive_sampling.building.training import (
    Answer,
    AnswerBatches,
    Learning,
    SelfEvalLoss,
    packs_questions,
    train_selfeval,
)
from gnomon.methods.adaptive_sampling.evaluator.carriers import Carrier, new_carrier
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart, Schedule
from gnomon.methods.adaptive_sampling.measures.quality import (
    calibration_error,
    fit_tau,
    pooled_auc,
    true_c,
    within_auc,
)
from gnomon.methods.adaptive_sampling.measures.tradeoff import fixed_curve, gamma_for, share_of_gain, verdict
from gnomon.methods.adaptive_sampling.policies.replay import Pool, adaptive

CONSTANT = Schedule("constant", 1.0)


def test_labels_by_hand():
    # .30 ties with .31 under an epsilon of .01 and loses to .5; the greedy sample is compared with by nobody.
    assert label([0.3, 0.31, 0.5, 0.0], epsilon=0.01).tolist() == pytest.approx([2 / 3, 2 / 3, 1, 0])
    assert label([1.0, 0.0, 1.0], fresh=[False, True, True]).tolist() == [1.0, 0.0, 1.0]
    assert label([0.0, 0.0, 1.0], fresh=[False, True, True]).tolist() == [0.5, 0.0, 1.0]
    assert label([0.0, 1.0, 1.0, 1.0, 5.0], "pair").tolist()[:4] == [0, 1, 1, 1]
    assert math.isnan(label([0.0, 1.0, 1.0], "pair")[2])
    assert label([0.0] * 4).tolist() == [1.0] * 4  # hopeless: nothing is better
    with pytest.raises(BadInput, match="there is 1"):
        label([1.0])


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=7), st.sampled_from([0.0, 0.5]))
def test_soft_labels_are_the_mean_of_all_pairs(rewards, epsilon):
    for i, value in enumerate(label(rewards, epsilon=epsilon)):
        pairs = [label([rewards[i], r], "pair", epsilon=epsilon)[0] for j, r in enumerate(rewards) if j != i]
        assert value == pytest.approx(np.mean(pairs))


def drawing(k=4, schedule=CONSTANT, restart="next"):
    gen = GenConfig(max_new_tokens=4)
    return Drawing(gen, k, schedule, Restart.of(schedule, gen, restart))


def test_copies_become_one_row_and_a_sample_without_reward_leaves_with_its_partner():
    row = {"id": "a", "prompt": "p", "prompt_ids": [1],
           "samples": [{"text": t, "tokens": ids, "logprob": 0.0, "finish": "eos"}
                       for t, ids in (("x", [5, 6]), ("y", [7, 8, 9]), ("x", [5, 6]), ("z", [3]))]}  # fmt: skip
    rows = labelled(row, [1.0, 0.0, 1.0, 0.0], drawing(), Labelling(prefixes=1), Rng(0))
    assert [(r["response"], r["weight"], r["label"]) for r in rows] == [
        ("x", 2, 1.0),
        ("y", 1, pytest.approx(1 / 3)),
        ("z", 1, pytest.approx(1 / 3)),
    ]
    assert rows[0]["prefix_tokens"] == [1, 2] and rows[2]["prefix_tokens"] == [1]
    pairs = labelled(row, [1.0, math.nan, 1.0, 0.0], drawing(), Labelling("pair"), Rng(0))
    assert [(r["response"], r["label"]) for r in pairs] == [("x", 1.0), ("z", 0.0)]
    with pytest.raises(BadInput, match=r'Task "a": 1 of its samples'):
        labelled(row, [1.0, math.nan, math.nan, math.nan], drawing(), Labelling(), Rng(0))


def test_beginnings_are_distinct_and_shorter_than_the_answer():
    assert (
        cuts_of(5, 99, Rng(0)) == [1, 2, 3, 4, 5]
        and cuts_of(1, 3, Rng(0)) == [1]
        and cuts_of(9, 0, Rng(0)) == [9]
    )


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(BadInput, match="every label is 1"):
        check_labels([{"label": 1.0}, {"label": 1.0}])
    with pytest.raises(BadInput, match="no labelled answers"):
        check_labels([])
    with pytest.raises(BadInput, match='Task "t" has no reference'):
        from gnomon.core.rollout import open_reward

        rewards_of(Task("t", "q"), [{"text": "1", "finish": "eos"}], open_reward("number"))
    reward = Reward("rule:x", lambda samples: [1.0, math.nan])
    values = rewards_of(Task("t", "q"), [{"text": "1", "finish": "eos"}] * 2, reward)
    assert values[0] == 1.0 and math.isnan(values[1])


def test_samples_of_a_task_depend_on_no_other(policy):
    model, tokenizer = policy
    tasks = [Task(f"{i}", f"{i} + 1 =") for i in range(4)]
    together = list(draw_samples(model, tokenizer, tasks, drawing(), Rng(0)))
    alone = list(draw_samples(model, tokenizer, tasks[2:3], drawing(), Rng(0)))
    assert [s["tokens"] for s in together[2]["samples"]] == [s["tokens"] for s in alone[0]["samples"]]
    annealed = drawing(schedule=Schedule(), restart="next")
    assert annealed.n == 5 and annealed.settings.temperatures[:3] == (0.0, 0.5, 0.75)
    long = list(draw_samples(model, tokenizer, [Task("l", "1 + " * 30)], drawing(), Rng(0)))
    assert 'Task "l": its prompt has' in long[0].reason


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "gemma"])
def test_questions_in_one_row_are_read_as_each_alone(name, handle_of_family):
    model = handle_of_family(name).model
    assert packs_questions(model)
    carrier = Carrier("text", 4, 5, (2,), (9, 10, 11), (12, 13))
    answers = [Answer((3, 4, 5), (6, 7, 8, 9, 2), (1, 3, 5), 0.25), Answer((3, 4), (8, 2), (2,), 0.75, 2.0)]
    values, gradients = [], []
    for is_packed in (True, False):
        batches = AnswerBatches(answers, carrier, 2, pad_id=0, generator=Rng(0), is_packed=is_packed)
        (micro,) = batches.at(0).micro
        model.zero_grad()
        loss = SelfEvalLoss(carrier, "lm", 0.5)(model.eval(), micro)
        loss.backward()
        values.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_sliding_windows_are_read_in_rows_of_their_own(handle_of_family):
    assert not packs_questions(handle_of_family("mistral").model)


@pytest.fixture
def handle_of_family(checkpoint):
    return lambda name: ModelHandle.load(checkpoint(name), device="cpu")


def test_the_loss_by_hand(policy):
    """-y ln p(No) - (1 - y) ln p(Yes) over the two logits alone, a mean over cuts, and KL(before || now) over all other ids."""
    model, tokenizer = policy
    carrier = new_carrier("token", model, tokenizer)
    answer = Answer((4, 24, 5, 25), (10, 1), (1, 2), 0.3, 2.0)
    (micro,) = AnswerBatches([answer], carrier, 1, pad_id=0, generator=Rng(0), is_packed=False).at(0).micro
    expected = 0.0
    for cut in (1, 2):
        ids = torch.tensor([[4, 24, 5, 25, *answer.ids[:cut], carrier.finished[0]]])
        pair = model(ids).logits[0, -1, [carrier.no, carrier.yes]].log_softmax(-1)
        expected += (-(0.3 * pair[0] + 0.7 * pair[1])).item()
    assert SelfEvalLoss(carrier, "none")(model, micro).item() == pytest.approx(expected, rel=1e-5)
    import copy

    before = copy.deepcopy(model)
    assert SelfEvalLoss(carrier, "kl", 1.0, before)(model, micro).item() == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        for p in before.parameters():
            p += 0.05 * torch.randn(p.shape, generator=Rng(1).torch())
    ids = torch.tensor([[4, 24, 5, 25, 10, 1]])
    keep = [i for i in range(len(tokenizer)) if i not in carrier.banned]
    was, now = (m(ids).logits[0, 3:5][:, keep].log_softmax(-1) for m in (before, model))
    kl = (was.exp() * (was - now)).sum(-1).mean().item()
    total = SelfEvalLoss(carrier, "kl", 1.0, before)(model, micro).item()
    assert total - expected == pytest.approx(kl, rel=1e-3) and kl > 0


@pytest.mark.parametrize("kind", ["token", "reserved", "text"])
def test_training_teaches_c_the_labels(evaluator, kind, sink):
    """Answers that end in an even number beat all others: after training c says so, of beginnings as far as it can be seen."""
    asked = evaluator(kind)
    tok = asked.tokenizer
    answers = [
        Answer(tuple(tok(f"{a} + {b} =")["input_ids"]), (tok("so")["input_ids"][0], n + 4, 1), (1, 3), float(n % 2 == 0))
        for a in range(4) for b in range(4) for n in range(8)
    ]  # fmt: skip
    cfg = TrainConfig(lr=1e-2, batch_size=32, epochs=30, checkpoint_every=0, keep_checkpoints=0)
    _, is_packed = train_selfeval(asked, answers, cfg, Learning("kl"), run=sink(3), pad_id=tok.pad_token_id)
    assert is_packed == (kind != "reserved")
    c = asked.score([a.prompt for a in answers], [a.ids for a in answers])
    right = np.array([a.label for a in answers])
    assert np.abs(c - right).mean() < 0.1
    part = asked.score([a.prompt for a in answers], [a.ids for a in answers], [1] * len(answers))
    assert np.abs(part - 0.5).mean() < 0.2


def test_c_is_no_matter_of_temperature_top_p_or_company(evaluator):
    asked = evaluator()
    prompts = ["1 + 2 =", "7 + 7 =", "0 + 0 ="]
    values = asked.score(prompts, ["so 3", "14", "so 1"])
    for prompt, response, value in zip(prompts, ["so 3", "14", "so 1"], values, strict=True):
        assert asked.score([prompt], [response])[0] == pytest.approx(value, abs=1e-6)
    ids = asked.tokenizer("1 + 2 = so 3")["input_ids"] + [asked.carrier.finished[0]]
    pair = asked.model(torch.tensor([ids])).logits[0, -1, [asked.carrier.no, asked.carrier.yes]].double()
    assert values[0] == pytest.approx(pair.softmax(-1)[0].item(), abs=1e-6)
    asked.tau = 2.0
    assert asked.score(prompts[:1], ["so 3"])[0] == pytest.approx((pair / 2).softmax(-1)[0].item(), abs=1e-6)
    with pytest.raises(BadInput, match="a prefix of 9"):
        asked.score(prompts[:1], ["so 3"], [9])


def test_the_text_carrier_leaves_the_answer_s_tokens_as_they_were_sampled(embedded):
    from types import SimpleNamespace

    from gnomon.core.models import load_tokenizer

    tokenizer = load_tokenizer(embedded("smollm2"))
    end, question = next_turn("Again?", tokenizer)
    assert tokenizer.decode(end) == "<|im_end|>"
    assert tokenizer.decode(question) == "\n<|im_start|>user\nAgain?<|im_end|>\n<|im_start|>assistant\n"
    named = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=2))  # no weight is needed
    carrier = new_carrier("text", named, tokenizer)
    assert (carrier.yes, carrier.no) == tuple(tokenizer(w)["input_ids"][0] for w in ("Yes", "No"))
    odd = [504, 28, 28]  # ids that no encoding of their own text gives
    assert carrier.layout(odd, is_finished=True) == (3, (*end, *carrier.finished))
    assert carrier.layout([*odd, *end], is_finished=True) == (4, carrier.finished)
    assert carrier.layout(odd, is_finished=False) == (3, carrier.partial)
    assert "not finished" in tokenizer.decode(carrier.partial) and "not finished" not in tokenizer.decode(
        carrier.finished
    )


def test_a_template_without_an_end_token_and_one_with_it(tiny_tokenizer):
    import copy

    tokenizer = copy.deepcopy(tiny_tokenizer)
    assert next_turn("x", tokenizer)[0] == [tokenizer.eos_token_id]  # the plain form
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|u|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<|u|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|u|>"
        "{% endif %}"
    )
    end, question = next_turn("x", tokenizer)
    assert end == [] and tokenizer.decode(question) == "<|u|>x<|u|>"


def test_yes_and_no_of_little_mass_fall_back_to_the_token(policy, caplog):
    model, tokenizer = policy
    import copy

    chatty = copy.deepcopy(tokenizer)
    assert new_carrier("text", model, chatty, instructions=("again", "sofar")).kind == "text"
    bare = copy.deepcopy(tokenizer)
    bare.add_tokens([])
    from gnomon.methods.adaptive_sampling.evaluator import carriers

    original = carriers.SPELLINGS
    carriers.SPELLINGS = (("never seen", "No"), ("unheard of", "No"))
    try:
        assert new_carrier("text", model, bare, instructions=("again", "sofar")).kind == "token"
    finally:
        carriers.SPELLINGS = original
    assert "the carrier is token in place of text" in caplog.text


# Metrics.


def test_within_auc_is_scikit_learn_s_of_each_prompt():
    from sklearn.metrics import roc_auc_score

    draw = Rng(0).numpy()
    rewards, values = (draw.random((30, 8)) < 0.4).astype(float), draw.random((30, 8)).round(1)
    mixed = [i for i in range(30) if 0 < rewards[i].sum() < 8]
    assert within_auc(rewards, values) == pytest.approx(
        np.mean([roc_auc_score(rewards[i], values[i]) for i in mixed])
    )
    assert within_auc(np.zeros((3, 4)), values[:3, :4]) is None
    # Hopeless prompts have a high c: useless pooled, perfect within.
    c = np.array([[0.9, 0.95], [0.2, 0.7]])
    assert within_auc(np.array([[0, 0], [0, 1.0]]), c) == 1 and pooled_auc(
        np.array([[0, 0], [0, 1.0]]), c
    ) == pytest.approx(1 / 3)


def test_truth_and_calibration_by_hand():
    rewards = np.array([[1.0, 0.0, 0.0]])
    assert true_c(rewards).tolist() == [[1.0, 0.5, 0.5]]
    assert true_c(rewards, np.array([[1.0, 1.0, 0.0, 0.0]])).tolist() == [[1.0, 0.5, 0.5]]
    # Bins of .05 and .08 together: |.13 - 1| / 2.
    assert calibration_error(np.array([0.05, 0.08]), np.array([1.0, 0.0])) == pytest.approx(0.435)
    draw = Rng(1).numpy()
    logit = draw.normal(0, 1, 4000)
    truth = 1 / (1 + np.exp(-logit))
    assert fit_tau(1 / (1 + np.exp(-3 * logit)), truth) == pytest.approx(3, rel=0.02)


def test_gamma_takes_as_many_samples_as_were_asked_for_and_share_of_gain_is_undefined_without_gain():
    draw = Rng(2).numpy()
    c = draw.random((50, 8))
    pool = Pool(c, (draw.random((50, 8)) < c).astype(float), np.ones((50, 8)), c, [["x"] * 8] * 50, {})
    for target in (1.5, 2.0, 5.0):
        gamma = gamma_for(pool, target)
        assert (
            adaptive(pool, gamma).samples.mean()
            <= target
            < adaptive(pool, np.nextafter(gamma, 2) + 0.05).samples.mean()
        )
    assert share_of_gain(0.5, 0.6, 0.6) is None
    assert fixed_curve(pool, None)[0] == pool.reward[:, 0].mean()


def test_the_verdict_recommends_nothing_where_choosing_harms():
    draw = Rng(2).numpy()
    reward = (draw.random((200, 8)) < 0.5).astype(float)
    forms = [[str(x) for x in row] for row in reward]
    good = Pool(
        reward + 0.1 * draw.random((200, 8)), reward, np.ones((200, 8)), draw.random((200, 8)), forms, {}
    )
    assert verdict(good, None, Rng(0)).beats
    bad = replace(good, c=-good.c)
    judged = verdict(bad, None, Rng(0))
    assert (
        not judged.beats
        and "No gamma is recommended" in judged.sentence
        and "no better than one sample" in judged.sentence
    )
