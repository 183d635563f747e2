"""What docs/training.md promises is run or checked here."""

import json
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import fixtures_process
from gnomon.core.train import TrainConfig

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")


@pytest.mark.slow
def test_the_example_runs_and_prints_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = fixtures_process.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == re.search(r"# ([0-9]+ [0-9]+)\n", code)[1].split()


def test_the_table_names_every_option():
    table = PAGE.split("## What can be set")[1].split("## Several processes")[0]
    left_out = {"epochs", "max_steps", "max_length", "reduction"}  # how much, and how long a text may be
    assert {f.name for f in fields(TrainConfig)} - set(re.findall(r"`([a-z_0-9]+)`", table)) <= left_out
    assert all(f"`{name}`" in PAGE for name in TrainConfig.LOOSE)


def test_the_ratios_are_those_of_the_record():
    record = json.loads((ROOT / "docs/results/bench-train.json").read_text("utf-8"))
    for sizes in record["step time"].values():
        for name in "transformers Trainer", "gnomon":
            assert f"({sizes['times the plain loop'][name]:.2f} times)" in PAGE
    assert f"{record['packing']['times padded']:.2f}".lstrip("0") in PAGE
    for peaks in record["memory"].values():
        assert all(f"{value:.0f}" in PAGE for value in peaks.values())
