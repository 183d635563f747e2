"""Servers that behave as those of today's vendors do: what they refuse, and the shapes in which they answer."""

import logging

import pytest

from fixtures_llm import hurry
from fixtures_vendors import VendorServer, chat
from gnomon.core.llm import LLMConfig, Meter, ask, close, complete, connect, open_llm
from gnomon.core.llm.endpoint.client import Manner
from gnomon.core.llm.endpoint.faults import named_fields

FULL = {"temperature": 0.0, "top_p": 0.9, "seed": 3, "stop": ("#",), "want_logprobs": True}


def replies_of(server, requests, meter=None, **settings):
    settings = {"cache": "none", "retries": 5, **settings}
    llm = hurry(connect(server.endpoint, LLMConfig(**settings), meter=meter))
    try:
        return complete(llm, requests)
    finally:
        close(llm)


def test_only_what_was_asked_for_is_sent():
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        replies_of(server, [ask("x")])
        replies_of(server, [ask("x", temperature=0.0, top_p=0.5, max_tokens=9)])
    messages = [{"role": "user", "content": "x"}]
    assert server.bodies == [
        {"model": "tiny", "messages": messages, "max_tokens": 512},
        {"model": "tiny", "messages": messages, "max_tokens": 9, "temperature": 0.0, "top_p": 0.5},
    ]


REFUSALS = [
    # status, the field that is refused, the error as one of today's servers writes it
    (400, "temperature", {"error": {"message": "Unsupported value: 'temperature' does not support 0.0 with this model.",
                                    "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}),
    (400, "top_p", {"type": "error", "error": {"type": "invalid_request_error",
                                               "message": "`temperature` and `top_p` cannot both be specified"}}),
    (422, "seed", {"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted", "type": "value_error.extra"}]}),
    (422, "seed", {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted",
                               "input": {"temperature": 0.0}}]}),
    (400, "logprobs", {"error": {"message": {"detail": "this model returns no logprobs"}}}),
    (400, "stop", [{"error": {"code": 400, "message": "Invalid argument: stop", "status": "INVALID_ARGUMENT"}}]),
    (400, "temperature", "temperature is deprecated for this model"),
    (400, "seed", {"message": '{"error": {"param": "body.seed"}}'}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "field", "error"), REFUSALS)
def test_a_field_that_is_refused_is_left_out_once_and_for_all(status, field, error, caplog):
    def answer(request):
        return (status, error) if field in request.body else (200, chat("fine"))

    meter = Meter()
    with VendorServer(answer) as server, caplog.at_level(logging.WARNING):
        replies = replies_of(server, [ask(f"{n}", **FULL) for n in range(20)], meter)
    assert {reply.text for reply in replies} == {"fine"}
    assert {reply.left_out for reply in replies} == {(field,)}
    assert len(server.bodies) == 21  # refused once, and never sent again
    first, *rest = server.bodies
    assert all({name for name in first if name not in body} == {field} for body in rest)
    assert sum(f"refuses {field}" in record.message for record in caplog.records) == 1
    assert meter.left_out == {field: 20}
    assert (meter.fresh, meter.failed) == (20, 0)


def test_several_fields_may_be_refused_one_after_another():
    def answer(request):
        refused = [name for name in ("logprobs", "seed", "temperature") if name in request.body]
        return (400, {"error": {"message": f"{refused[0]}: not here"}}) if refused else (200, chat("fine"))

    with VendorServer(answer) as server:
        (reply,) = replies_of(server, [ask("x", **FULL)])
    assert (reply.text, reply.left_out, len(server.bodies)) == (
        "fine",
        ("logprobs", "seed", "temperature"),
        4,
    )
    assert server.bodies[-1]["top_p"] == 0.9


def test_a_refusal_that_names_nothing_is_met_once_by_a_bare_request():
    def answer(request):
        is_bare = not {"temperature", "seed", "top_p"} & set(request.body)
        return (200, chat("fine")) if is_bare else (400, "bad request")

    with VendorServer(answer) as server:
        replies = replies_of(server, [ask(f"{n}", temperature=0.0, seed=1) for n in range(9)])
    assert {reply.text for reply in replies} == {"fine"}
    assert len(server.bodies) == 10


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": 400, "message": "Developer instruction is not enabled for models/tiny"}},
        {"message": "Conversation roles must alternate user/assistant/user/assistant/..."},
        "bad request",
    ],
)
def test_a_server_without_system_messages_may_say_so_in_words_of_its_own(error):
    def answer(request):
        has_system = any(turn["role"] == "system" for turn in request.body["messages"])
        return (400, error) if has_system else (200, chat("fine"))

    with VendorServer(answer) as server:
        requests = [ask(f"{n}", system="Be brief.", temperature=0.0) for n in range(9)]
        replies = replies_of(server, requests)
    assert {(reply.text, reply.left_out) for reply in replies} == {("fine", ())}
    assert (
        len(server.bodies) == 11
    )  # as it is, without the temperature, and then with it and without a system message
    assert all(body["temperature"] == 0.0 for body in server.bodies[2:])
    assert server.bodies[-1]["messages"][0]["content"].startswith("Be brief.\n\n")


def test_a_prompt_that_is_too_long_fails_alone_and_changes_nothing_for_others():
    sentence = (
        "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 2048 tokens "
        "and your request has 1900 input tokens"
    )
    error = {"error": {"message": sentence, "param": "max_tokens"}}

    def answer(request):
        return (400, error) if len(request.prompt) > 100 else (200, chat("fine"))

    with VendorServer(answer) as server:
        requests = [
            ask("short", temperature=0.0),
            ask("long" * 100, temperature=0.0),
            ask("brief", temperature=0.0),
        ]
        replies = replies_of(server, requests, max_failed=1)
    assert [reply.text for reply in replies] == ["fine", "", "fine"]
    assert "maximum context length is 2048 tokens" in replies[1].error
    assert all(body["temperature"] == 0.0 for body in server.bodies)


def test_a_reasoning_model_gets_its_own_names_and_room_for_thoughts():
    """As the servers of OpenAI's reasoning models: another name for the limit, no temperature, an effort."""

    def answer(request):
        if "max_tokens" in request.body:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return 400, {
                "error": {"message": message, "param": "max_tokens", "code": "unsupported_parameter"}
            }
        if "temperature" in request.body:
            return 400, {
                "error": {
                    "message": "Unsupported value: 'temperature' does not support 0.0",
                    "param": "temperature",
                }
            }
        return 200, chat("fine")

    with VendorServer(answer) as server:
        settings = {"reasoning_effort": "low", "thinking_tokens": 1000}
        replies = replies_of(
            server, [ask(f"{n}", temperature=0.0, max_tokens=9) for n in range(5)], **settings
        )
    assert {reply.text for reply in replies} == {"fine"}
    assert len(server.bodies) == 7
    last = server.bodies[-1]
    assert (last["max_completion_tokens"], last["reasoning_effort"]) == (1009, "low")
    assert not {"max_tokens", "temperature"} & set(last)


SHAPES = {
    "a list of parts": chat([{"type": "text", "text": "FI"}, {"type": "text", "text": "NE"}]),
    "thoughts as parts": chat([{"type": "thinking", "thinking": "PASS?"}, {"type": "text", "text": "FINE"}]),
    "thoughts as parts of the new kind": chat(
        [{"type": "reasoning", "text": "PASS?"}, {"type": "output_text", "text": "FINE"}]
    ),
    "thoughts beside": chat("FINE", message={"reasoning_content": "PASS?"}),
    "thoughts in the text": chat("<think>PASS?</think>\nFINE"),
    "thoughts without a beginning": chat("PASS?</think>\n\nFINE"),
    "no usage": chat("FINE", usage=False),
    "logprobs first": {"choices": [{"logprobs": {"content": []}, "message": {"content": "FINE"}}]},
    "a message at the top": {"model": "tiny", "message": {"role": "assistant", "content": "FINE"}, "done": True},
    "parts at the top": {"role": "assistant", "content": [{"type": "text", "text": "FINE"}], "stop_reason": "end_turn",
                         "usage": {"input_tokens": 11, "output_tokens": 7}},
    "candidates": {"candidates": [{"content": {"parts": [{"text": "PASS?", "thought": True}, {"text": "FINE"}], "role": "model"},
                                   "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7}},
    "a completion": {"choices": [{"text": "FINE", "finish_reason": "stop"}]},
    "bare content": {"content": "FINE"},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_of_any_usual_shape_is_read_and_paid_for_once(shape):
    meter = Meter()
    with VendorServer(lambda request: (200, SHAPES[shape])) as server:
        (reply,) = replies_of(server, [ask("x")], meter)
    assert (reply.text, reply.error, reply.finish) == ("FINE", None, "stop")
    assert len(server.bodies) == meter.fresh == 1
    if (
        "usage" in shape
        or "completion" in shape
        or shape in ("bare content", "logprobs first", "a message at the top")
    ):
        assert reply.usage.is_estimate
    else:
        assert (reply.usage.tokens_in, reply.usage.tokens_out) == (11, 7)
    if "thoughts" in shape:
        assert "PASS?" in reply.thoughts and "PASS" not in reply.text


NO_ANSWERS = {
    "an error under 200": ({"error": {"message": "Upstream is overloaded", "code": 503}}, "server", "Upstream is overloaded", 6, 0),
    "a limit under 200": ({"error": {"message": "Rate limited", "code": 429}}, "rate_limit", "Rate limited", 6, 0),
    "a refusal of the key under 200": ({"error": {"message": "No such key", "code": 401}}, "denied", "No such key", 1, 0),
    "an error without a code": ({"error": "Something broke"}, "server", "Something broke", 6, 0),
    "empty": (chat(""), "empty", "answered with an empty text", 1, 1),
    "null": (chat(None), "empty", "answered with an empty text", 1, 1),
    "only thoughts": (chat("<think>PASS? Or not", finish="length"), "length", "Raise --llm.thinking-tokens", 1, 1),
    "no room": (chat(None, finish="length", message={"reasoning_content": "PASS"}), "length", "7 tokens before an answer", 1, 1),
    "a refusal": (chat(None, message={"refusal": "I would rather not."}), "refusal", "I would rather not.", 1, 1),
    "filtered": (chat("PASS and", finish="content_filter"), "refusal", "refused to answer", 1, 1),
    "no choices": ({"choices": [], "usage": None}, "malformed", "unknown format", 2, 2),
    "a page": ("<html>Sign in</html>", "malformed", "Sign in", 2, 2),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_what_is_no_answer_is_a_fault_with_the_vendors_sentence(case):
    body, fault, sentence, n_asked, n_paid = NO_ANSWERS[case]
    meter = Meter()
    with VendorServer(lambda request: (200, body)) as server:
        (reply,) = replies_of(server, [ask("x")], meter, max_failed=1)
    assert (reply.text, reply.fault) == ("", fault)
    assert sentence in reply.error
    assert (len(server.bodies), meter.fresh) == (n_asked, n_paid)
    assert "PASS" not in reply.text


def test_every_paid_attempt_is_booked():
    """Each answer breaks off: with a budget of four calls, four are answered, however many attempts are allowed."""
    meter = Meter()
    with VendorServer(lambda request: (200, '{"choices": [{"te')) as server:
        requests = [ask(f"{n}") for n in range(20)]
        replies = replies_of(server, requests, meter, budget_calls=4, retries=5, max_failed=1)
    assert server.n_answered == meter.fresh == 4
    assert not any(reply.text for reply in replies)


def test_an_empty_reply_is_asked_again_by_the_next_run(tmp_path):
    texts = ["", "fine"]
    with VendorServer(lambda request: (200, chat(texts[min(request.number, 1)]))) as server:
        first, second, third = (
            replies_of(server, [ask("x")], cache=str(tmp_path), max_failed=1)[0] for _ in range(3)
        )
    assert (first.fault, second.text, third.text) == ("empty", "fine", "fine")
    assert [first.cached, second.cached, third.cached] == [False, False, True]
    assert len(server.bodies) == 2


def test_bugs_of_ours_are_not_called_faults_of_the_server(monkeypatch):
    from gnomon.core.llm.endpoint import chat as module

    def broken(*_):
        raise AttributeError("our mistake")

    monkeypatch.setattr(module, "_usage", broken)
    with (
        VendorServer(lambda request: (200, chat("fine"))) as server,
        pytest.raises(AttributeError, match="our mistake"),
    ):
        replies_of(server, [ask("x")])


def test_a_url_keeps_its_query_and_users_add_fields_and_headers(monkeypatch):
    monkeypatch.setenv("MY_AZURE_KEY", "secret")
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        settings = LLMConfig(
            cache="none",
            headers=("api-key=env:MY_AZURE_KEY", "X-Team=a b"),
            body=("provider={\"order\": [\"x\"]}", "tier=flex", "top_k=5"),
        )  # fmt: skip
        llm = connect(f"{server.url}?api-version=2026-01-01#tiny", settings)
        (reply,) = complete(llm, [ask("x")])
        close(llm)
    (request,) = server.asked
    assert reply.text == "fine"
    assert request.path == "/v1/chat/completions?api-version=2026-01-01"
    assert (request.headers["api-key"], request.headers["x-team"]) == ("secret", "a b")
    assert "authorization" not in request.headers
    assert (request.body["provider"], request.body["tier"], request.body["top_k"]) == (
        {"order": ["x"]},
        "flex",
        5,
    )


def test_what_changes_answers_is_part_of_the_cache_key():
    plain = open_llm("http://127.0.0.1:9/v1#tiny")
    changed = [Manner(reasoning_effort="low"), Manner(body=("a=1",)), Manner(body=("a=2",))]
    names = {open_llm("http://127.0.0.1:9/v1#tiny", manner=manner).identity for manner in changed}
    assert len(names | {plain.identity}) == 4
    assert open_llm("http://127.0.0.1:9/v1#tiny", manner=Manner(headers=("a=1",))).identity == plain.identity


@pytest.mark.parametrize(
    ("error", "named"),
    [
        ('{"error": {"message": "seed and stop", "param": "stop"}}', ["stop"]),
        ('{"detail": "Unknown field: `Seed`"}', ["seed"]),
        ('{"message": "the reseeding was stopped"}', []),
        ("plain: top_p!", ["top_p"]),
        ('{"detail": [{"loc": ["body"], "msg": "no", "input": {"stop": "seed"}}]}', []),
        ("[1, 2, null]", []),
        ("", []),
    ],
)
def test_the_field_that_an_error_names(error, named):
    assert named_fields(error, ["seed", "stop", "top_p", "temperature"]) == named
