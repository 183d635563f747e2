"""Language models by role: one table of what was asked, on the page and in `report.json`, whatever becomes of the run."""

import asyncio
import json
import subprocess
import sys

import pytest

from fixtures_server import CompletionServer
from fixtures_vendors import VendorServer, chat
from gnomon.core.llm import LLMConfig, Reply, Role, Script, Usage, ask, asking, close, complete, open_llm
from gnomon.core.llm.books import CAPTION
from gnomon.core.llm.stack.many import acomplete_many
from gnomon.core.run import Run, Start
from gnomon.errors import BadConfig, EndpointDown

SIMULATED = "sim:verdict?words=rain"


def prompts(*texts):
    return [ask(f"About the weather?\n<text>{text}</text>") for text in texts]


@pytest.fixture
def new_run():
    """Makes runs, and closes them in the end."""
    runs = []

    def make(folder, **options):
        runs.append(Run(folder, method="sieve", verb="label", quiet=True, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


def table(folder):
    report = json.loads((folder / "report.json").read_text())
    (rows,) = [one["rows"] for one in report["tables"] if one["caption"] == CAPTION]
    return {row["role"]: row for row in rows}


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Endpoint:
    """A model that knows how often it was asked, and whether it was closed."""

    name = "endpoint"

    def __init__(self):
        self.calls, self.closed = 0, 0

    async def acomplete(self, request):
        self.calls += 1
        return Reply("yes", usage=Usage(10, 2))

    async def aclose(self):
        self.closed += 1


def test_the_table_is_on_the_page_and_in_the_report(tmp_path, new_run):
    run = new_run(tmp_path)
    with run.asking({"judge": Endpoint()}, LLMConfig(price_in=1_000_000, price_out=500_000)) as models:
        complete(models["judge"], prompts("a", "b", "a"))
        assert models.figures("judge")["calls_fresh"] == 2
    run.finish()
    assert table(tmp_path) == {
        "judge": {
            "role": "judge",
            "model": "endpoint",
            "calls": 2,
            "cached": 1,
            "tokens in": 20,
            "tokens out": 4,
            "cost in USD": 22.0,
            "faults": "none",
        }
    }
    html = (tmp_path / "report.html").read_text()
    assert "What was asked" in html and "endpoint" in html and "SIMULATED" not in html
    assert not json.loads((tmp_path / "report.json").read_text())["simulated"]


def test_a_repeated_run_finds_its_replies(tmp_path, new_run):
    for _ in range(2):
        run = new_run(tmp_path)
        with run.asking({"judge": Endpoint()}) as models:
            complete(models["judge"], prompts("a", "b"))
        run.close()
    run.finish()
    row = table(tmp_path)["judge"]
    assert (row["calls"], row["cached"], row["tokens in"]) == (0, 2, 0)
    assert (tmp_path / "replies" / "judge" / "replies.sqlite").exists()


def test_two_roles_share_a_model_and_are_counted_apart(tmp_path, new_run):
    run, endpoint = new_run(tmp_path), Endpoint()
    with run.asking({"task": endpoint, "critic": endpoint}) as models:
        complete(models["task"], prompts("a", "b"))
        complete(models["critic"], prompts("b", "c", "d"))
    run.finish()
    rows = table(tmp_path)
    assert (rows["task"]["calls"], rows["task"]["cached"]) == (2, 0)
    assert (rows["critic"]["calls"], rows["critic"]["cached"]) == (2, 1)
    assert endpoint.calls == 4
    assert not (tmp_path / "replies" / "critic").exists()


def test_roles_of_one_model_share_its_budget(tmp_path, new_run):
    run, endpoint = new_run(tmp_path), Endpoint()
    with run.asking({"task": endpoint, "critic": endpoint}, LLMConfig(budget_calls=3)) as models:
        complete(models["task"], prompts("a", "b"))
        replies = complete(models["critic"], prompts("c", "d"))
    assert sorted(reply.finish for reply in replies) == ["budget", "stop"]
    run.finish()
    rows = table(tmp_path)
    assert (rows["task"]["not asked"], rows["critic"]["not asked"], endpoint.calls) == (0, 1, 3)


def test_roles_with_settings_of_their_own_do_not(tmp_path, new_run):
    run, endpoint = new_run(tmp_path), Endpoint()
    strict = Role(endpoint, settings=LLMConfig(budget_calls=1))
    with run.asking({"task": endpoint, "critic": strict}) as models:
        complete(models["task"], prompts("a", "b"))
        assert [r.finish for r in complete(models["critic"], prompts("c", "d"))].count("budget") == 1


def test_faults_are_counted_for_the_role_that_met_them(tmp_path, new_run):
    run = new_run(tmp_path)
    with CompletionServer([429, "fine", 500, "fine"]) as server:
        roles = {"task": server.endpoint, "critic": server.endpoint}
        with run.asking(roles, LLMConfig(concurrency=1)) as models:
            complete(models["task"], prompts("a"), concurrency=1)
            complete(models["critic"], prompts("b"), concurrency=1)
    run.finish()
    rows = table(tmp_path)
    assert (rows["task"]["faults"], rows["critic"]["faults"]) == ("rate_limit 1", "server 1")
    assert (rows["task"]["calls"], rows["task"]["tokens in"]) == (1, 11)


def test_a_model_in_another_process(tmp_path, new_run):
    words = [sys.executable, "-m", "gnomon", "sim", "serve", "verdict?words=rain"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        endpoint = server.stdout.readline().split()[-1]
        run = new_run(tmp_path)
        with run.asking({"judge": endpoint}) as models:
            replies = complete(models["judge"], prompts("It rains: rain.", "Stocks fell.", "Stocks fell."))
        server.terminate()
    run.finish()
    assert ["PASS" in reply.text for reply in replies] == [True, False, False]
    row = table(tmp_path)["judge"]
    assert (row["model"], row["calls"], row["cached"], row["faults"]) == (endpoint, 2, 1, "none")


def test_a_simulator_is_marked_and_titled(tmp_path, new_run):
    run = new_run(tmp_path)
    with run.asking({"judge": SIMULATED, "critic": Endpoint()}) as models:
        assert models.is_simulated and run.page.simulated
        complete(models["judge"], prompts("rain"))
    run.page.title = "Labels"  # also when the title is set later
    report = run.finish()
    assert report["simulated"] and report["title"] == "SIMULATED: Labels"
    assert "SIMULATED" in (tmp_path / "report.html").read_text().split("</title>")[0]
    rows = table(tmp_path)
    assert (rows["judge"]["SIMULATED"], rows["critic"]["SIMULATED"]) == (True, False)


def test_a_title_that_says_it_is_left_as_it_is(tmp_path, new_run):
    run = new_run(tmp_path)
    run.page.title = "One of the writers is SIMULATED"
    with run.asking({"judge": SIMULATED}):
        pass
    assert run.finish()["title"] == "One of the writers is SIMULATED"


def test_a_failing_block_is_closed_and_on_the_books(tmp_path, new_run):
    run, closed = new_run(tmp_path), Endpoint()
    with (
        pytest.raises(ZeroDivisionError),
        run.asking({"judge": lambda: closed}) as models,
    ):
        complete(models["judge"], prompts("a", "b"))
        raise ZeroDivisionError
    run.close()
    assert closed.closed == 1
    (row,) = metrics(tmp_path)
    assert (row["role"], row["model"], row["calls_fresh"], row["tokens_in"]) == ("judge", "endpoint", 2, 20)
    again = new_run(tmp_path)
    with again.asking({"judge": Endpoint()}) as models:
        complete(models["judge"], prompts("a", "b", "c"))
    again.finish()
    assert (table(tmp_path)["judge"]["calls"], table(tmp_path)["judge"]["cached"]) == (1, 2)


def test_when_one_role_cannot_be_opened_the_others_are_closed(tmp_path, new_run):
    run, first = new_run(tmp_path), Endpoint()
    with pytest.raises(BadConfig, match="no known kind"), run.asking({"a": lambda: first, "b": "oopenai:x"}):
        pass
    assert first.closed == 1


def test_a_model_that_was_open_stays_open(tmp_path, new_run):
    endpoint, run = Endpoint(), new_run(tmp_path)
    with run.asking({"judge": endpoint}) as models:
        complete(models["judge"], prompts("a"))
    assert endpoint.closed == 0


def test_a_role_that_is_no_language_model(tmp_path, new_run):
    class Rule:
        name, closed = "rule:house:rules", False

        def close(self):
            self.closed = True

    run, rule = new_run(tmp_path), Rule()
    with run.asking({"judge": lambda: rule, "checker": Endpoint(), "writer": None}) as models:
        assert models["judge"] is rule and models["writer"] is None
        complete(models["checker"], prompts("a"))
        assert models.figures("judge")["calls_fresh"] == 0
    assert rule.closed
    run.finish()
    rows = table(tmp_path)
    assert (rows["judge"]["model"], rows["judge"]["calls"]) == ("rule:house:rules", None)
    assert "writer" not in rows


def test_without_a_language_model_there_is_no_table(tmp_path, new_run):
    class Rule:
        name, is_simulated = "rule", True

    run = new_run(tmp_path)
    with run.asking({"judge": Rule()}):
        pass
    report = run.finish()
    assert report["tables"] == [] and report["simulated"] and report["title"].startswith("SIMULATED: ")


def test_blocks_of_a_run_and_of_its_parts_add_up(tmp_path, new_run):
    run, endpoint = new_run(tmp_path), Endpoint()
    with run.asking({"judge": endpoint}) as models:
        complete(models["judge"], prompts("a"))
    for seed in range(2):
        part = run.within(f"seed-{seed}")
        with part.asking({"judge": endpoint}) as models:
            complete(models["judge"], prompts("a", "b"))
    run.finish()
    assert table(tmp_path)["judge"]["calls"] == 5
    assert (tmp_path / "seed-1" / "replies" / "judge" / "replies.sqlite").exists()
    assert [row.get("part") for row in metrics(tmp_path)] == [None, "seed-0", "seed-1"]


def test_a_model_of_an_outer_block_is_counted_once(tmp_path, new_run):
    run = new_run(tmp_path)
    with (
        run.asking({"judge": Endpoint()}) as outer,
        run.asking({"second": outer["judge"]}) as inner,
    ):
        complete(inner["second"], prompts("a"))
        assert inner.figures("second")["calls_fresh"] == 1
    run.finish()
    assert [row["calls"] for row in table(tmp_path).values()] == [1]


def test_folders_of_all_roles_and_of_one(tmp_path, new_run):
    run = new_run(tmp_path / "run")
    roles = {"judge": Endpoint(), "writer": Role(Endpoint(), folder=tmp_path / "apart")}
    with run.asking(roles, folder=tmp_path / "run") as models:
        complete(models["judge"], prompts("a"))
        complete(models["writer"], prompts("a"))
    assert (tmp_path / "run" / "replies.sqlite").exists() and (tmp_path / "apart" / "replies.sqlite").exists()


def test_a_dry_run_opens_nothing(tmp_path, new_run):
    opened = []
    run = new_run(tmp_path / "run", start=Start(dry=True))
    with (
        pytest.raises(RuntimeError, match=r"run\.plan first"),
        run.asking({"judge": lambda: opened.append(1)}),
    ):
        pass
    assert not opened and not (tmp_path / "run").exists()


def test_outside_of_a_run(tmp_path):
    with asking({"judge": SIMULATED}) as models:
        assert "PASS" in complete(models["judge"], prompts("rain"))[0].text
    with asking({"judge": Script(lambda request: "x")}, folder=tmp_path) as models:
        complete(models["judge"], prompts("a"))
    assert (tmp_path / "replies.sqlite").exists()


def test_the_settings_of_a_local_model(checkpoint, tmp_path, new_run):
    run = new_run(tmp_path)
    with run.asking(
        {"writer": Role(f"hf:{checkpoint('llama')}", batch_size=3)}, LLMConfig(cache="none")
    ) as models:
        inner = models["writer"]
        while hasattr(inner, "llm"):
            inner = inner.llm
        assert inner.batch_size == 3
        complete(models["writer"], [ask("Hi", max_tokens=2)])
    assert not (tmp_path / "replies").exists()


def test_replies_are_those_of_the_bare_model(tmp_path, new_run):
    bare = open_llm(SIMULATED)
    texts = prompts("rain", "stocks", "rain and stocks")
    with new_run(tmp_path).asking({"judge": SIMULATED}) as models:
        assert [r.text for r in complete(models["judge"], texts)] == [r.text for r in complete(bare, texts)]
    close(bare)


def test_the_table_names_a_role_and_leaves_out_the_folder_of_the_run(new_run, tmp_path):
    """So that a repeated run, in another folder or with a server at another port, has the same table."""
    run = new_run(tmp_path / "run")
    trained = Script(lambda request: "rain", f"hf:{run.folder}/seed-0/writer")
    with run.asking({"writer": trained, "server": Role(SIMULATED, name="over HTTP")}) as models:
        complete(models["writer"], prompts("a"))
    names = {row["role"]: row["model"] for row in run.books.rows()}
    assert names == {"writer": "hf:seed-0/writer", "server": "over HTTP"}


def judges(server, **settings):
    """Two models of one server by name; each has its own guard."""
    base = server.endpoint.split("#")[0]
    return asking({"first": f"{base}#good", "second": f"{base}#other"}, LLMConfig(retries=0, **settings))


def test_a_second_role_is_tried_before_the_load_of_the_first_is_sent():
    def answer(request):
        if request.body["model"] == "other":
            return 401, {"error": {"message": "no such key"}}
        return 200, chat("fine")

    with VendorServer(answer) as server, judges(server, cache="none") as models:
        with pytest.raises(EndpointDown, match=r"second: .* does not answer.* no such key"):
            complete(models["first"], prompts(*"abcdefgh"), concurrency=4)
        assert [request.body["model"] for request in server.asked] == ["good", "other"]
        assert models.figures("first")["calls_fresh"] == 1
        assert models.figures("second")["calls_failed"] == 1


def test_the_answer_that_came_before_a_second_role_failed_is_kept(tmp_path):
    is_wrong = [True]

    def answer(request):
        if request.body["model"] == "other" and is_wrong[0]:
            return 401, {"error": {"message": "no such key"}}
        return 200, chat(f"about {request.prompt[-9:]}")

    with VendorServer(answer) as server:
        settings = {"cache": str(tmp_path / "replies")}
        with judges(server, **settings) as models, pytest.raises(EndpointDown):
            complete(models["first"], prompts(*"abc"))
        is_wrong[0] = False
        with judges(server, **settings) as models:
            replies = complete(models["first"], prompts(*"abc"))
        asked = [request.prompt for request in server.asked if request.body["model"] == "good"]
        assert len(asked) == len(set(asked)) == 3
        assert [reply.cached for reply in replies].count(True) == 1


def test_every_other_role_is_tried_once_and_booked():
    with (
        VendorServer(lambda request: (200, chat("fine"))) as server,
        judges(server, cache="none") as models,
    ):
        complete(models["first"], prompts(*"abcd"))
        complete(models["second"], prompts("e"))
        of_second = [request.prompt for request in server.asked if request.body["model"] == "other"]
        assert len(of_second) == 2 and not of_second[0].startswith("About")
        assert models.figures("first")["calls_fresh"] == 4 and models.figures("second")["calls_fresh"] == 2


def test_two_roles_asked_at_once_do_not_wait_for_each_other_for_ever():
    async def both(models):
        await asyncio.wait_for(
            asyncio.gather(
                *(acomplete_many(models[role], prompts(*"abcdef")) for role in ("first", "second")),
            ),
            timeout=30,
        )

    with (
        VendorServer(lambda request: (200, chat("fine"))) as server,
        judges(server, cache="none") as models,
    ):
        asyncio.run(both(models))
        assert 12 <= len(server.asked) <= 13


def test_what_is_kept_tries_nobody(tmp_path):
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        for _ in range(2):
            with judges(server, cache=str(tmp_path / "replies")) as models:
                complete(models["first"], prompts(*"abc"))
        assert len(server.asked) == 4


def test_an_unreadable_probe_ends_nothing():
    def answer(request):
        return 200, chat("" if request.body["model"] == "other" else "fine")

    with VendorServer(answer) as server, judges(server, cache="none") as models:
        replies = complete(models["first"], prompts(*"abc"))
        assert [reply.text for reply in replies] == ["fine"] * 3
        assert models.figures("second")["calls_failed"] == 0
