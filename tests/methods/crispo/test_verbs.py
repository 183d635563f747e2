"""The verbs as a user types them: searches over HTTP, in process and after a kill, what they leave, and what they refuse."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fixtures_process
import gnomon
from fixtures_crispo import CRITIC, DEFAULT, OPTIMIZER, WRITER, house_files
from fixtures_llm import calls_of
from fixtures_server import CompletionServer
from gnomon.core import records
from gnomon.core.llm import open_llm
from gnomon.core.llm.sims import ChatServer
from gnomon.core.llm.sims.faults import REFUSAL
from gnomon.errors import BadConfig, BadInput, BudgetSpent, LLMFailure
from gnomon.registry import method
from gnomon.verbs import run_verb

CRISPO = method("crispo")
SIMS = ("--task", WRITER, "--critic", CRITIC, "--optimizer", OPTIMIZER)
SMALL = ("--steps", 3, "--dev-every", 1, "--metrics", "rouge1")


def crispo(verb, *words):
    return run_verb(CRISPO, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


def steps_of(folder):
    """The steps in a run's metrics; rows of what models were asked have none."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "role" not in row]


def history(folder):
    return (folder / "history.jsonl").read_text()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return house_files(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def searched(data, tmp_path_factory):
    """A finished search."""
    at = tmp_path_factory.mktemp("run") / "run"
    assert crispo("optimize", *data, *SIMS, *SMALL, "--out", at) == 0
    return at


@pytest.mark.slow
def test_a_search_leaves_everything(searched):
    found = report(searched)
    assert found["simulated"]
    assert found["title"].startswith("SIMULATED")
    names = {"promptfoo", "dspy", "prompt", "records", "calls", "search", "scores"}
    assert names <= set(found["artifacts"])
    assert all((searched / path).exists() for path in found["artifacts"].values())
    assert "INSERT_INPUT_HERE" in (searched / "best_prompt.txt").read_text()
    rows = {row["prompt"]: row for table in found["tables"] for row in table["rows"] if "metric" in row}
    better = rows["found"]["better than the first by"]
    assert better[0] == pytest.approx(rows["found"]["score"] - rows["given"]["score"])
    assert better[1] > 0  # after three rounds already
    what = [raw["what"] for _, raw in records.read_raw(searched / "calls.jsonl")]
    assert len(what) == len(set(what))
    tested = [one for one in what if "test row" in one]
    assert len(tested) == 2 * 20  # the given prompt and the returned one, once each
    assert steps_of(searched) == [0, 1, 2, 3]
    assert "prompt-0" in (searched / "report.html").read_text()


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_does_not(searched, data, tmp_path):
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        assert crispo("optimize", *data, *SIMS, *SMALL, "--seed", seed, "--out", out) == 0
        assert (history(out) == history(searched)) == same


@pytest.mark.slow
def test_suffix_evaluate_and_show_work_on_a_run(searched, data, tmp_path):
    writer = f"{WRITER}&invention=0.5"
    words = ("--task", writer, "--critic", CRITIC, "--optimizer", OPTIMIZER, "--steps", 3, "--dev-every", 1)
    rows = data[:5]
    assert crispo("suffix", *rows, "--main", searched, *words, "--out", tmp_path / "s") == 0
    main = (searched / "best_prompt.txt").read_text()
    whole = (tmp_path / "s" / "best_prompt.txt").read_text()
    assert whole.startswith(main)
    suffix = (tmp_path / "s" / "best_suffix.txt").read_text()
    assert whole == (f"{main}\n\n{suffix}" if suffix else main)
    found = report(tmp_path / "s")
    assert "test token support" in found["figures"]
    assert "AlignScore" not in (tmp_path / "s" / "report.html").read_text()
    assert json.loads((tmp_path / "s" / "search.json").read_text())["metrics"][1]["name"] == "token support"
    words = (
        "--prompts",
        data[-1],
        searched,
        tmp_path / "s",
        "--task",
        writer,
        "--metrics",
        "rouge1",
        "faithfulness",
    )
    assert crispo("evaluate", data[4], *words, "--out", tmp_path / "e") == 0
    table = report(tmp_path / "e")["tables"][0]["rows"]
    assert [row["prompt"] for row in table] == [
        str(p) for p in (data[-1], searched, tmp_path / "s") for _ in "12"
    ]
    assert crispo("show", tmp_path / "s", "--metric", "token support", "--out", tmp_path / "show") == 0
    assert report(tmp_path / "show")["simulated"]
    with pytest.raises(BadInput, match="holds no search"):
        crispo("show", tmp_path / "e", "--out", tmp_path / "no")


@pytest.mark.slow
def test_the_same_search_over_http(searched, data, tmp_path):
    """Client, server, faults, attempts and cache on the way: prompts and scores are those of the search in process."""
    refs, servers = [], []
    try:
        for ref in (f"{WRITER}&http_429=0.05&http_500=0.05", CRITIC, OPTIMIZER):
            server = ChatServer(open_llm(ref))
            servers.append(server)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            refs.append(server.endpoint)
        words = ("--task", refs[0], "--critic", refs[1], "--optimizer", refs[2], "--llm.concurrency", 16)
        assert crispo("optimize", *data, *words, *SMALL, "--llm.retries", 20, "--out", tmp_path / "h") == 0
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    assert history(tmp_path / "h") == history(searched)
    found = report(tmp_path / "h")
    assert found["simulated"]
    calls = calls_of(tmp_path / "h")
    assert {"rate_limit", "server"} <= set(calls["task"]["faults"])
    assert [calls[role]["model"] for role in ("task", "critic", "optimizer")] == refs


CHILD = """
import sys
from gnomon.verbs import run_verb
from gnomon.registry import method
run_verb(method("crispo"), sys.argv[1], sys.argv[2:])
"""


def job(*words):
    env = os.environ | {"PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    return fixtures_process.start([sys.executable, "-c", CHILD, *words, "--quiet"], env=env)


def writer_behind_a_server(**options):
    """The simulated writer as a chat server that counts requests."""
    writer = open_llm(WRITER)

    def answer(messages, seed):
        from gnomon.core.llm import Message, Request, complete

        asked = tuple(Message(m["role"], m["content"]) for m in messages)
        return complete(writer, [Request(asked, seed=seed)])[0].text

    return CompletionServer(chat_answer=answer, **options)


@pytest.mark.slow
def test_more_steps_go_on_from_a_finished_search(data, tmp_path):
    """They give what as many steps from the start would have given, and only what is new is asked."""
    with writer_behind_a_server() as server:
        words = (
            "optimize",
            *data,
            "--task",
            server.endpoint,
            *SIMS[2:],
            "--dev-every",
            2,
            "--metrics",
            "rouge1",
        )
        run = ("--out", tmp_path / "run")
        assert crispo(*words, *run, "--steps", 3) == 0
        paid = len(server.requests)
        assert crispo(*words, *run, "--steps", 3) == 0  # finished: nothing is asked
        assert len(server.requests) == paid
        assert crispo(*words, *run, "--steps", 5) == 0
        more = len(server.requests) - paid
        assert crispo(*words, "--out", tmp_path / "whole", "--steps", 5) == 0
    assert history(tmp_path / "run") == history(tmp_path / "whole")
    assert steps_of(tmp_path / "run") == list(range(6))
    for file in ("best_prompt.txt", "search.json", "promptfoo.json"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    scores = [
        sorted(path.name for path in (tmp_path / name / "scores").iterdir()) for name in ("run", "whole")
    ]
    assert scores[0] == scores[1]
    # Steps 4 and 5 bring six prompts on 12 rows of train and at most seven on dev; then three again on dev, and two on test.
    assert 6 * 12 <= more <= (6 + 7 + 3) * 12 + 2 * 20
    with pytest.raises(BadConfig, match="other settings"):
        crispo(*words, *run, "--steps", 5, "--per-step", 2)


def test_refused_rows_are_left_out_and_shown(data, tmp_path):
    task = ("--task", f"{WRITER}&refused=0.1")
    assert crispo("optimize", *data, *task, *SIMS[2:], *SMALL, "--out", tmp_path / "run") == 0
    rows = [row for path in (tmp_path / "run" / "scores").iterdir() for _, row in records.read_raw(path)]
    gaps = [row for row in rows if row["prediction"] is None]
    assert {row["unanswered"] for row in gaps} == {"refusal"} and all(row["rouge1"] is None for row in gaps)
    assert 0 < len(gaps) < 0.25 * len(rows)
    assert not any(REFUSAL in (row["prediction"] or "") for row in rows)
    (table,) = [
        t for t in report(tmp_path / "run")["tables"] if "rows without an answer, by reason" in t["caption"]
    ]
    counted = sum(
        sum(g.values())
        for row in map(json.loads, history(tmp_path / "run").splitlines())
        for g in row["unanswered"].values()
    )
    assert table["rows"] == [{"reason": "refusal", "rows": counted}]
    prompt = tmp_path / "run" / "best_prompt.txt"
    assert (
        crispo(
            "evaluate", data[4], "--prompts", prompt, *task, "--metrics", "rouge1", "--out", tmp_path / "e"
        )
        == 0
    )
    (row,) = report(tmp_path / "e")["tables"][0]["rows"]
    assert row["rows without an answer"] > 0


FLAKY = """
from pathlib import Path
from gnomon.core.llm import open_llm
from fixtures_crispo import WRITER

writer = open_llm(WRITER)

async def write(request):
    words = len(request.messages[-1].content)
    if words % 9 == 0 and not Path(__file__).with_name("mended").exists():
        raise RuntimeError("out of order")
    return (await writer.acomplete(request)).text
"""


def test_failed_rows_are_asked_again_when_the_command_is_repeated(searched, data, tmp_path):
    (tmp_path / "flaky.py").write_text(FLAKY)
    task = ("--task", f"script:{tmp_path / 'flaky.py'}:write")
    words = ("optimize", *data, *task, *SIMS[2:], *SMALL, "--out", tmp_path / "run")
    assert crispo(*words) == 0
    first = report(tmp_path / "run")
    assert first["status"] == "incomplete" and first["shortfalls"][0]["failed"] > 0
    assert '"unanswered": {"train": {"failed": ' in history(tmp_path / "run")
    (tmp_path / "mended").touch()
    assert crispo(*words) == 0
    assert report(tmp_path / "run")["status"] == "done"
    assert history(tmp_path / "run") == history(searched)


def test_a_search_that_finds_nothing_says_so(data, tmp_path):
    """A metric that is the same for every prompt: the given one stays, and no title praises another."""
    (tmp_path / "same.py").write_text("def same(prediction, reference, source):\n    return 0.5\n")
    words = (*data, *SIMS, "--steps", 1, "--metrics", f"{tmp_path / 'same.py'}:same")
    assert crispo("optimize", *words, "--out", tmp_path / "run") == 0
    assert report(tmp_path / "run")["title"] == "SIMULATED: No better prompt found"
    at = data.index("--prompt")
    words = (*data[:at], *data[at + 2 :], *SIMS, "--steps", 1, "--metrics", f"{tmp_path / 'same.py'}:same")
    assert crispo("suffix", *words, "--main", data[at + 1], "--out", tmp_path / "suffix") == 0
    assert report(tmp_path / "suffix")["title"] == "SIMULATED: No better postscript than none"
    page = (tmp_path / "suffix" / "report.html").read_text()
    assert "no postscript that was tried is better on dev than none" in page and "is best" not in page


@pytest.mark.slow
def test_a_killed_search_goes_on_and_nothing_is_paid_twice(data, tmp_path):
    """The writer is behind a real server that counts; the search is killed twice in the middle, as by kill -9."""
    once = (
        *SMALL,
        "--recheck",
        0,
    )  # no row is asked twice: a server is sent no seed, and would answer both times alike
    assert crispo("optimize", *data, *SIMS, *once, "--out", tmp_path / "whole") == 0
    with writer_behind_a_server(delay_s=0.02) as server:
        task = server.endpoint
        words = ("optimize", *data, "--task", task, "--critic", CRITIC, "--optimizer", OPTIMIZER, *once)
        for stop in (20, 60):
            running = job(*words, "--out", tmp_path / "run")
            until = time.monotonic() + 60
            while len(server.requests) < stop and running.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            assert running.poll() is None
            running.send_signal(signal.SIGKILL)
            running.wait()
        assert not (tmp_path / "run" / "report.json").exists()
        assert job(*words, "--out", tmp_path / "run").wait() == 0
        asked = [json.dumps([r["messages"], r.get("seed")]) for r in server.requests]
    assert history(tmp_path / "run") == history(tmp_path / "whole")
    assert steps_of(tmp_path / "run") == [0, 1, 2, 3]
    # What was under way at a kill may have been answered and lost; no more than the requests under way, twice.
    assert len(asked) - len(set(asked)) <= 2 * 8
    done = [raw["what"] for _, raw in records.read_raw(tmp_path / "run" / "calls.jsonl")]
    assert len(done) == len(set(done))


@pytest.mark.slow
def test_a_budget_stops_cleanly_and_a_larger_one_finishes(searched, data, tmp_path, capsys):
    words = ("optimize", *data, *SIMS, *SMALL, "--out", tmp_path / "run")
    with pytest.raises(BudgetSpent) as told:
        crispo(*words, "--llm.budget-calls", 50)
    assert "50 of 50 calls" in str(told.value)
    assert "The best prompt so far is in" in str(told.value)
    assert "leaves room for 2 proposals" in capsys.readouterr().err
    assert (tmp_path / "run" / "best_prompt.txt").exists()
    assert (
        crispo("show", tmp_path / "run", "--out", tmp_path / "show") == 0
    )  # an unfinished one can be looked at
    assert crispo(*words, "--llm.budget-calls", 500) == 0
    assert history(tmp_path / "run") == history(searched)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["opro", "plain"])
def test_other_arms(data, tmp_path, arm):
    assert crispo("optimize", *data, *SIMS, *SMALL, "--arm", arm, "--out", tmp_path) == 0
    found = [raw for _, raw in records.read_raw(tmp_path / "history.jsonl")]
    assert len(found) == (1 if arm == "plain" else 10)
    assert all(one["critique"] is None for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "t5"])
def test_a_checkpoint_in_this_process_does_the_task(checkpoint, data, tmp_path, family):
    """It writes nonsense; what is shown is that its replies pass through, faults are counted, and it is not called simulated."""
    task = ("--task", f"hf:{checkpoint(family)}", "--critic", CRITIC, "--optimizer", OPTIMIZER)
    (tmp_path / "p.txt").write_text("Sum: INSERT_INPUT_HERE")
    rows = [{"id": str(i), "input": f"a {i}", "output": "b"} for i in range(9)]
    for name, part in (("train", rows[:4]), ("dev", rows[4:])):
        records.write(tmp_path / f"{name}.jsonl", part)
    words = (
        tmp_path / "train.jsonl",
        "--dev",
        tmp_path / "dev.jsonl",
        "--prompt",
        tmp_path / "p.txt",
        "--max-tokens",
        8,
    )
    small = ("--steps", 1, "--per-step", 1, "--answer-tag", "None")
    assert crispo("optimize", *words, *task, *small, "--out", tmp_path / "run") == 0
    calls = calls_of(tmp_path / "run")["task"]
    assert calls["model"].startswith("hf:") and not calls["SIMULATED"]
    assert calls["calls"] + calls["cached"] >= 9


@pytest.mark.slow
@pytest.mark.scale
def test_a_served_checkpoint_does_the_task(checkpoint, tiny_tokenizer, tmp_path):
    from gnomon.core.models import tiny_causal
    from gnomon.methods.crispo.mini import CHAT_TEMPLATE

    tokenizer = copy.deepcopy(tiny_tokenizer)  # the fixture is everybody's
    tokenizer.chat_template = CHAT_TEMPLATE
    tiny_causal("llama", tokenizer, tmp_path / "model")
    (tmp_path / "p.txt").write_text("Sum: INSERT_INPUT_HERE")
    rows = [{"id": str(i), "input": f"a {i}", "output": "b"} for i in range(6)]
    for name, part in (("train", rows[:3]), ("dev", rows[3:])):
        records.write(tmp_path / f"{name}.jsonl", part)
    words = [
        tmp_path / "train.jsonl",
        "--dev",
        tmp_path / "dev.jsonl",
        "--prompt",
        tmp_path / "p.txt",
        "--max-tokens",
        6,
    ]
    words += [
        "--critic",
        CRITIC,
        "--optimizer",
        OPTIMIZER,
        "--steps",
        1,
        "--per-step",
        1,
        "--answer-tag",
        "None",
    ]
    for scheme in ("serve", "hf"):
        assert (
            crispo("optimize", *words, "--task", f"{scheme}:{tmp_path / 'model'}", "--out", tmp_path / scheme)
            == 0
        )
    # Greedy, and the same strings on both ways: the same predictions and scores.
    assert history(tmp_path / "serve") == history(tmp_path / "hf")


@pytest.mark.slow
def test_a_dry_run_tells_the_cost_and_writes_nothing(data, tmp_path, capsys):
    assert crispo("optimize", *data, *SIMS, "--out", tmp_path / "run", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    # 301 prompts on 12 rows of train; on dev the first, 20 rounds of 4, and 3 again; on test two prompts.
    assert plan["task_calls"] == 301 * 12 + (1 + 20 * 4 + 3) * 12 + 2 * 20
    assert (plan["critic_calls"], plan["optimizer_calls"]) == (301, 300)
    assert plan["calls"] == plan["task_calls"] + 601 and plan["usd_at_most"].startswith("unknown")
    assert plan["tokens_out_at_most"] == plan["task_calls"] * 512 + 601 * 1024
    assert not (tmp_path / "run").exists()
    prices = ("--llm.price-in", 2, "--llm.price-out", 8)
    assert crispo("optimize", *data, *SIMS, "--out", tmp_path / "run", "--dry-run", "--json", *prices) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["usd_at_most"] == pytest.approx(
        (plan["tokens_in"] * 2 + plan["tokens_out_at_most"] * 8) / 1e6, rel=1e-4
    )
    # A search is asked no more than that: its own requests, counted by the same rule.
    small = (*data, *SIMS, *SMALL, "--top-k", 7, "--out", tmp_path / "small")
    assert crispo("optimize", *small, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert crispo("optimize", *small) == 0
    spent = sum(row["tokens in"] for row in calls_of(tmp_path / "small").values())
    assert 0.4 * plan["tokens_in"] < spent < 1.2 * plan["tokens_in"]


def test_what_is_refused(data, tmp_path):
    train, _, dev, *_, prompt = data
    (tmp_path / "no-slot.txt").write_text("Summarise.")

    def words(**change):
        given = {"dev": dev, "prompt": prompt, "task": WRITER} | change
        return [
            train,
            *(w for name, value in given.items() for w in (f"--{name}", value)),
            "--out",
            tmp_path / "run",
            "--fresh",
        ]

    for change, error, says in (
        ({"dev": train}, BadInput, "of train is row"),
        ({"prompt": tmp_path / "no-slot.txt"}, BadInput, "no slot for the input"),
        ({"prompt": tmp_path / "none.txt"}, BadInput, "cannot be read"),
        ({"metrics": "rogue1"}, BadConfig, 'Did you mean "rouge1"?'),
        ({"task": "sim:stiler"}, BadConfig, 'Did you mean "styler"?'),
        ({"input-column": "inptu"}, BadInput, 'no column "inptu". Did you mean "input"?'),
        ({"k": 2}, BadConfig, "k must be between 3 and 60"),
        ({"steps": -1}, BadConfig, "steps must be >= 0"),
    ):
        with pytest.raises(error) as told:
            crispo("optimize", *words(**change))
        assert says in str(told.value), change


def test_evaluate_needs_prompts_and_examples_need_rows(data, tmp_path):
    with pytest.raises(BadConfig, match="prompts must name one prompt or more"):
        crispo("evaluate", data[4], "--task", WRITER, "--out", tmp_path / "a")
    shots = tmp_path / "shots.txt"
    shots.write_text("INSERT_EXAMPLES_HERE INSERT_INPUT_HERE")
    with pytest.raises(BadConfig, match="--examples"):
        crispo("evaluate", data[4], "--prompts", shots, "--task", WRITER, "--out", tmp_path / "b")


def test_an_endpoint_that_is_not_there_is_one_sentence(data, tmp_path):
    words = ("--task", "http://127.0.0.1:9/v1#gone", "--llm.retries", 0)
    with pytest.raises(LLMFailure) as told:
        crispo("optimize", *data, *words, "--out", tmp_path)
    assert "does not answer" in str(told.value) and "cannot be reached" in str(told.value)


def test_the_settings_do_not_load_anything_heavy():
    code = (
        "import sys, gnomon.methods.crispo.config, gnomon.methods.crispo\n"
        "heavy = {'torch', 'transformers', 'numpy', 'jinja2', 'rapidfuzz', 'openai'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 0
    assert DEFAULT in WRITER
