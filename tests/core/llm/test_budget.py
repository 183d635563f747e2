import asyncio
import dataclasses
from pathlib import Path

import pytest
import tyro

from gnomon.core.config import tokens
from gnomon.core.llm import Budgeted, LLMConfig, Meter, Prices, Reply, Usage, ask, close, complete, connect
from gnomon.core.llm.stack.budget import Amount
from gnomon.core.plain import to_plain
from gnomon.errors import BadConfig


class Worker:
    """Takes 10 tokens in and `out` tokens for every answer."""

    name = "worker"

    def __init__(self, out=5, fault=None, delay_s=0.0):
        self.n_asked, self.out, self.fault, self.delay_s = 0, out, fault, delay_s

    async def acomplete(self, request):
        self.n_asked += 1
        await asyncio.sleep(self.delay_s)
        if self.fault:
            return Reply("", "error", error="failed", fault=self.fault)
        return Reply("done", usage=Usage(10, self.out))


def finishes(llm, n, concurrency=1, **options):
    requests = [ask(f"{number:03}", **{"max_tokens": 20, **options}) for number in range(n)]
    return [reply.finish for reply in complete(llm, requests, concurrency=concurrency)]


@pytest.mark.parametrize("concurrency", [1, 4, 40])
def test_no_call_beyond_the_budget(concurrency):
    worker = Worker(delay_s=0.001)
    found = finishes(Budgeted(worker, calls=13), 40, concurrency)
    assert found == ["stop"] * 13 + ["budget"] * 27
    assert worker.n_asked == 13


@pytest.mark.parametrize("concurrency", [1, 3, 40])
def test_tokens_are_set_aside_and_what_was_not_needed_comes_back(concurrency):
    """A call may take 5 + 20 tokens and takes 15: it is made while 25 fit. 0, 15, .. 75 of 100 are spent before the six calls."""
    worker = Worker(delay_s=0.001)
    llm = Budgeted(worker, tokens=100)
    assert finishes(llm, 40, concurrency) == ["stop"] * 6 + ["budget"] * 34
    assert llm.spent == Amount(6, 90)


def test_a_short_request_does_not_slip_in_behind_a_long_one_that_was_refused():
    worker = Worker()
    llm = Budgeted(worker, tokens=100)
    replies = complete(
        llm, [ask("a", max_tokens=90), ask("b", max_tokens=90), ask("c", max_tokens=1)], concurrency=1
    )
    assert [reply.finish for reply in replies] == ["stop", "budget", "budget"]
    assert "spent: 15 of 100 tokens. Raise --llm.budget-tokens to go on" in replies[1].error


def test_money():
    """10 tokens in at 100 and 5 out at 1000 USD per million are 0.006 USD; 5 and 20 set aside are 0.0205 at most."""
    prices = Prices(100, 1000)
    assert prices.usd(Usage(10, 5)) == pytest.approx(0.006)
    llm = Budgeted(Worker(), usd=0.05, prices=prices)
    assert finishes(llm, 9) == ["stop"] * 5 + ["budget"] * 4
    assert llm.spent.usd == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("fault", "spent"),
    [("connection", 0), ("rate_limit", 0), ("server", 0), ("rejected", 0), ("timeout", 3), ("malformed", 3)],
)
def test_a_failure_costs_only_where_the_endpoint_may_have_worked(fault, spent):
    llm = Budgeted(Worker(fault=fault), calls=10)
    finishes(llm, 3)
    assert llm.spent.calls == spent


def test_what_earlier_runs_spent_counts_when_asked(tmp_path):
    first, second, apart = Worker(), Worker(), Worker()
    for worker, n, folder in ((first, 3, tmp_path), (second, 9, tmp_path), (apart, 9, None)):
        llm = Budgeted(worker, calls=5, folder=folder)
        finishes(llm, n)
        close(llm)
    assert (first.n_asked, second.n_asked, apart.n_asked) == (3, 2, 5)


def test_a_budget_of_nothing_asks_nothing():
    worker = Worker()
    assert finishes(Budgeted(worker, calls=0), 3) == ["budget"] * 3
    assert worker.n_asked == 0


def test_cached_replies_cost_no_budget_even_when_it_is_spent(tmp_path):
    meter, requests = Meter(), [ask(f"<text>rain {number}</text>") for number in range(10)]
    cfg = LLMConfig(budget_calls=4)
    for _ in range(2):
        llm = connect("sim:verdict?words=rain", cfg, folder=tmp_path, meter=meter)
        replies = complete(llm, requests, concurrency=1)
        close(llm)
        assert [reply.finish for reply in replies] == ["stop"] * 4 + ["budget"] * 6
    assert (meter.fresh, meter.cached, meter.unasked) == (4, 4, 12)
    llm = connect("sim:verdict?words=rain", LLMConfig(budget_calls=12), folder=tmp_path, meter=meter)
    assert {reply.finish for reply in complete(llm, requests)} == {"stop"}
    close(llm)
    assert meter.fresh == 10


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"calls": -1}, "budget_calls must be >= 0; got -1"),
        ({"usd": 1.0}, "A budget in USD needs prices. Set --llm.price-in and --llm.price-out"),
    ],
)
def test_limits_that_mean_nothing(given, says):
    with pytest.raises(BadConfig, match=says):
        Budgeted(Worker(), **given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"concurrency": 0}, "llm.concurrency must be >= 1; got 0"),
        ({"per_minute": 0}, "llm.per_minute must be > 0; got 0"),
        ({"retries": -1}, "llm.retries must be >= 0; got -1"),
        ({"timeout_s": 0}, "llm.timeout_s must be > 0; got 0"),
        ({"budget_tokens": -5}, "llm.budget_tokens must be >= 0; got -5"),
        ({"price_in": 1.0}, "must be given together"),
        ({"budget_usd": 1.0}, "--llm.price-in and --llm.price-out must be given with --llm.budget-usd"),
        ({"api_key_env": ("",)}, "llm.api_key_env must be names of environment variables"),
    ],
)
def test_settings_out_of_range(given, says):
    with pytest.raises(BadConfig, match=says):
        LLMConfig(**given)


def test_settings_come_from_the_command_line_and_go_back_to_it():
    @dataclasses.dataclass(frozen=True)
    class Verb:
        llm: LLMConfig = dataclasses.field(default_factory=LLMConfig)

    words = [
        "--llm.concurrency",
        "32",
        "--llm.per-minute",
        "90",
        "--llm.cache",
        "none",
        "--llm.record",
        "a.tape",
    ]
    words += ["--llm.budget-usd", "2.5", "--llm.price-in", "2.5", "--llm.price-out", "10"]
    verb = tyro.cli(Verb, args=words)
    assert verb.llm == LLMConfig(
        32, 90, cache="none", record=Path("a.tape"), budget_usd=2.5, price_in=2.5, price_out=10
    )
    assert tyro.cli(Verb, args=tokens(to_plain(verb))) == verb
