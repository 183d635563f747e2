"""What docs/encoders.md promises is run or checked here."""

import json
import re
import sys
from pathlib import Path

import fixtures_process

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "encoders.md").read_text("utf-8")


def test_the_example_runs_and_prints_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = fixtures_process.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"^print\(.*?  # (.*)$", code, re.MULTILINE)


def test_the_ratios_are_those_of_the_record():
    record = json.loads((ROOT / "docs/results/bench-encoders.json").read_text("utf-8"))
    faster = record["batches"]["times_faster"]
    for name in "file order, batches of 32", "sentence-transformers, batches of 32":
        assert f"{faster[name]:.2f}" in PAGE
    assert f"{record['likelihood']['share']:.0%} of the memory" in PAGE
    assert f"{record['batches']['texts']} text cells" in PAGE
