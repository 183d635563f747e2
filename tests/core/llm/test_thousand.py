"""A thousand requests to a real server that fails one time in ten, and a client that is killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import gnomon
from fixtures_llm import hurry
from fixtures_server import CompletionServer, chat_answer_to
from gnomon.core.llm import LLMConfig, Meter, ask, close, complete, connect

N = 1000
KEY = "sk-a-key-that-nobody-may-see"
FAULTS = [429, 500, 503, "cut", "garbled", 502, "proxy", "refusal", 400, "endless"]


def prompts(n=N):
    return [f"Number {number}?" for number in range(n)]


def expected(prompt):
    return chat_answer_to([{"role": "user", "content": prompt}])


def number_of(asked):
    return int(asked["messages"][0]["content"].split()[1].rstrip("?"))


@pytest.mark.slow
def test_every_row_is_answered_or_reported_in_order_and_no_file_holds_the_key(tmp_path, monkeypatch):
    """Every tenth request meets a fault, once or, for one kind of each, for good."""
    monkeypatch.setenv("MY_KEY", KEY)
    attempts = Counter()

    def script(_, asked):
        number = number_of(asked)
        attempts[number] += 1
        if number % 10:
            return "fine"
        fault = FAULTS[number // 10 % len(FAULTS)]
        lasting = fault in (400, "refusal") or number < 100
        return fault if lasting or attempts[number] == 1 else "fine"

    meter = Meter()
    cfg = LLMConfig(
        concurrency=32,
        retries=1,
        timeout_s=8,  # an answer of a busy machine comes within it, one without end does not
        api_key_env=("MY_KEY",),
        cache=str(tmp_path / "cache"),
        record=tmp_path / "a.tape",
        budget_calls=N + 20,  # some answers break off and are paid for all the same
        max_failed=1.0,
    )
    with CompletionServer(script) as server:
        llm = hurry(connect(server.endpoint, cfg, folder=tmp_path / "llm", meter=meter))
        replies = complete(llm, map(ask, prompts()), concurrency=32)
        close(llm)
    for number, (prompt, reply) in enumerate(zip(prompts(), replies, strict=True)):
        fault = FAULTS[number // 10 % len(FAULTS)] if number % 10 == 0 else "fine"
        if fault == "refusal":
            assert (reply.finish, reply.fault, reply.text) == ("refusal", "refusal", "")
        elif fault == 400 or (fault != "fine" and number < 100):
            assert reply.error
            assert (reply.finish, reply.text) == ("error", "")
        else:
            assert (reply.text, reply.finish, reply.error) == (expected(prompt), "stop", None)
    # Of the ten kinds, refusals and 400 fail for good everywhere, the 8 others below 100: 10 + 10 + 8.
    assert (meter.answered, meter.failed, meter.faults["refusal"]) == (N - 28, 28, 10)
    # Paid for: the answers, the refusals, both attempts at what breaks off for good, and the first ones at what breaks off or does
    # not end once (ten of each kind, one of them for good).
    assert meter.fresh == N - 28 + 10 + meter.faults["malformed"] + meter.faults["timeout"]
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in repr(replies) + json.dumps(meter.figures())


CLIENT = """
import signal, sys
from pathlib import Path
from gnomon.core.llm import LLMConfig, ask, close, complete, connect
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
endpoint, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
llm = connect(endpoint, LLMConfig(concurrency=8), folder=folder)
replies = complete(llm, [ask(f"Number {number}?") for number in range(n)])
close(llm)
print(sum(reply.cached for reply in replies), sum(reply.error is None for reply in replies))
"""


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_killed_pays_for_nothing_twice(number, tmp_path):
    n = 200
    env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    with CompletionServer(delay_s=lambda at: 0.0 if at < 90 else 30.0) as server:
        command = [sys.executable, "-c", CLIENT, server.endpoint, str(tmp_path), str(n)]
        job = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while len(server.requests) < 98 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)  # 90 are answered and written down, 8 hang
        os.kill(job.pid, number)
        job.communicate(timeout=200)
        assert job.returncode != 0
        assert len(server.requests) == 98
        server.delay_s = 0.0
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["90", str(n)], done.stderr
    assert len(server.requests) == 98 + n - 90
    again = {number_of(asked) for asked in server.requests[98:]}
    answered = {number_of(asked) for asked in server.requests[:90]}
    assert again == set(range(n)) - answered
