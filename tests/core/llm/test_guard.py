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
            {"error": {"message": "We serve no such prompts"}},
            "We serve no such prompts.* 2 requests before it",
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


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}),
        (401, {"error": {"message": "You exceeded your quota. The key is taken back."}}),
        (402, "You exceeded your quota."),
        (404, {"error": "You exceeded your quota. No such model any more."}),
    ],
)
def test_a_fault_that_only_the_owner_can_mend_stops_the_rest_at_the_third(status, body, tmp_path):
    """Of 300 requests the first fifty are answered; then nothing can be, and what the vendor says is shown, not refusals before."""

    def answer(request):
        number = int(request.prompt.split()[1][:-1])
        if request.number >= 50:
            return status, body
        return (400, "Refused for its words.") if number in (5, 9, 11, 14) else (200, chat("fine"))

    with VendorServer(answer) as server:
        run = Run(tmp_path, method="sieve", verb="label")
        with run.asking({"judge": server.endpoint}, LLMConfig(cache="none", concurrency=4)) as models:
            replies = complete(hurry(models["judge"]), requests(), concurrency=4)
        report = run.finish()
    assert (
        len(server.asked) <= 50 + 3 + 2 * 4
    )  # three in a row, behind answers that were under way, and what was under way beside
    stopped = [reply for reply in replies if reply.fault == "stopped"]
    assert len(stopped) >= 300 - 61 and "You exceeded your quota" in stopped[0].error
    (row,) = report["shortfalls"]
    assert report["status"] == "failed" and "You exceeded your quota" in row["reason"]
    assert row["failed"] + row["not_asked"] + sum(r.error is None for r in replies) == 300


def test_faults_of_the_endpoint_that_pass_stop_nothing():
    """Two in a row, then an answer, again and again: a server behind a proxy that loses its key now and then."""

    def answer(request):
        return (401, "Who are you?") if 1 <= request.number % 12 <= 2 else (200, chat("fine"))

    with VendorServer(answer) as server:
        llm = hurry(connect(server.endpoint, LLMConfig(cache="none", max_failed=0.3)))
        replies = complete(llm, requests(120), concurrency=1)
        close(llm)
    assert len(server.asked) == 120
    assert sum(reply.error is None for reply in replies) == 100


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
        {"what": "replies of judge", "failed": 7, "of": 80, "not_asked": 0, "reason": "The vendor says no.",
         "stopped": False, "final": False, "too_much": False}
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


# A verb that ends early


def label_with(tmp_path, monkeypatch, verb):
    """`sieve label` with another function behind it; the words of its command line."""
    import gnomon.methods.sieve.run as sieve

    monkeypatch.setattr(sieve, "label", verb)
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a"}\n')
    out = str(tmp_path / "run")
    return ["sieve", "label", str(source), "--filter", "climate", "--judge", "tape:x", "--out", out]


@pytest.mark.parametrize("as_json", [False, True])
def test_an_endpoint_that_is_not_there_leaves_a_report(as_json, tmp_path, monkeypatch, capsys):
    """What was done and kept by then, what is missing and why; the exit code is 1 and the sentence stands on the terminal."""
    from gnomon import cli

    with VendorServer(lambda request: (401, {"error": "Incorrect API key"})) as server:

        def label(cfg, run):
            run.page.title = "Labels"
            (run.folder / "labels.jsonl").write_text('{"text": "a"}\n')
            with run.asking({"judge": server.endpoint}, LLMConfig(cache="none")) as models:
                complete(models["judge"], requests(80))

        words = label_with(tmp_path, monkeypatch, label)
        assert cli.main([*words, *(["--json"] if as_json else [])]) == 1
        assert len(server.asked) == 1
        out, err = capsys.readouterr()
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert err.splitlines()[-1] == f"gnomon: {report['ended']}" and "Incorrect API key" in report["ended"]
        assert report["status"] == "failed"
        assert report["title"] == (
            "Labels: ended early (1 of 1 replies of judge failed, "
            f"{report['shortfalls'][0]['not_asked']} more were not asked for)"
        )
        (row,) = report["shortfalls"]
        assert "Incorrect API key" in row["reason"] and row["too_much"]
        kept, table = report["tables"][-1]["rows"], report["tables"][0]["rows"]
        names = {row["file"] for part in report["tables"] for row in part["rows"] if "file" in row}
        assert "labels.jsonl" in names, (kept, table)
        page = (tmp_path / "run" / "report.html").read_text()
        assert "Why it ended" in page and "Incorrect API key" in page and "labels.jsonl" in page
        if as_json:
            assert json.loads(out)["ended"] == report["ended"]
        else:
            assert "report.html" in out
        assert cli.main(words) == 1  # not taken for finished
        assert len(server.asked) == 2


def test_what_an_early_end_left_is_no_input_for_the_next_step(tmp_path, monkeypatch):
    from gnomon import cli
    from gnomon.core.files import artifact
    from gnomon.errors import BadInput, BudgetSpent

    def label(cfg, run):
        run.artifact("records", run.folder / "labels.jsonl").write_text("")
        raise BudgetSpent("The budget is spent.")

    assert cli.main(label_with(tmp_path, monkeypatch, label)) == 1
    with pytest.raises(BadInput, match=r"has not finished\. Repeat its command"):
        artifact(tmp_path / "run", "records")


def test_a_request_that_was_wrong_leaves_no_report(tmp_path, monkeypatch):
    from gnomon import cli
    from gnomon.errors import BadInput

    def label(cfg, run):
        raise BadInput("line 3 is no row")

    assert cli.main(label_with(tmp_path, monkeypatch, label)) == verbs.WRONG
    assert not (tmp_path / "run" / "report.json").exists()


def test_an_answer_that_was_charged_is_booked_though_it_ends_the_run(tmp_path):
    """Three empty answers show that a model says nothing; each of them was paid for."""
    with VendorServer(lambda request: (200, chat(""))) as server:
        run = Run(tmp_path, method="sieve", verb="label")
        with (
            pytest.raises(EndpointDown, match="empty text"),
            run.asking({"judge": server.endpoint}, LLMConfig(cache="none")) as models,
        ):
            complete(models["judge"], requests(10))
        report = run.finish()
    (row,) = report["tables"][0]["rows"]
    assert len(server.asked) == 3 == row["calls"] == row["failed"]
