"""Span uncertainty by hand and against a plain loop over windows."""

import dataclasses
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag.options import Span
from gnomon.methods.uncertainty_rag.scoring.windows import calibrated, trace, uncertainty, windows_of


def by_loop(row, span):
    """U, windows and kept ones, as the specification words them."""
    w = min(span.window, len(row))
    signal = row if span.signal == "information" else np.exp(-row)
    stats = []
    for j in range(len(row) - w + 1):
        ratio = signal[j : j + w].mean() / (signal[j : j + w].std() + 1e-6)
        ratio = 20 * math.log10(ratio) if span.snr == "db" else ratio
        stats.append((row[j : j + w].mean(), ratio))
    ratios = [ratio for _, ratio in stats]
    kept = [
        j for j, r in enumerate(ratios) if (r < span.sigma if span.direction == "below" else r > span.sigma)
    ]
    fell_back = not kept
    if fell_back:
        kept = [int(np.argmin(ratios) if span.direction == "below" else np.argmax(ratios))]
    if span.average == "windows":
        value = np.mean([stats[j][0] for j in kept])
    else:
        value = row[sorted({t for j in kept for t in range(j, j + w)})].mean()
    return value, len(stats), len(kept), fell_back


def test_two_windows_by_hand():
    # Windows of 2 over 1, 3, 3: means 2 and 3, deviations 1 and 0, ratios about 2 and 3,000,000.
    row = np.array([1.0, 3.0, 3.0])
    below, above = Span(window=2, sigma=2.5), Span(window=2, sigma=2.5, direction="above")
    assert uncertainty([row], below).value[0] == pytest.approx(2.0)
    assert uncertainty([row], above).value[0] == pytest.approx(3.0)
    both = uncertainty([row], Span(window=2, sigma=1e9))
    assert both.value[0] == pytest.approx(2.5) and both.kept[0] == 2
    # Over tokens every one counts once: 7 / 3.
    assert uncertainty([row], Span(window=2, sigma=1e9, average="tokens")).value[0] == pytest.approx(7 / 3)
    # In decibels the threshold 2.5 is 20 log10 2.5.
    db = Span(window=2, sigma=20 * math.log10(2.5), snr="db")
    assert uncertainty([row], db).value[0] == pytest.approx(2.0)


rows = st.lists(st.lists(st.floats(0.001, 12), min_size=1, max_size=30).map(np.array), min_size=1, max_size=5)
spans = st.builds(
    Span,
    window=st.integers(1, 9),
    sigma=st.floats(0.3, 4),
    direction=st.sampled_from(["below", "above"]),
    signal=st.sampled_from(["information", "probability"]),
    snr=st.sampled_from(["ratio", "db"]),
    average=st.sampled_from(["windows", "tokens"]),
)


@given(rows, spans)
def test_all_windows_at_once_are_those_of_a_loop(rows, span):
    ours = uncertainty(rows, span)
    for i, row in enumerate(rows):
        ratios = windows_of([row], span).ratio[0]
        # A ratio within rounding of the threshold may be on either side of it.
        if np.abs(ratios - span.sigma).min() < 1e-6 or len(np.unique(ratios.round(6))) < len(ratios):
            continue
        value, n, kept, fell_back = by_loop(row, span)
        assert (ours.n_windows[i], ours.kept[i], ours.fell_back[i]) == (n, kept, fell_back)
        assert ours.value[i] == pytest.approx(value, abs=1e-9)


@given(rows, spans)
def test_other_pairs_beside_it_change_nothing(rows, span):
    together = uncertainty(rows, span).value
    alone = np.concatenate([uncertainty([row], span).value for row in rows])
    assert together == pytest.approx(alone, abs=1e-12)


def test_a_constant_pair_keeps_nothing_and_falls_back():
    result = uncertainty([np.full(30, 2.0)], Span(window=8, sigma=5.0))
    assert result.fell_back[0] and result.kept[0] == 1 and result.value[0] == pytest.approx(2.0)
    # Large numbers beside it: what is constant stays constant, by rounding alone it would not.
    row = np.concatenate([np.full(20, 1000.1), [0.5]])
    assert windows_of([row], Span(window=5)).ratio[0, 0] > 1e6


def test_a_pair_shorter_than_a_window_has_one_of_its_length():
    result = uncertainty([np.array([1.0, 2.0, 6.0])], Span(window=20, sigma=100.0))
    assert (result.n_windows[0], result.kept[0]) == (1, 1) and result.value[0] == pytest.approx(3.0)


def test_a_threshold_is_frozen_once_and_then_does_not_depend_on_the_pairs_beside():
    draw = np.random.default_rng(0)
    sample = [draw.exponential(2, 60) for _ in range(40)]
    span = calibrated(sample, Span(window=8, quantile=0.3))
    ratios = np.concatenate(
        [[r[j : j + 8].mean() / (r[j : j + 8].std() + 1e-6) for j in range(53)] for r in sample]
    )
    assert span.sigma == pytest.approx(np.quantile(ratios, 0.3))
    assert calibrated(sample[:3], span) is span  # set already
    kept = uncertainty(sample, span)
    assert kept.kept.sum() / kept.n_windows.sum() == pytest.approx(0.3, abs=0.01)
    with pytest.raises(BadConfig, match="calibrate it"):
        uncertainty(sample, Span())


def test_a_trace_adds_up_to_its_score():
    row, span = np.random.default_rng(1).exponential(2, 50), Span(window=6, sigma=1.2)
    traced = trace(row, span)
    kept = [mean for mean, keep in zip(traced["mean"], traced["kept"], strict=True) if keep]
    assert np.mean(kept) == pytest.approx(traced["U"]) and len(traced["ratio"]) == 45
    tokens = [t for t, is_covered in enumerate(traced["covered"]) if is_covered]
    wanted = {t for j, keep in enumerate(traced["kept"]) if keep for t in range(j, j + 6)}
    assert set(tokens) == wanted


def test_what_has_no_tokens_or_is_not_finite_is_refused():
    for wrong in ([np.array([])], [np.array([1.0]), np.array([np.nan])]):
        with pytest.raises(BadInput):
            uncertainty(wrong, Span(sigma=1.0))
    for field, value in (("window", 0), ("quantile", 1.0), ("sigma", math.inf)):
        with pytest.raises(BadConfig, match=f"span.{field}"):
            dataclasses.replace(Span(), **{field: value})


def test_ten_thousand_pairs_of_600_tokens_take_about_a_second():
    draw = np.random.default_rng(0)
    many = [draw.exponential(2, 600) for _ in range(2000)]
    span = calibrated(many[:50], Span())
    began = time.process_time()
    uncertainty(many, span)
    assert time.process_time() - began < 1.0  # a fifth of the pairs, with room for slow machines
