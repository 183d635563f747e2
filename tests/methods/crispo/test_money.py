"""What a search costs: budgets, the book of calls, racing, repeats."""

import pytest

from fixtures_crispo import counted, counting_llms, searched
from gnomon.core.llm import Budgeted, Cached, Script
from gnomon.errors import BudgetSpent, LLMFailure
from gnomon.methods.crispo import LLMs, metric_of
from gnomon.methods.crispo.scoring import upper_bound


def test_a_spent_budget_stops_and_a_larger_one_goes_on_without_paying_twice(tmp_path):
    """Nothing is asked twice, and the result is that of a search that was never stopped."""
    log = []

    def limited(calls):
        llms = counting_llms(log)
        return LLMs(
            Cached(Budgeted(llms.task, calls=calls, folder=tmp_path / "task"), tmp_path / "task"),
            *(Cached(one, tmp_path / name) for name, one in (("c", llms.critic), ("o", llms.optimizer))),
        )

    with pytest.raises(BudgetSpent, match="30 of 30 calls"):
        counted(limited(30))
    assert sum(role == "task" for role, *_ in log) == 30
    result = counted(limited(1000))
    whole = counted()
    assert [one.row() for one in result.history.candidates] == [one.row() for one in whole.history.candidates]
    assert result.best.number == whole.best.number
    once = [(text, request.draw) for _, text, request in log]
    assert len(once) == len(set(once))


def test_every_call_is_in_the_book_once_and_in_the_same_order():
    one, other = searched(), searched()
    rows = [[call.row() | {"latency_s": 0} for call in found.calls] for found in (one, other)]
    assert rows[0] == rows[1]
    what = [(call.role, call.what) for call in one.calls]
    assert len(what) == len(set(what))
    assert one.history.steps[-1].task_calls <= sum(call.role == "task" for call in one.calls)


def test_racing_drops_bad_prompts_early_and_says_what_that_saved():
    """Prompts get worse by and by; with the best two kept, later ones are dropped after a third of the rows."""

    def falling(prediction, reference, source):
        return 1 - int(prediction or 0) / 50

    log = []
    result = counted(
        counting_llms(log), metrics=[metric_of(falling, "falling")], rows=30, racing=True, top_k=2, recheck=0
    )
    dropped = [one.number for one in result.history.candidates if one.is_racing_loss]
    assert dropped == [3, 4, 5, 6, 7, 8]  # with the first step there are three, of which two are kept
    assert result.saved_calls == 6 * 20
    assert all("dev" not in result.history.candidates[n].measured for n in dropped)
    assert all(result.history.candidates[n].critique is None for n in dropped)
    assert len(result.history.candidates[3].measured["train"].rows) == 10
    assert result.best.number == 0


def test_racing_asks_nothing_twice_when_it_goes_on():
    log = []
    counted(counting_llms(log), rows=30, racing=True, top_k=2, recheck=0)
    asked = [(text, request.draw) for role, text, request in log if role == "task"]
    assert len(asked) == len(set(asked))
    other = []
    counted(counting_llms(other), rows=30, top_k=2, recheck=0)
    assert sorted(asked) == sorted((text, request.draw) for role, text, request in other if role == "task")


def test_the_upper_bound_of_racing_by_hand():
    """Scores 0, 0, 1 of 9: mean 1/3, s2 = 1/3, t(2) = 4.3027, left over 2/3: 1/3 + 4.3027 * sqrt(2/3 * 1/9)."""
    assert upper_bound([0, 0, 1], 9) == pytest.approx(1 / 3 + 4.302653 * (2 / 27) ** 0.5, rel=1e-6)
    assert upper_bound([0, 1], 2) == 0.5


def test_repeats_are_means_of_draws():
    seen = []

    def task(request):
        seen.append(request.draw)
        return f"<summary>{request.draw}</summary>"

    llms = counting_llms()
    result = counted(
        LLMs(Script(task, "script:t"), llms.critic, llms.optimizer), steps=1, repeat=3, recheck=0
    )
    assert set(seen) == {0, 1, 2}
    assert result.history.candidates[0].values["train"]["number"] == pytest.approx(1 / 100)


def test_the_best_on_dev_are_measured_there_once_more():
    """The endpoint is not deterministic: the first time prompt 1 looks best, the second time it is the worst."""

    def task(request):
        text = request.messages[-1].content
        number = 1 if "number 1:" in text else 2 if "number 2:" in text else 0
        value = {0: (50, 50), 1: (60, 0), 2: (55, 55)}[number][request.draw]
        return f"<summary>{value}</summary>"

    llms = counting_llms()
    asked = LLMs(Script(task, "script:t"), llms.critic, llms.optimizer)
    assert counted(asked, steps=1, dev_every=1, recheck=0).best.number == 1
    result = counted(asked, steps=1, dev_every=1)
    assert result.best.number == 2
    assert result.history.candidates[1].values["dev"]["number"] == pytest.approx(0.30)


def test_a_spent_budget_waits_for_what_is_under_way():
    """Three are being answered when the budget ends: their answers are not lost, and only then is it told."""
    import asyncio

    from gnomon.core.llm.stack.loop import run_async
    from gnomon.methods.crispo.scoring import side_by_side

    done = []

    async def slow(i):
        await asyncio.sleep(0.01)
        done.append(i)

    async def broke():
        raise BudgetSpent("spent")

    async def failed():
        await asyncio.sleep(0.001)
        raise LLMFailure("gone")

    with pytest.raises(BudgetSpent):
        run_async(side_by_side([slow(1), broke(), slow(2), broke(), slow(3)]))
    assert sorted(done) == [1, 2, 3]
    done.clear()
    with pytest.raises(LLMFailure):  # another failure cancels, and is told before the budget
        run_async(side_by_side([slow(1), broke(), failed(), slow(2)]))
    assert done == []

    async def value(i):
        await asyncio.sleep(0.003 - i / 1000)
        return i

    assert run_async(side_by_side(value(i) for i in range(3))) == [0, 1, 2]
    assert run_async(side_by_side([])) == []
