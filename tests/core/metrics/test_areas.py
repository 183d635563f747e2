"""Agreement of masks, boxes and images: by hand, and against scikit-learn and a window written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score

from gnomon.core.metrics.areas import Counts, agreement, area_scores, box_accuracy, counts, psnr, ssim
from gnomon.errors import BadInput

masks = st.integers(0, 2**30).map(lambda seed: np.random.default_rng(seed).random((2, 5, 6)) < 0.4)


@given(masks)
def test_shares_are_those_of_scikit_learn(pair):
    pred, truth = pair
    c = counts(pred, truth)
    assert c.tp + c.fp + c.fn + c.tn == pred.size
    if pred.any() or truth.any():
        assert c.f1 == pytest.approx(f1_score(truth.ravel(), pred.ravel(), zero_division=0.0))
        assert c.iou == pytest.approx(jaccard_score(truth.ravel(), pred.ravel(), zero_division=0.0))
        assert c.f1 == pytest.approx(2 * c.iou / (1 + c.iou))


def test_an_empty_truth_counts_what_the_caller_says():
    half, empty, wrong = Counts(2, 1, 1, 5), Counts(0, 0, 0, 9), Counts(0, 3, 0, 6)
    out = agreement([half, empty, wrong], empty="leave out")
    assert (out.images, out.left_out, out.iou, out.f1) == (1, 2, 0.5, pytest.approx(2 / 3))
    ones = agreement([half, empty, wrong], empty=1.0)
    assert (ones.images, ones.left_out, ones.iou) == (3, 0, pytest.approx((0.5 + 1 + 0) / 3))
    assert ones.pooled == Counts(2, 4, 1, 20)
    with pytest.raises(BadInput, match="None of 2 images"):
        agreement([empty, wrong], empty="leave out")
    with pytest.raises(TypeError):
        agreement([half])
    assert np.isnan(empty.iou) and np.isnan(empty.precision) and wrong.precision == 0


def test_masks_alone_are_compared():
    with pytest.raises(BadInput, match="float64"):
        counts(np.zeros((2, 2)), np.zeros((2, 2), bool))


def test_boxes_row_by_row():
    truth = np.array([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    pred = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [np.nan] * 4])
    assert box_accuracy(pred, truth) == pytest.approx(1 / 3)
    assert box_accuracy(pred, truth, 1 / 3) == pytest.approx(2 / 3)  # at least
    with pytest.raises(BadInput):
        box_accuracy(pred[:1], truth)


def test_psnr_by_hand():
    a, b = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert psnr(a, b) == 0 and psnr(a, a) == float("inf")
    assert psnr(a, np.full((4, 4), 16, np.uint8)) == pytest.approx(20 * np.log10(255 / 16))


def test_ssim_is_that_of_a_window_written_out():
    draw = np.random.default_rng(0)
    a = draw.integers(0, 256, (17, 15)).astype(float)
    b = np.clip(a + draw.normal(0, 20, a.shape), 0, 255)
    ax = np.arange(-5, 6)
    window = np.exp(-(ax**2) / (2 * 1.5**2))
    window = np.outer(window, window) / np.outer(window, window).sum()
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for y in range(5, 12):
        for x in range(5, 10):
            p, q = a[y - 5 : y + 6, x - 5 : x + 6], b[y - 5 : y + 6, x - 5 : x + 6]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            both = (window * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert ssim(a, b) == pytest.approx(np.mean(values), abs=1e-9)
    assert ssim(a, a) == pytest.approx(1) and ssim(
        np.stack([a] * 3, -1), np.stack([b] * 3, -1)
    ) == pytest.approx(ssim(a, b))
    with pytest.raises(BadInput, match="smaller than the window"):
        ssim(a[:8], b[:8])


def test_a_curve_wants_scores_and_not_a_mask():
    truth = [np.array([[True, False]]), np.array([[False, True]])]
    assert area_scores([np.array([[0.9, 0.1]]), np.array([[0.2, 0.7]])], truth) == 1.0
    with pytest.raises(BadInput, match="a mask"):
        area_scores([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], truth)
    with pytest.raises(BadInput, match="one kind"):
        area_scores([np.array([[0.9, 0.1, 0.3]])], [np.ones((1, 3), bool)])
