"""A model that answers nothing costs a request or three; one that stops answering is asked no more; and the run says so."""

import json

import pytest

from fixtures_llm import hurry
from fixtures_vendors import VendorServer, chat
from gnomon import verbs
from gnomon.core.llm import LLMConfig, Meter, Reply, Script, ask, close, complete, connect
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.errors import EndpointDown


def requests(n=300):
    return [ask(f"Number {number}?") for number in range(n)]


def asked(server, n=300, meter=None, **settings):
    llm = hurry(connect(server.endpoint, LLMConfig(**{"cache": "none", **settings}), meter=meter))
    try:
        return complete(llm, requests(n), concurrency=8)
    finally:
        close(llm)


@pytest.mark.parametrize(
    ("status", "body", "says", "n_asked"),
    [
        (401, {"error": {"message": "Incorrect API key"}}, "Incorrect API key", 1),
        (404, {"error": {"message": "The model tiny does not exist"}}, "does not exist", 1),
        (402, {"error": "Out of credit"}, "Out of credit", 1),
        (429, {"error": {"message": "No quota", "code": "insufficient_quota"}}, "No quota", 1),
        (
            400,
            {"error": {"message": "The prompt is too long"}},
            "prompt is too long.* 2 requests before it",
            3,
        ),
        (500, {"error": {"message": "Down"}}, "Down.* Tried 2 times", 3 * 2),
    ],
)
def test_a_load_that_cannot_work_is_not_sent(status, body, says, n_asked):
    with VendorServer(lambda request: (status, body)) as server, pytest.raises(EndpointDown, match=says):
        asked(server, retries=1)
    assert len(server.asked) == n_asked


def test_a_server_that_is_not_there_ends_it_at_once():
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        endpoint = server.endpoint
    llm = hurry(connect(endpoint, LLMConfig(retries=2)))
    with pytest.raises(EndpointDown, match=r"cannot be reached .*Tried 3 times"):
        complete(llm, requests())
    close(llm)


def test_the_first_requests_go_one_by_one_and_the_longest_prompt_first():
    busy = {"now": 0, "most_before_an_answer": 0, "answered": 0}

    def answer(request):
        busy["now"] += 1
        if not busy["answered"]:
            busy["most_before_an_answer"] = max(busy["most_before_an_answer"], busy["now"])
        busy["now"] -= 1
        busy["answered"] += request.number >= 2
        return (200, chat("fine")) if request.number >= 2 else (400, "no")

    with VendorServer(answer) as server:
        llm = hurry(connect(server.endpoint, LLMConfig(cache="none")))
        prompts = ["short", "the longest prompt of all", "of middling length", "x", "y"]
        replies = complete(llm, [ask(prompt) for prompt in prompts], concurrency=4)
        close(llm)
    assert busy["most_before_an_answer"] == 1
    assert server.asked[0].prompt == prompts[1]
    assert [reply.error is None for reply in replies] == [False, False, True, True, True]


def test_an_endpoint_that_stops_answering_is_asked_no_more():
    meter = Meter()

    def answer(request):
        return (200, chat("fine")) if request.number < 50 else (403, "Your plan has ended")

    with VendorServer(answer) as server:
        replies = asked(server, meter=meter)
    assert 70 <= len(server.asked) <= 80  # fifty answers, twenty failures in a row, and what was under way
    assert sum(reply.error is None for reply in replies) == 50 == meter.answered
    assert meter.failed + meter.unasked == 250 and meter.unasked >= 220
    stopped = [reply for reply in replies if reply.fault == "stopped"]
    assert "replies of" in stopped[0].error and "Your plan has ended" in stopped[0].error


def test_a_share_of_failures_below_the_limit_stops_nothing():
    def answer(request):
        return (400, "no") if int(request.prompt.split()[1][:-1]) % 7 == 3 else (200, chat("fine"))

    with VendorServer(answer) as server:
        replies = asked(server)
    assert sum(reply.error is None for reply in replies) == 300 - 43
    assert not any(reply.fault == "stopped" for reply in replies)


def test_whoever_allows_every_failure_gets_every_failure():
    with VendorServer(lambda request: (400, "no")) as server:
        replies = asked(server, n=40, max_failed=1.0)
    assert len(server.asked) == 40
    assert all("no" in reply.error for reply in replies)


# The end of a run


def run_with(folder, answer, n=80, **settings):
    """A verb that asks `n` questions and shows what came, as verbs do; its exit code is worked out by the command line."""
    run = Run(folder, method="sieve", verb="label")
    with run.asking({"judge": Script(answer, "judge")}, LLMConfig(**settings)) as models:
        replies = complete(models["judge"], requests(n))
    run.page.title = "Verdicts"
    run.page.figures({"verdicts": sum(reply.error is None for reply in replies)})
    return run, run.finish()


def failing(share):
    def answer(request):
        number = int(request.messages[0].content.split()[1][:-1])
        if number % 10 < share * 10 and number >= 10:
            return Reply("", "error", error="The vendor says no.", fault="rejected")
        return "PASS"

    return answer


def test_a_run_with_a_few_failures_is_incomplete_and_says_how_many(tmp_path):
    _, report = run_with(tmp_path, failing(0.1))
    assert report["status"] == "incomplete"
    assert report["title"] == "Verdicts (7 of 80 replies of judge failed)"
    assert report["shortfalls"] == [
        {"what": "replies of judge", "failed": 7, "of": 80, "not_asked": 0, "reason": "The vendor says no.", "too_much": False}
    ]  # fmt: skip
    assert "The vendor says no." in (tmp_path / "report.html").read_text()


def test_a_run_that_was_stopped_is_failed_however_much_came_before(tmp_path):
    """A quota that ends after 200 of 400 answers: the failures are a small share of what was asked, and half is missing."""

    def answer(request):
        number = int(request.messages[0].content.split()[1][:-1])
        spent = Reply("", "error", error="The quota is used up.", fault="quota")
        return spent if number >= 200 else "PASS"

    _, report = run_with(tmp_path, answer, n=400)
    (row,) = report["shortfalls"]
    assert row["failed"] < 0.2 * row["of"] and row["not_asked"] > 150
    assert (report["status"], row["too_much"]) == ("failed", True)


def test_a_run_that_mostly_failed_is_failed_with_its_results_kept(tmp_path):
    _, report = run_with(tmp_path, failing(0.3))
    assert report["status"] == "failed"
    assert report["figures"]["verdicts"] == 80 - 21
    run_again, report = run_with(tmp_path, failing(0.0))
    assert report["status"] == "done"  # what failed was asked again
    assert run_again.books.rows()[0]["calls"] == 21  # and nothing else
    assert run_again.finished is not None


def test_the_limit_is_settable(tmp_path):
    assert run_with(tmp_path / "a", failing(0.3), max_failed=0.5)[1]["status"] == "incomplete"
    assert run_with(tmp_path / "b", failing(0.1), max_failed=0.05)[1]["status"] == "failed"


def test_what_a_verb_could_not_read_counts_as_well(tmp_path):
    run = Run(tmp_path, method="sieve", verb="label")
    run.missing(Shortfall("verdicts", 0, 80, ""))
    run.missing(Shortfall("verdicts", 70, 80, "no verdict in the text"))
    report = run.finish()
    assert report["status"] == "failed" and len(report["shortfalls"]) == 1


def test_the_command_line_ends_with_code_1_and_the_reason(tmp_path, monkeypatch, capsys):
    import gnomon.methods.sieve.run as sieve
    from gnomon import cli

    def label(cfg, run):
        with run.asking({"judge": Script(failing(0.9), "judge")}, LLMConfig()) as models:
            complete(models["judge"], requests(80))

    monkeypatch.setattr(sieve, "label", label)
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a"}\n')
    words = [
        "sieve",
        "label",
        str(source),
        "--filter",
        "climate",
        "--judge",
        "tape:x",
        "--out",
        str(tmp_path / "run"),
    ]
    assert cli.main(words) == verbs.FAILED == 1
    out, err = capsys.readouterr()
    assert "replies of judge failed" in out and "The vendor says no." in out
    assert err.splitlines()[-1].startswith("gnomon: ") and "The vendor says no." in err
    assert "repeat the command" in err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["status"] == "failed"
    assert cli.main(words) == 1  # not taken for finished
    assert "finished" not in capsys.readouterr().err


def test_the_faults_of_a_made_up_world_are_counted_and_no_shortfall(tmp_path):
    run = Run(tmp_path, method="sieve", verb="mini")
    run.books.expects_faults = True  # as a study says
    with run.asking({"judge": Script(failing(0.3), "judge")}, LLMConfig()) as models:
        complete(models["judge"], requests(80))
    report = run.finish()
    assert (report["status"], report["shortfalls"]) == ("done", [])
    assert run.books.rows()[0]["failed"] == 21
