"""A prompt that is longer than the model reads costs its row and no more, whatever words a server has for it."""

import json

import pytest

from fixtures_llm import hurry
from fixtures_vendors import VendorServer, chat
from gnomon.core.llm import LLMConfig, Reply, Script, ask, close, complete, connect
from gnomon.core.run import Run
from gnomon.errors import BadInput

OPENAI = {
    "error": {
        "message": "This model's maximum context length is 100 tokens. However, your messages resulted in 250 tokens.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}
SAID = {
    "openai": (400, OPENAI),
    "code alone": (400, {"error": {"message": "Please shorten it.", "code": "context_length_exceeded"}}),
    "vllm": (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested "
                   "5000 tokens (4500 in the messages, 500 in the completion). Please reduce the length of the messages."}),
    "vllm, max_tokens": (400, {"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 500. This model's "
                               "maximum context length is 4096 tokens and your request has 4000 input tokens"}}),
    "llama.cpp": (400, {"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it",
                        "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}}),
    "anthropic": (400, {"type": "error", "error": {"type": "invalid_request_error",
                        "message": "prompt is too long: 208310 tokens > 200000 maximum"}}),
    "gemini": (400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT",
               "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}]),
    "tgi": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs`",
                  "error_type": "validation"}),
    "text": (413, "Prompt is longer than the maximum number of tokens"),
}  # fmt: skip


def is_long(prompt):
    return len(prompt) > 60


def prompts(n=40, every=5):
    return [f"Question {i}? " + ("x" * 200 if i % every == 0 else "") for i in range(n)]


def served(said, **settings):
    server = VendorServer(lambda request: said if is_long(request.prompt) else (200, chat("fine")))
    return server, LLMConfig(cache="none", retries=3, **settings)


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.0, "seed": 3}], ids=["bare", "with fields"])
def test_a_long_prompt_is_known_by_what_the_error_says(said, sampling):
    """Asked once, with its fields, and never taken for a sign that a field or the endpoint is at fault."""
    server, settings = served(said)
    with server:
        llm = hurry(connect(server.endpoint, settings))
        replies = complete(llm, [ask(text, **sampling) for text in prompts()])
        close(llm)
    assert [reply.fault for reply in replies] == ["too_long" if is_long(text) else None for text in prompts()]
    assert len(server.asked) == 40  # none was tried again, in this form or another
    for name in sampling:
        assert all(name in body for body in server.bodies)


@pytest.mark.parametrize(
    "said",
    [
        (
            400,
            {
                "error": {
                    "message": "max_tokens is too large: 5000. This model supports at most 4096 completion tokens"
                }
            },
        ),
        (400, {"error": {"message": "Invalid value", "param": "temperature"}}),
        (400, {"error": {"message": "Your prompt was flagged by our filter."}}),
        (422, {"detail": [{"loc": ["body", "messages", 0], "msg": "Input should be a valid string"}]}),
    ],
)
def test_other_refusals_are_none(said):
    server, settings = served(said, max_failed=0.9)
    with server:
        llm = hurry(connect(server.endpoint, settings))
        replies = complete(llm, [ask(text, temperature=0.5) for text in prompts(10, 3)])
        close(llm)
    assert {reply.fault for reply in replies} == {None, "rejected"}


@pytest.mark.parametrize("share", [2, 5])
def test_they_never_end_a_run_and_are_counted(share, tmp_path):
    """Half of 400 prompts are too long, the first three in a row among them: the run is through, and says how many it left out."""
    server, settings = served(SAID["openai"])
    with server:
        run = Run(tmp_path, method="sieve", verb="label")
        with run.asking({"judge": server.endpoint}, settings) as models:
            replies = complete(models["judge"], [ask(text) for text in prompts(400, share)])
        report = run.finish()
    n = 400 // share
    assert sum(reply.error is None for reply in replies) == 400 - n == sum(r.fault is None for r in replies)
    assert report["status"] == "done"  # the same command would leave out the same
    (row,) = report["shortfalls"]
    assert (row["what"], row["failed"], row["of"]) == ("prompts of judge", n, 400) and not row["too_much"]
    assert "maximum context length" in row["reason"]
    assert f"{n} of 400 prompts of judge were left out" in report["title"]
    assert run.books.rows()[0]["calls"] == 400 - n


def test_an_error_ends_the_run_and_names_the_option():
    server, settings = served(SAID["openai"], too_long="error")
    with server:
        llm = hurry(connect(server.endpoint, settings))
        with pytest.raises(BadInput, match=r"maximum context length.*--llm\.too-long to skip or truncate"):
            complete(llm, [ask(text) for text in prompts()])
        close(llm)


def test_cut_prompts_keep_their_beginning_and_their_end():
    """A server that reads 60 characters of the message: what is asked at the end and what stands at the beginning are sent."""
    text = "Read this. " + "x" * 500 + " What is it?"
    server, settings = served(SAID["anthropic"], too_long="truncate")
    with server:
        llm = hurry(connect(server.endpoint, settings))
        (reply, short) = complete(llm, [ask(text, system="Be brief."), ask("Short?")])
        close(llm)
    assert reply.text == "fine" and "the middle of the prompt" in reply.left_out
    (sent,) = [
        request.prompt for request in server.asked if not is_long(request.prompt) and "Read" in request.prompt
    ]
    assert sent.startswith("Read this.") and sent.endswith("What is it?") and 60 * 0.7 < len(sent) <= 60
    assert {body["messages"][0]["content"] for body in server.bodies if len(body["messages"]) == 2} == {
        "Be brief."
    }
    assert short.left_out == ()


def test_a_checkpoint_in_this_process_has_the_same_shortfall(tmp_path, checkpoint):
    folder = checkpoint("llama", max_position_embeddings=64)
    run = Run(tmp_path / "run", method="sieve", verb="label")
    with run.asking({"judge": f"hf:{folder}"}, LLMConfig()) as models:
        replies = complete(models["judge"], [ask("word " * n, max_tokens=3) for n in (2, 2000, 3)])
    report = run.finish()
    assert [reply.fault for reply in replies] == [None, "too_long", None]
    assert report["status"] == "done" and report["shortfalls"][0]["failed"] == 1
    assert "positions" in report["shortfalls"][0]["reason"]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["shortfalls"][0]["final"]


def test_only_too_long_prompts_and_nothing_else_is_no_dead_endpoint():
    long = Reply("", "error", error="The prompt has 9 tokens.", fault="too_long")
    llm = connect(Script(lambda request: long), LLMConfig(cache="none"))
    assert {reply.fault for reply in complete(llm, [ask(f"{i}") for i in range(30)])} == {"too_long"}
    close(llm)
