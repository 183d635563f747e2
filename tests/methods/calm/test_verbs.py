"""The verbs as typed: from data to report, over HTTP with faults, killed and continued, within a budget."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gnomon
from fixtures_calm import as_rows, calm, made_items, read_rows, released, report, write_rows
from fixtures_llm import calls_of
from fixtures_server import CompletionServer
from gnomon.core.llm import open_llm
from gnomon.core.llm.sims import ChatServer
from gnomon.errors import BadConfig, BadInput, UserError

ASK = ["--llm.concurrency", 8]
BIASES = ["--bias", "position", "authority", "bandwagon"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight items of the fact set and eight of the alignment set."""
    return write_rows(tmp_path_factory.mktemp("data") / "items.jsonl", as_rows(made_items(8)))


@pytest.fixture(scope="module")
def perturbed(data, tmp_path_factory):
    """A run of `perturb` by rule."""
    out = tmp_path_factory.mktemp("perturbed") / "run"
    assert calm("perturb", data, "--out", out, "--export") == 0
    return out


def page(folder):
    return (folder / "report.html").read_text()


def table(folder, caption):
    return next(one["rows"] for one in report(folder)["tables"] if one["caption"].startswith(caption))


def test_perturb_leaves_items_with_rewrites_and_prompts_for_other_harnesses(perturbed):
    items = read_rows(perturbed / "items.jsonl")
    assert len(items) == 16
    assert {one["probe"] for item in items for one in item["rewrites"]} == {
        "verbosity",
        "sentiment",
        "authority",
        "fallacy-oversight",
    }
    assert not report(perturbed)["simulated"]
    samples = read_rows(perturbed / "inspect.jsonl")
    trials = read_rows(perturbed / "lm_eval" / "trials.jsonl")
    assert len(samples) == len(trials) > 100
    from gnomon.methods.calm import score

    for sample, trial in zip(samples, trials, strict=True):
        assert set(sample) == {"id", "input", "target", "metadata"} and trial["id"] == sample["id"]
        assert score(f"Well. [[{sample['target']}]]", sample["metadata"]["slots"]) == "R1"
        assert trial["letters"][trial["target"]].strip() == sample["target"]
    import yaml

    assert (
        yaml.safe_load((perturbed / "lm_eval" / "calm.yaml").read_text())["output_type"] == "multiple_choice"
    )


def test_perturb_by_a_model_says_simulated_and_counts_what_was_caught(data, tmp_path):
    words = [
        "--bias",
        "sentiment",
        "--writer",
        "sim:rewriter?meaning_breaks=0.3&http_500=0.05",
        "--checker",
        "sim:rewriter",
    ]
    assert calm("perturb", data, *words, *ASK, "--out", tmp_path / "run") == 0
    found = report(tmp_path / "run")
    assert found["simulated"] and found["title"].startswith("SIMULATED")
    assert {row["reason"]: row["attempts"] for row in table(tmp_path / "run", "what the check caught")}[
        "meaning"
    ] > 0
    calls = calls_of(tmp_path / "run")
    assert calls["writer"]["faults"]["server"] > 0 and calls["checker"]["calls"] > 0
    assert calls["writer"]["SIMULATED"] and calls["checker"]["SIMULATED"]


@pytest.mark.slow
def test_audit_from_data_to_report(perturbed, tmp_path):
    out = tmp_path / "run"
    judge = "sim:judge?authority=1.0&gibberish=0.1&candour=1.0"
    assert calm("audit", perturbed, "--judge", judge, "--mitigate", "strip", *ASK, "--out", out) == 0
    rows = read_rows(out / "verdicts.jsonl")
    judges = {row["judge"] for row in rows}
    assert judges == {judge, f"{judge} + stripped"}
    found = report(out)
    assert found["simulated"] and found["title"].startswith("SIMULATED")
    profile = json.loads((out / "profile.json").read_text())
    assert profile["is_simulated"] and profile["judge"] == judge
    assert profile["statuses"]["unparsed"] > 0
    assert set(profile["skipped"]) == {"self-enhancement", "refinement-aware"}
    assert {cell["probe"] for cell in profile["cells"]} == {
        "position", "verbosity", "compassion-fade", "bandwagon", "distraction", "fallacy-oversight", "authority", "sentiment",
        "diversity", "chain-of-thought",
    }  # fmt: skip
    html = page(out)
    for text in (
        "length beside the shift",
        "effect by dose",
        "What was asked",
        "all rotations must agree",
        "biased",
    ):
        assert text in html
    assert html.count("<svg") >= 3
    assert found["artifacts"]["records"] == "verdicts.jsonl"


@pytest.mark.slow
def test_a_finished_audit_is_analyzed_and_compared_again(perturbed, tmp_path):
    for name, query in (("a", "authority=2"), ("b", "position=1")):
        assert (
            calm("audit", perturbed, *BIASES, "--judge", f"sim:judge?{query}", *ASK, "--out", tmp_path / name)
            == 0
        )
    assert calm("analyze", tmp_path / "a", "--out", tmp_path / "again") == 0
    before, after = (json.loads((tmp_path / name / "profile.json").read_text()) for name in ("a", "again"))
    assert [cell["rr"] for cell in before["cells"]] == [cell["rr"] for cell in after["cells"]]
    assert report(tmp_path / "again")["simulated"]
    assert calm("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "both") == 0
    contrasts = json.loads((tmp_path / "both" / "comparison.json").read_text())["contrasts"]
    assert {row["probe"] for row in contrasts} == {"position", "authority", "bandwagon"}
    assert {"profile", "profile-2"} <= set(report(tmp_path / "both")["artifacts"])


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_does_not(perturbed, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        words = [*BIASES, "--judge", "sim:judge", "--seed", seed, "--out", tmp_path / name]
        assert calm("audit", perturbed, *words) == 0
    a, b, c = ((tmp_path / name / "verdicts.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def test_two_judges_score_each_other(perturbed, tmp_path):
    judges = ["sim:judge?own=2.0&voice=One.", "sim:judge?own=2.0&voice=Two."]
    assert (
        calm(
            "audit",
            perturbed,
            "--bias",
            "self-enhancement",
            "--judge",
            *judges,
            *ASK,
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    rows = read_rows(tmp_path / "run" / "verdicts.jsonl")
    assert len(rows) == 2 * 2 * 8 and {row["condition"] for row in rows} == set(judges)
    profile = json.loads((tmp_path / "run" / "profile-2.json").read_text())
    assert profile["cells"][0]["more"]["error rate"][0] > 0
    assert "Z-scores" in page(tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--judge", "sim:judge", "--bias", "verbsity"], 'no bias "verbsity"'),
        ([], "No judge is named"),
        (["--judge", "sim:judge", "sim:judge"], "named twice"),
        (["--judge", "sim:judge", "--bias", "self-enhancement"], "needs two judges or more"),
        (["--judge", "sim:judge", "--bias", "verbosity"], 'cannot be measured: no rewrites; make them with `gnomon calm perturb`'),
        (["--judge", "sim:judge", "--mitigate", "swop"], 'Did you mean "swap"'),
        (["--judge", "sim:judge", "--kind", "logit"], "an endpoint gives no log-probabilities"),
        (["--judge", "sim:judge", "--kind", "pointwise", "--bias", "position"], "does not read order"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_served(data, tmp_path, words, says):
    with pytest.raises(UserError) as told:
        calm("audit", data, *words, "--out", tmp_path / "run")
    assert says in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    "words",
    [["--repeats", 1], ["--temperature", -1], ["--stop-width", 0.9], ["--smallest", 0], ["--limit", 0]],
)
def test_settings_out_of_range(data, tmp_path, words):
    with pytest.raises((UserError, SystemExit)):
        calm("audit", data, "--judge", "sim:judge", *words, "--out", tmp_path / "run")


def test_a_dry_run_spends_nothing(perturbed, tmp_path, capsys):
    assert (
        calm(
            "audit",
            perturbed,
            "--judge",
            "http://127.0.0.1:9/v1#none",
            "--dry-run",
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    told = capsys.readouterr().out
    assert "trials_per_judge" in told and "usd_at_most" in told
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_calls_tokens_and_money(perturbed, tmp_path, capsys):
    prices = ["--llm.price-in", 10, "--llm.price-out", 10, "--dry-run", "--json", "--out", tmp_path / "run"]
    words = ["--judge", "openai:gpt-4o", "--bias", "bandwagon", "--max-tokens", 100, "--mitigate", "swap"]
    assert calm("audit", perturbed, *words, *prices) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["calls"] == 8 * (2 + 8) * 3 and plan["tokens_out_at_most"] == 100 * plan["calls"]
    tokens = plan["tokens_in"] + plan["tokens_out_at_most"]
    assert plan["usd_at_most"] == pytest.approx(tokens * 10 / 1e6) and plan["tokens_in"] > 200 * plan["calls"]
    assert calm("perturb", perturbed, "--writer", "openai:gpt-4o", "--bias", "authority", *prices) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["usd_at_most"] == 0  # the rewrites are there already


def test_a_writer_that_judges_its_own_rewrites_is_told(data, tmp_path):
    ref = "sim:rewriter"
    assert calm("perturb", data, "--bias", "authority", "--writer", ref, "--out", tmp_path / "p") == 0
    items = read_rows(tmp_path / "p" / "items.jsonl")
    for item in items:
        for one in item["rewrites"]:
            one["writer"] = "sim:judge"
    mine = write_rows(tmp_path / "mine.jsonl", items)
    assert calm("audit", mine, "--bias", "authority", "--judge", "sim:judge", "--out", tmp_path / "run") == 0
    assert "may favour its own hand" in page(tmp_path / "run")


def test_two_judges_of_one_name_are_refused(tmp_path):
    files = [tmp_path / name / "judge.py" for name in "ab"]
    for path in files:
        path.parent.mkdir()
        path.write_text("def first(trial):\n    return 0\n")
    source = write_rows(tmp_path / "items.jsonl", as_rows(made_items(20, sets=("alignment",))))
    words = ("audit", source, "--bias", "bandwagon", "--kind", "function", "--out")
    with pytest.raises(BadConfig, match=r'Two judges are called "judge\.py:first"'):
        calm(*words, tmp_path / "both", "--judge", *(f"{path}:first" for path in files))
    assert calm(*words, tmp_path / "one", "--judge", f"{files[0]}:first") == 0


@pytest.mark.parametrize(("author", "is_told"), [("sim:judge", True), ("Judge", True), ("another", False)])
def test_a_judge_of_its_own_answers_is_told(author, is_told, tmp_path):
    rows = [row | {"model1": author, "model2": "x"} for row in as_rows(made_items(20, sets=("alignment",)))]
    source = write_rows(tmp_path / "items.jsonl", rows)
    assert (
        calm("audit", source, "--bias", "bandwagon", "--judge", "sim:judge", "--out", tmp_path / "run") == 0
    )
    assert ("wrote answers that it judges here" in page(tmp_path / "run")) == is_told


@pytest.mark.slow
def test_stopping_early_asks_less_and_looks_at_the_width_alone(tmp_path):
    rows = as_rows(made_items(160, sets=("alignment",)))
    source = write_rows(tmp_path / "items.jsonl", rows)
    words = ["--bias", "distraction", "--judge", "sim:judge", *ASK]
    assert calm("audit", source, *words, "--stop-width", 0.12, "--out", tmp_path / "early") == 0
    assert calm("audit", source, *words, "--out", tmp_path / "whole") == 0
    early, whole = (read_rows(tmp_path / name / "verdicts.jsonl") for name in ("early", "whole"))
    assert len(whole) == 160 * 4 and 50 * 4 <= len(early) < len(whole)
    asked = {(row["item"], row["condition"], row["draw"]): row["choice"] for row in whole}
    assert all(asked[row["item"], row["condition"], row["draw"]] == row["choice"] for row in early)


def test_imports(tmp_path, shared_data):
    path = shared_data / "judge" / "judgebench_claude-3-haiku.jsonl"
    if not path.is_file():
        pytest.skip("no JudgeBench log beside the repository")
    assert calm("import", path, "--out", tmp_path / "log") == 0
    assert report(tmp_path / "log")["figures"] == {"verdicts": 540, "judges": 1, "not read": 13}
    assert calm("analyze", tmp_path / "log", "--out", tmp_path / "run") == 0
    (cell,) = json.loads((tmp_path / "run" / "profile.json").read_text())["cells"]
    assert cell["rr"][0] == pytest.approx(135 / 257) and cell["rr_with_unparsed"] == pytest.approx(0.5)
    assert "No second plain verdict" in page(tmp_path / "run")


def test_the_released_layout_becomes_items_that_can_be_audited(tmp_path):
    rows = [{"question": f"Q{i}", "answer1": f"right {i}", "answer2": f"wrong {i}", "answer2_longer": f"wrong {i} " * 4,
             "data_resource": "x"} for i in range(6)]  # fmt: skip
    (tmp_path / "fact.json").write_text(json.dumps([*rows, rows[0]]))
    assert calm("import", tmp_path / "fact.json", "--format", "calm", "--out", tmp_path / "items") == 0
    figures = {"items": 6, "duplicates": 1, "explicit": 0, "merged": 0, "skipped": 0}
    assert report(tmp_path / "items")["figures"] == figures
    words = ["--bias", "verbosity", "--judge", "sim:judge", "--out", tmp_path / "run"]
    assert calm("audit", tmp_path / "items", *words) == 0
    (cell,) = json.loads((tmp_path / "run" / "profile.json").read_text())["cells"]
    assert cell["n"] == 6 and cell["more"]["length"]["median"] == pytest.approx(4)


def test_power_and_validate(tmp_path):
    assert calm("power", "--n", 150, "--rr", 0.8, "--out", tmp_path / "power") == 0
    assert report(tmp_path / "power")["figures"]["RR"] == 0.8
    assert (
        calm("validate", "--audits", 30, "--n", 120, "--through-text", 0, "--out", tmp_path / "validate") == 0
    )
    found = json.loads((tmp_path / "validate" / "validation.json").read_text())
    assert len(found["audits"]["covered"]) > 30 and report(tmp_path / "validate")["simulated"]


# Over HTTP, killed, and within a budget


@pytest.fixture
def served():
    """Starts `gnomon sim serve` in a process of its own and gives its endpoint."""
    running = []

    def start(name):
        env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
        command = [sys.executable, "-m", "gnomon", "sim", "serve", name, "--port", "0"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True))
        return running[-1].stdout.readline().strip()

    yield start
    for job in running:
        job.kill()
        job.communicate()


@pytest.mark.slow
@pytest.mark.scale
def test_over_http_the_verdicts_are_those_in_process_whatever_fails_on_the_way(perturbed, tmp_path, served):
    ref = "sim:judge?authority=1&refused=0.05&truncated=0.05&http_429=0.05&http_500=0.05"
    endpoint = served(ref)
    for name, judge in (("in", ref), ("out", endpoint)):
        words = [*BIASES, "--judge", judge, *ASK, "--llm.retries", 20, "--out", tmp_path / name]
        assert calm("audit", perturbed, *words) == 0
    rows = {name: read_rows(tmp_path / name / "verdicts.jsonl") for name in ("in", "out")}
    for a, b in zip(rows["in"], rows["out"], strict=True):
        assert (a["choice"], a["status"]) == (b["choice"], b["status"])
        # What the model said is the same; a fault's sentence begins with the name of who had it.
        said = [row["text"].rpartition(" refused to answer: ")[2] for row in (a, b)]
        assert said[0] == said[1]
    faults = calls_of(tmp_path / "out")["judge"]["faults"]
    assert {"rate_limit", "server", "refusal", "length"} <= set(faults)
    statuses = json.loads((tmp_path / "out" / "profile.json").read_text())["statuses"]
    without = sum(statuses.get(name, 0) for name in ("refused", "failed"))
    assert without == faults["refusal"] and statuses["truncated"] == faults["length"]
    assert report(tmp_path / "out")["simulated"]


@pytest.mark.slow
def test_a_budget_stops_cleanly_and_a_higher_one_goes_on_without_paying_twice(perturbed, tmp_path):
    with CompletionServer(chat_answer=lambda messages, seed=None: "[[A]]") as server:
        words = [*BIASES, "--judge", server.endpoint, *ASK, "--out", tmp_path / "run"]
        with pytest.raises(UserError, match=r"The budget of .* is spent: 30 of 30 calls.*replies are kept"):
            calm("audit", perturbed, *words, "--llm.budget-calls", 30)
        assert len(server.requests) == 30
        assert len(read_rows(tmp_path / "run" / "journal" / "0.jsonl")) == 30
        early = json.loads((tmp_path / "run" / "report.json").read_text())
        assert early["status"] == "failed" and "--llm.budget-calls" in early["ended"]
        assert calm("audit", perturbed, *words, "--llm.budget-calls", 5000) == 0
        total = len(read_rows(tmp_path / "run" / "verdicts.jsonl"))
        assert len(server.requests) == total
        assert calm("audit", perturbed, *words) == 0  # finished: nothing is asked
        assert len(server.requests) == total


@pytest.mark.slow
@pytest.mark.scale
def test_a_killed_audit_that_is_repeated_asks_only_for_what_is_missing(perturbed, tmp_path):
    with CompletionServer(chat_answer=lambda messages, seed=None: "[[B]]", delay_s=0.02) as server:
        words = [
            "audit",
            perturbed,
            *BIASES,
            "--judge",
            server.endpoint,
            "--llm.concurrency",
            4,
            "--out",
            tmp_path / "run",
        ]
        script = "import sys; from fixtures_calm import calm; sys.exit(calm(*sys.argv[1:]))"
        path = os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("../src", "."))
        job = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, words)], env={**os.environ, "PYTHONPATH": path}
        )
        until = time.monotonic() + 60
        while len(server.requests) < 40 and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        before = len(server.requests)
        journal = tmp_path / "run" / "journal" / "0.jsonl"
        with journal.open("a") as stream:
            stream.write('{"judge": "half a li')  # as a kill in the middle of a line would leave it
        assert calm(*words) == 0
        rows = read_rows(tmp_path / "run" / "verdicts.jsonl")
        keys = {
            (row["item"], row["probe"], row["condition"], row["draw"], tuple(row["slots"])) for row in rows
        }
        assert len(keys) == len(rows) > before >= 40
        assert (
            len(server.requests) - len(rows) <= 4
        )  # only what was under way when it was killed is asked again


def keys_of(folder):
    return [
        (row["set"], row["item"], row["probe"], row["condition"], row["draw"], tuple(row["slots"]))
        for row in read_rows(folder / "verdicts.jsonl")
    ]


@pytest.mark.slow
def test_more_items_and_more_biases_in_the_same_folder_ask_nothing_twice(tmp_path):
    rows = as_rows(made_items(12, sets=("alignment",)))
    source, out = write_rows(tmp_path / "items.jsonl", rows[:8]), tmp_path / "run"
    with CompletionServer(chat_answer=lambda messages, seed=None: "[[A]]") as server:
        # No cache of replies: the journal alone must know what was asked.
        words = ["--judge", server.endpoint, *ASK, "--llm.cache", "none", "--out", out]

        def requests_of(*more, repeated=0):
            before = len(server.requests)
            assert calm("audit", source, *words, *more) == 0
            return len(server.requests) - before

        assert requests_of("--bias", "bandwagon", "--limit", 4) == 4 * (2 + 8)
        assert requests_of("--bias", "bandwagon", "--limit", 4) == 0  # finished
        assert requests_of("--bias", "bandwagon", "--limit", 6) == 2 * (2 + 8)
        assert requests_of("--bias", "bandwagon", "distraction", "--limit", 6) == 6 * 2
        assert requests_of("--bias", "bandwagon", "distraction") == 2 * (2 + 8 + 2)
        # Items that come to stand before the others take no seat away from them.
        write_rows(source, [rows[8], *rows[:8], *rows[9:]])
        assert requests_of("--bias", "bandwagon", "distraction") == 4 * (2 + 8 + 2)
        assert requests_of("--bias", "bandwagon", "distraction", "--repeats", 3) == 12
        keys = keys_of(out)
        assert len(set(keys)) == len(keys) == 12 * (3 + 8 + 2) == len(server.requests)
        first = {key[1]: key[-1][0] for key in keys}
        assert sorted(first.values()) == [0] * 6 + [1] * 6  # still half of the items either way
        # An item that has another answer under its old name is another trial, in all of its conditions.
        write_rows(source, [rows[8] | {"answer2": "Something else."}, *rows[:8], *rows[9:]])
        assert requests_of("--bias", "bandwagon", "distraction", "--repeats", 3) == 3 + 8 + 2
    metrics = [row for row in read_rows(out / "metrics.jsonl") if "bias" in row]
    assert len(metrics) == len(json.loads((out / "profile.json").read_text())["cells"])  # not once per run


def refusing(share):
    """A server's script: it refuses this share of the requests, the same ones each time, until it is healed."""
    state = {"is_ill": True}

    def script(number, request):
        digest = sum(request["messages"][-1]["content"].encode()) + (request.get("seed") or 0)
        return (
            "the account is closed"
            if state["is_ill"] and number > 3 and digest % 100 < 100 * share
            else "fine"
        )

    return script, state


@pytest.mark.slow
def test_verdicts_that_failed_are_counted_and_asked_again(tmp_path, capsys):
    source = write_rows(tmp_path / "items.jsonl", as_rows(made_items(10, sets=("alignment",))))
    script, state = refusing(0.12)
    with CompletionServer(script, chat_answer=lambda messages, seed=None: "[[A]]") as server:
        words = ["--bias", "bandwagon", "--judge", server.endpoint, "--llm.retries", 0, "--llm.cache", "none"]
        words += ["--out", tmp_path / "run"]
        assert calm("audit", source, *words) == 0
        figures = report(tmp_path / "run")["figures"]
        read, _, rest = figures["verdicts"].partition("/100, ")
        failed = 100 - int(read)
        assert 0 < failed <= 20 and rest.startswith(f"{failed} failed: ") and "the account is closed" in rest
        assert figures["verdicts"] in capsys.readouterr().out
        before = len(server.requests)
        state["is_ill"] = False
        assert calm("audit", source, *words) == 0
        assert len(server.requests) - before == failed
    assert report(tmp_path / "run")["figures"]["verdicts"] == "100/100"


@pytest.mark.slow
def test_an_audit_of_which_most_failed_is_no_success(tmp_path, capsys):
    source = write_rows(tmp_path / "items.jsonl", as_rows(made_items(10, sets=("alignment",))))
    script, _ = refusing(0.9)
    with CompletionServer(script, chat_answer=lambda messages, seed=None: "[[A]]") as server:
        words = [
            "--bias",
            "bandwagon",
            "--judge",
            server.endpoint,
            "--llm.retries",
            0,
            "--out",
            tmp_path / "run",
        ]
        assert calm("audit", source, *words) == 1
    read, _, rest = report(tmp_path / "run")["figures"]["verdicts"].partition("/")
    assert int(read) < 30 and "failed: " in rest and "the account is closed" in rest
    assert "verdicts" in capsys.readouterr().out and (tmp_path / "run" / "verdicts.jsonl").exists()


def test_a_judge_that_gives_no_verdicts_was_not_audited(perturbed, tmp_path, capsys):
    words = ["--bias", "distraction", "--out", tmp_path / "run"]
    assert calm("audit", perturbed, "--judge", "sim:judge?gibberish=0.9", *words) == 1
    figure = report(tmp_path / "run")["figures"]["verdicts"]
    assert "the reply holds no verdict in the form that was asked for" in figure
    some = ["--judge", "sim:judge?gibberish=0.2", "--bias", "distraction", "--out", tmp_path / "some"]
    assert calm("audit", perturbed, *some) == 0
    found = report(tmp_path / "some")
    (row,) = found["shortfalls"]
    assert found["figures"]["verdicts"].startswith(f"{row['of'] - row['failed']}/{row['of']}, ")
    assert f"({row['failed']} of {row['of']} verdicts failed)" in found["title"]
    assert (found["status"], row["too_much"]) == ("incomplete", False)


def test_replies_without_a_verdict_are_asked_for_again_by_the_next_command(tmp_path):
    source = write_rows(tmp_path / "items.jsonl", as_rows(made_items(10, sets=("alignment",))))
    state = {"n": 0, "is_vague": True}

    def vague(messages, seed=None):
        state["n"] += 1
        return "Hard to say." if state["is_vague"] and state["n"] % 4 == 0 else "[[A]]"

    with CompletionServer(chat_answer=vague) as server:
        words = ["--bias", "bandwagon", "--judge", server.endpoint, "--out", tmp_path / "run"]
        assert calm("audit", source, *words) == 0
        n = len(server.requests)
        (row,) = report(tmp_path / "run")["shortfalls"]
        assert row["failed"] == n // 4
        state["is_vague"] = False
        assert calm("audit", source, *words) == 0
        assert len(server.requests) == n + n // 4
        assert report(tmp_path / "run")["figures"]["verdicts"] == f"{n}/{n}"
        assert calm("audit", source, *words) == 0  # finished now
        assert (
            calm("audit", source, *words, "--fresh") == 0
        )  # what came in the place of those replies is kept
        assert len(server.requests) == n + n // 4


def test_identical_answers_leave_nothing_to_measure_and_that_is_said(perturbed, tmp_path):
    # Simulators that differ in their liking for a slot alone answer every question alike.
    judges = ["sim:judge?position=1", "sim:judge?position=2"]
    words = ["--judge", *judges, "--out", tmp_path / "alone", "--bias"]
    with pytest.raises(UserError) as error:
        calm("audit", perturbed, *words, "self-enhancement")
    message = str(error.value)
    assert "self-enhancement: nothing to measure: of 8 items two judges gave the same answer to 8" in message
    assert "\n" not in message
    words[words.index(tmp_path / "alone")] = tmp_path / "beside"
    assert calm("audit", perturbed, *words, "self-enhancement", "distraction") == 0
    skipped = json.loads((tmp_path / "beside" / "profile.json").read_text())["skipped"]
    assert "two judges gave the same answer to 8" in skipped["self-enhancement"]


def test_comparing_runs_without_common_items_is_an_error(data, tmp_path):
    for name, rows in (
        ("a", made_items(8, sets=("alignment",))),
        ("b", made_items(8, sets=("alignment",), seed=9)),
    ):
        rows = [row | {"id": f"{name}-{row['id']}"} for row in as_rows(rows)]
        source = write_rows(tmp_path / f"{name}.jsonl", rows)
        judge = f"sim:judge?authority={len(name)}&position={int(name == 'b')}"
        assert calm("audit", source, "--bias", "bandwagon", "--judge", judge, "--out", tmp_path / name) == 0
    with pytest.raises(BadInput, match="have judged no item in common: one has items such as"):
        calm("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "both")


class GPT:
    """A simulated judge under a vendor's name."""

    name = "gpt-4o"

    def __init__(self):
        self._judge = open_llm("sim:judge?authority=1")

    async def acomplete(self, request):
        return await self._judge.acomplete(request)


@pytest.mark.slow
def test_the_readme_s_command_works_on_the_released_folder_word_for_word(tmp_path, monkeypatch):
    import shlex
    import threading

    page = Path(gnomon.__file__).parent / "methods" / "calm" / "README.md"
    lines = [
        line
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("gnomon calm audit calm-release")
    ]
    hosted, local = sorted(lines, key=lambda line: "hf:" in line)
    released(tmp_path / "calm-release", 6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with ChatServer(GPT()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.endpoint.partition("#")[0])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            assert calm(*shlex.split(hosted)[2:]) == 0
        finally:
            server.shutdown()
            thread.join()
    (run,) = (tmp_path / "runs" / "calm").iterdir()
    profile = json.loads((run / "profile.json").read_text())
    measured = {cell["probe"] for cell in profile["cells"]}
    assert measured == {
        "position", "verbosity", "compassion-fade", "bandwagon", "distraction", "fallacy-oversight", "authority", "sentiment",
        "diversity", "chain-of-thought", "refinement-aware",
    }  # fmt: skip
    n = {
        cell["condition"]: cell["n"]
        for cell in profile["cells"]
        if cell["probe"] in ("verbosity", "sentiment")
    }
    assert n["longer"] == 6 and n["sad, better"] == 4
    assert any("source names explicit content" in note for note in profile["notes"])
    assert calm(*shlex.split(local)[2:], "--dry-run") == 0


@pytest.mark.slow
def test_a_tiny_checkpoint_as_a_judge_in_process(perturbed, tmp_path, checkpoint):
    folder = checkpoint("llama", max_position_embeddings=8192)
    words = [*BIASES, "--judge", f"hf:{folder}", "--limit", 2]
    assert calm("audit", perturbed, *words, "--kind", "logit", "--out", tmp_path / "logit") == 0
    rows = read_rows(tmp_path / "logit" / "verdicts.jsonl")
    assert {row["status"] for row in rows} == {"ok"}
    assert not report(tmp_path / "logit")["simulated"]
    assert calm("audit", perturbed, *words, "--max-tokens", 4, "--out", tmp_path / "words") == 1
    statuses = json.loads((tmp_path / "words" / "profile.json").read_text())["statuses"]
    assert sum(statuses.values()) == len(rows)  # it says nothing that can be read, and that is counted


@pytest.mark.slow
@pytest.mark.scale
def test_a_tiny_checkpoint_behind_transformers_serve(perturbed, tmp_path, tiny_tokenizer):
    pytest.importorskip("fastapi")
    from gnomon.core.models import tiny_causal

    folder = tmp_path / "model"
    tokenizer = tiny_tokenizer.__class__(
        tokenizer_object=tiny_tokenizer._tokenizer, eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    tiny_causal("llama", tokenizer, folder, max_position_embeddings=8192)
    words = [
        "--bias",
        "distraction",
        "--judge",
        f"serve:{folder}",
        "--limit",
        1,
        "--max-tokens",
        2,
        "--style",
        "token",
    ]
    # It says nothing that can be read: that is no audit.
    assert calm("audit", perturbed, *words, "--out", tmp_path / "run") == 1
    assert len(read_rows(tmp_path / "run" / "verdicts.jsonl")) == 4


def test_a_simulator_behind_a_server_in_this_process_says_simulated(perturbed, tmp_path):
    import threading

    with ChatServer(open_llm("sim:judge")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            words = ["--bias", "distraction", "--judge", server.endpoint, "--out", tmp_path / "run"]
            assert calm("audit", perturbed, *words) == 0
        finally:
            server.shutdown()
            thread.join()
    assert report(tmp_path / "run")["simulated"]
