import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

import fixtures_process
import gnomon
from fixtures_llm import hurry
from fixtures_server import CompletionServer, answer_to
from gnomon import cli
from gnomon.core.llm import LLMConfig, close, connect, open_completions
from gnomon.core.models import GenConfig, add_token, load_model, load_tokenizer
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.lintseq import DIFF_TOKEN, Prompt, resolve, sample_local, sample_served
from gnomon.methods.lintseq.models import STOP

KEY = "sk-a-key-that-nobody-may-see"
PROMPTS = [Prompt(f"task/{number}", f"Do number {number}.") for number in range(5)]
GEN = GenConfig(max_new_tokens=40, top_p=0.95, n=3)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def expected(prompts, n, *, seed=0):
    """Program of each completion, worked out without the library."""
    told = [answer_to(f"{p.text}\n<|diff|>", seed + number) for p in prompts for number in range(n)]
    return ["\n".join(line[1:] for line in text.split("\n") if line.startswith("+")) for text in told]


# A served model


def served(endpoint, prompts, mode, gen, **options):
    """What the verb writes, without its run: attempts follow each other at once."""
    llm = hurry(connect(open_completions(endpoint), LLMConfig(cache="none", max_failed=1)))
    try:
        return sample_served(llm, prompts, mode, gen, **options)
    finally:
        close(llm)


def test_completions_come_in_the_order_of_the_prompts_however_long_each_takes():
    with CompletionServer(delay_s=lambda number: 0.1 if number % 4 == 0 else 0.0) as server:
        found = served(server.endpoint, PROMPTS, "editseq", GEN, concurrency=8, seed=5)
    assert [(s.task_id, s.sample) for s in found] == [(p.task_id, k) for p in PROMPTS for k in range(3)]
    assert [s.program for s in found] == expected(PROMPTS, 3, seed=5)
    assert all((s.n_hunks, s.n_malformed, s.finish) == (2, 0, "stop") for s in found)
    assert all(
        s.generated_tokens == len(s.completion) and s.prompt_tokens == len(s.prompt) + 9 for s in found
    )
    assert 2 <= server.most_busy <= 8


def test_what_is_asked_of_the_server():
    with CompletionServer() as server:
        served(server.endpoint, PROMPTS[:1], "editseq", GenConfig(40, 0.7, 0.9, stop=("#",)), seed=2)
        served(server.endpoint, PROMPTS[:1], "program", GenConfig(40, 0.0))
    edits, program = server.requests
    assert edits == {
        "model": "tiny", "prompt": "Do number 0.\n<|diff|>", "max_tokens": 40, "temperature": 0.7, "top_p": 0.9, "seed": 2,
        "stop": ["#", STOP],
    }  # fmt: skip
    assert program["prompt"] == "Do number 0.\n"
    assert program.get("stop") is None


def test_no_more_requests_are_under_way_than_allowed():
    with CompletionServer(delay_s=0.02) as server:
        served(server.endpoint, PROMPTS, "editseq", GEN, concurrency=2)
    assert server.most_busy <= 2


@pytest.mark.parametrize("mode", ["editseq", "program"])
def test_a_stop_text_that_the_server_leaves_is_taken_off(mode):
    gen = GenConfig(40, stop=("\n# end",))
    with CompletionServer(leave_stop=True) as server:
        (found,) = served(server.endpoint, PROMPTS[:1], mode, gen)
    assert "and more" not in found.completion
    assert found.completion == answer_to(server.requests[0]["prompt"], 0)


@pytest.mark.parametrize("fault", [429, 500, 503, "cut"])
def test_a_passing_fault_is_tried_again_and_changes_nothing(fault):
    with CompletionServer([fault]) as server:
        found = served(server.endpoint, PROMPTS[:1], "editseq", GEN, seed=5)
    assert [s.program for s in found] == expected(PROMPTS[:1], 3, seed=5)
    assert len(server.requests) == 4


def test_a_seed_that_nobody_chose_is_not_sent():
    """Nor is the number of a completion: a server draws by itself. A seed of the run's own goes up by one with each."""
    with CompletionServer() as server:
        served(server.endpoint, PROMPTS[:1], "editseq", GEN)
        assert [request.get("seed") for request in server.requests] == [None] * 3
        served(server.endpoint, PROMPTS[:1], "editseq", GEN, seed=5)
        assert sorted(request["seed"] for request in server.requests[3:]) == [5, 6, 7]


@pytest.mark.parametrize(
    ("script", "name", "says"),
    [
        ([400] * 9, "tiny", 'refused a completion of "tiny" .400.: as the script says'),
        ([401], "tiny", 'refused a completion of "tiny"'),
        ([], "tony", 'refused a completion of "tony" .*The model tony does not exist'),
        ([500] * 9, "tiny", 'refused a completion of "tiny"'),
        (["proxy"] * 9, "tiny", 'refused a completion of "tiny" .502.'),
        (["garbled"] * 9, "tiny", "answered in an unknown format"),
    ],
)
def test_what_cannot_be_helped_is_a_rejected_row_with_its_reason(script, name, says):
    with CompletionServer(script) as server:
        endpoint = server.endpoint.replace("#tiny", f"#{name}")
        (row,) = served(endpoint, PROMPTS[:1], "editseq", GenConfig(40))
    assert re.search(says, row.reason)
    assert row.record == {"task_id": "task/0", "sample": 0}
    assert str(server.server_address[1]) in row.reason
    assert "\n" not in row.reason
    assert len(row.reason) < 500


def test_a_wrong_address_ends_the_verb_after_one_request(tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"instruction": "Do it."}\n' * 30)
    with CompletionServer() as server:
        words = ["--writer", server.endpoint.replace("#tiny", "#tony"), "--out", str(tmp_path / "run")]
        assert cli.main(["lintseq", "sample", str(prompts), *words]) == 1
    assert len(server.requests) == 1
    assert "The model tony does not exist" in capsys.readouterr().err


def test_a_completion_that_failed_is_tried_for_again_and_the_others_are_not(tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"instruction": "Do {n}.", "task_id": "{n}"}}\n' for n in range(20)))
    broken = {"at": "Do 7."}

    def script(_, asked):
        return 400 if broken["at"] and asked["prompt"].startswith(broken["at"]) else "fine"

    with CompletionServer(script) as server:
        words = ["lintseq", "sample", str(prompts), "--writer", server.endpoint, "--gen.n", "1"]
        words += ["--out", str(tmp_path / "run")]
        assert cli.main(words) == 0  # one of twenty is no reason to fail
        assert "1 of 20 replies of writer failed" in capsys.readouterr().out
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert (report["status"], report["shortfalls"][0]["failed"]) == ("incomplete", 1)
        assert "1 of 20 replies of writer failed" in report["title"]
        n, broken["at"] = len(server.requests), None
        assert cli.main(words) == 0
    assert len(server.requests) == n + 1
    assert json.loads((tmp_path / "run" / "report.json").read_text())["status"] == "done"
    rows = samples_in(tmp_path / "run")
    assert sorted(row["task_id"] for row in rows) == sorted(str(n) for n in range(20))


def test_more_completions_in_the_same_folder_ask_only_for_the_new_ones(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"instruction": "Do {n}.", "task_id": "{n}"}}\n' for n in range(20)))
    with CompletionServer() as server:
        words = [
            "lintseq",
            "sample",
            str(prompts),
            "--writer",
            server.endpoint,
            "--out",
            str(tmp_path / "run"),
        ]
        assert cli.main([*words, "--gen.n", "1"]) == 0
        first = {row["task_id"]: row["completion"] for row in samples_in(tmp_path / "run")}
        assert cli.main([*words, "--gen.n", "3"]) == 0
        assert len(server.requests) == 60
        rows = samples_in(tmp_path / "run")
        assert [row["sample"] for row in rows] == [0, 1, 2] * 20
        assert {row["task_id"]: row["completion"] for row in rows if row["sample"] == 0} == first
        assert cli.main([*words, "--gen.n", "3", "--gen.temperature", "0.5"]) == 2


def test_a_server_that_counts_no_tokens():
    with CompletionServer(tell_usage=False) as server:
        (found,) = served(server.endpoint, PROMPTS[:1], "editseq", GenConfig(40))
    assert (found.prompt_tokens, found.generated_tokens) == (0, 0)


@pytest.mark.parametrize("endpoint", ["localhost:8000/v1#tiny", "http://localhost:8000/v1", "tiny"])
def test_an_endpoint_is_written_with_its_model(endpoint):
    with pytest.raises(BadConfig, match="must be written http://host:8000/v1#name"):
        served(endpoint, PROMPTS, "editseq", GEN)


@pytest.mark.parametrize(("key", "sent"), [(KEY, f"Bearer {KEY}"), ("", None), (None, None)])
def test_the_key_goes_into_the_header_and_nowhere_else(key, sent, tmp_path, monkeypatch, capsys):
    if key is not None:
        monkeypatch.setenv("MY_KEY", key)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"instruction": "Do it."}\n')
    with CompletionServer() as server:
        words = [
            "--writer",
            server.endpoint,
            "--gen.n",
            "2",
            "--llm.api-key-env",
            "MY_KEY",
            "--out",
            str(tmp_path / "run"),
        ]
        assert cli.main(["lintseq", "sample", str(prompts), *words]) == 0
    assert [headers.get("authorization") for headers in server.headers] == [sent] * 2
    out, err = capsys.readouterr()
    written = [out, err, json.dumps(server.requests)]
    written += [path.read_text("utf-8") for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(written) > 6
    assert not any(KEY in text for text in written)


# A local model


@pytest.fixture(scope="module")
def writer(checkpoint):
    """A tiny Llama that has learned one sequence of edits by heart, its tokenizer, and the program."""
    import torch

    from gnomon.methods.lintseq import edit_pair
    from gnomon.methods.lintseq.models import encode

    model, tokenizer = load_model(checkpoint("llama"), device="cpu"), load_tokenizer(checkpoint("llama"))
    add_token(model, tokenizer, DIFF_TOKEN)
    pair = edit_pair("Set.", ["@@ -0,0 +1 @@\n+y = x", "@@ -0,0 +1 @@\n+x = 1"], 0)
    (row,) = encode([pair], tokenizer, max_length=100).rows
    ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval(), tokenizer, "x = 1\ny = x"


def test_a_local_model_writes_what_it_has_learned(writer):
    model, tokenizer, program = writer
    gen = GenConfig(max_new_tokens=80, temperature=0)
    (found,) = sample_local(model, tokenizer, [Prompt("a", "Set.")], "editseq", gen, rng=Rng(0), strict=True)
    assert (found.program, found.n_hunks, found.n_malformed, found.finish) == (program, 2, 0, "stop")
    assert resolve(found.completion).code == program
    assert found.completion == "@@ -0,0 +1 @@\n+y = x\n<|diff|>@@ -0,0 +1 @@\n+x = 1"
    assert found.prompt_tokens == len(tokenizer("Set.")["input_ids"]) + 2
    assert found.generated_tokens > len(
        tokenizer(found.completion)["input_ids"]
    )  # the end marker was written too


def test_the_batch_size_does_not_change_what_is_written(writer):
    """At a temperature at which a model that knows one text by heart writes many, and is still not torn between all tokens."""
    model, tokenizer, _ = writer
    prompts = [Prompt("a", "Set."), Prompt("b", "Add two numbers."), Prompt("c", "Set it.")]
    found = [
        sample_local(
            model, tokenizer, prompts, "editseq", GenConfig(20, 2.0, 0.95, 3, batch_size=size), rng=Rng(3)
        )
        for size in (1, 2, 64)
    ]
    assert found[0] == found[1] == found[2]
    assert len({s.completion for s in found[0]}) > 4


def test_strict_resolving_voids_what_lenient_repairs(writer):
    model, tokenizer, _ = writer
    gen = GenConfig(60, 1.5, n=30)
    lenient, strict = (
        sample_local(model, tokenizer, [Prompt("a", "Set.")], "editseq", gen, rng=Rng(1), strict=strict)
        for strict in (False, True)
    )
    assert [s.completion for s in lenient] == [s.completion for s in strict]
    assert all(s.program is not None for s in lenient)
    assert [s.program is None for s in strict] == [s.n_malformed > 0 for s in strict]
    assert 0 < sum(s.program is None for s in strict) < 30


def test_edits_are_not_asked_of_a_model_that_does_not_know_them(checkpoint):
    model, tokenizer = load_model(checkpoint("llama"), device="cpu"), load_tokenizer(checkpoint("llama"))
    with pytest.raises(ModelMismatch, match=r'does not know "<\|diff\|>".*--mode program'):
        sample_local(model, tokenizer, PROMPTS, "editseq", GEN, rng=Rng(0))
    (found,) = sample_local(model, tokenizer, PROMPTS[:1], "program", GenConfig(4), rng=Rng(0))
    assert found.program == found.completion


# The verb

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from math import pi\n\n\ndef area(r):\n    """Area of a disc."""\n',
    "entry_point": "area",
    "canonical_solution": "    return pi * r * r\n",
    "test": "def check(f):\n    assert f(0) == 0\n",
}
MBPP = {
    "task_id": 2,
    "text": "Add one.",
    "code": "def plus(a):\n    return a + 1",
    "test_list": ["assert plus(1) == 2"],
}
TASK = {"task_id": "t", "instruction": "Do it."}


def sample(tmp_path, rows, *words, name="run"):
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return cli.main(
        ["lintseq", "sample", str(source), "--out", str(tmp_path / name), "--quiet", *map(str, words)]
    )


def samples_in(folder):
    lines = [
        line for path in sorted((folder / "samples").glob("part-*")) for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("row", "words", "prompt"),
    [
        (TASK, [], "Do it."),
        ({"ask": "Do it."}, ["--prompt-field", "ask"], "Do it."),
        (MBPP, ["--suite", "mbpp"], "Add one.\ndef plus(a):\n"),
        (
            HUMANEVAL,
            ["--suite", "humaneval"],
            "Write a Python function `area(r)` to solve the following problem:\nArea of a disc.\n",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["editseq", "program"])
def test_prompts_of_every_layout(row, words, prompt, mode, tmp_path):
    with CompletionServer() as server:
        assert sample(tmp_path, [row], "--writer", server.endpoint, "--mode", mode, "--gen.n", 2, *words) == 0
    ending = "\n<|diff|>" if mode == "editseq" else "" if prompt.endswith("\n") else "\n"
    assert {asked["prompt"] for asked in server.requests} == {prompt + ending}
    found = samples_in(tmp_path / "run")
    assert [(s["task_id"], s["sample"], s["prompt"]) for s in found] == [
        (str(row.get("task_id", 0)), number, prompt) for number in (0, 1)
    ]
    assert all(s["program"].startswith("def solve(xs):\n    return") for s in found)


def test_the_head_of_a_function_is_continued(tmp_path):
    with CompletionServer() as server:
        words = ["--suite", "humaneval", "--style", "continue", "--mode", "program", "--gen.n", 1]
        assert sample(tmp_path, [HUMANEVAL], "--writer", server.endpoint, *words) == 0
    assert server.requests[0]["prompt"] == HUMANEVAL["prompt"]


@pytest.mark.parametrize("mode", ["editseq", "program"])
def test_a_local_model_through_the_verb(writer, mode, tmp_path):
    model, tokenizer, program = writer
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    words = [
        "--model",
        tmp_path / "model",
        "--device",
        "cpu",
        "--mode",
        mode,
        "--gen.n",
        1,
        "--gen.temperature",
        0,
    ]
    words += ["--gen.max-new-tokens", 80]
    assert sample(tmp_path, [{"instruction": "Set."}], *words) == 0
    (found,) = samples_in(tmp_path / "run")
    assert found["program"] == (program if mode == "editseq" else found["completion"])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["figures"]["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("row", "words", "says"),
    [
        (TASK, [], "model, writer must be exactly one of the two; got [None, None]."),
        (TASK, ["--model", "a", "--writer", "http://b/v1#c"], "model, writer must be exactly one of the two"),
        ({"text": "x"}, ["--writer", "http://b/v1#c"], 'line 1: field "instruction" is missing or empty'),
        ({"instruction": ""}, ["--writer", "http://b/v1#c"], 'field "instruction" is missing or empty'),
        (TASK, ["--writer", "b"], "must be written http://host:8000/v1#name"),
        (TASK, ["--writer", "http://b/v1#c", "--skip", "1"], "no prompts after the first 1"),
        (
            HUMANEVAL,
            ["--writer", "http://b/v1#c", "--suite", "humaneval", "--style", "continue"],
            "--mode program",
        ),
    ],
)
def test_wrong_requests(row, words, says, tmp_path, capsys):
    assert sample(tmp_path, [row], *words) == 2
    assert says in capsys.readouterr().err


def test_a_refusing_server_ends_the_verb_with_one_line(tmp_path, capsys):
    with CompletionServer([400] * 99) as server:
        assert sample(tmp_path, [TASK], "--writer", server.endpoint) == 1
    err = capsys.readouterr().err
    assert "refused a completion" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_killed_job_asks_for_nothing_twice_but_what_was_under_way(tmp_path):
    """40 prompts are three shards of 16, 16 and 8; the job dies in the second."""
    source, folder = tmp_path / "prompts.jsonl", tmp_path / "run"
    source.write_text("".join(json.dumps({"instruction": f"Do {n}."}) + "\n" for n in range(40)))
    env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    with CompletionServer(delay_s=lambda number: 0.0 if number < 18 else 30.0) as server:
        words = [
            str(source),
            "--writer",
            server.endpoint,
            "--gen.n",
            "1",
            "--llm.concurrency",
            "2",
            "--out",
            str(folder),
        ]
        job = fixtures_process.start([sys.executable, "-m", "gnomon", "lintseq", "sample", *words], env=env)
        until = time.monotonic() + 60
        while len(server.requests) < 19 and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(job.pid, signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        finished = {f"Do {n}." for n in range(16)}
        assert {row["prompt"] for row in samples_in(folder)} == finished
        server.delay_s, n_before = 0.0, len(server.requests)
        assert cli.main(["lintseq", "sample", *words, "--quiet"]) == 0
    again = [asked["prompt"].removesuffix("\n<|diff|>") for asked in server.requests[n_before:]]
    assert sorted(again) == sorted(f"Do {n}." for n in range(18, 40))  # what was answered is in the cache
    assert [row["prompt"] for row in samples_in(folder)] == [f"Do {n}." for n in range(40)]
