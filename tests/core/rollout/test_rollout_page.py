"""What docs/rollout.md promises is run or checked here."""

import re
import sys
from pathlib import Path

import pytest

import fixtures_process
from gnomon.core.rollout import open_reward
from gnomon.core.rollout.tasks import _READERS
from gnomon.errors import BadConfig

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "rollout.md").read_text("utf-8")


def test_the_example_runs_and_prints_what_it_says():
    code, watch = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    ask = (
        "\ngenerate(model, tokenizer, prompts, GenConfig(max_new_tokens=3), generator=Rng(0), watch=watch)\n"
    )
    done = fixtures_process.run(
        [sys.executable, "-c", code + watch + ask], env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)\n", code)


def test_the_tables_name_every_layout_and_reward():
    assert all(f"`{name}`" in PAGE for name in (*_READERS, "humaneval", "mbpp", "apps"))
    with pytest.raises(BadConfig) as caught:
        open_reward("none such")
    names = re.findall(r"([a-z]+(?::[\w.:]+)?)[,. ]", str(caught.value).partition("Rewards are ")[2])
    assert "judge:LLM" in names and all(name.split(":")[0] in PAGE for name in names)
