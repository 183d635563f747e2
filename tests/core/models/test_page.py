"""What docs/models.md promises is run or checked here."""

import ast
import re
import sys
from pathlib import Path

import pytest
import torch

import fixtures_process
from gnomon.core.models import ModelHandle, Progress, StepInfo
from gnomon.core.models.architectures.text import FAMILIES
from gnomon.core.models.tiny import FAMILIES as TINY
from gnomon.errors import BadInput, UserError

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")


LOADING, *LOOKING = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
GOTCHAS = dict(
    re.findall(
        r"\n\*\*([^*\n]+)\*\*(?:(?!```|\n\*\*).)*?```python gotcha\n(.*?)```",
        PAGE.split("## Gotchas")[1],
        re.DOTALL,
    )
)


def _printed(code):
    done = fixtures_process.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_examples_run_and_print_what_they_say():
    assert _printed(LOADING) == re.findall(r"print\(.*\)  # (.*)", LOADING)
    assert _printed("\n".join(LOOKING)) == [
        "{'0.resid_post': (2, 32), '1.mlp_out': (2, 32)}",
        "True",
        f"(2, {re.search(r'words only: .2, ([0-9]+), 2.', PAGE)[1]}, 2)",
        "False",
        "3 [5, 5, 5]",
        "3 [5, 5, 5]",
        "True",  # a table in a file
    ]


@pytest.mark.slow
def test_the_example_with_a_real_model_prints_what_it_says(embedded, capsys):
    embedded("smollm2")
    (code,) = re.findall(r"```python real\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/models.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", code)


def test_other_code_on_the_page_is_code():
    """What needs a large checkpoint; all else runs."""
    skipped = re.findall(r"```python skip\n(.*?)```", PAGE, re.DOTALL)
    assert len(skipped) == 3
    for code in skipped:
        compile(code, "docs/models.md", "exec")


def _values(code, **names):
    """What each statement of a block gives: its value, or the error that it raises."""
    values = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Expr):
            try:
                values.append(eval(compile(ast.Expression(statement.value), "page", "eval"), names))
            except UserError as error:
                values.append(error)
        else:
            exec(compile(ast.Module([statement], []), "page", "exec"), names)
            values.append(names)
    return values


@pytest.fixture(scope="module")
def deep(checkpoint):
    """A model of eight blocks, with a batch of two lengths padded on the right."""
    handle = ModelHandle.load(checkpoint("llama", num_hidden_layers=8), device="cpu")
    # With weights of 1 a norm changes nothing the second time.
    handle.model.model.norm.weight.data = torch.linspace(0.5, 2.0, handle.model.config.hidden_size)
    return handle, handle.encode(["def add(a, b):", "for i in"], side="right")


def test_wrong_is_wrong_and_right_is_right(deep, handle_of):
    handle, batch = deep
    site, sites = "7.resid_post", [f"{i}.resid_post" for i in range(8)]
    states = handle.capture(batch, sites)
    names = {
        "handle": handle,
        "batch": batch,
        "torch": torch,
        "model": handle.model,
        "site": site,
        "sites": sites,
    }
    names |= {"states": states, "words": [5, 7], "shifts": torch.tensor([[1.0], [2.0]]), "kept": []}
    names["inputs"] = {"input_ids": batch.input_ids, "attention_mask": batch.mask}
    assert len(GOTCHAS) == 8

    def block(start):
        (code,) = [code for title, code in GOTCHAS.items() if title.startswith(start)]
        return code

    # A step of one token at position 5 of a text, for the second of two prompts.
    real = torch.ones(1, 1, dtype=torch.bool)
    hidden = torch.ones(1, 1, 4)
    step = StepInfo(torch.tensor([[5]]), real, torch.tensor([1]), ~real)
    wrong, right = _values(block("An edit does nothing"), **names)
    with pytest.raises(IndexError):
        wrong(hidden, step)
    assert not right(hidden, step).any()
    wrong, right = _values(block("An edit for one prompt"), **names)
    assert (wrong(hidden, step).unique(), right(hidden, step).unique()) == (2.0, 3.0)

    mask, logits = batch.mask, handle.logits(batch)
    wrong, *right = _values(block("Probabilities from the last layer"), **names)
    assert all(torch.equal(value[mask], logits[mask]) for value in right)
    assert not torch.allclose(wrong[mask], logits[mask], atol=1e-3)
    wrong, right = _values(block("The last token's state"), **names)
    assert torch.equal(right[0], wrong[0])
    assert torch.equal(right[1], states[site][1, mask[1].sum() - 1])
    assert not torch.allclose(right[1], wrong[1])
    _values(block("Memory fills up"), **names)
    wrong, right = names["kept"]
    assert wrong.untyped_storage().nbytes() > right.untyped_storage().nbytes()
    whole, pieces = _values(block("A lens over all layers"), **names)
    torch.testing.assert_close(whole, torch.stack(pieces))

    gpt2 = handle_of("gpt2")
    padded = gpt2.encode(["def add(a, b):\n", "x"])
    wrong, right = _values(block("Padding changes"), handle=gpt2, batch=padded, model=gpt2.model)
    alone = gpt2.logits(gpt2.encode(["x"]))[0, -1]
    torch.testing.assert_close(right[1, -1], alone)
    assert not torch.allclose(wrong.logits[1, -1], alone, atol=1e-3)

    texts, targets = ["def add(a, b):"], ["for i in range(10):"]
    wrong, right = _values(
        block("A sequence-to-sequence"), handle=handle_of("t5"), texts=texts, targets=targets
    )
    assert isinstance(wrong, BadInput)
    assert right["decoder.1.resid_post"].shape[:2] == (1, 1)


def test_the_watcher_of_the_page_ends_rows(deep):
    (code,) = re.findall(r"```python gotcha\n(def watch.*?)```", PAGE, re.DOTALL)
    (names,) = _values(code)
    sure, unsure = torch.tensor([[9.0, 0.0], [0.0, 0.1]])
    progress = Progress(((0, 0), (1, 0)), torch.zeros(2, 1, dtype=torch.long), torch.stack([sure, unsure]))
    assert names["watch"](progress).tolist() == [True, False]


def test_the_table_of_families_is_complete():
    table = PAGE.split("## Families")[1].split("###")[0]
    named = {
        name
        for row in re.findall(r"^\| .*? \| (`.*?`) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }
    assert named - {"model_type"} == set(FAMILIES) == set(TINY)
