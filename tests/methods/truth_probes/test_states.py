"""Captured states against the library's own, in shards that survive an interruption."""

import json

import numpy as np
import pytest
import torch

from fixtures_truth_probes import LONGEST
from gnomon.core.models import ModelHandle
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes import Answering, Capture, Question, RepStore, collect, represent
from gnomon.methods.truth_probes.states import model_key, states

QUESTIONS = [Question(f"what is {'very ' * (i % 4)}{i}?", "x", id=f"q{i}") for i in range(10)]
PLACES = ("last_q", "first_answer", "-1")


@pytest.fixture(scope="module")
def answers(truth_handle):
    return collect(truth_handle, None, QUESTIONS, Answering(max_new_tokens=LONGEST))


def alone(handle, answer):
    """All hidden states of one answer, without padding."""
    ids = torch.tensor([[*answer.prompt_ids, *answer.output_ids]])
    with torch.no_grad():
        return handle.model(ids, output_hidden_states=True, use_cache=False).hidden_states


def test_states_are_the_library_s_own(truth_handle, answers):
    store = represent(
        truth_handle, None, answers, Capture(site="residual", positions=PLACES), batch_tokens=64
    )
    assert store.states.shape == (10, 2, 3, 32)
    assert store.states.dtype == np.float16
    for i, answer in enumerate(answers):
        hidden, prompt = alone(truth_handle, answer)[1][0], len(answer.prompt_ids)
        for position, place in zip(PLACES, (prompt - 1, prompt, -1), strict=True):
            np.testing.assert_allclose(store.at(0, position)[i], hidden[place].numpy(), atol=2e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma2", "mistral"])
def test_every_site_of_other_families(handle_of, family):
    handle = handle_of(family)
    found = collect(handle, None, QUESTIONS[:3], Answering(max_new_tokens=3))
    seen = {}

    def note(name):
        return lambda module, args, output: seen.__setitem__(name, (args, output))

    block = handle.sites.top.blocks[1]
    module = dict(block.named_children()).get("mlp") or block.fc1
    hook = module.register_forward_hook(note("mlp"))
    answer = found[0]
    ids = torch.tensor([[*answer.prompt_ids, *answer.output_ids]])
    with torch.no_grad():
        handle.model(ids, use_cache=False)
    hook.remove()
    entered = seen["mlp"][0][0].reshape(-1, seen["mlp"][0][0].shape[-1])[-1]
    for site in ("mlp", "mlp_input", "attention", "residual"):
        store = represent(handle, None, found, Capture(site=site, layers=[1], positions=["-1"]))
        assert store.states.shape[:3] == (3, 1, 1)
        if site == "mlp_input":
            np.testing.assert_allclose(store.at(1, "-1")[0], entered.numpy(), atol=5e-3)
    assert "mlp_in" not in "".join(handle.sites)  # the handle is as it was


def test_batches_do_not_change_states(truth_handle, answers):
    one, many = (
        represent(truth_handle, None, answers, Capture(positions=PLACES), batch_tokens=n).states
        for n in (1, 100_000)
    )
    np.testing.assert_allclose(one, many, atol=2e-3)


def test_shards_are_kept_and_an_interrupted_run_goes_on(truth_handle, answers, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "SHARD", 4)
    read, calls = states._read, []

    def interrupted(*args):
        calls.append(len(args[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(*args)

    monkeypatch.setattr(states, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        represent(truth_handle, None, answers, Capture(positions=PLACES), folder=tmp_path)
    with pytest.raises(BadInput, match="no complete states"):
        RepStore.load(tmp_path)
    made = represent(truth_handle, None, answers, Capture(positions=PLACES), folder=tmp_path)
    assert calls == [4, 4, 2, 2]
    loaded = RepStore.load(tmp_path)
    whole = represent(truth_handle, None, answers, Capture(positions=PLACES))
    assert (loaded.states == made.states).all()
    np.testing.assert_allclose(loaded.states, whole.states, atol=2e-3)
    assert loaded.keys == made.keys == tuple((f"q{i}", 0, 0) for i in range(10))
    assert json.loads((tmp_path / "index.json").read_text())["positions"] == list(PLACES)


def test_a_folder_of_other_states_is_refused(truth_handle, answers, tmp_path):
    represent(truth_handle, None, answers, Capture(positions=["-1"]), folder=tmp_path)
    with pytest.raises(BadInput, match="other answers or settings"):
        represent(truth_handle, None, answers, Capture(positions=["-2"]), folder=tmp_path)


def test_errors(truth_handle, answers):
    with pytest.raises(BadConfig, match="layers 0 to 1 and no layer 7"):
        represent(truth_handle, None, answers, Capture(positions=["-1"], layers=[7]))
    with pytest.raises(BadConfig, match="site must be one of"):
        represent(truth_handle, None, answers, Capture(positions=["-1"], site="mlp_last"))
    with pytest.raises(BadInput, match="no answers"):
        represent(truth_handle, None, [], Capture(positions=["-1"]))
    store = represent(truth_handle, None, answers, Capture(positions=["-1"], layers=[1]))
    with pytest.raises(BadInput, match="Layer 0 was not captured"):
        store.at(0, "-1")
    with pytest.raises(BadInput, match='"exact_last" was not captured'):
        store.at(1)


def test_the_key_tells_checkpoints_apart_and_not_number_types(truth_handle, truth_model, checkpoint):
    again = ModelHandle.load(truth_model, device="cpu", dtype="bfloat16")
    assert model_key(again.model) == model_key(truth_handle.model)
    other = ModelHandle.load(checkpoint("llama"), device="cpu")
    assert model_key(other.model) != model_key(truth_handle.model)


# Answers


def test_samples_depend_on_seed_and_question_alone(truth_handle):
    from gnomon.core.rng import Rng

    both = collect(truth_handle, None, QUESTIONS[:4], Answering(samples=3, max_new_tokens=4), rng=Rng(1))
    part = collect(
        truth_handle,
        None,
        QUESTIONS[3:0:-1],
        Answering(samples=3, max_new_tokens=4, batch_size=2),
        rng=Rng(1),
    )
    told = {answer.key: answer.output_ids for answer in both}
    assert all(told[answer.key] == answer.output_ids for answer in part)
    assert [(a.seed, a.draw) for a in both[:3]] == [(1, 1), (1, 2), (1, 3)]
    other = collect(truth_handle, None, QUESTIONS[:4], Answering(samples=3, max_new_tokens=4), rng=Rng(2))
    assert [a.output_ids for a in other] != [a.output_ids for a in both]


def test_logits_and_log_probabilities_are_the_model_s(truth_handle, answers):
    for answer in answers[:3]:
        ids = torch.tensor([[*answer.prompt_ids, *answer.output_ids]])
        with torch.no_grad():
            logits = truth_handle.model(ids, use_cache=False).logits[0, len(answer.prompt_ids) - 1 : -1]
        chosen = logits.gather(-1, torch.tensor(answer.output_ids)[:, None])[:, 0]
        np.testing.assert_allclose(answer.logits, chosen.numpy(), atol=1e-4)
        np.testing.assert_allclose(answer.logprobs, (chosen - logits.logsumexp(-1)).numpy(), atol=1e-4)


def test_a_cut_answer_is_flagged(answers):
    assert {answer.finish for answer in answers} <= {"length", "stop", "eos"}
    assert all(len(answer.output_ids) == LONGEST for answer in answers if answer.finish == "length")


def test_a_chat_template_brings_its_own_special_tokens(tiny_tokenizer):
    import copy

    from gnomon.methods.truth_probes.answers import encode_prompt

    tokenizer = copy.deepcopy(tiny_tokenizer)
    with pytest.raises(BadInput, match="no chat template"):
        encode_prompt(tokenizer, QUESTIONS[0], "chat")
    turns = "{{ bos_token }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}>{% endif %}"
    assert tokenizer.decode(encode_prompt(tokenizer, QUESTIONS[0])) == "<s>[what is 0?]>"
    assert tokenizer.decode(encode_prompt(tokenizer, QUESTIONS[0], "plain")) == "Q: what is 0?\nA:"
    assert tokenizer.decode(encode_prompt(tokenizer, QUESTIONS[0], "none")) == "what is 0?"
