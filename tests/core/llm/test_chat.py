import asyncio
import logging
import socket
import time
from email.utils import formatdate

import pytest

from fixtures_server import CompletionServer, chat_answer_to
from gnomon.core.llm import Message, Request, Usage, ask, close, complete, open_llm
from gnomon.core.llm.endpoint.client import Manner
from gnomon.core.llm.endpoint.keys import Keys
from gnomon.errors import BadConfig

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def reply_of(server, request=None, **options):
    llm = open_llm(server.endpoint, manner=Manner(**options))
    (reply,) = complete(llm, [request or ask("Is it wet?")])
    close(llm)
    return reply


def test_what_is_asked_and_what_comes_back():
    request = Request(
        (Message("system", "Be brief."), Message("user", "Wet?"), Message("assistant", "Yes."), Message("user", "Why?")),
        temperature=0.7, top_p=0.9, max_tokens=40, stop=("#", ";"), seed=3, draw=2, want_logprobs=True,
    )  # fmt: skip
    with CompletionServer() as server:
        reply = reply_of(server, request)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Wet?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    assert server.requests == [
        {
            "model": "tiny", "messages": messages, "temperature": 0.7, "top_p": 0.9, "max_tokens": 40, "stop": ["#", ";"],
            "seed": 5, "logprobs": True,
        }
    ]  # fmt: skip
    assert reply.text == chat_answer_to(messages, 5)
    assert (reply.finish, reply.usage, reply.logprobs) == ("stop", Usage(11, 7), (("It", -0.5),))
    assert (reply.error, reply.fault, reply.cached) == (None, None, False)
    assert 0 < reply.latency_s < 60


def test_a_plain_request_says_nothing_it_need_not():
    with CompletionServer() as server:
        reply_of(server)
    assert set(server.requests[0]) == {"model", "messages", "max_tokens"}


def test_the_stop_text_is_taken_off():
    with CompletionServer(leave_stop=True) as server:
        reply = reply_of(server, ask("Wet?", stop=("\nEND",)))
    assert reply.text == chat_answer_to([{"role": "user", "content": "Wet?"}])
    assert reply.finish == "stop"


@pytest.mark.parametrize(
    ("happens", "finish", "begins"),
    [("refusal", "refusal", "I would"), ("filtered", "refusal", "It is"), ("long", "length", "It is")],
)
def test_answers_that_are_no_faults(happens, finish, begins):
    with CompletionServer([happens]) as server:
        reply = reply_of(server)
    assert (reply.finish, reply.error, reply.text[: len(begins)]) == (finish, None, begins)


def test_tokens_that_nobody_counted_are_estimated():
    with CompletionServer(tell_usage=False) as server:
        reply = reply_of(server)
    assert reply.usage == Usage(4 + 4, -(-len(reply.text) // 3), is_estimate=True)


@pytest.mark.parametrize(
    ("happens", "fault", "says"),
    [
        (429, "rate_limit", 'refused a completion of "tiny" .429.: as the script says'),
        (500, "server", 'refused a completion of "tiny"'),
        (503, "server", 'refused a completion of "tiny"'),
        (408, "server", 'refused a completion of "tiny"'),
        ("proxy", "server", r"\(502\): <html>"),
        ("cut", "connection", "cannot be reached .*Is the server running"),
        ("garbled", "malformed", "answered in an unknown format"),
        (400, "rejected", 'refused a completion of "tiny"'),
        (401, "denied", 'refused a completion of "tiny"'),
        (404, "unknown", 'refused a completion of "tiny"'),
    ],
)
def test_every_fault_is_one_line_and_one_kind(happens, fault, says):
    import re

    with CompletionServer([happens]) as server:
        reply = reply_of(server)
    assert (reply.text, reply.finish, reply.fault) == ("", "error", fault)
    assert reply.may_pass == (fault not in ("rejected", "denied", "unknown"))
    assert re.search(says, reply.error)
    assert str(server.server_address[1]) in reply.error
    assert "\n" not in reply.error
    assert len(reply.error) < 400
    assert len(server.requests) == 1  # nothing is tried again here


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), None),
        ([("retry-after", "7")], 7),
        ([("retry-after", "0.25")], 0.25),
        ([("retry-after", "7"), ("retry-after-ms", "120")], 0.12),
        ([("retry-after", "-3")], 0),
        ([("retry-after", "soon")], None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers, seconds):
    with CompletionServer([429], headers=headers) as server:
        assert reply_of(server).retry_after_s == seconds


def test_a_wait_until_a_date():
    headers = [("retry-after", formatdate(time.time() + 100, usegmt=True))]
    with CompletionServer([429], headers=headers) as server:
        assert 90 < reply_of(server).retry_after_s < 101


def test_a_quota_that_is_used_up_is_no_rate_limit():
    with CompletionServer(lambda number, asked: "quota") as server:
        server.RequestHandlerClass = type("Quota", (server.RequestHandlerClass,), {"_refuse": _quota})
        reply = reply_of(server)
    assert (reply.fault, reply.may_pass) == ("quota", False)


def _quota(self, status, message):
    self._send(429, b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}')


@pytest.mark.parametrize("server", [CompletionServer(["endless"]), CompletionServer(delay_s=2.0)])
def test_an_answer_that_does_not_end_in_time(server):
    with server:
        began = time.monotonic()
        reply = reply_of(server, timeout_s=0.3)
        took = time.monotonic() - began
        server.delay_s = 0.0
    assert reply.fault == "timeout"
    assert 'gave no answer of "tiny" in time' in reply.error
    assert 0.25 < took < 1.5


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    llm = open_llm(f"http://127.0.0.1:{port}/v1#tiny")
    (reply,) = complete(llm, [ask("x")])
    close(llm)
    assert reply.fault == "connection"
    assert f"127.0.0.1:{port}/v1 cannot be reached" in reply.error


def test_a_model_without_system_messages_is_asked_in_its_own_way_and_that_is_said_once(caplog):
    def script(number, asked):
        return "System role not supported" if asked["messages"][0]["role"] == "system" else "fine"

    with CompletionServer(script) as server, caplog.at_level(logging.WARNING):
        llm = open_llm(server.endpoint)
        request = ask("Why?", system="Be brief.")
        replies = [complete(llm, [request, request])[0] for _ in range(2)]
        close(llm)
    folded = [{"role": "user", "content": "Be brief.\n\nWhy?"}]
    assert {reply.text for reply in replies} == {chat_answer_to(folded)}
    assert sum("knows no system message" in record.message for record in caplog.records) == 1
    assert server.requests[-1]["messages"] == folded


def test_a_model_with_the_new_name_of_the_token_limit():
    def script(number, asked):
        return "Unsupported parameter: use 'max_completion_tokens'" if "max_tokens" in asked else "fine"

    with CompletionServer(script) as server:
        llm = open_llm(server.endpoint)
        replies = [complete(llm, [ask("Why?", max_tokens=9)])[0] for _ in range(2)]
        close(llm)
    assert [reply.error for reply in replies] == [None, None]
    assert [asked.get("max_completion_tokens") for asked in server.requests] == [None, 9, 9]


@pytest.mark.parametrize(("key", "sent"), [(KEY, f"Bearer {KEY}"), ("", None), (None, None)])
def test_the_key_comes_from_the_variable_that_is_named(key, sent, monkeypatch):
    if key is not None:
        monkeypatch.setenv("MY_KEY", key)
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    with CompletionServer() as server:
        reply_of(server, keys=Keys(("MY_KEY",)))
    assert [headers.get("authorization") for headers in server.headers] == [sent]


def test_a_server_that_repeats_the_key_is_not_repeated(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with CompletionServer([f"Incorrect key: {KEY}"]) as server:
        reply = reply_of(server, keys=Keys(("OPENAI_API_KEY@127.0.0.1",)))
    assert "Incorrect key: ***" in reply.error
    assert KEY not in repr(reply)


def test_a_hosted_model_without_a_key_is_not_asked():
    with pytest.raises(
        BadConfig, match=r"openai:gpt-4o needs a key\. Set the environment variable OPENAI_API_KEY"
    ):
        open_llm("openai:gpt-4o")


def test_where_a_hosted_model_is(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert open_llm("openai:gpt-4o").url == "https://api.openai.com/v1"
    with CompletionServer() as server:
        url = server.endpoint.split("#")[0]
        llm = open_llm(f"openai:tiny@{url}")
        assert complete(llm, [ask("x")])[0].error is None
        close(llm)
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        llm = open_llm("openai:tiny")
        assert (complete(llm, [ask("x")])[0].error, llm.name) == (None, f"openai:tiny@{url}")
        close(llm)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("http://host:8000/v1", "names no model. Write http://host:8000/v1#MODEL"),
        ("http://#tiny", "must be written http://host:8000/v1#name"),
        ("https://me:secret@host/v1#tiny", "holds no key and no user name"),
        ("https://host/v1?key=secret#tiny", "holds no key and no user name"),
        ("openai:", '"openai:" names nothing'),
    ],
)
def test_misspelt_endpoints(ref, says):
    with pytest.raises(BadConfig, match=says) as told:
        open_llm(ref)
    assert "secret" not in str(told.value)


def test_one_model_on_several_loops():
    """As in a notebook that uses both forms, or a program that calls asyncio.run more than once."""
    with CompletionServer() as server:
        llm = open_llm(server.endpoint)

        async def work():
            return (await llm.acomplete(ask("x"))).text

        texts = {asyncio.run(work()), complete(llm, [ask("x")])[0].text, complete(llm, [ask("x")])[0].text}
        close(llm)
    assert len(texts) == 1
    assert len(server.requests) == 3
