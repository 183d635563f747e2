import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_llm import hurry
from fixtures_server import CompletionServer, chat_answer_to
from gnomon.core.llm import Limited, LLMConfig, Meter, Reply, Retried, ask, close, complete, connect
from gnomon.errors import BadConfig


class Scripted:
    """Meets the faults of a list, then answers."""

    name = "scripted"

    def __init__(self, *faults, retry_after_s=None):
        self.faults, self.retry_after_s, self.starts, self.busy, self.most_busy = (
            list(faults),
            retry_after_s,
            [],
            0,
            0,
        )

    async def acomplete(self, request):
        self.starts.append(time.monotonic())
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        await asyncio.sleep(0.005)
        self.busy -= 1
        if self.faults and (fault := self.faults.pop(0)):
            return Reply("", "error", error="It failed.", fault=fault, retry_after_s=self.retry_after_s)
        return Reply("fine")


def test_no_more_under_way_than_allowed():
    llm = Scripted()
    complete(Limited(llm, concurrency=3), [ask(str(n)) for n in range(12)], concurrency=12)
    assert llm.most_busy == 3


def test_no_faster_than_allowed():
    llm = Scripted()
    complete(Limited(llm, per_minute=60 / 0.03), [ask(str(n)) for n in range(8)], concurrency=8)
    gaps = [later - earlier for earlier, later in zip(llm.starts, llm.starts[1:], strict=False)]
    assert llm.starts[-1] - llm.starts[0] >= 0.03 * 7 - 0.01
    assert min(gaps) > 0.01


@pytest.mark.parametrize("fault", ["rate_limit", "server", "timeout", "connection"])
def test_passing_faults_are_tried_again(fault):
    told = []
    llm = Retried(Scripted(fault, fault), 2, first_s=0.001, on_fault=told.append)
    (reply,) = complete(llm, [ask("x")])
    assert (reply.text, reply.error) == ("fine", None)
    assert [fault_reply.fault for fault_reply in told] == [fault] * 2


def test_a_broken_answer_was_paid_for_and_is_tried_again_once():
    llm = Scripted(*["malformed"] * 9)
    (reply,) = complete(Retried(llm, 5, first_s=0.001), [ask("x")])
    assert (reply.fault, len(llm.starts)) == ("malformed", 2)


@pytest.mark.parametrize("fault", ["rejected", "quota", "missing", "failed"])
def test_lasting_faults_are_not(fault):
    llm = Scripted(fault)
    (reply,) = complete(Retried(llm, 5), [ask("x")])
    assert (reply.error, len(llm.starts)) == ("It failed.", 1)


def test_what_stays_is_told_with_the_number_of_attempts():
    llm = Scripted(*["server"] * 9)
    (reply,) = complete(Retried(llm, 3, first_s=0.001), [ask("x")])
    assert (reply.error, reply.fault, len(llm.starts)) == ("It failed. Tried 4 times.", "server", 4)


def test_the_wait_that_the_endpoint_asks_for_is_kept():
    llm = Scripted("rate_limit", retry_after_s=0.2)
    complete(Retried(llm, 1, first_s=0.001), [ask("x")])
    assert 0.2 <= llm.starts[1] - llm.starts[0] < 0.4


@given(attempt=st.integers(0, 2000), asked=st.none() | st.floats(0, 1e6), draw=st.integers(0, 9))
def test_waits_grow_vary_and_stay_within_bounds(attempt, asked, draw):
    llm = Retried(Scripted(), first_s=0.5, longest_s=60)
    wait = llm.wait_s(ask("x", draw=draw), attempt, asked)
    assert wait == llm.wait_s(ask("x", draw=draw), attempt, asked)
    assert wait <= 60
    if asked is None:
        assert min(60, 0.5 * 2 ** min(attempt, 10)) / 2 <= wait <= 0.5 * 2 ** min(attempt, 10)
    else:
        assert min(60, asked) <= wait <= asked + 0.5


def test_two_requests_do_not_return_together():
    llm = Retried(Scripted())
    assert llm.wait_s(ask("x"), 0, None) != llm.wait_s(ask("y"), 0, None)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda llm: Limited(llm, concurrency=0), "concurrency must be >= 1; got 0"),
        (lambda llm: Limited(llm, per_minute=0), "per_minute must be > 0; got 0"),
        (lambda llm: Retried(llm, -1), "retries must be >= 0; got -1"),
    ],
)
def test_limits_that_mean_nothing(make, says):
    with pytest.raises(BadConfig, match=says):
        make(Scripted())


@pytest.mark.parametrize("fault", [429, 500, 503, "cut", "garbled", "proxy"])
def test_a_passing_fault_of_a_real_server_changes_nothing(fault):
    meter = Meter()
    with CompletionServer([fault]) as server:
        llm = hurry(connect(server.endpoint, LLMConfig(), meter=meter))
        (reply,) = complete(llm, [ask("Why?")])
        close(llm)
    assert reply.text == chat_answer_to([{"role": "user", "content": "Why?"}])
    paid = 1 + (fault == "garbled")  # an answer that breaks off was paid for
    assert (meter.fresh, meter.failed, meter.faults.total(), len(server.requests)) == (paid, 0, 1, 2)
