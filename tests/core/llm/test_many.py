import asyncio
import random
import threading
import time

import pytest

from gnomon.core.llm import Reply, Script, acomplete_many, ask, complete
from gnomon.core.llm.stack.loop import run_async
from gnomon.errors import BadConfig, BudgetSpent, LLMFailure, ModelMismatch


class Echo:
    """Answers with the prompt after a while; notes how many requests were under way together."""

    name = "echo"

    def __init__(self, delay_s=lambda text: 0.0, fails=lambda text: None):
        self.delay_s, self.fails = delay_s, fails
        self.busy = self.most_busy = 0
        self.asked = []

    async def acomplete(self, request):
        text = request.messages[-1].content
        self.asked.append(text)
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            await asyncio.sleep(self.delay_s(text))
            if error := self.fails(text):
                raise error
            return Reply(text.upper())
        finally:
            self.busy -= 1


WORDS = [f"w{number}" for number in range(50)]


def test_replies_come_in_the_order_of_the_requests():
    delays = random.Random(0)
    llm = Echo(lambda text: delays.random() * 0.01)
    seen = []
    replies = complete(llm, map(ask, WORDS), concurrency=7, on_reply=lambda *item: seen.append(item))
    assert [reply.text for reply in replies] == [word.upper() for word in WORDS]
    assert llm.most_busy == 7
    assert sorted(seen, key=lambda item: item[0]) == list(enumerate(replies))
    assert seen != list(enumerate(replies))


def test_nothing_asked_nothing_answered():
    assert complete(Echo(), []) == []


@pytest.mark.parametrize("error", [LLMFailure("no such model"), BudgetSpent("all spent")])
def test_one_failure_is_one_reply(error):
    llm = Echo(fails=lambda text: error if text == "w3" else None)
    replies = complete(llm, map(ask, WORDS))
    assert [reply.error for reply in replies] == [None] * 3 + [str(error)] + [None] * 46
    assert replies[3].finish == ("budget" if isinstance(error, BudgetSpent) else "error")
    assert replies[4].text == "W4"


@pytest.mark.parametrize("error", [ModelMismatch("not a chat model"), ZeroDivisionError("a bug")])
def test_what_concerns_every_row_ends_the_call(error):
    llm = Echo(lambda text: 0.0 if text == "w0" else 0.05, lambda text: error if text == "w0" else None)
    with pytest.raises(type(error), match=str(error)):
        complete(llm, map(ask, WORDS), concurrency=4)
    assert len(llm.asked) <= 5
    assert llm.busy == 0


def test_inside_a_running_loop_as_in_a_notebook():
    async def cell():
        return complete(Echo(), [ask("a"), ask("b")])

    assert [reply.text for reply in asyncio.run(cell())] == ["A", "B"]


def test_the_asynchronous_form_stays_on_the_loop_of_the_caller():
    loops = set()

    class Here(Echo):
        async def acomplete(self, request):
            loops.add(asyncio.get_running_loop())
            return await super().acomplete(request)

    async def work():
        replies = await acomplete_many(Here(), map(ask, WORDS), concurrency=3)
        return replies, asyncio.get_running_loop()

    replies, loop = asyncio.run(work())
    assert [reply.text for reply in replies] == [word.upper() for word in WORDS]
    assert loops == {loop}


def test_several_threads_ask_at_once():
    llm, found = Echo(lambda text: 0.02), {}

    def work(name):
        found[name] = [r.text for r in complete(llm, [ask(f"{name}{n}") for n in range(4)], concurrency=4)]

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [f"{name.upper()}{n}" for n in range(4)] for name in "abc"}
    assert llm.most_busy > 4


def test_what_a_callback_raises_cancels_the_rest():
    llm = Echo(lambda text: 0.01)

    def stop(index, reply):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(llm, map(ask, WORDS), concurrency=2, on_reply=stop)
    assert llm.busy == 0
    time.sleep(0.05)
    assert len(llm.asked) <= 6


def test_a_synchronous_call_from_within_is_refused_rather_than_waited_for():
    async def inner(request):
        complete(Echo(), [ask("x")])

    (reply,) = complete(Script(inner), [ask("x")])
    assert "await it instead" in reply.error


def test_callbacks_and_plain_functions_may_ask_in_turn():
    def twice(request):
        return complete(Echo(), [request])[0].text * 2

    inner = []
    replies = complete(
        Script(twice), [ask("a")], on_reply=lambda i, r: inner.append(complete(Echo(), [ask("b")])[0].text)
    )
    assert (replies[0].text, inner) == ("AA", ["B"])


def test_an_error_passes_through():
    async def fail():
        raise LLMFailure("gone")

    with pytest.raises(LLMFailure, match="gone"):
        run_async(fail())


def test_concurrency_is_positive():
    with pytest.raises(BadConfig, match="concurrency must be >= 1; got 0"):
        complete(Echo(), [ask("x")], concurrency=0)
