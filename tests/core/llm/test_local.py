import copy
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as transformers_logging

import gnomon
from gnomon.core.llm import Local, Message, Request, Served, ask, close, complete, open_llm, probe
from gnomon.core.models import load_model, load_tokenizer, tiny_causal
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, LLMFailure, MissingExtra, ModelMismatch

TURN = "<{{ m['role'] }}>{{ m['content'] }}\n"
END = "{% if add_generation_prompt %}<assistant>{% endif %}"
CHAT = "{% for m in messages %}" + TURN + "{% endfor %}" + END
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURN + "{% endfor %}" + END
)  # fmt: skip
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' %}" + TURN + "{% endif %}{% endfor %}" + END
)
PROMPTS = [
    "Add two numbers.",
    "Why?",
    "Write a function that keeps the even numbers.",
    "",
    "x",
    "for i in range(10)",
]


@pytest.fixture(scope="module")
def folder(tiny_tokenizer, tmp_path_factory):
    """A saved tiny Llama whose tokenizer has a chat template."""
    transformers_logging.disable_progress_bar()
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT
    where = tmp_path_factory.mktemp("chat")
    tiny_causal("llama", tokenizer, where, generator=Rng(3), max_position_embeddings=256)
    return where


@pytest.fixture(scope="module")
def local(folder):
    llm = open_llm(f"hf:{folder}", device="cpu")
    yield llm
    close(llm)


def with_template(folder, template):
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    return Local(folder, model=load_model(folder, device="cpu"), tokenizer=tokenizer)


def prompt_ids(local, text):
    return local.tokenizer(f"<user>{text}\n<assistant>")["input_ids"]


def test_greedy_answers_are_those_of_transformers(local):
    """Each alone and without padding, by the model's own generate."""
    replies = complete(local, [ask(text, max_tokens=12) for text in PROMPTS])
    for text, reply in zip(PROMPTS, replies, strict=True):
        ids = torch.tensor([prompt_ids(local, text)])
        whole = local.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, pad_token_id=2
        )
        written = whole[0, ids.shape[1] :]
        assert reply.text == local.tokenizer.decode(written, skip_special_tokens=True)
        assert (reply.usage.tokens_in, reply.usage.tokens_out) == (ids.shape[1], len(written))
        assert reply.finish == ("length" if len(written) == 12 else "stop")


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "seed": 4}, {"choices": ("yes", "no way", "n")}]
)
def test_what_a_row_gets_does_not_depend_on_its_batch(local, options):
    requests = [ask(text, max_tokens=10, want_logprobs=True, **options) for text in PROMPTS]
    requests += [ask("Why?", max_tokens=3, want_logprobs=True, **options)]
    together = complete(local, requests, concurrency=16)
    alone = complete(local, requests, concurrency=1)
    backwards = complete(local, requests[::-1], concurrency=3)[::-1]
    for one, other, third in zip(together, alone, backwards, strict=True):
        assert one.text == other.text == third.text
        assert one.usage == other.usage
        near = pytest.approx([value for _, value in other.logprobs], abs=1e-4)
        assert [value for _, value in one.logprobs] == near
        assert [value for _, value in third.logprobs] == near


def test_draws_differ_and_repeat(local):
    requests = [ask("Why?", temperature=1.0, max_tokens=10, draw=draw) for draw in range(6)]
    first, again = complete(local, requests), complete(local, requests[::-1])[::-1]
    alone = complete(local, requests, concurrency=1)
    assert [reply.text for reply in first] == [reply.text for reply in again]
    assert [reply.text for reply in first] == [reply.text for reply in alone]
    assert len({reply.text for reply in first}) == 6
    greedy = complete(local, [ask("Why?", max_tokens=10, draw=draw) for draw in range(3)])
    assert len({reply.text for reply in greedy}) == 1


def test_log_probabilities_are_those_of_the_model(local):
    (reply,) = complete(local, [ask("Why?", max_tokens=6, want_logprobs=True)])
    ids = prompt_ids(local, "Why?")
    for token, value in reply.logprobs:
        with torch.no_grad():
            logprobs = torch.log_softmax(local.model(torch.tensor([ids])).logits[0, -1], -1)
        best = int(logprobs.argmax())
        assert value == pytest.approx(float(logprobs[best]), abs=1e-4)
        assert token == local.tokenizer.decode([best], skip_special_tokens=True)
        ids.append(best)
    assert complete(local, [ask("Why?", max_tokens=6)])[0].logprobs is None


def test_choices_are_scored_by_the_sum_over_their_tokens(local):
    choices = ("PASS", "FAIL", "a longer choice than the others")
    (reply,) = complete(local, [ask("Why?", choices=choices, want_logprobs=True)])
    expected = []
    for text in choices:
        ids, answer = prompt_ids(local, "Why?"), local.tokenizer(text)["input_ids"]
        with torch.no_grad():
            logprobs = torch.log_softmax(local.model(torch.tensor([ids + answer])).logits[0], -1)
        expected.append(sum(float(logprobs[len(ids) - 1 + i, token]) for i, token in enumerate(answer)))
    assert [name for name, _ in reply.logprobs] == list(choices)
    assert [value for _, value in reply.logprobs] == pytest.approx(expected, abs=1e-4)
    assert reply.text == choices[expected.index(max(expected))]
    assert reply.usage.tokens_out == len(local.tokenizer(reply.text)["input_ids"])


def test_choices_are_drawn_by_their_probability(local):
    """Over many draws the share of the first choice is its probability among the two."""
    request = ask("Why?", choices=("a", "b"), want_logprobs=True)
    (a, b) = (value for _, value in complete(local, [request])[0].logprobs)
    probability = 1 / (1 + torch.tensor(b - a).exp().item())
    n = 150
    drawn = complete(
        local, [ask("Why?", choices=("a", "b"), temperature=1.0, draw=draw) for draw in range(n)]
    )
    share = sum(reply.text == "a" for reply in drawn) / n
    assert abs(share - probability) < 4 * (probability * (1 - probability) / n) ** 0.5


def test_stop_texts_end_an_answer_before_them(local):
    (whole,) = complete(local, [ask("Why?", max_tokens=30)])
    stop = next(piece for at in range(4, 20) if "\ufffd" not in (piece := whole.text[at : at + 2]))
    (reply,) = complete(local, [ask("Why?", max_tokens=30, stop=(stop,))])
    assert reply.text == whole.text[: whole.text.index(stop)]
    assert (reply.finish, reply.usage.tokens_out < whole.usage.tokens_out) == ("stop", True)


def test_a_conversation_is_written_by_the_template(local):
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Ho"),
        Message("user", "Why?"),
    )
    ids = local.template.encode(Request(turns))
    assert (
        local.tokenizer.decode(ids) == "<system>Be brief.\n<user>Hi\n<assistant>Ho\n<user>Why?\n<assistant>"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_template_without_system_role_gets_it_in_the_first_user_message(template, folder, caplog):
    with caplog.at_level(logging.WARNING):
        llm = with_template(folder, template)
        assert not caplog.records
        for _ in range(2):
            ids = llm.template.encode(ask("Why?", system="Be brief."))
    assert llm.tokenizer.decode(ids) == "<user>Be brief.\n\nWhy?\n<assistant>"
    assert [record.message.endswith("first user message.") for record in caplog.records] == [True]


def test_without_a_template_messages_stand_one_after_another(folder, caplog):
    with caplog.at_level(logging.WARNING):
        llm = with_template(folder, None)
    assert "has no chat template" in caplog.text
    ids = llm.template.encode(ask("Why?", system="Be brief."))
    assert llm.tokenizer.decode(ids) == "Be brief.\n\nWhy?\n\n"


def test_a_prompt_that_is_too_long_fails_alone(local):
    long, short = complete(local, [ask("x " * 400, max_tokens=5), ask("Why?", max_tokens=5)])
    assert (long.fault, short.error) == ("too_long", None)
    assert "and hf:" in long.error
    assert "256 positions. Shorten it." in long.error


def test_a_closed_model_opens_again(folder):
    llm = open_llm(f"hf:{folder}", device="cpu")
    before = complete(llm, [ask("Why?", max_tokens=5)])[0].text
    close(llm)
    close(llm)
    assert complete(llm, [ask("Why?", max_tokens=5)])[0].text == before
    close(llm)


@pytest.mark.slow
def test_models_that_are_not_there():
    with pytest.raises(BadInput, match="neither a folder here nor a hub model"):
        open_llm("hf:no/such/folder")


def test_an_empty_choice_has_no_probability(local):
    with pytest.raises(BadInput, match="The choice '' has no tokens"):
        complete(local, [ask("Why?", choices=("a", ""))])


def test_what_a_local_model_can_do(local):
    can = probe(local)
    assert (can.has_system, can.has_seed, can.has_logprobs, can.counts_tokens) == (True, True, True, True)
    assert can.stops in (True, None)
    assert not can.is_simulated


# In a server of its own

PARENT = """
import json, sys, time
from pathlib import Path
from gnomon.core.llm import ask, complete, open_llm
llm = open_llm("serve:" + sys.argv[1], folder=Path(sys.argv[2]), device="cpu")
requests = [ask(text, max_tokens=12) for text in json.loads(sys.argv[3])]
replies = complete(llm, requests)
print(json.dumps([llm.start(), llm.pid, [[r.text, r.finish, r.usage.tokens_out, r.error] for r in replies]]), flush=True)
time.sleep(600)
"""


def is_alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:3]
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.scale
def test_a_server_of_its_own_answers_like_the_model_in_process_and_dies_with_its_parent(
    folder, local, tmp_path
):
    env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    command = [sys.executable, "-c", PARENT, str(folder), str(tmp_path), json.dumps(PROMPTS)]
    parent = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        endpoint, pid, served = json.loads(parent.stdout.readline())
        here = complete(local, [ask(text, max_tokens=12) for text in PROMPTS])
        assert served == [[r.text, r.finish, r.usage.tokens_out, None] for r in here]
        can = probe(llm := open_llm(endpoint))
        assert (can.has_system, can.has_logprobs, can.counts_tokens) == (True, False, True)
        close(llm)
        unknown = open_llm(endpoint.split("#")[0] + "#another")
        with pytest.raises(LLMFailure, match=r"another does not answer.*refused"):
            probe(unknown)
        close(unknown)
        assert is_alive(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    until = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(pid)
    assert "Uvicorn running on http://127.0.0.1" in (tmp_path / "serve.log").read_text()


@pytest.mark.slow
@pytest.mark.scale
def test_a_server_that_does_not_come_up_says_where_to_read(folder, tmp_path):
    """Ready within a tenth of a second is more than it can do; it is ended and stays so."""
    llm = Served(folder, device="cpu", log_folder=tmp_path, starts_in_s=0.1)
    replies = complete(llm, [ask("Why?"), ask("Who?")])
    assert [reply.fault for reply in replies] == ["unknown"] * 2
    assert f"was not ready within 0.1 s. Read {tmp_path / 'serve.log'}" in replies[0].error
    assert llm.pid is None
    close(llm)


def test_a_server_that_ends_says_with_what(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "not a number")  # with which no Python starts
    llm = Served(folder, device="cpu", log_folder=tmp_path)
    (reply,) = complete(llm, [ask("Why?")])
    assert f"ended with code 1. Read {tmp_path / 'serve.log'}" in reply.error
    assert "PYTHONHASHSEED" in (tmp_path / "serve.log").read_text()
    close(llm)


def test_folders_that_cannot_be_served(folder, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"has no config\.json"):
        Served(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="has no tokenizer"):
        Served(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelMismatch, match="has no chat template"):
        Served(tmp_path)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(MissingExtra, match=r'pip install "gnomon\[serve\]"'):
        Served(folder)


def test_a_greedy_answer_that_repeats_itself_ends_as_it_would_go_on(local):
    from gnomon.core.llm.local import Template
    from gnomon.core.models import GenConfig, generate

    template = Template(local.tokenizer, local.name)
    n_ended = 0
    for prompt in PROMPTS:
        request = ask(prompt, max_tokens=220)
        (whole,) = generate(
            local.model, local.tokenizer, [template.encode(request)], GenConfig(220, 0.0), generator=Rng(0)
        )[0]
        (reply,) = complete(local, [request])
        n, ids = reply.usage.tokens_out, whole.token_ids
        assert reply.finish == ("length" if whole.finish == "length" else "stop")
        if n < len(ids):
            n_ended += 1
            period = next(p for p in range(1, 43) if ids[n - 128 + p : n] == ids[n - 128 : n - p])
            assert ids[n:] == tuple(ids[i - period * (1 + (i - n) // period)] for i in range(n, len(ids)))
    assert n_ended  # a tiny untrained model repeats itself
