"""Episodes side by side: one call a turn, one episode's error is its own, and traces that are read back."""

import json

import pytest

from gnomon.core.models import GenConfig
from gnomon.core.records import read_raw, write
from gnomon.core.rng import Rng
from gnomon.core.rollout import Episode, Task, examples, play
from gnomon.core.rollout.episodes import choice_policy, llm_policy, model_policy
from gnomon.errors import BadInput, LLMFailure


class Walk:
    """Walks to the place `goal` by `left` and `right`; anything else is no step."""

    def __init__(self, goal, at=0, breaks=None):
        self.goal, self.at, self.breaks, self.heard = goal, at, breaks, []

    @property
    def is_done(self):
        return self.at == self.goal

    @property
    def outcome(self):
        return float(self.at == self.goal)

    def prompt(self):
        if self.breaks == "prompt" and self.heard:
            raise ZeroDivisionError("no more")
        return f"at {self.at} of {self.goal}: "

    def read(self, text):
        return text if text in ("left", "right") else None

    def act(self, text):
        self.heard.append(text)
        if self.breaks == "act":
            raise ValueError(text)
        self.at += {"left": -1, "right": 1}.get(text, 0)


def rightwards(prompts):
    return ["right"] * len(prompts)


def test_all_live_episodes_are_asked_together():
    calls = []

    def policy(prompts):
        calls.append(list(prompts))
        return rightwards(prompts)

    traces = play([Walk(1), Walk(3), Walk(0), Walk(-1)], policy, limit=3)
    assert isinstance(Walk(1), Episode)
    assert [len(call) for call in calls] == [3, 2, 2]
    assert calls[1] == ["at 1 of 3: ", "at 1 of -1: "]
    assert [(t.id, t.ended, t.outcome) for t in traces] == [
        ("0.0", "done", 1.0),
        *((f"1.{k}", "done", 1.0) for k in range(3)),
        *((f"3.{k}", "limit", 0.0) for k in range(3)),
    ]


def test_an_episode_that_raises_ends_alone():
    traces = play([Walk(2, breaks="act"), Walk(2), Walk(2, breaks="prompt")], rightwards, limit=5)
    ended = {t.episode: t.ended for t in traces}
    assert ended == {0: "error: ValueError: right", 1: "done", 2: "error: ZeroDivisionError: no more"}
    assert [t.episode for t in traces] == [0, 1, 1, 2]


def test_a_text_that_cannot_be_read_reaches_the_episode_as_it_is_and_is_counted(caplog):
    episode = Walk(1)
    says = iter(["Right!", "right"])
    traces = play([episode], lambda prompts: [next(says)], limit=3)
    assert episode.heard == ["Right!", "right"]
    assert [t.action for t in traces] == [None, "right"] and "1 of 2 turns cannot be read" in caplog.text


def test_a_policy_that_answers_otherwise_is_an_error():
    for policy in (lambda prompts: [], lambda prompts: [1]):
        with pytest.raises(BadInput, match="for 1 prompts"):
            play([Walk(1)], policy, limit=1)
    with pytest.raises(RuntimeError, match="mine"):
        play([Walk(1)], lambda prompts: (_ for _ in ()).throw(RuntimeError("mine")), limit=1)


def test_traces_are_plain_rows_that_are_read_back(tiny_tokenizer, tmp_path):
    write(tmp_path / "t.jsonl", play([Walk(2)], rightwards, limit=3))
    rows = [raw for _, raw in read_raw(tmp_path / "t.jsonl")]
    assert json.dumps(rows) and rows[1]["prompt"] == "at 1 of 2: "
    made = examples([row | {"weight": row["outcome"]} for row in rows], tiny_tokenizer)
    said = [tiny_tokenizer.decode([t for t in e.labels if t != -100]) for e in made]
    assert said == [f"right{tiny_tokenizer.eos_token}"] * 2 and made[0].weight == 1.0


def test_what_a_model_draws_does_not_depend_on_the_company(handle_of):
    handle = handle_of("llama")
    policy = model_policy(handle, gen=GenConfig(max_new_tokens=5, temperature=1.0))
    together = play([Walk(9), Walk(8), Walk(7)], policy, 3, rng=Rng(3))
    again = play([Walk(9), Walk(8), Walk(7)], policy, 3, rng=Rng(3))
    assert together == again and len({t.text for t in together}) > 1
    small = model_policy(handle, gen=GenConfig(max_new_tokens=5, temperature=1.0, batch_size=1))
    assert play([Walk(9), Walk(8), Walk(7)], small, 3, rng=Rng(3)) == together
    calls = []
    hook = handle.model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    try:
        play([Walk(9), Walk(8)], model_policy(handle, gen=GenConfig(max_new_tokens=1)), 2, rng=Rng(0))
    finally:
        hook.remove()
    assert calls == [2, 2]


def test_an_action_is_the_likeliest_by_its_log_probabilities(handle_of):
    import torch

    handle = handle_of("llama")
    actions = ["left", "right", "x"]
    for per_token in (False, True):
        (trace,) = play([Walk(5)], choice_policy(handle, None, actions, per_token=per_token), 1)
        scores = []
        for action in actions:
            begun, ids = (handle.tokenizer(t)["input_ids"] for t in ("at 0 of 5: ", action))
            with torch.no_grad():
                logprobs = handle.model(torch.tensor([[*begun, *ids]])).logits[0].log_softmax(-1)
            total = sum(float(logprobs[len(begun) + i - 1, token]) for i, token in enumerate(ids))
            scores.append(total / len(ids) if per_token else total)
        assert trace.text == actions[scores.index(max(scores))]


class Endpoint:
    name = "script"

    def __init__(self):
        self.requests = []

    async def acomplete(self, request):
        from gnomon.core.llm.base import Reply

        self.requests.append(request)
        if "of 99" in request.messages[-1].content:
            return Reply("", "error", error="down", fault="down")
        return Reply("right", "stop")


def test_a_language_model_plays_by_reference():
    llm = Endpoint()
    traces = play([Walk(1), Walk(1)], llm_policy(llm, temperature=0.7, max_tokens=4), 2)
    assert [t.ended for t in traces] == ["done", "done"] and [r.draw for r in llm.requests] == [0, 1]
    with pytest.raises(LLMFailure, match="down"):
        play([Walk(99)], llm_policy(llm), 1)


def test_a_task_says_what_it_asks():
    assert Task("a", messages=({"role": "user", "content": "Go."},)).text == "Go."
