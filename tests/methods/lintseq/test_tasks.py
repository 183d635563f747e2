import random

import pytest

from gnomon.methods.lintseq import sample_edits
from gnomon.methods.lintseq.mini import FUNCTION, OPERATORS, make_tasks, split_pairs
from gnomon.methods.lintseq.models import canonical, distinct_share, edit_distance


@pytest.fixture(scope="module")
def world():
    train, test = split_pairs(random.Random(1))
    return train, test, make_tasks(train, 300, random.Random(2))


def test_test_pairs_are_unseen_and_every_operator_is_seen_in_both_places(world):
    train, test, _ = world
    names = {op.name for op in OPERATORS}
    assert not set(train) & set(test)
    assert len(test) == pytest.approx(0.2 * (len(train) + len(test)), abs=1)
    assert {a for a, _ in train} == {b for _, b in train} == names


def test_every_program_passes_its_task_s_tests(world):
    for task in world[2]:
        assert 2 <= len(task.programs) <= 4
        assert len(task.tests) == 6
        for code in task.programs:
            assert 4 <= len(code.split("\n")) <= 15
            scope = {}
            exec(f"{code}\n{task.test_code}", scope)  # our own text, not a model's
            assert FUNCTION in scope


def test_the_tests_tell_tasks_apart(world):
    """A program of another task fails nearly always: the hidden tests are not vacuous."""
    tasks, wrong = world[2], 0
    for task, other in zip(tasks, tasks[1:] + tasks[:1], strict=True):
        try:
            exec(f"{other.programs[0]}\n{task.test_code}", {})
        except AssertionError:
            wrong += 1
    assert wrong >= 0.97 * len(tasks)


def test_tasks_differ_and_repeat(world):
    train, _, tasks = world
    assert len({task.task_id for task in tasks}) == len(tasks)
    assert tasks == make_tasks(train, 300, random.Random(2))


def test_programs_can_be_taken_apart(world):
    for task in world[2][:10]:
        for code in task.programs:
            path = sample_edits(code, linter="pyflakes", rng=random.Random(0))
            assert all(path.lint_clean)
            assert path.code == code


def test_canonical_ignores_names_layout_and_comments_only():
    a = "def f(xs):\n    out = []  # keep\n    for x in xs:\n        out.append(x)\n    return out"
    b = "def g(items):\n    r=[]\n    for i in items: r.append(i)\n    return r"
    assert canonical(a) == canonical(b)
    assert canonical(a) != canonical(a.replace("append", "extend"))
    assert canonical("x = len([])") != canonical("x = sum([])")  # built-ins keep their names
    assert canonical("x = 1\ny = x") != canonical("x = 1\ny = y")
    assert canonical("def (") == "def ("


def test_diversity_by_hand():
    assert distinct_share(["x = 1", "y = 1", "x = 2", "def ("]) == 0.75
    # distances: abc-abd 1/3, abc-xyz 3/3, abd-xyz 3/3
    assert edit_distance(["abc", "abd", "xyz"]) == pytest.approx((1 / 3 + 1 + 1) / 3)
