import asyncio
import dataclasses
import importlib
import subprocess
import sys
import threading

import pytest

from fixtures_server import CompletionServer
from gnomon.core.llm import (
    Cached,
    LLMConfig,
    Meter,
    Reply,
    Request,
    Usage,
    ask,
    close,
    complete,
    connect,
    open_llm,
)
from gnomon.core.llm.sims.server import ChatServer
from gnomon.core.llm.stack.stored import reply_from_json, reply_to_json, request_key
from gnomon.core.run import Run, Start
from gnomon.errors import BadInput, BudgetSpent

FULL = Reply(
    "Ja \U0001f600\n", "length", Usage(3, 4, is_estimate=True),
    (("J", -0.25), ("a", -1e-9)), 1.5,
)  # fmt: skip


class Counting:
    """Answers with how often it was asked."""

    name = "counting"

    def __init__(self, *, error=None, delay_s=0.0, raises=None):
        self.asked, self.error, self.delay_s, self.raises = [], error, delay_s, raises

    async def acomplete(self, request):
        self.asked.append(request)
        number = len(self.asked)
        await asyncio.sleep(self.delay_s)
        if self.raises:
            raise self.raises
        return Reply(f"{number}", error=self.error, fault="rejected" if self.error else None)


def test_what_was_answered_is_not_asked_again(tmp_path):
    llm = Counting()
    first, again, other = complete(Cached(llm, tmp_path), [ask("a"), ask("a"), ask("b")], concurrency=1)
    assert (first.text, again.text, other.text) == ("1", "1", "2")
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    later = Cached(Counting(), tmp_path)
    assert dataclasses.replace(complete(later, [ask("b")])[0], cached=False) == other
    assert len(later) == 2
    close(later)


@pytest.mark.parametrize(
    "other",
    [
        ask("a", draw=1), ask("a", temperature=0.1), ask("a", seed=0), ask("a", max_tokens=9), ask("a", top_p=0.5),
        ask("a", stop=("x",)), ask("a", want_logprobs=True), ask("a", choices=("a",)), ask("a", system="s"), ask("a "),
    ],
)  # fmt: skip
def test_every_part_of_a_request_tells_it_from_another(other, tmp_path):
    llm = Counting()
    complete(Cached(llm, tmp_path), [ask("a"), other], concurrency=1)
    assert len(llm.asked) == 2


def test_the_key_names_every_field():
    """A field that is added to Request later must make another key too; `anew` alone says how it is asked and not what."""
    changed = {
        "messages": (), "temperature": 9.0, "top_p": 0.1, "max_tokens": 1, "stop": ("s",), "seed": 1, "draw": 1,
        "want_logprobs": True, "choices": ("c",),
    }  # fmt: skip
    assert {*changed, "anew"} == {field.name for field in dataclasses.fields(Request)}
    assert request_key(dataclasses.replace(ask("a"), anew=True)) == request_key(ask("a"))
    keys = {request_key(dataclasses.replace(ask("a"), **{name: value})) for name, value in changed.items()}
    assert len(keys | {request_key(ask("a"))}) == len(changed) + 1


def test_replies_of_another_model_are_not_its_own(tmp_path):
    one, two = Counting(), Counting()
    two.name = "another"
    complete(Cached(one, tmp_path), [ask("a")])
    complete(Cached(two, tmp_path), [ask("a")])
    assert len(two.asked) == 1


def test_a_changed_rule_is_asked_anew_through_everything_around_it(tmp_path, monkeypatch):
    """The cache looks through the limits and the budget at what is behind the name."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for answer in ("one", "one", "another"):
        (tmp_path / "changing_rule.py").write_text(f"def rule(request):\n    return {answer!r}\n")
        monkeypatch.delitem(sys.modules, "changing_rule", raising=False)
        importlib.invalidate_caches()
        llm = connect("script:changing_rule:rule", LLMConfig(budget_calls=9), folder=tmp_path / "llm")
        (reply,) = complete(llm, [ask("x")])
        close(llm)
        found.append((reply.text, reply.cached))
    assert found == [("one", False), ("one", True), ("another", False)]


def test_a_changed_checkpoint_is_another_model(tmp_path):
    from gnomon.core.llm.stack.stored import folder_state

    (tmp_path / "model.safetensors").write_bytes(b"1234")
    before = folder_state(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    assert folder_state(tmp_path) != before
    assert folder_state(tmp_path / "hub/id") == ""


@pytest.mark.parametrize("reply", [FULL, Reply("I would not.", "refusal"), Reply("")])
def test_a_reply_comes_back_whole(reply):
    assert reply_from_json(reply_to_json(reply)) == dataclasses.replace(reply, cached=True)


def test_failures_are_not_kept(tmp_path):
    llm = Counting(error="no")
    replies = complete(Cached(llm, tmp_path), [ask("a"), ask("a")], concurrency=1)
    assert [(reply.error, reply.cached) for reply in replies] == [("no", False)] * 2
    assert len(llm.asked) == 2


def test_equal_requests_under_way_are_asked_once(tmp_path):
    llm = Counting(delay_s=0.05)
    replies = complete(Cached(llm, tmp_path), [ask("a")] * 20, concurrency=20)
    assert len(llm.asked) == 1
    assert {reply.text for reply in replies} == {"1"}
    assert sum(reply.cached for reply in replies) == 19


def test_equal_requests_share_a_failure_but_not_a_spent_budget(tmp_path):
    llm = Counting(delay_s=0.05, error="no")
    assert [r.error for r in complete(Cached(llm, tmp_path), [ask("a")] * 5)] == ["no"] * 5
    assert len(llm.asked) == 1
    llm = Counting(delay_s=0.01, raises=BudgetSpent("spent"))
    assert [r.finish for r in complete(Cached(llm, tmp_path), [ask("a")] * 5)] == ["budget"] * 5


def test_one_who_is_cancelled_leaves_the_question_to_those_who_wait(tmp_path):
    llm = Counting(delay_s=0.05)
    cached = Cached(llm, tmp_path)

    async def work():
        first = asyncio.create_task(cached.acomplete(ask("a")))
        second = asyncio.create_task(cached.acomplete(ask("a")))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(work()).text == "2"
    assert len(llm.asked) == 2


def test_one_who_waits_and_is_cancelled_disturbs_nobody(tmp_path):
    llm = Counting(delay_s=0.05)
    cached = Cached(llm, tmp_path)

    async def work():
        first = asyncio.create_task(cached.acomplete(ask("a")))
        second = asyncio.create_task(cached.acomplete(ask("a")))
        await asyncio.sleep(0.01)
        second.cancel()
        return await first

    assert asyncio.run(work()).text == "1"


def test_a_file_that_is_no_cache(tmp_path):
    (tmp_path / "replies.sqlite").write_text(
        "these are notes, not a database, and long enough to be read as one " * 9
    )
    with pytest.raises(BadInput, match=r"replies.sqlite: cannot be used as a store of replies .*Remove it"):
        Cached(Counting(), tmp_path)


WRITER = """
import sys
from pathlib import Path
from gnomon.core.llm import Cached, Script, ask, complete
name, folder = sys.argv[1], Path(sys.argv[2])
llm = Cached(Script(lambda request: name + request.messages[0].content, "shared"), folder)
replies = complete(llm, [ask(str(number)) for number in range(150)], concurrency=8)
assert all(reply.text[1:] == str(number) for number, reply in enumerate(replies))
"""


@pytest.mark.scale
@pytest.mark.slow
def test_two_processes_share_a_cache(tmp_path):
    jobs = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(tmp_path)], stderr=subprocess.PIPE)
        for name in "ab"
    ]
    assert [(job.communicate(timeout=60)[1], job.returncode) for job in jobs] == [(b"", 0)] * 2
    llm = Counting()
    llm.name = "shared"
    cached = Cached(llm, tmp_path)
    assert len(cached) == 150
    close(cached)


def test_the_meter_tells_fresh_from_cached(tmp_path):
    meter = Meter()
    llm = connect("sim:verdict?words=rain", LLMConfig(), folder=tmp_path, meter=meter)
    requests = [ask("<text>rain</text>"), ask("<text>snow</text>")]
    replies = complete(llm, requests)
    complete(llm, requests)
    close(llm)
    figures = meter.figures()
    assert (figures["calls_fresh"], figures["calls_cached"], figures["SIMULATED"]) == (2, 2, True)
    assert figures["tokens_out"] == sum(len(reply.text.split()) for reply in replies)


# One cache for all runs


def asked_in_a_run(folder, endpoint, n, **settings):
    run = Run(folder, method="sieve", verb="label", start=Start(fresh=True))
    with run.asking({"judge": endpoint}, LLMConfig(**settings)) as models:
        replies = complete(models["judge"], [ask(f"Number {number}?") for number in range(n)])
    run.finish()
    return replies


def test_what_any_run_has_paid_for_no_other_run_pays_for(tmp_path):
    """More items, a fresh start, another folder, another budget: only what is new is asked."""
    with CompletionServer() as server:
        first = asked_in_a_run(tmp_path / "a", server.endpoint, 5)
        assert len(server.requests) == 5
        more = asked_in_a_run(tmp_path / "a", server.endpoint, 12)
        assert len(server.requests) == 12
        other = asked_in_a_run(tmp_path / "b", server.endpoint, 12, budget_calls=1)
        assert len(server.requests) == 12
    assert [reply.text for reply in more] == [reply.text for reply in other]
    assert [reply.text for reply in more[:5]] == [reply.text for reply in first]
    assert all(reply.cached for reply in other)
    assert not list(tmp_path.rglob("replies.sqlite"))


def test_a_cache_of_ones_own_and_none_at_all(tmp_path, monkeypatch):
    with CompletionServer() as server:
        for folder in ("x", "x", "y"):
            asked_in_a_run(tmp_path / "run", server.endpoint, 3, cache=str(tmp_path / folder))
        assert len(server.requests) == 6
        for _ in range(2):
            asked_in_a_run(tmp_path / "run", server.endpoint, 3, cache="none")
        assert len(server.requests) == 12
        monkeypatch.setenv("GNOMON_CACHE", str(tmp_path / "mine"))
        asked_in_a_run(tmp_path / "run", server.endpoint, 3)
        assert len(server.requests) == 15
    assert (tmp_path / "mine" / "replies" / "replies.sqlite").exists()


def test_what_costs_nothing_is_kept_with_its_run(tmp_path, monkeypatch):
    """A simulator may be changed without its name saying so: what it said in one run is not what it says in the next."""
    monkeypatch.setenv("GNOMON_CACHE", str(tmp_path / "mine"))
    asked_in_a_run(tmp_path / "run", "sim:verdict?words=rain", 3)
    assert list((tmp_path / "run").rglob("replies.sqlite"))
    assert not (tmp_path / "mine").exists()
    with ChatServer(open_llm("sim:verdict?words=rain")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        asked_in_a_run(tmp_path / "run", server.endpoint, 3)
        server.shutdown()
        thread.join()
    assert not (tmp_path / "mine").exists()


def test_a_kept_reply_that_cannot_be_read_is_asked_for_again_and_replaced(tmp_path):
    """Once for each asking: a command that is repeated gets another chance, and a reply that just came is what it is."""

    class Improving(Counting):
        async def acomplete(self, request):
            self.asked.append(request)
            return Reply("no word" if len(self.asked) <= 2 else "PASS")

    llm, requests = Improving(), [ask("a"), ask("b")]
    cached = Cached(llm, tmp_path)

    def texts():
        return [reply.text for reply in complete(cached, requests, is_readable=lambda _, r: "PASS" in r.text)]

    assert (texts(), len(llm.asked)) == (["no word", "no word"], 2)
    assert (texts(), len(llm.asked)) == (["PASS", "PASS"], 4)
    assert (texts(), len(llm.asked)) == (["PASS", "PASS"], 4)
    assert [reply.text for reply in complete(cached, requests)] == ["PASS", "PASS"]


def test_what_cannot_be_read_stays_where_the_budget_is_spent(tmp_path):
    class Spent(Counting):
        async def acomplete(self, request):
            self.asked.append(request)
            if len(self.asked) > 1:
                raise BudgetSpent("The budget of 1 calls is spent.")
            return Reply("no word")

    cached = Cached(Spent(), tmp_path)
    for _ in range(2):
        (reply,) = complete(cached, [ask("a")], is_readable=lambda _, r: "PASS" in r.text)
        assert (reply.text, reply.finish) == ("no word", "stop")
