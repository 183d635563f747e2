from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.metrics.stats import mean_interval, paired_difference
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

finite = st.floats(-1e3, 1e3, allow_nan=False)


def test_two_seeds_by_hand():
    # The four resamples of (0, 1) have means 0, .5, .5, 1: a quarter of them at each end.
    wide, narrow = mean_interval([0.0, 1.0], level=0.9), mean_interval([0.0, 1.0], level=0.4)
    assert (wide.estimate, wide.low, wide.high) == (0.5, 0.0, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    interval = wide
    assert (interval.n_seeds, interval.n_units) == (2, 2)


def test_counts_every_resample_of_a_few_seeds():
    values = [0.1, 0.4, 0.2, 0.9]
    means = [np.mean(draw) for draw in product(values, repeat=4)]
    interval = mean_interval(values, level=0.8)
    assert (interval.low, interval.high) == pytest.approx((sorted(means)[25], sorted(means)[-26]))


@pytest.mark.slow
def test_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = Rng(1).numpy().normal(size=40)
    ours = mean_interval(values, n_resamples=8_000)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=8_000, rng=np.random.default_rng(0)
    )
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)


@pytest.mark.slow
def test_paired_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    draw = Rng(2).numpy()
    a, b = draw.normal(0.3, 1, size=(2, 30))
    ours = paired_difference(a, b, n_resamples=8_000)
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=8_000,
        rng=np.random.default_rng(0),
    )
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.015)


def test_table_of_seeds_and_tasks_against_plain_loops():
    draw = Rng(3).numpy()
    table = draw.normal(size=(3, 12)) + draw.normal(size=(1, 12))
    means = [table[np.ix_(draw.integers(3, size=3), draw.integers(12, size=12))].mean() for _ in range(8_000)]
    ours = mean_interval(table, n_resamples=8_000)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.05)
    assert (ours.n_seeds, ours.n_units) == (3, 36)


def test_tasks_shared_by_all_seeds_are_not_counted_as_new_evidence():
    """Ten copies of the same seed say no more about the tasks than one seed does."""
    row = Rng(4).numpy().normal(size=50)
    one = mean_interval([row], n_resamples=4000)
    ten = mean_interval([row] * 10, n_resamples=4000)
    assert (ten.high - ten.low) == pytest.approx(one.high - one.low, rel=0.1)


def test_ragged_rows_weigh_seeds_equally():
    interval = mean_interval([[0.0], [1.0, 1.0, 1.0]], n_resamples=500)
    assert interval.estimate == 0.5
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_covers_the_truth_about_as_often_as_it_says():
    draw = Rng(5).numpy()
    hits = 0
    for _ in range(150):
        interval = mean_interval(draw.normal(size=30), n_resamples=300)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 150 <= 0.99


@settings(max_examples=50)
@given(st.lists(finite, min_size=1, max_size=8))
def test_interval_stays_within_the_values_and_around_the_mean(values):
    interval = mean_interval(values, n_resamples=100)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack
    assert interval.estimate == pytest.approx(np.mean(values), abs=1e-9)


@settings(max_examples=30)
@given(finite, st.integers(1, 7))
def test_equal_values_have_no_width(value, n):
    interval = mean_interval([value] * n, n_resamples=100)
    assert interval.low <= interval.estimate <= interval.high
    assert interval.high - interval.low <= 1e-9 * max(1.0, abs(value))


def test_repeats_with_the_same_generator_only():
    values = Rng(6).numpy().normal(size=20)
    assert mean_interval(values, rng=Rng(1)) == mean_interval(values, rng=Rng(1))
    assert mean_interval(values, rng=Rng(1)) != mean_interval(values, rng=Rng(2))


def test_errors_name_the_trouble():
    with pytest.raises(BadInput, match="at least one seed"):
        mean_interval([])
    with pytest.raises(BadInput, match="row 1 holds nan"):
        mean_interval([0.0, float("nan")])
    with pytest.raises(BadInput, match="2 x 1 and 3 x 1"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(BadConfig, match=r"level must be within \(0, 1\); got 95"):
        mean_interval([1.0], level=95)
    with pytest.raises(BadConfig, match="n_resamples must be >= 100"):
        mean_interval([1.0], n_resamples=1)


def test_mcnemar_is_the_exact_binomial_test():
    from scipy.stats import binomtest

    from gnomon.core.metrics.stats import mcnemar

    pairs = [(0, 0), (1, 8), (5, 5), (30, 12), (0, 3)]
    theirs = [binomtest(b, b + c).pvalue if b + c else 1.0 for b, c in pairs]
    assert mcnemar(*np.array(pairs).T) == pytest.approx(theirs)


def test_benjamini_hochberg_agrees_with_statsmodels_in_every_family():
    multiple = pytest.importorskip("statsmodels.stats.multitest")
    from gnomon.core.metrics.stats import benjamini_hochberg

    p = Rng(3).numpy().random((5, 9)) ** 3
    theirs = [multiple.multipletests(row, method="fdr_bh")[1] for row in p]
    assert benjamini_hochberg(p) == pytest.approx(np.array(theirs))


def test_benjamini_hochberg_by_hand():
    from gnomon.core.metrics.stats import benjamini_hochberg

    # .01 x 3 / 1, .02 x 3 / 2 and .5: the first takes the smaller one behind it.
    assert benjamini_hochberg([0.5, 0.01, 0.02]).tolist() == pytest.approx([0.5, 0.03, 0.03])
    assert benjamini_hochberg([]).tolist() == []


def test_ratio_intervals_estimate_is_the_ratio_and_equal_units_have_no_width():
    from gnomon.core.metrics.stats import ratio_intervals

    value, low, high = ratio_intervals(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert (value, low, high) == pytest.approx((0.5, 0.5, 0.5))
    nothing = ratio_intervals(np.zeros((2, 4)), np.zeros((2, 4)))
    assert all(np.isnan(part).all() for part in nothing)


def test_ratio_intervals_cover_the_mean_of_a_share():
    from gnomon.core.metrics.stats import ratio_intervals

    hits = (Rng(0).numpy().random((600, 200)) < 0.3).astype(float)
    _, low, high = ratio_intervals(hits, np.ones_like(hits))
    assert 0.92 <= ((low <= 0.3) & (high >= 0.3)).mean() <= 0.98


def test_ratio_intervals_keep_a_unit_together():
    """Ten rows of one unit are no ten units: repeating every unit changes nothing."""
    from gnomon.core.metrics.stats import ratio_intervals

    values = Rng(1).numpy().random(60)
    once = ratio_intervals(values, np.ones(60))
    tenfold = ratio_intervals(10 * values, np.full(60, 10.0))
    assert np.array(once) == pytest.approx(np.array(tenfold), abs=1e-6)
