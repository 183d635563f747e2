"""Risk profiles and intervals against values worked by hand, a plain loop, and the guarantee itself."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.methods.sieve import bernstein, halving
from gnomon.methods.sieve.choosing import EVERYTHING, estimate, risk_steps

labelled = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=60)


def apart(rows):
    return np.array([score / 12 for score, _ in rows]), np.array([label for _, label in rows])


def plain_risk(scores, labels, cut):
    """P(f < s, y = 1) + P(f >= s, y = 0) on the labels themselves."""
    errors = [(s < cut) == (y == 1) for s, y in zip(scores, labels, strict=True)]
    return sum(errors) / len(errors)


class TestRiskSteps:
    def test_by_hand(self):
        # z in order of the scores: -1, -1, +1, -1, +1; running sums over 5
        steps = risk_steps([0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 1, 0, 1])
        assert steps.risk.tolist() == pytest.approx([0, -0.2, -0.4, -0.2, -0.4, -0.2])
        assert steps.counts.tolist() == [0, 1, 2, 3, 4, 5]
        assert steps.best in (2, 4)

    def test_equal_scores_are_one_block(self):
        steps = risk_steps([0.3, 0.3, 0.3, 0.9], [1, 0, 0, 1])
        assert steps.scores.tolist() == [0.3, 0.9]
        assert steps.counts.tolist() == [0, 3, 4]
        assert steps.risk.tolist() == pytest.approx([0, -0.25, 0])

    @given(labelled)
    def test_differences_are_differences_of_the_true_error_rate(self, rows):
        scores, labels = apart(rows)
        steps = risk_steps(scores, labels)
        cuts = [*steps.scores, math.inf]
        plain = [plain_risk(scores, labels, cut) for cut in cuts]
        assert np.allclose(np.diff(steps.risk), np.diff(plain))


class TestBernstein:
    def test_by_hand(self):
        # n = 4, best threshold 2, L = log(3 * 5 / 0.1) = 5.0106; with scale 0.05 the slack at threshold 1 is
        # 0.05 * (sqrt(2 * (0.25 - 0.0625) * 5.0106 / 4) + 3 * 5.0106 / 4) = 0.05 * (0.6854 + 3.7580) = 0.2222 < 0.25
        assert bernstein([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], EVERYTHING, scale=0.05) == (0.2, 0.3)
        # with scale 0.06 it is 0.2666 > 0.25: thresholds 1 and 3 stay, 0 and 4 (gap 0.5, slack 0.2722) go
        assert bernstein([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], EVERYTHING, scale=0.06) == (0.1, 0.4)

    @given(labelled, st.floats(0.01, 1))
    def test_equals_the_plain_loop(self, rows, scale):
        scores, labels = apart(rows)
        n, cuts = len(scores), [*sorted(set(scores)), math.inf]
        below = [sum(s < c for s in scores) for c in cuts]
        risk = [sum(2 * y - 1 for s, y in zip(scores, labels, strict=True) if s < c) / n for c in cuts]
        best = risk_steps(scores, labels).best
        log_term = math.log(3 * (n + 1) / 0.1)
        kept = []
        for j in range(len(cuts)):
            gap, k = risk[j] - risk[best], abs(below[j] - below[best]) / n
            variance = max(k - gap**2, 0)
            if gap <= scale * (math.sqrt(2 * variance * log_term / n) + 3 * log_term / n):
                kept.append(j)
        low = -math.inf if kept[0] == 0 else cuts[kept[0] - 1]
        high = cuts[kept[-1]]
        assert bernstein(scores, labels, EVERYTHING, scale=scale) == (low, high)

    def test_at_scale_1_it_holds_the_minimiser_as_often_as_promised(self):
        draw = np.random.default_rng(0)
        hits = 0
        for _ in range(200):
            scores = draw.random(300)
            low, high = bernstein(scores, draw.random(300) < scores, EVERYTHING, delta=0.1, scale=1.0)
            hits += low <= 0.5 <= high  # P(y = 1 | score) = score: the risk is least at 0.5
        assert hits >= 180

    def test_pitfall_1_small_batches_hardly_narrow(self):
        draw = np.random.default_rng(1)
        scores = draw.random(100)
        labels = draw.random(100) < scores
        low, high = bernstein(scores, labels, EVERYTHING, scale=1.0)
        assert np.mean((scores >= low) & (scores <= high)) > 0.5
        low, high = bernstein(scores, labels, EVERYTHING, scale=0.3)
        assert np.mean((scores >= low) & (scores <= high)) < 0.95

    def test_without_labels_nothing_changes(self):
        assert bernstein([], [], (0.2, 0.4)) == (0.2, 0.4)


class TestHalving:
    def test_drops_the_end_of_larger_risk(self):
        # eight labels, fails below and passes above 0.45: both ends are equally bad and half the labels stay around the border
        scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
        low, high = halving(scores, [0, 0, 0, 0, 1, 1, 1, 1], EVERYTHING)
        assert low <= 0.4 < 0.5 <= high
        assert sum(low < s <= high for s in scores) in (4, 5)

    def test_rare_passes_pull_it_to_the_top(self):
        assert halving([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0], EVERYTHING) == (0.2, math.inf)

    @given(labelled)
    def test_keeps_the_best_threshold(self, rows):
        scores, labels = apart(rows)
        low, high = halving(scores, labels, EVERYTHING)
        assert low <= estimate(scores, labels, EVERYTHING, float) <= high


@pytest.mark.parametrize("shrink", [bernstein, halving])
@given(rows=labelled)
def test_only_the_order_of_scores_counts(shrink, rows):
    scores, labels = apart(rows)
    bent = np.log1p(scores) ** 3 - 7
    low, high = shrink(scores, labels, EVERYTHING)
    bent_low, bent_high = shrink(bent, labels, EVERYTHING)
    assert [low <= s <= high for s in scores] == [bent_low <= s <= bent_high for s in bent]


@pytest.mark.parametrize("shrink", [bernstein, halving])
@given(rows=labelled)
def test_intervals_are_nested(shrink, rows):
    scores, labels = apart(rows)
    before = (0.2, 0.9)
    inside = (scores >= 0.2) & (scores <= 0.9)
    low, high = shrink(scores[inside], labels[inside], before)
    assert before[0] <= low <= high <= before[1]


class TestEstimate:
    def test_is_the_middle_of_the_gap_in_rank(self):
        rank_of = {0.2: 0.7, 0.6: 0.8}.__getitem__
        assert estimate([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], EVERYTHING, rank_of) == pytest.approx(0.75)

    def test_stays_finite_when_one_side_is_open(self):
        assert estimate([0.1, 0.2], [0, 0], EVERYTHING, float) == 0.2
        assert estimate([0.1, 0.2], [1, 1], EVERYTHING, float) == 0.1
