"""Summaries end to end: over HTTP with faults, from a checkpoint in this process and in a server, with a budget, after a kill."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import fixtures_process
import fixtures_sigext
import gnomon
from fixtures_llm import calls_of
from gnomon.core import records
from gnomon.core.llm.sims import ChatServer, open_simulator
from gnomon.core.models import tiny_causal, train_bpe
from gnomon.errors import BudgetSpent, LLMFailure
from gnomon.registry import method
from gnomon.verbs import run_verb

METHOD = method("sigext")
SIM = "summariser?uptake=0.9&base=0.2"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    records.write(file, fixtures_sigext.raw_rows(12, 3))
    return file


def summarize(data, llm, out, *words, model=None):
    arms = ["--arms", "none", "oracle"] if model is None else ["--extractor", str(model)]
    return run_verb(
        METHOD,
        "summarize",
        [str(data), "--writer", llm, *arms, "--quiet", "--out", str(out), *map(str, words)],
    )


def report(folder):
    return json.loads((folder / "report.json").read_text())


def predictions(folder):
    return [raw for _, raw in records.read_raw(folder / "predictions.jsonl")]


def asked(folder):
    return calls_of(folder)["writer"]


class Counting:
    """A simulator behind HTTP that counts how often each prompt was answered."""

    def __init__(self, ref, wait_s=0.0):
        self.llm, self.wait_s, self.seen = open_simulator(ref), wait_s, Counter()
        self.name = "counting"

    async def acomplete(self, request):
        time.sleep(self.wait_s)
        self.seen[request.messages[-1].content] += 1
        return await self.llm.acomplete(request)


@pytest.fixture
def serve():
    servers = []

    def start(llm):
        server = ChatServer(llm)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server.endpoint

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_simulator_in_another_process_says_what_it_says_here(data, trained, tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    command = [sys.executable, "-m", "gnomon", "sim", "serve", SIM, "--port", "0"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
    try:
        endpoint = job.stdout.readline().strip()
        summarize(data, endpoint, tmp_path / "http", model=trained[0] / "model")
    finally:
        job.send_signal(signal.SIGTERM)
        job.wait(30)
        job.stdout.close()
    summarize(data, f"sim:{SIM}", tmp_path / "here", model=trained[0] / "model")
    one, other = (predictions(tmp_path / name) for name in ("http", "here"))
    assert one == other and any(row["prediction"] for row in one)


def test_faults_are_counted_and_their_documents_left_out(data, serve, tmp_path):
    endpoint = serve(open_simulator(f"{SIM}&http_500=0.2&refused=0.15&truncated=0.3"))
    summarize(data, endpoint, tmp_path / "run", "--llm.retries", 8)
    rows = predictions(tmp_path / "run")
    missing = {row["id"] for row in rows if row["fault"]}
    assert missing and all(row["prediction"] == "" for row in rows if row["fault"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["documents"] == 12 - len(missing)
    assert metrics["faults"] == dict(Counter(row["fault"] for row in rows if row["fault"]))
    counted = asked(tmp_path / "run")["faults"]
    assert (
        counted["server"] > 0 and counted["refusal"] == metrics["faults"]["refusal"] and counted["length"] > 0
    )
    assert sum(row["summary_cut"] for row in rows) == counted["length"]


def test_an_endpoint_that_never_answers_is_one_clear_error(data, serve, tmp_path):
    endpoint = serve(open_simulator(f"{SIM}&http_500=1"))
    with pytest.raises(LLMFailure, match="does not answer"):
        summarize(data, endpoint, tmp_path / "run", "--llm.retries", 0)


def test_a_writer_that_refuses_everything_leaves_no_summary(data, tmp_path):
    with pytest.raises(LLMFailure, match="refused to answer"):
        summarize(data, f"sim:{SIM}&refused=1", tmp_path / "run")
    assert not (tmp_path / "run" / "predictions.jsonl").exists()


def test_more_documents_arms_and_phrases_go_on_from_a_finished_run(data, serve, tmp_path):
    """Every prompt is answered once, whatever run it is in, and the result is that of a run from the start."""
    llm = Counting(SIM)
    endpoint = serve(llm)
    summarize(data, endpoint, tmp_path / "run", "--limit", 4)
    assert sum(llm.seen.values()) == 8
    summarize(data, endpoint, tmp_path / "run", "--limit", 12)
    assert sum(llm.seen.values()) == 24
    grown = ("--arms", "none", "oracle", "first", "--curve", 2)
    summarize(data, endpoint, tmp_path / "run", "--limit", 12, *grown)
    assert set(llm.seen.values()) == {1} and asked(tmp_path / "run")["cached"] >= 24
    summarize(data, endpoint, tmp_path / "whole", "--limit", 12, *grown)
    assert predictions(tmp_path / "run") == predictions(tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    arms = [row["arm"] for row in rows if "arm" in row]
    assert len(arms) == len(set(arms)) == 5


def test_the_title_names_no_winner_where_all_are_alike(data, tmp_path):
    (tmp_path / "same.py").write_text("def same(request):\n    return 'One and the same.'\n")
    same, arms = f"script:{tmp_path / 'same.py'}:same", ("--arms", "none", "first", "oracle")
    summarize(data, same, tmp_path / "run", *arms)
    assert report(tmp_path / "run")["title"] == "Summaries of 12 documents: all arms have the same ROUGE-1 F"
    summarize(data, f"sim:{SIM}", tmp_path / "sim", *arms)
    scores = report(tmp_path / "sim")["figures"]
    best = max(
        ("none", "first, K=20"), key=lambda name: scores[f"ROUGE-1 F, {name}"]
    )  # the oracle is no contender
    assert report(tmp_path / "sim")["title"].endswith(f": best by ROUGE-1 F is {best}")
    summarize(data, f"sim:{SIM}", tmp_path / "ceiling")  # none and the oracle alone: nothing to be best of
    assert report(tmp_path / "ceiling")["title"] == "SIMULATED: Summaries of 12 documents"


def test_a_dry_run_says_calls_tokens_and_money(data, tmp_path, capsys):
    prices = ("--llm.price-in", 2, "--llm.price-out", 8)
    summarize(data, f"sim:{SIM}", tmp_path / "run", *prices, "--dry-run", "--json")
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["calls"] == 24 and plan["tokens_out_at_most"] == 24 * 512
    assert plan["usd_at_most"] == pytest.approx(
        (plan["tokens_in"] * 2 + plan["tokens_out_at_most"] * 8) / 1e6, rel=1e-4
    )
    assert not (tmp_path / "run").exists()
    summarize(data, f"sim:{SIM}", tmp_path / "run")
    # Rather too many: it cannot know how few phrases an arm will show.
    assert plan["tokens_in"] / 3 < asked(tmp_path / "run")["tokens in"] <= plan["tokens_in"]


def test_a_budget_stops_cleanly_and_more_of_it_pays_for_the_rest_alone(data, serve, tmp_path):
    llm = Counting(SIM)
    endpoint = serve(llm)
    with pytest.raises(
        BudgetSpent,
        match=r"10 of 10 calls\. Raise --llm\.budget-calls.* 14 of 24 summaries were not asked for\. Repeat the command",
    ):
        summarize(data, endpoint, tmp_path / "run", "--llm.budget-calls", 10)
    assert sum(llm.seen.values()) == 10
    early = report(tmp_path / "run")
    assert early["status"] == "failed" and "14 of 24 summaries were not asked for" in early["ended"]
    assert early["shortfalls"][0]["not_asked"] == 14 and asked(tmp_path / "run")["calls"] == 10
    summarize(data, endpoint, tmp_path / "run", "--llm.budget-calls", 24)
    assert set(llm.seen.values()) == {1} and len(llm.seen) == 24
    assert (asked(tmp_path / "run")["calls"], asked(tmp_path / "run")["cached"]) == (14, 10)


@pytest.mark.slow
def test_a_killed_run_goes_on_without_paying_twice(data, serve, tmp_path):
    llm = Counting(SIM, wait_s=0.2)
    endpoint = serve(llm)
    code = (
        "import sys\nfrom gnomon.verbs import run_verb\nfrom gnomon.registry import method\n"
        "sys.exit(run_verb(method('sigext'), 'summarize', sys.argv[1:]))\n"
    )
    words = [str(data), "--writer", endpoint, "--arms", "none", "oracle", "--llm.concurrency", "2", "--quiet"]
    command = [sys.executable, "-c", code, *words, "--out", str(tmp_path / "run")]
    env = os.environ | {"PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    job = fixtures_process.start(command, env=env)
    while sum(llm.seen.values()) < 6:
        assert job.poll() is None
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert not (tmp_path / "run" / "report.json").exists()
    paid = sum(llm.seen.values())
    assert fixtures_process.run(command, env=env).returncode == 0
    assert asked(tmp_path / "run")["cached"] >= 4
    # Only what was under way when it died, two requests at a time, may have been asked twice.
    assert sum(n - 1 for n in llm.seen.values()) <= 3 and paid >= 6 and len(llm.seen) == 24
    ids = [(row["id"], row["arm"]) for row in predictions(tmp_path / "run")]
    assert len(ids) == len(set(ids)) == 24


@pytest.fixture(scope="module")
def checkpoint(data, tmp_path_factory):
    """A decoder with a chat template and random weights."""
    text = data.read_text("utf-8")
    tokenizer = train_bpe([text], 400)
    tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny_causal("llama", tokenizer, folder, max_position_embeddings=512)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_checkpoint_in_this_process_writes_the_same_one_by_one(family, data, checkpoint, tmp_path):
    folder = checkpoint
    if family == "t5":
        folder = tmp_path / "t5"
        tiny_causal("t5", train_bpe([data.read_text("utf-8")], 400), folder)
    for name, concurrency in (("many", 16), ("one", 1)):
        summarize(data, f"hf:{folder}", tmp_path / name, "--limit", 4, "--max-tokens", 8, "--temperature", 0,
                  "--llm.concurrency", concurrency)  # fmt: skip
    assert predictions(tmp_path / "many") == predictions(tmp_path / "one")
    assert not report(tmp_path / "many")["simulated"]


def test_a_local_model_s_own_tokens_and_positions_limit_the_prompt(data, checkpoint, tmp_path):
    from gnomon.core.models import load_tokenizer

    folder = tmp_path / "short"
    tokenizer = load_tokenizer(checkpoint)
    tiny_causal("llama", tokenizer, folder, max_position_embeddings=128)
    summarize(data, f"hf:{folder}", tmp_path / "run", "--limit", 4, "--max-tokens", 8, "--temperature", 0)
    rows = predictions(tmp_path / "run")
    assert all(row["document_cut"] for row in rows) and not any(row["fault"] == "rejected" for row in rows)


@pytest.mark.scale
def test_a_checkpoint_in_a_server_writes_what_it_writes_here(data, checkpoint, tmp_path):
    words = ["--limit", 3, "--max-tokens", 8, "--temperature", 0]
    summarize(data, f"serve:{checkpoint}", tmp_path / "serve", *words)
    summarize(data, f"hf:{checkpoint}", tmp_path / "hf", *words)
    assert predictions(tmp_path / "serve") == predictions(tmp_path / "hf")
