import dataclasses
import json

import pytest

from gnomon.core.llm import LLMConfig, Reply, Script, ask, close, complete, connect, is_simulated, open_llm
from gnomon.errors import BadConfig, BadInput

REQUESTS = [ask(f"<text>rain {number}</text>", draw=number % 2) for number in range(6)]


def recorded(tmp_path, ref="sim:verdict?words=rain", requests=REQUESTS):
    llm = connect(ref, LLMConfig(record=tmp_path / "a.tape"))
    replies = complete(llm, requests)
    close(llm)
    return replies


def test_a_tape_says_what_was_said(tmp_path):
    replies = recorded(tmp_path)
    played = complete(open_llm(f"tape:{tmp_path / 'a.tape'}"), REQUESTS)
    assert [dataclasses.replace(reply, cached=False) for reply in played] == replies
    assert all(reply.cached for reply in played)


def test_a_tape_of_a_simulator_is_one_too(tmp_path):
    recorded(tmp_path)
    assert is_simulated(open_llm(f"tape:{tmp_path / 'a.tape'}"))
    recorded(tmp_path / "b", Script(lambda request: "x"))
    assert not is_simulated(open_llm(f"tape:{tmp_path / 'b' / 'a.tape'}"))


def test_what_is_not_on_the_tape_is_a_failure_of_that_row(tmp_path):
    recorded(tmp_path)
    first, other = complete(open_llm(f"tape:{tmp_path / 'a.tape'}"), [REQUESTS[0], ask("new")])
    assert first.error is None
    assert (other.fault, other.may_pass) == ("missing", False)
    assert "a.tape has no reply to this request" in other.error


def test_failures_are_not_recorded_and_a_tape_goes_on(tmp_path):
    recorded(tmp_path, Script(lambda request: Reply("", "error", error="no", fault="failed")), REQUESTS[:1])
    recorded(tmp_path, "sim:verdict?words=rain", REQUESTS[:2])
    recorded(tmp_path, "sim:verdict?words=rain", REQUESTS[2:4])
    lines = (tmp_path / "a.tape").read_text().splitlines()
    asked = [json.loads(line)["messages"] for line in lines]
    assert sorted(asked) == sorted([["user", f"<text>rain {n}</text>"]] for n in range(4))


def test_half_a_line_of_a_killed_run_is_no_trouble(tmp_path):
    recorded(tmp_path, requests=REQUESTS[:2])
    file = tmp_path / "a.tape"
    file.write_bytes(file.read_bytes()[:-20])
    played = complete(open_llm(f"tape:{file}"), REQUESTS[:2])
    assert sorted(reply.error is None for reply in played) == [False, True]
    recorded(tmp_path, requests=REQUESTS[:2])
    assert [reply.error for reply in complete(open_llm(f"tape:{file}"), REQUESTS[:2])] == [None, None]


@pytest.mark.parametrize(
    "line", ["not JSON", "[]", '{"key": "a"}', '{"key": "a", "is_simulated": true, "reply": {}}']
)
def test_a_file_that_is_no_tape(line, tmp_path):
    (tmp_path / "a.tape").write_text(f"{line}\n")
    with pytest.raises(BadInput, match=r"a.tape, line 1: not a line of a tape"):
        open_llm(f"tape:{tmp_path / 'a.tape'}")


def test_tapes_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        open_llm(f"tape:{tmp_path / 'no.tape'}")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        connect("sim:verdict?words=a", LLMConfig(record=tmp_path / "file" / "a.tape"))


# References


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_rules.py").write_text(
        "from gnomon.core.llm import Reply\n"
        "def upper(request):\n    return request.messages[-1].content.upper()\n"
        "async def later(request):\n    return Reply(request.messages[-1].content.upper(), 'length')\n"
        "def broken(request):\n    return 1 / 0\n"
        "def wrong(request):\n    return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "my_rules"


@pytest.mark.parametrize(("function", "finish"), [("upper", "stop"), ("later", "length")])
def test_a_function_in_the_place_of_a_model(function, finish, module):
    llm = open_llm(f"script:{module}:{function}")
    (reply,) = complete(llm, [ask("wet", stop=("Q",))])
    assert (reply.text, reply.finish, llm.name) == ("WET", finish, f"script:my_rules:{function}")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("broken", "script:my_rules:broken raised ZeroDivisionError"),
        ("wrong", "returned int; it must return a text"),
    ],
)
def test_a_function_that_fails_fails_its_row(function, says, module):
    (reply,) = complete(open_llm(f"script:{module}:{function}"), [ask("wet")])
    assert reply.fault == "failed"
    assert says in reply.error


@pytest.mark.parametrize(
    ("ref", "error", "says"),
    [
        ("openia:gpt-4o", BadConfig, 'is of no known kind. Did you mean "openai"?'),
        ("gpt-4o", BadConfig, "is of no known kind. A reference is openai:MODEL"),
        ("zebra:x", BadConfig, "A reference is openai:MODEL, or openai:MODEL@http://host:8000/v1; anthropic"),
        ("", BadConfig, "is of no known kind"),
        ("hf:", BadConfig, '"hf:" names nothing. Write hf:FOLDER_OR_HUB_ID'),
        ("script:os", BadConfig, "names no function. Write module:function or path"),
        ("script:no_such_module:f", BadInput, 'There is no module "no_such_module"'),
        ("script:json:loadz", BadInput, 'has no function "loadz". Did you mean "load'),
        ("serve:no/such/folder", BadInput, "has no config.json"),
        ("sim:verdic", BadConfig, 'There is no simulator "verdic". Did you mean "verdict"?'),
    ],
)
def test_misspelt_references(ref, error, says):
    with pytest.raises(error) as told:
        open_llm(ref)
    assert says in str(told.value)
