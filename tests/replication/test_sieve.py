"""Sieve's direction in miniature: chosen labels are worth more than random ones, and are more balanced."""

import numpy as np
import pytest

from gnomon.core.rng import Rng
from gnomon.methods.sieve.mini import COMPARISONS, SCALES, labels_to_reach, prepare

pytestmark = [pytest.mark.replication, pytest.mark.slow]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Arm -> what was measured, for three seeds that are neither tuned on nor recorded."""
    comparison, found = COMPARISONS["topics"][0], {"random": [], "trm": [], "trm, halving": []}
    for seed in (30, 31, 32):
        folder = tmp_path_factory.mktemp(str(seed))
        shared = prepare(comparison, SCALES["mini"], Rng(seed).child("sieve"), folder / "model")
        for arm, rows in found.items():
            rows.append(shared.run(arm, folder / "scratch"))
    return found


def precision_at(rows, labels):
    return np.mean([point["AP"] for row in rows for point in row["curve"] if point["labels"] == labels])


@pytest.mark.parametrize("arm", ["trm", "trm, halving"])
def test_500_chosen_labels_are_worth_800_random_ones(measured, arm):
    assert precision_at(measured[arm], 500) > precision_at(measured["random"], 800)


@pytest.mark.parametrize("arm", ["trm", "trm, halving"])
def test_chosen_labels_are_balanced_and_random_ones_are_not(measured, arm):
    for row in measured[arm]:
        assert row["pass share"] > 4 * row["base rate"]
    for row in measured["random"]:
        assert row["pass share"] < 2 * row["base rate"]


def test_the_calibrated_threshold_is_near_the_best_one(measured):
    for row in measured["trm"]:
        assert row["balanced accuracy"] > row["balanced accuracy at the best cut"] - 0.04


def test_labels_to_reach_by_hand():
    curve = [{"labels": 100, "AP": 0.5}, {"labels": 200, "AP": 0.7}, {"labels": 300, "AP": 0.6}]
    assert labels_to_reach(curve, 0.55) == pytest.approx(125)
    assert labels_to_reach(curve, 0.4) == 100
    assert labels_to_reach(curve, 0.8) is None
