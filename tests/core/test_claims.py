import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.claims import Claim, Comparison, decide
from gnomon.errors import BadConfig, BadInput


def claim(compare: str, margin: float = 0.0) -> Claim:
    return Claim("It is better.", "table 1", compare, margin)


def outcome(compare: str, margin: float = 0.0, **arms):
    return decide({arm: {"m": scores} for arm, scores in arms.items()}, claim(compare, margin)).outcome


@pytest.mark.parametrize(
    ("compare", "margin", "a", "b", "expected"),
    [
        ("m: a > b", 0.0, [3, 4, 5], [1, 2, 3], "holds"),
        ("m: a < b", 0.0, [3, 4, 5], [1, 2, 3], "does not hold"),
        ("m: b < a", 0.0, [3, 4, 5], [1, 2, 3], "holds"),
        ("m: a > b", 1.9, [3, 4, 5], [1, 2, 3], "holds"),
        ("m: a > b", 2.0, [3, 4, 5], [1, 2, 3], "does not hold"),  # exactly the margin is not more than it
        ("m: a >= b", 2.0, [3, 4, 5], [1, 2, 3], "holds"),
        ("m: b < a", 2.1, [3, 4, 5], [1, 2, 3], "does not hold"),
        ("m: a > b", 0.0, [1, 5, 3], [2, 2, 2], "undecided"),
        ("m: a >= b", -0.5, [1.8, 1.9, 2.3], [2, 2, 2], "holds"),  # no worse by more than 0.5
        ("m: a >= b", 0.0, [1.8, 1.9, 2.3], [2, 2, 2], "undecided"),
        ("m: a > b", 0.0, [1, 1, 1], [1, 1, 1], "does not hold"),
        ("m: a >= b", 0.0, [1, 1, 1], [1, 1, 1], "holds"),
        ("m: a <= b", 0.0, [1, 1, 1], [1, 1, 1], "holds"),
        ("m: a == b", 0.0, [1, 2, 3], [1, 2, 3], "holds"),
        ("m: a == b", 0.01, [1, 2, 3], [1, 2, 3.1], "does not hold"),
    ],
)
def test_rule_for_two_arms(compare, margin, a, b, expected):
    assert outcome(compare, margin, a=a, b=b) == expected


@pytest.mark.parametrize(
    ("compare", "a", "expected"),
    [
        ("m: a >= 0.9", [0.95, 0.97, 0.99], "holds"),
        ("m: a >= 0.9", [0.85, 0.97, 0.99], "undecided"),
        ("m: a >= 0.9", [0.5, 0.6, 0.7], "does not hold"),
        ("m: a <= 0.9", [0.5, 0.6, 0.7], "holds"),
        ("m: a == 1.0", [1.0], "holds"),  # a statement about every value needs no second seed
        ("m: a == 1.0", [1.0, 1.0, 0.999], "does not hold"),
    ],
)
def test_rule_for_an_arm_and_a_number(compare, a, expected):
    assert outcome(compare, a=a) == expected


def test_fewer_than_three_seeds_stay_undecided_however_many_tasks_there_are():
    better, worse = [[1.0] * 500] * 2, [[0.0] * 500] * 2
    verdict = decide({"a": {"m": better}, "b": {"m": worse}}, claim("m: a > b"))
    assert (verdict.outcome, verdict.estimate, verdict.n_seeds) == ("undecided", 1.0, 2)
    assert "3 seeds are needed" in verdict.sentence


def test_pairs_by_name_and_not_by_order():
    a = {0: {"t1": 1.0, "t2": 0.0}, 1: {"t2": 0.0, "t1": 1.0}, 2: {"t1": 1.0, "t2": 0.0}}
    b = {2: {"t2": 0.0, "t1": 1.0}, 0: {"t1": 1.0, "t2": 0.0}, 1: {"t1": 1.0, "t2": 0.0}}
    verdict = decide({"a": {"m": a}, "b": {"m": b}}, claim("m: a == b"))
    assert (verdict.outcome, verdict.low, verdict.high) == ("holds", 0.0, 0.0)


def test_a_gain_on_one_task_of_ten_is_undecided_though_every_seed_shows_it():
    one_task, nothing = [[1.0] + [0.0] * 9] * 3, [[0.0] * 10] * 3
    assert outcome("m: a > b", a=[0.1] * 3, b=[0.0] * 3) == "holds"
    assert outcome("m: a > b", a=one_task, b=nothing) == "undecided"


def test_sentence_and_row_hold_the_numbers():
    verdict = decide({"a": {"m": [3, 4, 5]}, "b": {"m": [1, 2, 4]}}, claim("m: a > b"))
    assert verdict.sentence == (
        "m: a - b = +1.67 [+1, +2] over 3 seeds; holds: the whole interval is above 0."
    )
    row = verdict.as_row()
    assert {"claim", "source", "outcome", "estimate", "low", "high", "required"} <= row.keys()
    assert (row["outcome"], row["low"], row["high"], row["required"]) == ("holds", 1.0, 2.0, True)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=3, max_size=5), st.floats(-2, 2))
def test_a_claim_and_its_mirror_never_both_hold(pairs, margin):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    forth = outcome("m: a > b", margin, a=a, b=b)
    assert forth == outcome("m: b < a", margin, a=a, b=b)
    if margin >= 0:
        assert not (forth == "holds" and outcome("m: a < b", margin, a=a, b=b) == "holds")
    mirrored = {"holds": "does not hold", "does not hold": "holds", "undecided": "undecided"}
    assert outcome("m: a <= b", -margin, a=a, b=b) == mirrored[forth]


def test_reads_names_with_spaces_and_symbols():
    assert Comparison.parse("pass@10 (T=1): edit arm >= full-program") == Comparison(
        "pass@10 (T=1)", "edit arm", ">=", "full-program"
    )


@pytest.mark.parametrize(
    "text", ["a > b", "m: a", "m: > b", "m: a =! b", "m: a > nan", "part: m: a > b", "m: a: b > c", ""]
)
def test_unreadable_comparison(text):
    with pytest.raises(BadConfig, match="Claim comparison"):
        claim(text)


def test_margin_must_fit():
    with pytest.raises(BadConfig, match="tolerance of =="):
        claim("m: a == b", -0.1)
    with pytest.raises(BadConfig, match="finite"):
        claim("m: a > b", float("inf"))


def test_missing_or_unpaired_scores_are_named():
    arms = {
        "edits": {"pass@1": [1, 2, 3]},
        "full": {"pass@1": {0: 1, 1: 2, 5: 3}},
        "part": {"pass@1": [[1, 2], [1], [3]]},
    }
    with pytest.raises(BadInput, match=r'arm "edit" was not run\. Did you mean "edits"'):
        decide(arms, claim("pass@1: edit > full"))
    with pytest.raises(BadInput, match=r'Arm "edits" has no metric "pass@2"\. Did you mean "pass@1"'):
        decide(arms, claim("pass@2: edits > full"))
    with pytest.raises(BadInput, match=r"same seeds on both sides; got \[0, 1, 2\] and \[0, 1, 5\]"):
        decide(arms, claim("pass@1: edits > full"))
    with pytest.raises(BadInput, match="seed 0: edits and part were not measured on the same tasks"):
        decide(arms, claim("pass@1: edits > part"))
    with pytest.raises(BadInput, match="row 1 holds nan"):
        decide({"a": {"m": [0, float("nan"), 1]}}, claim("m: a > 0"))
    with pytest.raises(BadInput, match="no scores"):
        decide({"a": {"m": []}}, claim("m: a > 0"))


def test_needs_no_numpy_to_state_a_claim():
    code = (
        "import sys; from gnomon.core.claims import Claim; Claim('t', 's', 'm: a > b');"
        "sys.exit('numpy' in sys.modules)"
    )
    source = str(__import__("pathlib").Path(__file__).parents[2] / "src")
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, check=False).returncode == 0
    )
