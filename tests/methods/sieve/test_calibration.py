"""The threshold: from labels that were chosen, on ranks, for several aims."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve import calibrate
from gnomon.methods.sieve.choosing import Reservoir
from gnomon.methods.sieve.fitting import GRID, StreamScores, on_scale_of, passing_curve, trimmed


def test_the_curve_of_a_clean_cut_by_hand():
    # ten labels at ranks 0.05, 0.15, ...; the three highest pass
    ranks, labels = np.arange(10) / 10 + 0.05, np.array([0] * 7 + [1] * 3)
    curve = passing_curve(ranks, labels, np.ones(10))
    assert curve[: int(0.65 * GRID)].max() == 0.0
    assert curve[int(0.75 * GRID) + 1 :].min() == 1.0
    found = calibrate(ranks, labels, np.ones(10), objective="balanced-accuracy")
    assert 0.65 <= found.rank <= 0.75


def test_balanced_accuracy_is_best_where_the_chance_to_pass_is_the_base_rate():
    """d(TPR + TNR)/dt = 0 at p(t) = base rate; with p(r) = r^4 the base rate is 1/5 and the cut is (1/5)^(1/4) = 0.669."""
    draw = np.random.default_rng(0)
    ranks = draw.random(20_000)
    labels = (draw.random(20_000) < ranks**4).astype(int)
    found = calibrate(ranks, labels, np.ones(20_000))
    assert found.rank == pytest.approx(0.2**0.25, abs=0.03)
    # TPR = 1 - t^5 and TNR = (t - t^5 / 5) / (4/5) at the cut
    t = 0.2**0.25
    assert found.expected["balanced accuracy"] == pytest.approx(
        (1 - t**5 + (t - t**5 / 5) / 0.8) / 2, abs=0.01
    )


def test_other_aims_against_a_plain_search():
    draw = np.random.default_rng(1)
    ranks = draw.random(20_000)
    labels = (draw.random(20_000) < ranks**4).astype(int)
    ones = np.ones(20_000)
    cuts = np.linspace(0, 1, 401)
    f1 = [2 * labels[ranks >= c].sum() / ((ranks >= c).sum() + labels.sum()) for c in cuts]
    assert calibrate(ranks, labels, ones, objective="f1").rank == pytest.approx(cuts[np.argmax(f1)], abs=0.05)
    assert calibrate(ranks, labels, ones, objective="pass-rate", base_rate=0.3).rank == pytest.approx(
        0.7, abs=0.001
    )
    assert calibrate(ranks, labels, ones, objective="pass-rate").rank == pytest.approx(0.8, abs=0.02)
    exact = calibrate(ranks, labels, ones, objective="precision", precision=0.7)
    kept = labels[ranks >= exact.rank]
    assert kept.mean() == pytest.approx(0.7, abs=0.02)
    assert exact.expected["precision"] >= 0.7


def test_pitfall_2_chosen_labels_alone_would_put_the_cut_too_low():
    """A stream with 5% passes; half of the labels are taken around the border, where every second one passes."""
    draw = np.random.default_rng(2)
    ranks = np.concatenate([draw.random(2000), 0.93 + 0.04 * draw.random(2000)])
    labels = (draw.random(4000) < 1 / (1 + np.exp(-(ranks - 0.95) * 200))).astype(int)
    chance = np.where((ranks > 0.93) & (ranks < 0.97), (2000 * 0.04 + 2000) / (2000 * 0.04), 1.0)
    plain = labels.mean()
    assert plain > 0.2
    weighted = passing_curve(ranks, labels, 1 / chance).mean()
    assert weighted == pytest.approx(0.05, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=4, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_curve_never_falls(rows):
    labels = [label for _, label in rows]
    if len(set(labels)) < 2:
        return
    curve = passing_curve([rank for rank, _ in rows], labels, np.ones(len(rows)))
    assert (np.diff(curve) >= -1e-12).all()
    assert curve.min() >= 0 and curve.max() <= 1


def test_pitfall_4_equal_scores_speak_for_all_their_ranks():
    reservoir = Reservoir(100)
    reservoir.add([0.2] * 75 + [0.7] * 25)
    scores, labels = np.array([0.2] * 30 + [0.7] * 10), np.array([0] * 30 + [1] * 10)
    found = calibrate(reservoir.spans(scores), labels, np.ones(40))
    assert found.rank == pytest.approx(0.75, abs=1e-3)
    assert found.expected["balanced accuracy"] == pytest.approx(1.0, abs=1e-3)
    assert reservoir.cut_at(found.rank) == pytest.approx(0.45)


def test_labels_stand_for_their_share_of_the_stream_at_held_out_scores():
    """A fifth of the stream is labelled and holds nearly all passes: without it the cut would lie among the fails."""
    draw = np.random.default_rng(3)
    fails, passing = draw.random(9600) * 0.6, 0.6 + 0.4 * draw.random(400)
    labelled = np.concatenate([passing[:360], fails[:1640]])
    unseen = np.concatenate([passing[360:], fails[1640:]])
    stream = StreamScores(unseen, labelled, 0.2)
    assert stream.cut_at(0.96) == pytest.approx(0.6, abs=0.01)
    assert StreamScores(unseen, [], 0).cut_at(0.96) < 0.59
    assert stream.spans([0.6]) == pytest.approx(0.96, abs=0.002)
    everything = np.concatenate([fails, passing])
    for rank in (0.0, 0.1, 0.5, 0.97, 0.999):
        assert stream.cut_at(rank) == pytest.approx(np.quantile(everything, rank), abs=0.01)
    assert stream.cut_at(1.0) > everything.max()


def test_a_student_that_is_surer_than_another_is_read_on_the_others_scale():
    draw = np.random.default_rng(4)
    logits = draw.normal(size=500)
    sure, unsure = 1 / (1 + np.exp(-(3 * logits - 2))), 1 / (1 + np.exp(-logits))
    assert on_scale_of(sure[:50], sure, unsure) == pytest.approx(unsure[:50], abs=1e-9)
    assert on_scale_of([0.2], [0.5, 0.5], [0.1, 0.9]) == pytest.approx([0.2])  # nothing to compare by
    assert np.isfinite(on_scale_of([0.0, 1.0], sure, unsure)).all()


def test_heavy_labels_are_cut_to_a_few_medians():
    assert trimmed([0.0, 1.0, 1.0, 1.0, 40.0]).tolist() == [0.0, 1.0, 1.0, 1.0, 3.0]
    assert trimmed([0.0, 0.0]).tolist() == [0.0, 0.0]


def test_errors():
    ones = np.ones(4)
    with pytest.raises(BadConfig, match=r'no objective "f-1". Did you mean "f1"'):
        calibrate([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], ones, objective="f-1")
    with pytest.raises(BadInput, match="both classes"):
        calibrate([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0], ones)
    with pytest.raises(BadInput, match=r"No threshold reaches a precision of 0\.99; the best is expected"):
        calibrate([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0], ones, objective="precision", precision=0.99)
