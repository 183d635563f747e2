import math

import pytest

from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.lintseq import Sampled, evaluate
from gnomon.methods.lintseq.linters import open_linter
from gnomon.methods.lintseq.models import Problem, as_sampled

RIGHT, RENAMED = "def f(a):\n    return a + 1", "def f(b):\n    return b + 1"
WRONG, UNDEFINED, ENDLESS = "def f(a):\n    return 0", "def f(a):\n    return c", "while True:\n    pass"


def problem(name):
    return Problem(name, f"{name}\n", "", "", "f", "assert f(1) == 2", RIGHT)


def samples(task, *programs, prompt_tokens=10, generated_tokens=5):
    return [
        Sampled(task, i, "", str(p), p, 1, int(p is None), prompt_tokens, generated_tokens, "eos")
        for i, p in enumerate(programs)
    ]


@pytest.fixture(scope="module")
def pool():
    with SandboxPool(1, limits=Limits(timeout_s=0.5)) as pool:
        yield pool


@pytest.fixture(scope="module")
def found(pool):
    """Two tasks of four samples: one solved by two, one by none."""
    rows = samples("easy", RIGHT, RENAMED, WRONG, None) + samples(
        "hard", UNDEFINED, UNDEFINED, WRONG, ENDLESS
    )
    linter = open_linter("pyflakes")
    return evaluate([problem("easy"), problem("hard")], rows, pool=pool, linter=linter, ks=(1, 4))


def test_how_each_sample_ended(found):
    easy, hard = found.tasks
    assert (easy.passed, easy.n) == (2, 4)
    assert easy.outcomes == {"failed": 1, "passed": 2, "unresolved": 1}
    assert hard.passed == 0
    assert hard.outcomes == {"failed": 3, "timeout": 1}
    assert [outcome is None for outcome in found.outcomes[0]] == [False, False, False, True]


def test_the_numbers_are_those_of_paper_and_pencil(found):
    assert list(found.pass_at(2)) == pytest.approx([1 - (2 / 4) * (1 / 3), 0])
    told = found.summary((1, 4))
    assert told["pass@1"] == pytest.approx((2 / 4 + 0) / 2)
    assert told["pass@4"] == pytest.approx((1 + 0) / 2)
    assert told["resolve failures"] == 1 / 8
    assert told["lint errors"] == 2 / 8  # the two with an undefined name
    assert told["tokens per sample"] == 5
    assert told["tokens per solved task"] == 8 * 5 / 1
    assert told["distinct programs"] == pytest.approx((3 / 4 + 3 / 4) / 2)  # names do not count


def test_the_cost_counts_every_prompt_and_every_token(found):
    assert found.cost(parameters=100, k=4) == 2 * 100 * (10 + 5) * 4


def test_no_task_solved_costs_without_end(pool):
    found = evaluate([problem("hard")], samples("hard", WRONG), pool=pool)
    assert math.isinf(found.summary((1,))["tokens per solved task"])
    assert math.isnan(found.summary((1,))["lint errors"])  # not linted


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        (samples("esay", RIGHT), BadInput, 'the task "esay".*Did you mean "easy"'),
        (samples("easy", RIGHT), BadInput, 'equally many samples; "hard" has 0, others up to 1'),
        (samples("easy", RIGHT, RIGHT) + samples("hard", RIGHT), BadInput, '"hard" has 1, others up to 2'),
        (
            samples("easy", RIGHT) + samples("hard", RIGHT),
            BadConfig,
            r"k must be <= the samples per task \(1\); got 2",
        ),
    ],
)
def test_samples_that_do_not_fit(rows, error, says, pool):
    with pytest.raises(error, match=says):
        evaluate([problem("easy"), problem("hard")], rows, pool=pool, ks=(2,))


def test_predictions_of_others_are_read():
    bare = as_sampled({"task_id": 3, "completion": "x"}, 7, "here")
    assert (bare.task_id, bare.sample, bare.program, bare.generated_tokens) == ("3", 7, "x", 0)
    voided = as_sampled({"task_id": "a", "completion": "x", "program": None, "n_malformed": 1}, 0, "here")
    assert (voided.program, voided.n_malformed) == (None, 1)
    with pytest.raises(BadInput, match='here: field "task_id" is missing'):
        as_sampled({"completion": "x"}, 0, "here")
