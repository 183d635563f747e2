import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnomon
from gnomon.core.sandbox import Limits, SandboxPool, run_program, sandbox_walls
from gnomon.errors import BadConfig

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")


@pytest.fixture(scope="module")
def pool():
    with SandboxPool(2) as pool:
        yield pool


def test_outcomes_keep_the_order_and_hold_the_output(pool):
    programs = [f"print({i})\nassert {i} % 2 == 0, 'odd {i}'" for i in range(12)]
    outcomes = pool.map(programs)
    assert [outcome.passed for outcome in outcomes] == [i % 2 == 0 for i in range(12)]
    assert [outcome.stdout for outcome in outcomes] == [f"{i}\n" for i in range(12)]
    assert outcomes[3].error == "AssertionError: odd 3"
    assert 'File "program.py", line 2' in outcomes[3].stderr and "gnomon" not in outcomes[3].stderr
    assert outcomes[0].error == outcomes[0].stderr == ""


def test_identical_programs_run_once(pool):
    done = []
    outcomes = pool.map(["x = 1", "x = 2", "x = 1"] * 3, on_done=done.append)
    assert len(done) == 2 and len(outcomes) == 9
    assert outcomes[0] is outcomes[2] is outcomes[8]


def test_no_programs(pool):
    assert pool.map([]) == []


CASES = [
    "x = 1",
    "assert [1, 2] == [1, 2]",
    "raise ValueError('no')",
    "import collections, random, datetime, json, unittest\nassert collections.Counter('aab')['a'] == 2",
    "if __name__ == '__main__': raise KeyError('main runs')",
    "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\nassert P() == P(1)",
    "import pickle\nclass C: pass\nassert isinstance(pickle.loads(pickle.dumps(C())), C)",
    "import asyncio\nasync def f(): return 1\nassert asyncio.run(f()) == 1",
    "from threading import Thread\nr = []\nt = Thread(target=r.append, args=[1])\\n"
    "t.start(); t.join()\nassert r",
    "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x')",
    "import signal, os\nr = []\nsignal.signal(signal.SIGUSR1, lambda *a: r.append(1))\n"
    "os.kill(os.getpid(), signal.SIGUSR1)\nassert r",
    "import inspect\ndef f(): return 1\nassert 'return 1' in inspect.getsource(f)",
    "x = 'ünïcode ✓'\nprint(x)",
    "from __future__ import annotations\ndef f(x: Nope): pass",
    "1 / 0",
    "def f():\n    return undefined\nf()",
    "assert input() == ''",
]


@pytest.mark.slow
def test_agrees_with_a_plain_interpreter(pool, tmp_path):
    """What passes in the sandbox is what an ordinary interpreter ends without an error."""
    for code, outcome in zip(CASES, pool.map(CASES), strict=True):
        program = tmp_path / "program.py"
        program.write_text(code, encoding="utf-8")
        plain = subprocess.run(
            [sys.executable, "-I", str(program)], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert outcome.passed == (plain.returncode == 0), (code, outcome, plain.stderr)


@pytest.mark.slow
def test_a_fresh_helper_and_a_warm_one_agree(pool):
    for code, warm in zip(CASES[:8], pool.map(CASES[:8]), strict=True):
        fresh = run_program(code)
        assert (fresh.status, fresh.error, fresh.stdout) == (warm.status, warm.error, warm.stdout)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_any_text_gives_an_outcome(pool, text):
    outcome = pool.map([text])[0]
    try:
        compile(text, "", "exec")
    except (SyntaxError, ValueError, UnicodeEncodeError):
        assert outcome.status == "failed"
    else:
        assert outcome.status in ("passed", "failed")


def test_sets_have_one_order_in_every_helper():
    code = "print(sorted({'a', 'b', 'c'}) and list({'alpha', 'beta', 'gamma', 'delta'}))"
    assert run_program(code).stdout == run_program(code).stdout


def test_output_is_kept_from_the_end(pool):
    outcome = pool.map(["print('x' * 10000 + 'END')"])[0]
    assert outcome.passed and len(outcome.stdout) == 4096 and outcome.stdout.endswith("END\n")


def test_a_closed_pool_starts_again():
    pool = SandboxPool(1)
    assert pool.map(["pass"])[0].passed
    pool.close()
    pool.close()
    assert pool.map(["pass"])[0].passed
    pool.close()


def test_a_lost_helper_costs_one_program_and_is_replaced():
    with SandboxPool(1) as pool:
        pool.map(["pass"])
        process = pool._helpers[0]._process
        process.kill()
        process.wait()
        assert pool.map(["x = 1"])[0].passed


def test_limits_are_checked():
    with pytest.raises(BadConfig, match="timeout_s must be > 0; got 0"):
        Limits(timeout_s=0)
    with pytest.raises(BadConfig, match="memory_mb must be >= 64"):
        run_program("pass", memory_mb=10)
    with pytest.raises(BadConfig, match="workers must be >= 1; got 0"):
        SandboxPool(0)


def test_walls_name_what_is_missing():
    walls = sandbox_walls()
    standing = [walls.network, walls.files, walls.processes, walls.user]
    assert len(walls.missing()) == standing.count(False)


def test_takes_no_heavy_import():
    code = "import sys, gnomon.core.sandbox.pool\nprint({'numpy', 'torch', 'jinja2'} & set(sys.modules))"
    source = str(Path(gnomon.__file__).parents[1])
    start = [sys.executable, "-c", code]
    done = subprocess.run(start, env={"PYTHONPATH": source}, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
