"""What docs/retrieval.md promises is run or checked here."""

import json
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


def test_the_figures_are_those_of_the_record():
    record = json.loads((ROOT / "docs/results/bench-retrieval.json").read_text("utf-8"))
    terms, graph = record["terms"], record["HNSW"]
    assert f"{record['exact']['times plain']:.2f} of the time" in PAGE
    assert record["exact"]["times plain"] <= 1.3 and record["exact"]["hits shared"] == 1
    ratios = [terms[part]["times bm25s"] for part in ("build", "search")]
    assert f"build {ratios[0]:.2f}, search {ratios[1]:.2f} of its time" in PAGE and max(ratios) <= 1.1
    assert f"{record['copy']['times faster']:.1f} times as many rows" in PAGE
    assert f"recall@10 {graph['recall@10']:.3f}, {graph['times faster']:.1f} times faster" in PAGE
