"""Tasks from every layout, by columns; what does not fit is named."""

import json

import pytest

from gnomon.core.rollout import read_tasks
from gnomon.core.sandbox import SandboxPool
from gnomon.errors import BadConfig, BadInput


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_our_own_rows(tmp_path):
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 x 3?"}]
    path = write(
        tmp_path / "t.jsonl",
        [
            {"id": "a", "prompt": "Say 6.", "answer": 6, "gold": "six", "level": 2},
            {"messages": turns, "tests": ["assert f(1) == 1", "assert f(2) == 4"]},
            {"id": "c", "prompt": turns},
        ],
    )
    first, second, third = read_tasks(path)
    assert (first.id, first.prompt, first.reference) == ("a", "Say 6.", "6")
    assert first.meta == {"answer": 6, "gold": "six", "level": 2} and first.text == "Say 6."
    assert second.id == "1" and second.messages == tuple(turns) and second.text == "2 x 3?"
    assert third.messages == tuple(turns) and third.prompt == ""
    with SandboxPool(1) as pool:
        programs = [
            second.tests.script(f"```python\ndef f(x):\n    return {body}\n```") for body in ("x * x", "x")
        ]
        assert [outcome.passed for outcome in pool.map(programs)] == [True, False]


def test_gsm8k_and_questions_and_instructions(tmp_path):
    path = write(
        tmp_path / "g.jsonl", [{"question": "How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 1,007"}]
    )
    (task,) = read_tasks(path)
    assert (task.prompt, task.reference, task.meta["solution"]) == (
        "How many?",
        "1,007",
        "3 + 4 = <<3+4=7>>7",
    )
    csv = tmp_path / "q.csv"
    csv.write_text('question,answer,year\n"Capital of France, please?",Paris,1990\n', "utf-8")
    (task,) = read_tasks(csv)
    assert (task.prompt, task.reference, task.meta["year"]) == ("Capital of France, please?", "Paris", "1990")
    path = tmp_path / "alpaca.json"
    path.write_text(
        json.dumps([{"instruction": "Name it.", "input": "H2O", "output": "water", "generator": "m"}])
    )
    (task,) = read_tasks(path)
    assert (task.prompt, task.reference, task.meta) == ("Name it.\n\nH2O", "water", {"generator": "m"})


def test_code_suites_come_with_their_tests(tmp_path):
    row = {
        "task_id": 11,
        "text": "Square.",
        "code": "def sq(x):\n    return x * x",
        "test_list": ["assert sq(3) == 9"],
    }
    (task,) = read_tasks(write(tmp_path / "m.jsonl", [row]))
    assert task.id == "11" and "def sq(x):" in task.prompt and task.tests.entry_point == "sq"


def test_what_is_no_task_is_named_or_left_out(tmp_path):
    rows = [
        {"id": "a", "prompt": "x"},
        {"id": "b", "prompt": "  "},
        {"id": "a", "prompt": "y"},
        {"id": "d", "messages": [{"role": "x"}]},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(BadInput, match='line 2, task "b": the prompt is empty'):
        read_tasks(path)
    reasons = []
    assert [task.id for task in read_tasks(path, on_bad=reasons.append)] == ["a"]
    assert len(reasons) == 3 and "twice" in reasons[1] and "role" in reasons[2]
    with pytest.raises(BadConfig, match='no layout "rowz"'):
        read_tasks(path, "rowz")
    with pytest.raises(BadInput, match="tasks need prompt or messages"):
        read_tasks(write(tmp_path / "o.jsonl", [{"a": 1}]))
    with pytest.raises(BadInput, match="does not end in"):
        read_tasks(write(tmp_path / "n.jsonl", [{"question": "q", "answer": "7"}]), "gsm8k")
    with pytest.raises(BadInput, match="holds no tasks"):
        read_tasks(write(tmp_path / "e.jsonl", []))
    with pytest.raises(BadInput, match="does not exist"):
        read_tasks(tmp_path / "no.csv")
