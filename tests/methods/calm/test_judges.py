"""Judges of every kind, on tiny checkpoints of real classes where they are models."""

import math
from statistics import fmean

import pytest
import torch

from fixtures_calm import made_items, simulated
from gnomon.core.llm import Script, ask, open_llm
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, LLMFailure, ModelMismatch
from gnomon.methods.calm import (
    FunctionJudge,
    JudgeOptions,
    LogitJudge,
    PairwiseJudge,
    PointwiseJudge,
    Prompting,
    RewardModelJudge,
    Trial,
    open_judge,
)
from gnomon.methods.calm.judging import TIE

TOKEN = Prompting("token")


def trial(*answers, name="i", draw=0, **more):
    answers = answers or ("first", "second")
    return Trial(name, "alignment", "plain", "", draw, tuple(range(len(answers))), "What?", answers, **more)


def from_items(n, **more):
    items = made_items(n, sets=("alignment",))
    return [trial(*one.answers, name=one.id, **more) for one in items]


# In words


def test_opinions_come_in_order_and_one_by_one():
    seen = []
    judge = simulated()
    found = judge.judge(from_items(40), lambda i, opinion: seen.append((i, opinion)))
    assert dict(seen) == dict(enumerate(found)) and len(seen) == 40
    assert {one.slot for one in found} == {0, 1}
    assert judge.is_simulated and all(one.tokens_in > 100 for one in found)


def test_draws_are_independent_and_repeat():
    judge = simulated()
    first, same, other = (judge.judge(from_items(120, draw=d)) for d in (0, 0, 1))
    assert [a.slot for a in first] == [b.slot for b in same]
    assert 0.4 < fmean(a.slot == b.slot for a, b in zip(first, other, strict=True)) < 0.9


def test_a_judge_that_never_answers_is_an_error_and_one_failure_is_data():
    broken = PairwiseJudge(Script(lambda request: 1 / 0, "broken"))
    with pytest.raises(LLMFailure, match="broken answered none of 2 requests"):
        broken.judge([trial(), trial("x", "y")])

    def moody(request):
        if "weak" in request.messages[-1].content:
            raise ValueError("no")
        return "[[A]]"

    found = PairwiseJudge(Script(moody, "moody")).judge([trial(), trial("weak", "y")])
    assert [one.status for one in found] == ["ok", "failed"]


def test_scores_one_by_one_make_a_comparison():
    good, bad = made_items(1, sets=("alignment",))[0].answers
    judge = PointwiseJudge(simulated("noise=0"))
    (opinion,) = judge.judge([trial("Step 1: 1+1=2. " * 20, "Step 1: 1+1=3. " * 20)])
    assert opinion.slot == 0 and "---" in opinion.text
    (tie,) = judge.judge([trial("2+2=4. a", "2+2=4. b")])
    assert tie.slot == TIE
    (score,) = judge.judge([trial(good, kind="score")])
    assert 1 <= score.score <= 10
    (lost,) = PointwiseJudge(simulated("gibberish=1")).judge([trial(good, bad)])
    assert (lost.slot, lost.status) == (None, "unparsed")


def test_functions():
    judge = FunctionJudge(lambda t: max(range(len(t.answers)), key=lambda i: len(t.answers[i])))
    assert [one.slot for one in judge.judge([trial("a", "bbb"), trial("aa", "b")])] == [1, 0]
    assert FunctionJudge(lambda t: "B").judge([trial()])[0].slot == 1
    assert FunctionJudge(lambda t: "tie").judge([trial()])[0].slot == TIE
    assert FunctionJudge(lambda t: None).judge([trial()])[0].status == "unparsed"
    assert FunctionJudge(lambda t: 7).judge([trial(kind="score")])[0].score == 7
    for wrong in (2, "C", 0.5, True):
        with pytest.raises(BadInput, match="must give a slot"):
            FunctionJudge(lambda t, wrong=wrong: wrong).judge([trial()])
    with pytest.raises(BadInput, match="must give a number"):
        FunctionJudge(lambda t: "A").judge([trial(kind="score")])


def test_judges_by_reference():
    assert open_judge("sim:judge").is_simulated
    assert isinstance(open_judge("sim:judge", "pointwise"), PointwiseJudge)
    assert open_judge("builtins:len", "function").name == "builtins:len"
    with pytest.raises(BadConfig, match="names no function"):
        open_judge("length", "function")
    for kind, what in (("logit", "log-probabilities"), ("reward", "rewards")):
        with pytest.raises(ModelMismatch, match=f"an endpoint gives no {what}"):
            open_judge("http://localhost:1/v1#m", kind)
    with pytest.raises(BadConfig, match="style must be one of"):
        open_judge("sim:judge", options=JudgeOptions(style="xml"))
    with pytest.raises(BadInput):
        open_judge("hf:no/such/folder/anywhere", "logit")


# Checkpoints


@pytest.fixture(scope="module")
def llama(checkpoint):
    return checkpoint("llama", max_position_embeddings=4096)


@pytest.fixture(scope="module")
def logit(llama):
    return LogitJudge(llama, prompting=TOKEN, device="cpu")


def test_logit_judge_compares_the_letters(logit):
    trials = [trial(f"text {i}", f"other {i * i}") for i in range(7)]
    found = logit.judge(trials)
    for one, asked in zip(found, trials, strict=True):
        ids = torch.tensor([logit.template.encode(ask(TOKEN.prompt(asked)))])
        with torch.no_grad():
            row = torch.log_softmax(logit.model(ids).logits[0, -1].float(), -1)
        a, b = (float(row[logit.tokenizer(letter)["input_ids"][0]]) for letter in "AB")
        assert one.slot == int(b > a)
        assert one.text == f"A {a:.3f}, B {b:.3f}" or abs(a - b) < 0.01


def test_batches_change_nothing(llama, logit):
    trials = [trial("word " * (1 + i % 5), f"other {i}", draw=i % 3) for i in range(11)]
    alone = LogitJudge(llama, prompting=TOKEN, batch_size=1, device="cpu", temperature=1.0)
    together = LogitJudge(llama, prompting=TOKEN, batch_size=8, device="cpu", temperature=1.0)
    assert [a.slot for a in alone.judge(trials)] == [b.slot for b in together.judge(trials)]


def test_draws_at_a_temperature_follow_the_probabilities(llama):
    judge = LogitJudge(llama, prompting=TOKEN, device="cpu", temperature=1.0)
    found = judge.judge([trial(draw=i) for i in range(120)])
    a, b = (float(part.split()[1]) for part in found[0].text.split(", "))
    share = 1 / (1 + math.exp(b - a))
    assert abs(fmean(one.slot == 0 for one in found) - share) < 0.18
    cold = LogitJudge(llama, prompting=TOKEN, device="cpu").judge([trial(draw=i) for i in range(5)])
    assert len({one.slot for one in cold}) == 1


def test_scores_ties_and_more_letters(llama):
    judge = LogitJudge(llama, prompting=Prompting("token", ties=True), device="cpu")
    (score,) = judge.judge([trial("x", kind="score")])
    assert 1 < score.score < 10
    (opinion,) = judge.judge([trial("x", "y")])
    assert "C " in opinion.text
    with pytest.raises(ModelMismatch, match="does not write A, B, C, Tie as one token each"):
        judge.judge([trial("x", "y", "z")])


def test_prompts_beyond_the_positions_name_their_item_or_have_no_verdict(checkpoint):
    folder = checkpoint("llama", max_position_embeddings=900)
    judge = LogitJudge(folder, prompting=TOKEN, device="cpu")
    long = trial("word " * 900, "y", name="long")
    with pytest.raises(BadInput, match=r'"long" has \d+ tokens and .*--llm\.too-long to skip'):
        judge.judge([long])
    skipping = LogitJudge(folder, prompting=TOKEN, device="cpu", too_long="skip")
    first, without, last = skipping.judge([trial("x", "y"), long, trial("y", "x")])
    assert [first, last] == judge.judge([trial("x", "y"), trial("y", "x")])
    assert (without.slot, without.status) == (None, "too_long") and "longer than" in without.text


@pytest.fixture(scope="module")
def reward(tiny_tokenizer, tmp_path_factory):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from gnomon.core.rng import seeded

    folder = tmp_path_factory.mktemp("reward")
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_labels=1, pad_token_id=tiny_tokenizer.pad_token_id,
    )  # fmt: skip
    with seeded(Rng(0)):
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def test_reward_models_prefer_the_higher_reward(reward):
    judge = RewardModelJudge(reward, device="cpu", batch_size=4)
    answers = ["a", "some words here", "x = 1", "print(x)", "for i in range(3)"]
    trials = [trial(a, b) for a in answers for b in answers if a != b]
    alone = {}
    for text in answers:
        ids = judge.tokenizer("What?", text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            alone[text] = float(judge.model(ids).logits[0, 0])
    for asked, one in zip(trials, judge.judge(trials), strict=True):
        a, b = asked.answers
        assert one.slot == int(alone[b] > alone[a])
    assert judge.judge([trial("same", "same")])[0].slot == TIE
    with pytest.raises(ModelMismatch, match="no scores from 1 to 10"):
        judge.judge([trial("x", kind="score")])


def test_a_classifier_of_two_is_no_reward_model(reward, tiny_tokenizer):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForSequenceClassification(LlamaConfig(vocab_size=300, num_labels=2, **size))
    with pytest.raises(ModelMismatch, match="has 2 labels"):
        RewardModelJudge(model, tiny_tokenizer)


def test_a_chat_model_in_process_is_asked_in_words(checkpoint):
    judge = PairwiseJudge(
        open_llm(f"hf:{checkpoint('llama', max_position_embeddings=2048)}"), max_tokens=3, temperature=0.0
    )
    found = judge.judge([trial(), trial("x", "y")])
    assert {one.status for one in found} <= {"truncated", "unparsed", "ok"}
    judge.close()
