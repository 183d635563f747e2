import gzip
import json

import pytest

from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.lintseq import evaluate, load_suite
from gnomon.methods.lintseq.linters import open_linter
from gnomon.methods.lintseq.models import as_sampled

HUMANEVAL = {
    "task_id": "T/0",
    "prompt": 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef root(n: int) -> int:\n    """Whole root of n."""\n',
    "entry_point": "root",
    "canonical_solution": "    return math.isqrt(helper(n))\n",
    "test": "def check(candidate):\n    assert candidate(9) == 3\n    assert candidate(10) == 3\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a python function to double a number.",
    "code": "def double(x, times=1):\r\n    return 2 * x * times",
    "test_list": ["assert double(2) == 4", "assert double(0) == 0"],
    "test_setup_code": "",
}


@pytest.fixture(scope="module")
def pool():
    with SandboxPool(1, limits=Limits(timeout_s=3.0)) as pool:
        yield pool


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sample(task_id, program, number=0, **more):
    return as_sampled({"task_id": task_id, "completion": program, "sample": number, **more}, number, "here")


def test_humaneval_asks_and_assembles(tmp_path, pool):
    (problem,) = load_suite("humaneval", write(tmp_path / "he.jsonl", HUMANEVAL))
    assert problem.instruction == (
        "Write a Python function `root(n: int) -> int` to solve the following problem:\nWhole root of n.\n"
    )
    continued = problem.script(HUMANEVAL["canonical_solution"])
    whole = problem.script("def root(n):\n    return math.isqrt(helper(n))")
    wrong = problem.script("    return n\n")
    assert [outcome.status for outcome in pool.map([continued, whole, wrong])] == [
        "passed",
        "passed",
        "failed",
    ]


def test_mbpp_gives_the_signature_and_tests(tmp_path, pool):
    (problem,) = load_suite("mbpp", write(tmp_path / "mbpp.jsonl", MBPP))
    assert problem.instruction.endswith("double a number.\ndef double(x, times=1):\n")
    scripts = [problem.script(problem.solution), problem.script("def double(x):\n    return x")]
    assert [outcome.status for outcome in pool.map(scripts)] == ["passed", "failed"]


@pytest.mark.parametrize(
    ("suite", "rows", "says"),
    [
        ("humaneval", [{**HUMANEVAL, "entry_point": "rot"}], 'does not define "rot"'),
        (
            "humaneval",
            [{k: v for k, v in HUMANEVAL.items() if k != "test"}],
            'line 1: field "test" is missing',
        ),
        ("humaneval", [HUMANEVAL, HUMANEVAL], '"T/0" appears twice'),
        ("mbpp", [{**MBPP, "test_list": []}], '"test_list" is empty'),
        ("mbpp", [{**MBPP, "code": "def ("}], "does not parse"),
        ("mbpp", [{**MBPP, "test_list": ["assert True"]}], "call no function"),
        ("mbpp", [{k: v for k, v in MBPP.items() if k != "text"}], 'field "text" is missing'),
    ],
)
def test_bad_suites(tmp_path, suite, rows, says):
    with pytest.raises(BadInput, match=says.replace('"', '"')):
        load_suite(suite, write(tmp_path / "suite.jsonl", *rows))


def test_evaluation_by_hand(tmp_path, pool):
    rows = [MBPP, {**MBPP, "task_id": 12, "test_list": ["assert double(1) == 3"]}]
    problems = load_suite("mbpp", write(tmp_path / "mbpp.jsonl", *rows))
    good, same, bad = (
        "def double(x):\n    return 2 * x",
        "def double(y):\n    return 2 * y",
        "def double(x):\n    return z",
    )
    samples = [
        sample("11", good, 0, prompt_tokens=10, generated_tokens=30),
        sample("11", same, 1, prompt_tokens=10, generated_tokens=30),
        sample("11", bad, 2, prompt_tokens=10, generated_tokens=60, n_malformed=1),
        *[sample("12", good, n, prompt_tokens=10, generated_tokens=20) for n in range(3)],
    ]
    found = evaluate(problems, samples, pool=pool, linter=open_linter("pyflakes"), ks=(1, 3))
    assert [task.passed for task in found.tasks] == [2, 0]
    assert found.pass_at(1).tolist() == [pytest.approx(2 / 3), 0]
    assert found.pass_at(2).tolist() == [1, 0]  # of 3 with 2 right every pair holds a right one
    summary = found.summary((1, 3))
    assert summary["pass@1"] == pytest.approx(1 / 3)
    assert summary["distinct programs"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert summary["resolve failures"] == pytest.approx(1 / 6)
    assert summary["lint errors"] == pytest.approx(1 / 6)
    assert summary["tokens per solved task"] == 180
    # 2 P (prompt + generated) per sample: 2 * 1000 * (60 + 180) / 6 samples, times k = 3
    assert found.cost(1000, 3) == pytest.approx(240_000)


def test_pitfall_12_k_beyond_n_and_unequal_samples(tmp_path, pool):
    problems = load_suite("mbpp", write(tmp_path / "mbpp.jsonl", MBPP, {**MBPP, "task_id": 12}))
    both = [sample("11", "x = 1"), sample("12", "x = 1")]
    with pytest.raises(BadConfig, match=r"k must be <= the samples per task \(1\); got 5"):
        evaluate(problems, both, pool=pool, ks=(1, 5))
    with pytest.raises(BadInput, match='"12" has 0'):
        evaluate(problems, both[:1], pool=pool)
    with pytest.raises(BadInput, match='task "13", which the suite does not have'):
        evaluate(problems, [*both, sample("13", "x")], pool=pool)
    with pytest.raises(BadInput, match='field "completion" is missing'):
        as_sampled({"task_id": "11"}, 0, "samples.jsonl, line 1")


def test_pitfall_11_untrusted_programs_count_as_failures(tmp_path, pool):
    (problem,) = load_suite("mbpp", write(tmp_path / "mbpp.jsonl", MBPP))
    nasty = ["while True: pass", "import os\nos._exit(0)", "raise SystemExit(0)", "x = bytearray(10**10)"]
    quick = SandboxPool(1, limits=Limits(timeout_s=1.0, cpu_s=1))
    with quick:
        found = evaluate([problem], [sample("11", code, n) for n, code in enumerate(nasty)], pool=quick)
    assert found.tasks[0].passed == 0
    assert found.tasks[0].outcomes["timeout"] == 1


@pytest.mark.slow
def test_reference_solutions_of_humaneval_pass(shared_data):
    path = shared_data / "code" / "HumanEval.jsonl.gz"
    problems = load_suite("humaneval", str(path))
    with gzip.open(path, "rt") as stream:
        rows = [json.loads(line) for line in stream]
    with SandboxPool(2) as pool:
        right = evaluate(problems, [sample(r["task_id"], r["canonical_solution"]) for r in rows], pool=pool)
        whole = evaluate(problems, [sample(p.task_id, p.solution) for p in problems], pool=pool)
        empty = evaluate(problems, [sample(p.task_id, "    pass\n") for p in problems], pool=pool)
    assert right.pass_at(1).mean() == whole.pass_at(1).mean() == 1
    assert empty.pass_at(1).mean() < 0.02
