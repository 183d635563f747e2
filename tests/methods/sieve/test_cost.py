import math
from dataclasses import replace

import pytest

from gnomon.errors import BadConfig
from gnomon.methods.sieve.fitting import Cost, call_usd, snippet_usd

# a call costs 700 * 2.5 / 1e6 + 150 * 10 / 1e6 = 0.00325; scoring 500 a second at 1.8 USD an hour costs 1e-6 each
COST = Cost(
    snippets=1_000_000, labels=6000, usd_per_call=0.00325, training_s=7200, snippets_per_s=500, usd_per_hour=1.8
)  # fmt: skip


def test_the_bill_worked_by_hand():
    assert call_usd(700, 150, 2.5, 10) == pytest.approx(0.00325)
    assert snippet_usd(500, 1.8) == pytest.approx(1e-6)
    assert COST.judge_usd == pytest.approx(19.5)
    assert COST.training_usd == pytest.approx(3.6)
    assert COST.scoring_usd == pytest.approx(1.0)
    assert COST.total_usd == pytest.approx(24.1)
    assert COST.judge_all_usd == pytest.approx(3250)
    assert COST.ratio == pytest.approx(24.1 / 3250)  # 0.74%: below the paper's 1%
    assert COST.calls_per_judge_call == pytest.approx(3250)
    # 23.1 USD before the first snippet, 0.003249 USD saved with each
    assert COST.break_even == math.ceil(23.1 / 0.003249) == 7110


def test_scoring_the_stream_to_choose_labels_is_part_of_the_bill():
    more = replace(COST, stream_scored=2_000_000)
    assert more.training_usd == pytest.approx(3.6 + 2.0)
    assert more.total_usd == pytest.approx(26.1)


def test_at_break_even_both_ways_cost_the_same():
    at = replace(COST, snippets=int(COST.break_even))
    before = replace(at, snippets=at.snippets - 1)
    assert at.ratio <= 1 < before.ratio


def test_a_judge_or_machine_that_costs_nothing():
    free_judge = replace(COST, usd_per_call=0.0)
    assert free_judge.ratio == math.inf and free_judge.break_even == math.inf
    free_machine = replace(COST, usd_per_hour=0.0)
    assert free_machine.calls_per_judge_call == math.inf and free_machine.total_usd == pytest.approx(19.5)
    assert free_machine.break_even == 6000  # as many calls as were spent
    dear = replace(COST, snippets_per_s=0.1)  # 0.005 USD each: more than a call
    assert dear.break_even == math.inf and dear.ratio > 1


def test_figures_say_it_all():
    assert COST.figures()["total_usd"] == COST.total_usd and len(COST.figures()) == 10


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("snippets", 0, ">= 1"),
        ("snippets_per_s", 0, "> 0"),
        ("labels", -1, ">= 0"),
        ("usd_per_call", -0.1, ">= 0"),
    ],
)
def test_impossible_numbers(field, value, rule):
    with pytest.raises(BadConfig, match=f"{field} must be {rule}; got {value}"):
        replace(COST, **{field: value})
