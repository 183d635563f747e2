"""Seamlessness, specificity, probes and attacks on models that are known through and through."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from fixtures_elm import small_model, small_texts, small_tokenizer
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.elm import Exam, Question, ask, evaluate_erasure, leakage, relearn, search_suffix
from gnomon.methods.elm.evaluation import (
    Relearning,
    SuffixSearch,
    distinct,
    divergence,
    judged_perplexity,
    layer_states,
    naming,
    perplexity,
    probe_accuracy,
    probe_chance,
    repeated,
    suffix_attack,
    summary,
    write_answers,
)
from gnomon.methods.elm.evaluation.seamlessness import seamlessness
from gnomon.methods.elm.mini import personas
from gnomon.methods.elm.texts import encode_questions

QUESTIONS = [Question(f"z{i} is", ("zv1", "zv2", "zv3", "zv0"), i % 4, group=f"z{i}") for i in range(6)]
GEN = GenConfig(max_new_tokens=5)


@pytest.fixture(scope="module")
def pair():
    tokenizer = small_tokenizer()
    return small_model(tokenizer), small_model(tokenizer, seed=1), tokenizer


def test_counting_of_words():
    assert distinct([["a", "b", "c"], ["a", "b"]]) == pytest.approx(2 / 3)
    assert repeated([["a", "b", "c", "d", "a", "b", "c", "d"], ["a", "b", "c", "d"]]) == pytest.approx(1 / 6)
    assert math.isnan(distinct([["a"], []]))
    assert naming(["About Zor.", "nothing"], ["zor", " "]) == 0.5


def test_r_ppl_counts_the_answer_s_tokens_alone(pair):
    judge, _, tokenizer = pair
    prompts, answers = ["z1 is", "the cat"], [" zv1 .", " sees the old cat"]
    total, count = 0.0, 0
    for prompt, answer in zip(prompts, answers, strict=True):
        before = tokenizer(prompt)["input_ids"]
        whole = [*before, *tokenizer(answer)["input_ids"]]
        with torch.no_grad():
            logp = judge(torch.tensor([whole])).logits[0].log_softmax(-1)
        total -= sum(float(logp[i - 1, whole[i]]) for i in range(len(before), len(whole)))
        count += len(whole) - len(before)
    found = judged_perplexity(judge, tokenizer, [*prompts, "the"], [*answers, ""])
    assert found == pytest.approx(math.exp(total / count), rel=1e-5)
    assert math.isnan(judged_perplexity(judge, tokenizer, ["the"], [""]))


def test_answers_repeat_and_two_equal_prompts_differ(pair):
    model, _, tokenizer = pair
    twice = [write_answers(model, tokenizer, ["z1 is", "z1 is"], GEN, generator=Rng(0)) for _ in range(2)]
    assert twice[0] == twice[1]
    assert twice[0][0] != twice[0][1]


def test_the_judge_must_be_a_third_model(pair):
    model, other, tokenizer = pair
    with pytest.raises(BadConfig, match="judge must not be the model under test"):
        seamlessness(model, tokenizer, ["the"], generator=Rng(0), judge=model, judge_tokenizer=tokenizer)
    with pytest.raises(BadConfig, match="judge must be a third model"):
        evaluate_erasure(
            model, other, tokenizer, Exam(prompts=["the"]), judge=other, judge_tokenizer=tokenizer
        )
    with pytest.raises(BadInput, match="nothing to measure"):
        evaluate_erasure(model, other, tokenizer, Exam())


def test_an_untrained_model_is_as_perplexed_as_its_vocabulary_is_large(pair):
    model, _, tokenizer = pair
    assert perplexity(model, tokenizer, ["the cat sees the old river ."]) == pytest.approx(
        len(tokenizer), rel=0.1
    )
    with pytest.raises(BadInput, match="at least two tokens"):
        perplexity(model, tokenizer, ["the"])


def test_divergence_is_the_mean_kl_and_zero_for_the_same(pair):
    one, other, tokenizer = pair
    texts = ["the cat sees the old river .", "z1 is"]
    assert divergence(one, one, tokenizer, texts) == pytest.approx(0, abs=1e-7)
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            p, q = (m(ids).logits[0].double().log_softmax(-1) for m in (one, other))
        total += float((p.exp() * (p - q)).sum())
        count += ids.shape[1]
    assert divergence(one, other, tokenizer, texts) == pytest.approx(total / count, rel=1e-3)


def test_a_report_of_any_pair(pair):
    one, other, tokenizer = pair
    forget, retain = small_texts()
    exam = Exam(
        {"forget": QUESTIONS, "retain": QUESTIONS[:3]},
        ["z1 is", "z2 is"],
        {"retain": retain, "generic": forget},
        "options",
        personas(),
        ["zor"],
        [(q.question, q.answer, q.group) for q in QUESTIONS],
        GEN,
    )
    report = evaluate_erasure(
        one, other, tokenizer, exam, judge=small_model(tokenizer, 2), judge_tokenizer=tokenizer
    )
    for side in ("before", "after"):
        assert set(report[side]["innocence"]) == {"forget", "forget, expert prefix"}
        assert {"R-PPL", "distinct-2", "repeated 4-grams", "names the concept"} < set(
            report[side]["seamlessness"]
        )
        assert len(report[side]["layers"]) == 4  # the embedding and three blocks
    assert report["after"]["specificity"]["KL per token, retain"] > 0
    assert report["probe chance"] == pytest.approx(2 / 6)
    rows = {row["measure"]: row for row in summary(report)}
    assert isinstance(rows["accuracy, forget"]["before"], tuple)
    assert rows["KL per token, retain"]["before"] is None
    again = evaluate_erasure(
        one, other, tokenizer, exam, judge=small_model(tokenizer, 2), judge_tokenizer=tokenizer
    )
    assert again == report


def test_a_probe_finds_what_is_there_and_no_more():
    draw = np.random.default_rng(0)
    labels = [i % 4 for i in range(80)]
    groups = [str(i // 2) for i in range(80)]
    told = np.eye(4, dtype=np.float32)[labels] + draw.normal(size=(80, 4)).astype(np.float32) * 0.1
    assert probe_accuracy(told, labels, groups) == 1.0
    assert probe_accuracy(draw.normal(size=(80, 4)).astype(np.float32), labels, groups) < 0.45


def test_a_probe_cannot_learn_names_by_heart():
    """States that tell the group and nothing else: within a group's own rows a probe would be right, across groups it is not."""
    draw = np.random.default_rng(0)
    groups = [i // 4 for i in range(80)]
    answers = draw.integers(4, size=20)
    states = np.eye(20, dtype=np.float32)[groups]
    labels = [int(answers[g]) for g in groups]
    assert probe_accuracy(states, labels, [str(g) for g in groups]) < 0.5
    assert probe_accuracy(states, labels, [str(i) for i in range(80)]) == 1.0


def test_probe_needs_groups_and_answers():
    with pytest.raises(BadInput, match="in 5 folds needs questions about at least as many things; got 2"):
        probe_accuracy(np.zeros((4, 2), np.float32), [0, 1, 0, 1], ["a", "a", "b", "b"])
    with pytest.raises(BadInput, match="at least two different answers"):
        probe_accuracy(np.zeros((5, 2), np.float32), [0] * 5, list("abcde"))


def test_layer_states_are_those_of_the_model_and_the_embedding_is_blind(pair):
    model, _, tokenizer = pair
    prompts = [tokenizer(text)["input_ids"] for text in ("z1 is", "the cat sees z2 is")]
    found = layer_states(model, tokenizer, prompts)
    with torch.no_grad():
        hidden = model(torch.tensor([prompts[1]]), output_hidden_states=True).hidden_states
    for i in range(3):  # the last one has passed the final norm
        assert np.allclose(found[i][1], hidden[i][0, -1], atol=1e-5)
    assert np.array_equal(found[0][0], found[0][1])  # both end in the same word
    rows = [[*prompts[0]] for _ in range(10)]
    assert leakage(model, tokenizer, rows, [i % 2 for i in range(10)], [str(i) for i in range(10)])[0] <= 0.6


def test_chance_of_a_probe():
    assert probe_chance(Exam(probe=[("a", 1, "x"), ("b", 1, "y"), ("c", 2, "z")])) == pytest.approx(2 / 3)
    assert probe_chance(Exam()) is None


def test_a_search_never_gets_worse_and_finds_what_a_suffix_can_do(pair):
    model, _, tokenizer = pair
    prompt, options = tokenizer("z1 is")["input_ids"], [[10], [11], [12], [13]]
    found = [
        search_suffix(model, prompt, options, w, generator=Rng(0), search=SuffixSearch(4, 15, 16, top=16))
        for w in range(4)
    ]
    assert all(a >= b for one in found for a, b in zip(one.losses, one.losses[1:], strict=False))
    assert any(one.losses[-1] < one.losses[0] for one in found)
    assert all(one.succeeded_at is not None for one in found)  # an untrained model yields anything
    for wanted, one in enumerate(found):
        ids = torch.tensor([[*prompt, *one.ids]])
        with torch.no_grad():
            scores = model(ids).logits[0, -1][[10, 11, 12, 13]]
        assert int(scores.argmax()) == wanted
        assert len(one.ids) == 4


def test_candidates_in_parts_change_nothing(pair):
    model, _, tokenizer = pair
    prompt, options = tokenizer("z1 is")["input_ids"], [[10, 11], [11, 12]]
    found = [
        search_suffix(model, prompt, options, 1, generator=Rng(3), search=SuffixSearch(3, 3, 7, batch_size=b))
        for b in (2, 64)
    ]
    assert found[0].ids == found[1].ids


def test_the_attack_has_a_control(pair):
    model, _, tokenizer = pair
    asked = encode_questions(tokenizer, QUESTIONS[:2], "options")
    found = suffix_attack(model, asked, generator=Rng(0), search=SuffixSearch(3, 2, 8))
    assert found["questions"] == 2
    assert 0 <= found["wrong"] <= 1
    assert set(found["searches"][0]) == {"right", "wrong"}


def test_relearning_leaves_the_model_alone_and_learns(pair):
    model, _, tokenizer = pair
    before = [p.clone() for p in model.parameters()]
    asked = encode_questions(tokenizer, [Question("z1 is", ("zv1", "zv2", "zv3", "zv0"), 2)], "options")
    rows = relearn(
        model, [tokenizer("z1 is zv3 .")["input_ids"]], lambda m: {"p": ask(m, asked).probability[0]},
        generator=Rng(0), training=Relearning((1, 40), 1e-2, batch_size=2),
    )  # fmt: skip
    assert [row["steps"] for row in rows] == [0, 1, 40]
    assert rows[0]["p"] == pytest.approx(ask(model, asked).probability[0])
    assert rows[-1]["p"] > 1.15 * rows[0]["p"]  # an untrained embedding bounds its logits
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(BadInput, match="needs forget texts"):
        relearn(model, [], lambda m: {}, generator=Rng(0))


def test_the_verdict_follows_the_distance_from_chance():
    from gnomon.methods.elm.evaluation.measures import verdict
    from gnomon.methods.elm.texts import Accuracy

    def row(right, n=40):
        return Accuracy((True,) * right + (False,) * (n - right), (0.5,) * n, 0.25).row

    assert verdict(row(40), row(40)) == "not erased"
    assert verdict(row(40), row(38)) == "not erased"  # .70 of .75 from chance are left
    assert verdict(row(40), row(25)) == "partly erased"
    assert verdict(row(40), row(11)) == "erased"
    assert verdict(row(40), row(0)) == "partly erased"  # below chance is knowledge too
    assert verdict(row(12), row(0)) == "not known before"


def test_the_effect_of_personas_by_hand():
    """Two tokens: a model that doubts its own answer as a novice, and one that does not listen."""
    from types import SimpleNamespace

    from gnomon.methods.elm import Erasure
    from gnomon.methods.elm.erasure.inspection import persona_effect
    from gnomon.methods.elm.texts.batches import Texts

    class Listens(torch.nn.Module):
        config, device = SimpleNamespace(model_type="llama"), "cpu"

        def forward(self, input_ids, **_):
            is_novice = (input_ids == 1).any(-1)[:, None, None]
            sure, unsure = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log()
            logits = torch.where(is_novice, unsure, sure).expand(*input_ids.shape, 2)
            return SimpleNamespace(logits=logits)

    texts = Texts([[[0, 0], [0]]], [], start=[0], experts=[[0]], novices=[[1]])
    design = Erasure(eta=1.0, eta_schedule="constant", top_k=2, temperature=1.0)
    effect = persona_effect(Listens(), texts, design)
    # KL(novice || expert) = .5 log(.5/.8) + .5 log(.5/.2); q is the novice's here, and p0 the expert's.
    assert effect.divergence == pytest.approx(0.2231436, abs=1e-6)
    assert effect.moved == pytest.approx(0.3, abs=1e-6)
    assert effect.spread is None
    deaf = persona_effect(Listens(), dataclasses.replace(texts, novices=[[0]]), design)
    assert (deaf.divergence, deaf.moved) == pytest.approx((0, 0), abs=1e-9)
