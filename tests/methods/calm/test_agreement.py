"""Rates by hand, against other implementations, and against quadrature."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.methods.calm.judging import TIE
from gnomon.methods.calm.measures import (
    UNPARSED,
    measure,
    measure_rotations,
    preference,
    proportion,
    slot_effect,
)
from gnomon.methods.calm.measures.agreement import agreement
from gnomon.methods.calm.planted import judged, pair_truth, score_truth, turn_truth, turned_verdicts

R1, R2 = 0, 1
codes = st.lists(st.sampled_from([R1, R2, TIE, UNPARSED]), min_size=12, max_size=12)


def test_a_condition_by_hand():
    plain = np.array([R1, R1, R1, R2, R1, TIE, R1, UNPARSED])
    again = np.array([R1, R1, R2, R2, R1, TIE, R1, R1])
    changed = np.array([R1, R2, R2, R2, TIE, R1, UNPARSED, R1])
    found = measure(plain, [again], changed, R2)
    # Both verdicts on six items; of those items 0 and 3 stay. Twice a preference for the cued R2 comes, none goes.
    assert found.n == 6
    assert found.rr.value == pytest.approx(2 / 6)
    assert found.cr.value == pytest.approx(5 / 6)
    assert found.bis.value == pytest.approx(3 / 6)
    assert found.shift.value == pytest.approx(2 / 6)
    # Loss of consistency: three items lost it, none won it: exact p = 2 / 2^3; doubled for two tests.
    assert found.p == pytest.approx(min(1, 2 * 0.25))


def test_ties_are_verdicts_of_their_own_or_count_one_half():
    a, b = np.array([TIE, TIE, R1]), np.array([TIE, R1, TIE])
    assert agreement(a, b)[0].tolist() == [1, 0, 0]
    assert agreement(a, b, half_ties=True)[0].tolist() == [1, 0.5, 0.5]
    assert preference(a, R1).tolist() == [0, 0, 1]
    assert preference(a, R1, half_ties=True).tolist() == [0.5, 0.5, 1]


def test_fallacies_are_caught_where_the_verdict_moves_to_the_other_answer():
    plain, changed = np.array([R1, R1, R2, R1]), np.array([R2, R1, R2, TIE])
    found = measure(plain, [plain], changed, R2, flips_to=R2)
    assert found.rr.value == pytest.approx(0.5)  # moved to R2: items 0 and 2
    assert found.shift.value == pytest.approx(0.25)


def test_no_second_run_no_floor():
    found = measure(np.array([R1, R2]), [], np.array([R1, R1]), R1)
    assert found.cr is None and found.bis is None and found.rr.value == 0.5


def test_wilson_intervals_of_statsmodels():
    theirs = pytest.importorskip("statsmodels.stats.proportion").proportion_confint(135, 257, method="wilson")
    found = proportion(np.array([1.0] * 135 + [0.0] * 122), np.ones(257))
    assert (float(found.low), float(found.high)) == pytest.approx(theirs, abs=1e-6)


def test_the_test_of_a_shift_is_the_one_of_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    draw = Rng(4).numpy()
    plain, changed = (draw.random(200) < 0.4).astype(int), (draw.random(200) < 0.55).astype(int)
    table = [[int(((plain == i) & (changed == j)).sum()) for j in (0, 1)] for i in (0, 1)]
    theirs = tables.mcnemar(table, exact=True).pvalue
    assert measure(plain, [], changed, R2).p == pytest.approx(theirs)


@given(codes, codes, codes)
@settings(max_examples=25)
def test_what_always_holds(plain, again, changed):
    plain, again, changed = map(np.array, (plain, again, changed))
    found = measure(plain, [again], changed, R2)
    if found.n:
        assert -1e-9 <= found.rr.low <= found.rr.value + 1e-9
        assert found.rr.value - 1e-9 <= found.rr.high <= 1
        assert -1 <= found.shift.value <= 1
    assert 0 <= found.p <= 1
    same = measure(plain, [again], again, R2)
    assert np.isnan(same.bis.value) or same.bis.value == 0  # a change that is a plain run loses nothing
    order = np.arange(12)[::-1]
    other = measure(plain[order], [again[order]], changed[order], R2)
    assert np.array_equal(found.rr.value, other.rr.value, equal_nan=True) and found.p == other.p


@given(codes, codes)
@settings(max_examples=40)
def test_unparsed_verdicts_bias_nothing(plain, changed):
    """Items that could not be read leave the rate as it is."""
    plain, changed = np.array(plain), np.array(changed)
    more = np.full(5, UNPARSED)
    found = measure(plain, [], changed, R1)
    wider = measure(np.append(plain, more), [], np.append(changed, more), R1)
    assert np.array_equal(found.rr.value, wider.rr.value, equal_nan=True) and found.n == wider.n


def test_many_audits_at_once_are_the_audits_one_by_one():
    draw = Rng(0).numpy()
    plain, again, changed = (draw.integers(-2, 2, (5, 40)) for _ in range(3))
    whole = measure(plain, [again], changed, R2)
    for i in range(5):
        one = measure(plain[i], [again[i]], changed[i], R2)
        for name in ("rr", "bis", "shift"):
            assert getattr(whole, name).low[i] == pytest.approx(float(getattr(one, name).low), abs=1e-6)
        assert whole.p[i] == pytest.approx(float(one.p))


# Quadrature


@pytest.mark.parametrize(
    ("mean", "weight", "cr", "rr", "shift"),
    [
        (1, 1, 0.6441, 0.5743, 0.1967),
        (1, 2, 0.6441, 0.4834, 0.3935),
        (1, 0.5, 0.6441, 0.6133, 0.0947),
        (0, 2, 0.5868, 0.5476, 0.3445),
    ],
)
def test_the_specification_s_numbers(mean, weight, cr, rr, shift):
    truth = pair_truth(mean, weight)
    assert (truth.cr, truth.rr, truth.shift) == pytest.approx((cr, rr, shift), abs=5e-5)


@pytest.mark.parametrize(
    ("gap", "rr", "shift", "bis"),
    [(1, 0.574, 0.197, 0.070), (2, 0.680, 0.148, 0.088), (3, 0.814, 0.086, 0.067), (4, 0.911, 0.041, 0.037)],
)
def test_smaller_gaps_shift_more_and_bis_is_not_monotone(gap, rr, shift, bis):
    truth = pair_truth(gap, 1.0)
    assert (truth.rr, truth.shift, truth.bis) == pytest.approx((rr, shift, bis), abs=6e-4)


def test_a_coin_hides_its_bias_from_bis_and_not_from_the_shift():
    truth = pair_truth(0.0, 2.0)
    assert truth.bis < 0.04 and truth.shift > 0.34


def test_floors_of_position():
    assert [turn_truth(c, 0.0).rr for c in (2, 3, 4)] == pytest.approx([0.643, 0.283, 0.123], abs=2e-3)
    assert [turn_truth(c, 1.0).rr for c in (2, 3, 4)] == pytest.approx([0.547, 0.224, 0.098], abs=3e-3)
    assert turn_truth(2, 1.0).first == pytest.approx(0.6723, abs=5e-5)
    assert turn_truth(2, 1.0).rr == pytest.approx(0.5476, abs=5e-5)
    assert turn_truth(3, 0.0).cr == pytest.approx(turn_truth(3, 0.0).rr)


def test_quadrature_agrees_with_draws():
    draw = Rng(0).numpy()
    margins = draw.normal(1, 1, 400_000)
    plain, again, changed = judged(margins, draw), judged(margins, draw), judged(margins, draw, -1.0)
    truth = pair_truth(1.0, 1.0)
    assert (plain == again).mean() == pytest.approx(truth.cr, abs=0.004)
    assert (plain == changed).mean() == pytest.approx(truth.rr, abs=0.004)
    scores = np.clip(np.round(draw.normal(8.7, 1.4, 400_000)), 1, 10)
    assert scores.mean() == pytest.approx(score_truth(8.7, 1.4), abs=0.01)


# Position


def test_rotations_by_hand():
    """Three items, two candidates; told by the slot of rotation 0. The first is steady, the second follows the first slot."""
    turned = np.array([[0, 0, UNPARSED], [0, 1, 1]])
    plain = np.array([[0, 0, 0], [0, 0, 0]])
    found = measure_rotations(turned, plain, 2)
    assert found.n == 2
    assert found.rr.value == 0.5 and found.cr.value == 1.0 and found.bis.value == 0.5
    # Decisive verdicts: 5; for the first slot: item 0 once, item 1 twice, item 2 (slot 1 first in rotation 1) once.
    assert found.first.value == pytest.approx(4 / 5)
    assert found.pairwise.value == pytest.approx(1 / 2)


def test_the_slot_effect_is_that_of_conditional_logistic_regression():
    models = pytest.importorskip("statsmodels.discrete.conditional_models")
    turned, _ = turned_verdicts(Rng(2).numpy(), (1, 400), 2, 1.0)
    counts = (turned[0, 0] == 0).astype(float) + (turned[1, 0] == 1)
    found = slot_effect(counts, np.ones(400), 2)
    # One row per item and rotation: was the answer of slot 0 chosen, and did it stand first?
    varies = turned[0, 0] != turned[1, 0]  # the others tell nothing about the slot
    n = int(varies.sum())
    chosen = np.concatenate([turned[0, 0][varies] == 0, turned[1, 0][varies] == 0]).astype(int)
    stood = np.concatenate([np.ones(n), -np.ones(n)])
    fitted = models.ConditionalLogit(chosen, stood[:, None], groups=np.tile(np.arange(n), 2)).fit(disp=0)
    assert float(found) == pytest.approx(fitted.params[0], abs=0.02)  # one half is added to each count
    assert abs(float(found) - 1.0) < 0.35


@pytest.mark.parametrize("candidates", [2, 3, 4])
def test_rotations_find_what_was_planted(candidates):
    turned, plain = turned_verdicts(Rng(1).numpy(), (40, 400), candidates, 1.0)
    found, truth = measure_rotations(turned, plain, candidates), turn_truth(candidates, 1.0)
    assert found.rr.value.mean() == pytest.approx(truth.rr, abs=0.015)
    assert found.cr.value.mean() == pytest.approx(truth.cr, abs=0.015)
    assert found.first.value.mean() == pytest.approx(truth.first, abs=0.01)
    fair, still = turned_verdicts(Rng(3).numpy(), (40, 400), candidates, 0.0)
    null = measure_rotations(fair, still, candidates)
    assert abs(null.bis.value.mean()) < 0.01
    assert (null.p < 0.05).mean() <= 0.125  # 40 audits at 5%: more than five in one of a hundred worlds


def test_the_variance_of_dealt_verdicts_by_counting_all_deals():
    from itertools import permutations

    from gnomon.methods.calm.measures.cells import _shuffled_variance

    for verdicts in ((0, 1, 2), (0, 0, 1), (2, 2, 2), (0, 1), (0, 3, 3, 1), (1, 1, 2, 2)):
        counts = [sum(v == slot for slot, v in enumerate(deal)) for deal in permutations(verdicts)]
        assert np.mean(counts) == pytest.approx(1)
        assert _shuffled_variance(np.array(verdicts)[:, None])[0] == pytest.approx(np.var(counts))
