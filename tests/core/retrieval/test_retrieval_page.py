"""What docs/retrieval.md promises is run or checked here."""

import re
import sys
from pathlib import Path

import fixtures_process
from gnomon.core.retrieval.stores import references

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "retrieval.md").read_text("utf-8")


def test_the_example_runs_and_prints_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = fixtures_process.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == re.search(r"\)  # (\[.*\])\n", code)[1]


def test_the_table_names_every_store():
    table = PAGE.split("## Stores")[1].split("All of them")[0]
    schemes = set(re.findall(r"\| `([a-z]+):", table))
    assert schemes == set(references._STORES) - {"postgresql"}  # another spelling
