"""The verbs as a user types them, each fed with the run folder of the one before."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import fixtures_process
import gnomon
from fixtures_training import free_port
from gnomon import cli
from gnomon.methods.lintseq import resolve

SOURCE = str(Path(gnomon.__file__).parents[1])
TINY = ["--train.batch-size", "4", "--train.max-length", "200", "--train.lr", "0.01", "--device", "cpu"]
RUN_FILES = {"config.yaml", "env.json", "report.html", "report.json"}


def lintseq(*words):
    return cli.main(["lintseq", *map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


def rows_of(folder):
    return [
        json.loads(line)
        for path in sorted(folder.glob("part-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def suite_rows():
    """Four MBPP-format tasks with their programs also under the names that `generate` reads."""
    rows = []
    for number in range(4):
        lines = [
            "b = a",
            f"b += {number}",
            "if b > 99:",
            "    b = 99",
            "if b < -9:",
            "    b = -9",
            "return b",
        ]
        code = "\n".join([f"def plus{number}(a):", *(f"    {line}" for line in lines)])
        told = {"task_id": number, "text": f"Add {number}.", "code": code}
        tests = {"test_list": [f"assert plus{number}(1) == {number + 1}"]}
        rows.append(
            told | tests | {"instruction": f"Add {number}.\ndef plus{number}(a):\n", "response": code}
        )
    return rows


@pytest.fixture(scope="module")
def chain(checkpoint, tmp_path_factory):
    """Every verb after the other on four tasks; the folder that holds a run folder for each."""
    root = tmp_path_factory.mktemp("chain")
    data = write_rows(root / "suite.jsonl", suite_rows())
    model = checkpoint("llama", max_position_embeddings=256)
    gen = ["--gen.n", "3", "--gen.max-new-tokens", "60", "--device", "cpu"]
    for words in (
        ["generate", data, "-s", "2", "--linter", "pyflakes", "--out", root / "generate"],
        ["randseq", data, "-s", "2", "--out", root / "randseq"],
        ["check", root / "generate", "--out", root / "check"],
        ["train", root / "generate", "--model", model, "--passes", "4", *TINY, "--out", root / "train"],
        ["sample", data, "--suite", "mbpp", "--model", root / "train", *gen, "--out", root / "sample"],
        ["resolve", root / "generate", "--field", "edit_path", "--out", root / "resolve"],
        ["eval", root / "sample", "--data", data, "--suite", "mbpp", "-k", "1", "3", "--allow-code-execution",
         "--workers", "1", "--parameters", "1000", "--out", root / "eval"],
    ):  # fmt: skip
        assert lintseq(*words) == 0, words
    return root


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["generate", "randseq", "check", "train", "sample", "resolve", "eval"])
def test_every_verb_leaves_a_whole_run(chain, verb):
    folder = chain / verb
    assert RUN_FILES.issubset(path.name for path in folder.iterdir())
    told = report(folder)
    assert (told["status"], told["method"], told["verb"]) == ("done", "lintseq", verb)
    assert told["figures"]
    assert all((folder / path).exists() for path in told["artifacts"].values())
    page = (folder / "report.html").read_text()
    assert f"lintseq {verb}" in page
    assert "<script src" not in page


@pytest.mark.slow
def test_what_the_chain_found(chain):
    assert report(chain / "generate")["figures"]["lint-clean states"] == 1
    checked = report(chain / "check")["figures"]
    assert (checked["sequences"], checked["resolve exactly"], checked["sequences with an offence"]) == (
        8,
        1,
        0,
    )
    assert report(chain / "train")["figures"]["steps"] == 4  # 4 passes of 4 programs in batches of 4
    samples = rows_of(chain / "sample" / "samples")
    assert [(row["task_id"], row["sample"]) for row in samples] == [
        (str(t), k) for t in range(4) for k in range(3)
    ]
    assert all(row["program"] == resolve(row["completion"]).code for row in samples)
    programs = [json.loads(line) for line in (chain / "resolve" / "programs.jsonl").read_text().splitlines()]
    assert [row["program"] for row in programs] == [row["source_response"] for row in programs]
    tasks = [json.loads(line) for line in (chain / "eval" / "tasks.jsonl").read_text().splitlines()]
    assert [(task["task_id"], task["n"]) for task in tasks] == [(str(t), 3) for t in range(4)]
    assert {"pass@1", "pass@3"}.issubset(report(chain / "eval")["figures"])
    assert "test-time cost" in (chain / "eval" / "report.html").read_text()


@pytest.mark.slow
def test_a_finished_run_is_not_run_again(chain, capsys):
    data = chain / "suite.jsonl"

    def times():
        made = [*(chain / "generate" / "edits").rglob("*"), *(chain / "generate").glob("report.*")]
        return {path: path.stat().st_mtime_ns for path in made}

    before = times()
    words = ["generate", data, "-s", "2", "--linter", "pyflakes", "--out", chain / "generate"]
    assert lintseq(*words) == 0
    assert times() == before
    assert lintseq(*words[:3], "3", *words[4:]) == 2
    assert "holds a run with other settings (samples" in capsys.readouterr().err


@pytest.mark.slow
def test_tuning_goes_on_from_the_run_that_tuned_before(chain, tmp_path):
    words = ["train", chain / "generate", "--model", chain / "train", "--passes", "1", *TINY]
    assert lintseq(*words, "--out", tmp_path / "more") == 0
    first = [
        json.loads(line)["loss"] for line in (chain / "train" / "metrics.jsonl").read_text().splitlines()
    ]
    again = [
        json.loads(line)["loss"] for line in (tmp_path / "more" / "metrics.jsonl").read_text().splitlines()
    ]
    assert again[0] < first[0]


@pytest.mark.slow
def test_a_dry_run_writes_nothing(chain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = chain / "suite.jsonl"
    for words, cost in (
        (["generate", data, "--linter", "pyflakes"], {"programs": 4, "sequences": 20}),
        (["randseq", data], {"programs": 4, "sequences": 20}),
        (["check", chain / "generate"], {"sequences": 8}),
        (["train", chain / "generate", "--model", chain / "train" / "model", *TINY],
         {"examples": 8, "programs": 4, "optimiser_steps": 10}),
        (["sample", data, "--writer", "http://127.0.0.1:9/v1#tiny"], {"prompts": 4, "completions": 80}),
        (["resolve", chain / "generate"], {"records": 8}),
        (["eval", chain / "sample", "--data", data, "--suite", "mbpp", "--allow-code-execution"],
         {"tasks": 4, "programs": 12}),
        (["mini"], {"trainings": 12, "completions": 4 * 3 * 60 * 20}),
    ):  # fmt: skip
        assert lintseq(*words, "--dry-run", "--json") == 0, words
        plan = json.loads(capsys.readouterr().out)["plan"]
        assert {name: plan[name] for name in cost} == cost
    assert list(tmp_path.iterdir()) == []


def predictions(*programs, task_id="0"):
    return [{"task_id": task_id, "completion": program} for program in programs]


RIGHT = "def plus0(a):\n    return a"
WRONG = "def plus0(a):\n    return a + 1"


def test_eval_counts_what_passes(tmp_path):
    data = write_rows(tmp_path / "suite.jsonl", suite_rows()[:1])
    samples = write_rows(tmp_path / "samples.jsonl", predictions(RIGHT, WRONG, "def plus0(a", RIGHT))
    words = ["--data", data, "--suite", "mbpp", "-k", 1, 2, 4, "--workers", 1, "--parameters", 10]
    assert lintseq("eval", samples, *words, "--allow-code-execution", "--out", tmp_path / "run") == 0
    figures = report(tmp_path / "run")["figures"]
    # Two of four pass: the chance that two drawn ones both fail is 2/4 * 1/3.
    assert [figures[f"pass@{k}"] for k in (1, 2, 4)] == pytest.approx([1 / 2, 5 / 6, 1])
    assert figures["lint errors"] == 1 / 4
    assert (
        "test-time cost" not in (tmp_path / "run" / "report.html").read_text()
    )  # these samples count no tokens
    (task,) = [json.loads(line) for line in (tmp_path / "run" / "tasks.jsonl").read_text().splitlines()]
    assert (task["passed"], sum(task["outcomes"].values())) == (2, 4)


@pytest.mark.parametrize(
    ("rows", "words", "says"),
    [
        (predictions(RIGHT), [], "allow_code_execution must be given"),
        (predictions(RIGHT), ["--allow-code-execution", "-k", 2], "k must be <= the samples per task (1); got 2."),
        (predictions(RIGHT, task_id="00"), ["--allow-code-execution"], 'name the task "00", which the suite does not'),
        ([{"task_id": "0"}], ["--allow-code-execution"], 'line 1: field "completion" is missing'),
        (predictions(RIGHT) + predictions(RIGHT, RIGHT, task_id="1"), ["--allow-code-execution"], "equally many samples"),
        ([], ["--allow-code-execution"], "holds no samples"),
    ],
)  # fmt: skip
def test_eval_of_what_cannot_be_judged(rows, words, says, tmp_path, capsys):
    data = write_rows(tmp_path / "suite.jsonl", suite_rows())
    samples = write_rows(tmp_path / "samples.jsonl", rows)
    words = [*words, *([] if "-k" in words else ["-k", 1])]
    assert lintseq("eval", samples, "--data", data, "--suite", "mbpp", *words, "--out", tmp_path / "run") == 2
    assert says in capsys.readouterr().err


def test_nothing_runs_without_the_word(tmp_path):
    mark = tmp_path / "mark"
    data = write_rows(tmp_path / "suite.jsonl", suite_rows()[:1])
    samples = write_rows(tmp_path / "samples.jsonl", predictions(f"open({str(mark)!r}, 'w')"))
    assert (
        lintseq("eval", samples, "--data", data, "--suite", "mbpp", "-k", 1, "--out", tmp_path / "run") == 2
    )
    assert not mark.exists()


GOOD = "\n<|diff|>@@ -0,0 +1 @@\n+y = x\n<|diff|>@@ -0,0 +1 @@\n+x = 1\n<|diff|>\n<|diff|>"
BAD = "\n<|diff|>@@ -0,0 +1 @@\n+x = 1\n<|diff|>@@ -1,1 +1 @@\n-x = 1\n+x = 2"


@pytest.mark.parametrize(
    ("words", "programs", "voided"),
    [([], ["x = 1\ny = x", "x = 1"], 0), (["--strict"], ["x = 1\ny = x", None], 1)],
)
def test_resolving_is_lenient_or_strict(words, programs, voided, tmp_path):
    source = write_rows(tmp_path / "samples.jsonl", [{"completion": GOOD, "id": 7}, {"completion": BAD}])
    assert lintseq("resolve", source, *words, "--out", tmp_path / "run") == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "programs.jsonl").read_text().splitlines()]
    assert [row["program"] for row in rows] == programs
    assert rows[0]["id"] == 7
    assert [row["n_malformed"] for row in rows] == [0, 1]
    figures = report(tmp_path / "run")["figures"]
    assert (figures["hunks"], figures["malformed hunks"], figures["voided"]) == (4, 1, voided)


def test_resolving_needs_edits(tmp_path, capsys):
    source = write_rows(tmp_path / "samples.jsonl", [{"text": GOOD}])
    assert lintseq("resolve", source, "--out", tmp_path / "run") == 2
    assert (
        'line 1: field "completion" is missing. Name the column of the edits with --field.'
        in capsys.readouterr().err
    )


def small_programs(folder, n):
    folder.mkdir()
    for number in range(n):
        lines = [f"def f{number}(xs):", "    total = 0"]
        for step in range(12):
            lines += [f"    for x in xs[{step}:]:", f"        y = x * {step}", "        total += y"]
        (folder / f"program_{number:03}.py").write_text("\n".join([*lines, "    return total"]) + "\n")
    return folder


def parts_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "edits").glob("part-*.jsonl")}


def start(*words, launcher=("-m", "gnomon"), **env):
    env = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", **env}
    return fixtures_process.start([sys.executable, *launcher, "lintseq", *words, "--quiet"], env=env)


@pytest.mark.slow
def test_a_killed_generate_that_is_repeated_gives_the_same_bytes(tmp_path):
    source = small_programs(tmp_path / "programs", 60)
    words = ["generate", source, "-s", "2", "--linter", "pyflakes", "--shard-rows", "2"]
    job = start(*words, "--out", tmp_path / "cut")
    marks, until = tmp_path / "cut" / "edits" / "_done", time.monotonic() + 60
    while len(list(marks.glob("part-*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    n_finished = len(list(marks.glob("part-*.json")))
    assert 3 <= n_finished < 30
    assert lintseq(*words, "--out", tmp_path / "cut") == 0
    assert lintseq(*words, "--out", tmp_path / "whole") == 0
    assert len(parts_of(tmp_path / "whole")) == 30
    assert parts_of(tmp_path / "cut") == parts_of(tmp_path / "whole")
    line = json.loads((tmp_path / "cut" / "metrics.jsonl").read_text())
    assert (line["resumed_shards"], line["sequences"]) == (n_finished, 120)


@pytest.mark.slow
@pytest.mark.scale
def test_ray_writes_the_bytes_that_one_process_writes(tmp_path):
    pytest.importorskip("ray")
    source = small_programs(tmp_path / "programs", 6)
    words = ["generate", source, "-s", "2", "--linter", "pyflakes", "--shard-rows", "2"]
    job = start(*words, "--engine", "ray", "--workers", "2", "--out", tmp_path / "ray")
    _, said = job.communicate(timeout=240)
    assert job.returncode == 0, said
    assert lintseq(*words, "--out", tmp_path / "local") == 0
    assert len(parts_of(tmp_path / "local")) == 3
    assert parts_of(tmp_path / "ray") == parts_of(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.scale
def test_two_processes_train_as_one_does_and_write_one_report(chain, checkpoint, tmp_path):
    words = [
        "train",
        chain / "generate",
        "--model",
        checkpoint("llama", max_position_embeddings=256),
        "--passes",
        "4",
    ]
    launcher = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        free_port(),
        "-m",
        "gnomon",
    ]
    job = start(*words, *TINY, "--out", tmp_path / "two", launcher=launcher, ACCELERATE_USE_CPU="true")
    out, said = job.communicate(timeout=240)
    assert job.returncode == 0, said
    assert out.count("report.html") == 1
    curves = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "two", chain / "train")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert report(tmp_path / "two")["figures"] == pytest.approx(report(chain / "train")["figures"], rel=1e-4)
