"""What docs/models.md promises is run or checked here."""

import re
import sys
from pathlib import Path

import pytest
import torch

import fixtures_process
from gnomon.core.models.architectures.text import FAMILIES
from gnomon.core.models.tiny import FAMILIES as TINY

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")


@pytest.mark.slow
def test_the_example_runs_and_prints_what_it_says():
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    done = fixtures_process.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'0.resid_post': (2, 32), '1.mlp_out': (2, 32)}",
        "True",
        f"(2, {re.search(r'words only: .2, ([0-9]+), 2.', PAGE)[1]}, 2)",
        "False",
        "3 [5, 5, 5]",
        "3 [5, 5, 5]",
        "True",  # a table in a file
    ]


def test_other_code_on_the_page_is_code():
    for code in re.findall(r"```python skip\n(.*?)```", PAGE, re.DOTALL):
        compile(code, "docs/models.md", "exec")


def test_without_positions_padding_changes_what_gpt2_says(handle_of):
    handle = handle_of("gpt2")
    batch = handle.encode(["def add(a, b):\n", "x"])
    alone = handle.logits(handle.encode(["x"]))[0, -1]
    with torch.no_grad():
        wrong = handle.model(input_ids=batch.input_ids, attention_mask=batch.mask).logits[1, -1]
    torch.testing.assert_close(handle.logits(batch)[1, -1], alone)
    assert not torch.allclose(wrong, alone, atol=1e-3)


def test_the_table_of_families_is_complete():
    table = PAGE.split("## Families")[1].split("###")[0]
    named = {
        name
        for row in re.findall(r"^\| .*? \| (`.*?`) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }
    assert named - {"model_type"} == set(FAMILIES) == set(TINY)
