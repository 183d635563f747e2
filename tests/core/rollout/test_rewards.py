"""Every kind of reward, called in one way; a wrong count or number names its sample."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.llm.base import Reply
from gnomon.core.rollout import (
    Problem,
    Reward,
    Sample,
    Task,
    graded,
    load_rule,
    open_reward,
    read_tasks,
    score,
)
from gnomon.core.rollout.judging import judged, read_verdict
from gnomon.core.rollout.suites import Grade, single_tests
from gnomon.core.sandbox import SandboxPool
from gnomon.errors import BadConfig, BadInput, LLMFailure, ModelMismatch


def sample(completion, reference="18", name="t", **more):
    return Sample(Task(name, "How many?", reference=reference, **more), completion)


@pytest.fixture(scope="module")
def pool():
    with SandboxPool(1) as pool:
        yield pool


def test_texts_and_numbers():
    rows = [sample("so 18"), sample("18.0 ducks"), sample("19"), sample(" 18 ")]
    assert score(rows, open_reward("number")) == [1, 1, 0, 1]
    assert score(rows, open_reward("exact")) == [0, 0, 0, 1]
    assert score(rows, open_reward("contains")) == [1, 0, 0, 1]
    assert score(rows, open_reward(r"regex:^\d+$")) == [0, 0, 1, 0]
    assert score([], open_reward("number")) == []


def test_equal_answers_vote_together():
    """deepconf 15."""
    form = open_reward("number").form
    assert len({form(text) for text in ("0.5", "It is .50", r"\boxed{1/2}")}) == 1
    assert form("no number") is None and open_reward("exact").form(" a\n") == "a"


def test_a_reference_is_needed_and_must_fit():
    with pytest.raises(BadInput, match='Task "t" has no reference'):
        score([sample("1", reference=None)], open_reward("number"))
    with pytest.raises(BadInput, match="holds no number"):
        score([sample("1", reference="blue")], open_reward("number"))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.data())
def test_rewards_keep_their_order_and_a_wrong_one_is_named(values, data):
    rows = [sample(str(value), name=f"task {i}") for i, value in enumerate(values)]
    assert score(rows, lambda samples: [float(s.completion) for s in samples]) == values
    bad = data.draw(st.integers(0, len(values) - 1))
    for wrong in (float("nan"), float("inf"), None, "x"):
        numbers = [*values[:bad], wrong, *values[bad + 1 :]]
        with pytest.raises(BadInput, match=rf'sample {bad} \(task "task {bad}"\)'):
            score(rows, lambda samples, numbers=numbers: numbers)
    with pytest.raises(BadInput, match=f"gave {len(values) + 1} numbers for {len(values)} samples"):
        score(rows, lambda samples: [*values, 1.0])


RULES = """
def f(prompts, completions, gold, level=None):
    return [float(g == c) + 10 * (v or 0) for g, c, v in zip(gold, completions, level)]

def everything(prompts, completions, **columns):
    assert prompts == ["How many?"] * len(prompts)
    return [len(columns) for _ in prompts]

def of_samples(samples):
    return [len(s.completion) for s in samples]

def wants(prompts, completions, golden):
    return [0.0 for _ in prompts]
"""


def test_a_users_function_gets_columns_in_the_order_of_the_samples(tmp_path):
    """trl 3093, OpenRLHF 929."""
    file = tmp_path / "my.py"
    file.write_text(RULES)
    rows = [
        sample("a", meta={"gold": "a"}),
        sample("b", meta={"gold": "a", "level": 2}),
        sample("c", meta={"gold": "c"}),
    ]
    assert score(rows, open_reward(f"rule:{file}:f")) == [1.0, 20.0, 1.0]
    assert score(rows, open_reward(f"rule:{file}:everything")) == [4, 4, 4]  # reference, id, gold, level
    assert score(rows, open_reward(f"rule:{file}:of_samples")) == [1, 1, 1]
    with pytest.raises(BadInput, match=r'asks for the column "golden"\. .*gold'):
        score(rows, open_reward(f"rule:{file}:wants"))
    with pytest.raises(BadInput, match='no function "g"'):
        open_reward(f"rule:{file}:g")
    assert load_rule("rule:math:sqrt")(4) == 2
    with pytest.raises(BadConfig, match="must be written"):
        load_rule("math:sqrt")


def test_what_is_no_reward_is_said():
    for ref in ("numbr", "", "number:x", "rule:", "scorer:", "tests:half"):
        with pytest.raises(BadConfig, match="There is no reward"):
            open_reward(ref)
    with pytest.raises(BadInput, match="no regular expression"):
        open_reward("regex:(")
    with pytest.raises(BadConfig, match="sandbox pool"):
        open_reward("tests")
    with pytest.raises(BadConfig, match="asks a language model"):
        open_reward("judge:http://x/v1#y")


SQUARE = Problem(
    "sq", "Square.", "", "", "sq", "assert sq(3) == 9\nassert sq(0) == 0\nassert sq(-1) == 1", ""
)
ANSWERS = {
    "def sq(x):\n    return x * x": Grade(True, True, 3, 3),
    "def sq(x):\n    return 0": Grade(True, True, 1, 3),
    "def sq(x):\n    return abs(x)": Grade(True, True, 2, 3),
    "def sq(x)\n    return x": Grade(False, False, 0, 1),
    "raise ValueError": Grade(True, False, 0, 1),
    "import sys; sys.exit(0)": Grade(True, False, 0, 1),
    "def other(x):\n    return x": Grade(True, True, 0, 3),
}


def test_programs_are_graded_test_by_test(pool):
    answers = list(ANSWERS)
    assert dict(zip(answers, graded([SQUARE] * len(answers), answers, pool), strict=True)) == ANSWERS
    rows = [Sample(Task("sq", "Square.", tests=SQUARE), text) for text in answers]
    assert score(rows, open_reward("tests", pool=pool)) == [1, 0, 0, 0, 0, 0, 0]
    wanted = [1.0, -0.3 + 1.3 / 3, -0.3 + 2.6 / 3, -1.0, -0.6, -0.6, -0.3]
    assert score(rows, open_reward("tests:graded", pool=pool)) == pytest.approx(wanted)
    with pytest.raises(BadInput, match="has no tests"):
        score([sample("x")], open_reward("tests", pool=pool))


def test_programs_that_are_identical_run_once(pool):
    ran = []
    graded([SQUARE] * 3, ["def sq(x):\n    return x * x"] * 3, pool, on_done=ran.append)
    assert len(ran) == 4  # by itself, and with each of three tests


HIDDEN = """def check(f):
    for i in range(3):
        assert f(i) == i * i
    assert f(4) == 16
    assert f(5) == 0

check(sq)"""


def test_tests_of_humaneval_are_told_apart_too(pool):
    check = HIDDEN
    alone = single_tests(check)
    assert len(alone) == 3 and [text.count("range(3)") for text in alone] == [1, 0, 0]
    problem = Problem("sq", "", "", "", "sq", check, "")
    (grade,) = graded([problem], ["def sq(x):\n    return x * x"], pool)
    assert (grade.passed, grade.total) == (2, 3)
    assert single_tests("check(f)") == ["check(f)"]


APPS = [
    {
        "problem_id": 7,
        "question": "Add the two numbers of each line.",
        "solutions": json.dumps(["while True:\n    try: print(sum(map(int, input().split())))\n    except EOFError: break"]),
        "input_output": json.dumps({"inputs": ["1 2\n3 4\n", "5 5\n", ["0 0", "9 1"]], "outputs": ["3\n7\n", "10\n", ["0", "10"]]}),
        "difficulty": "introductory",
    },
    {
        "problem_id": 8,
        "question": "Double a number.",
        "solutions": json.dumps(["class Solution:\n    def double(self, x):\n        return 2 * x"]),
        "input_output": json.dumps({"fn_name": "double", "inputs": [[2], [5]], "outputs": [4, [10]]}),
        "starter_code": "class Solution:\n    def double(self, x: int) -> int:\n        ",
    },
]  # fmt: skip


def test_programs_of_apps_read_standard_input_or_are_called(tmp_path, pool):
    path = tmp_path / "apps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in APPS))
    adds, doubles = read_tasks(path)  # the layout shows itself
    assert adds.id == "7" and "standard input" in adds.prompt and "class Solution" in doubles.prompt
    reward = open_reward("tests:graded", pool=pool)
    answers = {
        adds.reference: 1.0,
        "import sys\nfor line in sys.stdin:\n    a, b = line.split()\n    print(int(a) + int(b))": 1.0,
        "print(sum(map(int, input().split())))": -0.3 + 1.3 / 3,  # the first line alone
        "print(10)\nraise SystemExit": -0.3 + 1.3 / 3,
        "import sys\nprint(len(sys.stdin.buffer.read()))": -0.3,
        "print(input(": -1.0,
        "print(1 / 0)": -0.6,
        "import sys\nsys.exit(3)": -0.6,
    }
    assert dict(
        zip(answers, score([Sample(adds, a) for a in answers], reward), strict=True)
    ) == pytest.approx(answers)
    methods = {
        doubles.reference: 1.0,
        "class Solution:\n    def double(self, x):\n        return 4": -0.3 + 1.3 / 2,
        "def double(x):\n    return 2 * x": -0.3,
    }
    assert dict(
        zip(methods, score([Sample(doubles, a) for a in methods], reward), strict=True)
    ) == pytest.approx(methods)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input_output": json.dumps({"inputs": ["1"], "outputs": []})}, "task 7: input_output has 1 inputs and 0 outputs"),
        ({"input_output": "{"}, "task 7: input_output is no JSON"),
        ({"question": " "}, 'task 7: field "question" is missing'),
    ],
)  # fmt: skip
def test_a_row_of_apps_that_cannot_be_tested_is_named(tmp_path, change, reason):
    path = tmp_path / "apps.jsonl"
    path.write_text(json.dumps(APPS[0] | change) + "\n")
    with pytest.raises(BadInput, match=reason):
        read_tasks(path)


class Judge:
    """Says the longer answer is better; with `first` always the one it reads first."""

    name = "longer"

    def __init__(self, first=False, texts=None):
        self.first, self.texts, self.n = first, texts, 0

    async def acomplete(self, request):
        self.n += 1
        if self.texts:
            return Reply(self.texts[min(self.n, len(self.texts)) - 1], "stop")
        prompt = request.messages[-1].content
        a, b = (prompt.split(f"[Answer {x}]\n")[1].split("\n\n")[0] for x in "AB")
        if a == "fail":
            return Reply("", "error", error="down", fault="down")
        return Reply("A" if self.first or len(a) > len(b) else "B", "stop")


def test_a_judge_compares_in_both_orders():
    rows = [
        sample("no", "yes, it is"),
        sample("yes, it is so", "yes, it is"),
        sample("yes, it is", "yes, it is"),
    ]
    judge = Judge()
    assert score(rows, open_reward("judge:x", llm=judge)) == [0, 1, 0.5]
    assert judge.n == 4  # equal texts are not asked about
    assert score(rows, open_reward("judge:x", llm=Judge(first=True))) == [0.5, 0.5, 0.5]


def test_without_a_reference_samples_of_a_task_are_compared_with_each_other():
    rows = [sample(text, None) for text in ("aaa", "a", "aa")] + [
        sample("z", None, "u"),
        sample("zz", None, "u"),
    ]
    assert score(rows, open_reward("judge:x", llm=Judge())) == [1, 0, 0.5, 0, 1]
    with pytest.raises(BadInput, match="neither a reference nor a second answer"):
        score(rows[:4], open_reward("judge:x", llm=Judge()))


def test_a_judge_that_says_nothing_is_asked_again_and_one_that_fails_is_an_error():
    assert judged([("t", "q", "a", "b")], Judge(texts=["Hm.", "?", "A", "B"])) == [1.0]
    assert judged([("t", "q", "a", "b")], Judge(texts=["Hm."])) == [0.5]
    with pytest.raises(LLMFailure, match="down"):
        judged([("t", "q", "fail", "b")], Judge())
    assert read_verdict("A or B") is None and read_verdict("I prefer a TIE") == 0.5


def test_a_scorer_rewards_the_end_of_the_answer(checkpoint, tmp_path):
    from gnomon.core.models import load_model, load_tokenizer, new_scorer, save_scorer
    from gnomon.core.rng import Rng

    folder = checkpoint("llama")
    with pytest.raises(ModelMismatch, match=r"has no head that scores.*new_scorer"):
        open_reward(f"scorer:{folder}")
    tokenizer, scorer = load_tokenizer(folder), new_scorer(load_model(folder, device="cpu"), Rng(0))
    scorer.score.weight.data.normal_()
    save_scorer(scorer, tokenizer, tmp_path / "s")
    rows = [sample("x = 1\n"), sample("for i in range(10):\n    print(i)\n"), sample("x = 1\n")]
    values = score(rows, open_reward(f"scorer:{tmp_path / 's'}", batch_size=3))
    assert values[0] == values[2] != values[1]
    ids = [*tokenizer("How many?")["input_ids"], *tokenizer("x = 1\n", add_special_tokens=False)["input_ids"]]
    import torch

    whole = torch.tensor([[*ids, tokenizer.eos_token_id]])
    hidden = scorer.model(input_ids=whole).last_hidden_state[0, -1]
    assert values[0] == pytest.approx(scorer.score(hidden).item(), abs=1e-5)


def test_any_function_is_a_reward():
    assert Reward("mine", lambda samples: [2.0] * len(samples))([sample("a")]) == [2.0]
