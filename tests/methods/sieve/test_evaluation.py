import math

import numpy as np
import pytest

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sieve.fitting import evaluate, self_consistency

# ten snippets in the order of their scores; the model passes the first four
SCORES = [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
JUDGE = [1, 1, 0, 1, 1, 0, 0, 0, None, 0]
TRUTH = [1, 1, 1, 0, 1, 0, 0, 0, 1, None]


def test_values_worked_by_hand():
    found = evaluate(SCORES, JUDGE, 0.7, n_resamples=100)
    judge = found["judge"]
    assert (found["n"], found["unlabelled"], found["pass_share"], found["threshold"]) == (10, 1, 0.4, 0.7)
    assert (judge["tp"], judge["fp"], judge["fn"], judge["tn"], judge["n"]) == (3, 1, 1, 4, 9)
    assert judge["base_rate"] == pytest.approx(4 / 9)
    assert judge["balanced_accuracy"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert judge["f1"] == pytest.approx(6 / 8)
    assert judge["agreement"] == pytest.approx(7 / 9)
    chance = (4 * 4 + 5 * 5) / 81
    assert judge["kappa"] == pytest.approx((7 / 9 - chance) / (1 - chance))
    # order of the judge's labels: 1 1 0 1 1 ... -> precision at the positives 1, 1, 3/4, 4/5
    assert judge["average_precision"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 5) / 4)
    assert (judge["best_f1"], judge["best_threshold"]) == (pytest.approx(8 / 9), 0.6)
    assert "truth" not in found


def test_truth_worked_by_hand():
    found = evaluate(SCORES, JUDGE, 0.7, TRUTH, n_resamples=100)
    truth, judge = found["truth"], found["judge_truth"]
    assert (truth["tp"], truth["fp"], truth["fn"], truth["tn"]) == (3, 1, 2, 3)
    assert (judge["tp"], judge["fp"], judge["fn"], judge["tn"]) == (3, 1, 1, 3)
    assert "average_precision" not in judge  # the judge has no scores
    # they agree, with truth known, on places 0 1 3 5 6 7; of these place 3 is wrong
    assert found["where_agreed"]["n"] == 6 and found["where_agreed"]["errors"] == pytest.approx(1 / 6)


def test_intervals_hold_the_estimate_and_narrow_with_the_number_of_documents():
    draw = np.random.default_rng(0)
    widths = []
    for n in (200, 3200):
        labels = draw.random(n) < 0.3
        scores = np.clip(0.3 * labels + 0.7 * draw.random(n), 0, 1)
        truth = labels ^ (draw.random(n) < 0.05)
        found = evaluate(scores, labels.astype(int), 0.5, truth.astype(int), n_resamples=200)
        for side in (found["judge"], found["truth"]):
            for name, (low, high) in side["intervals"].items():
                assert low < side[name] < high
        low, high = found["where_agreed"]["interval"]
        assert low < found["where_agreed"]["errors"] < high
        low, high = found["judge"]["intervals"]["agreement"]
        share = found["judge"]["agreement"]
        # for single snippets the interval of a share is the binomial one
        assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / n), rel=0.2)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)  # sixteen times as many, a quarter as wide


def test_pitfall_6_snippets_of_one_document_are_no_independent_evidence():
    draw = np.random.default_rng(1)
    labels = np.repeat(draw.random(60) < 0.5, 10).astype(int)
    scores = np.abs(labels - np.repeat(draw.random(60) < 0.2, 10)).astype(
        float
    )  # right or wrong as whole documents
    documents = [f"d{n // 10}" for n in range(600)]
    alone = evaluate(scores, labels, 0.5, n_resamples=300)["judge"]
    together = evaluate(scores, labels, 0.5, documents=documents, n_resamples=300)["judge"]
    assert alone["agreement"] == together["agreement"]

    def width(found):
        return found["intervals"]["agreement"][1] - found["intervals"]["agreement"][0]

    assert width(together) / width(alone) == pytest.approx(math.sqrt(10), rel=0.25)


def test_a_report_repeats():
    first, again, other = (
        evaluate(SCORES, JUDGE, 0.7, n_resamples=100, rng=rng) for rng in (None, None, Rng(5))
    )
    assert first == again and first["judge"]["intervals"] != other["judge"]["intervals"]


def test_an_absent_class_is_not_a_number():
    found = evaluate([0.9, 0.1, 0.2], [0, 0, 0], 0.5, n_resamples=100)["judge"]
    assert math.isnan(found["balanced_accuracy"]) and math.isnan(found["average_precision"])
    assert all(map(math.isnan, found["intervals"]["balanced_accuracy"]))
    assert found["agreement"] == pytest.approx(2 / 3) and found["f1"] == 0


def test_nothing_agreed_has_no_error_rate():
    found = evaluate([0.9, 0.1], [0, 1], 0.5, [1, 0], n_resamples=100)["where_agreed"]
    assert found["n"] == 0 and math.isnan(found["errors"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate([0.5], [None], 0.5), "None of the snippets has a label. Judge them first"),
        (lambda: evaluate([0.5], [1, 0], 0.5), "got 1 scores, 2 labels, 1 truths, 1 documents"),
        (lambda: evaluate([0.5], [2], 0.5), "Labels must be 1, 0 or None"),
        (lambda: evaluate([math.nan], [1], 0.5), "Scores must be finite"),
        (lambda: evaluate([0.5, 0.5], [1, None], 0.5, [None, 1]), "No snippet has both a label and a truth"),
        (lambda: self_consistency([1], [1, 0]), "got 1 and 2"),
        (lambda: self_consistency([1, None], [None, 0]), "No snippet has a verdict in both"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_self_consistency_leaves_out_what_was_not_answered():
    found = self_consistency([1, 1, 0, 0, None], [1, 0, 0, 0, 1])
    assert found == {"n": 4, "agreement": 0.75, "kappa": 0.5}
