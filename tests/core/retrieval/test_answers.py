"""Citations and confidence, worked by hand and against slow definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.retrieval import (
    Answer,
    calibration_error,
    check_citations,
    fit_confidence,
    risk_coverage,
    without_cited,
)
from gnomon.errors import BadConfig, BadInput

SHOWN = {
    "a": "The council met twelve times in 1999.",
    "b": "Rain fell on the market.",
    "c": "The council met in the old market hall.",
}


def answer(*sentences, **more):
    return Answer("When?", tuple((text, tuple(names)) for text, *names in sentences), **more)


def test_what_holds_and_what_does_not():
    checked = check_citations(
        answer(
            ("The council met twelve times in 1999.", "a"),  # supported; the citation counts
            ("Rain fell.", "b", "c"),  # supported; c is idle
            ("Bread is cheap.", "b"),  # not supported
            ("The council met.", "x", "a"),  # x was never shown
            ("Prices rose sharply.",),  # no citation
            ("It is.", "a"),  # says nothing
        ),
        SHOWN,
    )
    assert checked.unknown == ((3, "x"),)
    assert checked.bare == (4,)
    assert checked.support[:5] == (1.0, 1.0, 0.0, 1.0, 0.0) and math.isnan(checked.support[5])
    assert checked.recall == 3 / 5
    assert checked.precision == 3 / 6  # of a, b, c, b, x, a: the first a, the first b and the last a


def test_two_passages_may_support_together_what_none_does_alone():
    text = "Twelve meetings councils, rain, hall."  # twelve, meet, council, rain, hall
    sources = {"a": "twelve meetings", "b": "rain hall", "c": "council rain"}
    checked = check_citations(answer((text, "a", "b")), sources, least=0.8)
    assert (checked.recall, checked.precision) == (1.0, 1.0)  # 4 of 5 together, 2 of 5 alone
    checked = check_citations(answer((text, "a", "b", "c")), sources, least=0.8)
    # 5 of 5 together. Without a: 3. Without b: 4, so b is idle. Without c: 4, so c is idle too.
    assert (checked.support, checked.precision) == ((1.0,), 1 / 3)


def test_an_answer_that_abstained_has_nothing_to_check():
    checked = check_citations(answer(("I cannot tell.", "x"), abstained=True), SHOWN)
    assert checked.unknown == checked.bare == checked.support == ()
    assert math.isnan(checked.recall) and math.isnan(checked.precision)
    assert without_cited(answer(("No.", "a"), abstained=True), SHOWN, lambda q, s: None) == []


def test_without_the_passage_the_answer_must_change_or_be_withheld():
    seen = []

    def ask(question, shown):
        seen.append((question, tuple(shown)))
        if "a" not in shown:
            return answer(abstained=True)
        if "c" not in shown:
            return answer(("In a hall.", "a"))
        return answer(("TWELVE  times.", "a"))

    first = answer(("Twelve", "a", "b"), ("times.", "c", "x", "a"))
    assert first.text == "Twelve times." and first.cited == ("a", "b", "c", "x")
    removals = without_cited(first, SHOWN, ask)
    assert [(r.passage, r.holds) for r in removals] == [("a", True), ("b", False), ("c", True)]
    assert seen == [("When?", ("b", "c")), ("When?", ("a", "c")), ("When?", ("a", "b"))]


def test_the_curve_by_hand():
    """Surest first: right, right + wrong at one confidence, wrong, right."""
    curve = risk_coverage([0.9, 0.7, 0.7, 0.5, 0.1], [True, False, True, False, True])
    assert curve.threshold.tolist() == [0.9, 0.7, 0.5, 0.1]
    assert curve.coverage.tolist() == [0.2, 0.6, 0.8, 1.0]
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 2 / 4, 2 / 5])
    np.testing.assert_allclose(curve.wrong_given, [0, 0.2, 0.4, 0.4])
    np.testing.assert_allclose(curve.right_withheld, [0.4, 0.2, 0.2, 0])
    # Risks one by one: 0, then half an error in two, one in three, two in four, two in five.
    assert curve.aurc == pytest.approx((0 + 0.25 + 1 / 3 + 0.5 + 0.4) / 5)
    assert curve.aurc_best == pytest.approx((1 / 4 + 2 / 5) / 5)
    assert curve.always == pytest.approx(0.4)
    assert curve.rows()[0] == {
        "threshold": 0.9,
        "coverage": 0.2,
        "risk": 0,
        "wrong_given": 0,
        "right_withheld": 0.4,
    }


OUTCOMES = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6)


def by_orders(pairs):
    """Mean of the area over all orders that respect the confidences."""
    areas = []
    for order in itertools.permutations(range(len(pairs))):
        if all(pairs[a][0] >= pairs[b][0] for a, b in itertools.pairwise(order)):
            wrong = np.cumsum([not pairs[i][1] for i in order])
            areas.append(np.mean(wrong / np.arange(1, len(pairs) + 1)))
    return np.mean(areas)


@given(OUTCOMES)
def test_the_area_is_the_mean_over_all_orders_of_equal_confidences(pairs):
    curve = risk_coverage(*zip(*pairs, strict=True))
    assert curve.aurc == pytest.approx(by_orders(pairs))
    assert curve.aurc_best == pytest.approx(by_orders([(right, right) for _, right in pairs]))
    assert curve.aurc_best <= curve.aurc + 1e-12
    assert risk_coverage([0] * len(pairs), [right for _, right in pairs]).aurc == pytest.approx(curve.always)


@given(OUTCOMES, st.randoms())
def test_neither_order_nor_scale_matter_and_every_answer_is_accounted_for(pairs, random):
    curve = risk_coverage(*zip(*pairs, strict=True))
    shuffled = random.sample(pairs, len(pairs))
    other = risk_coverage([math.exp(c) for c, _ in shuffled], [right for _, right in shuffled])
    np.testing.assert_array_equal(curve.risk, other.risk)
    assert curve.aurc == pytest.approx(other.aurc)
    share_right = np.mean([right for _, right in pairs])
    right_given = curve.coverage - curve.wrong_given
    np.testing.assert_allclose(right_given + curve.right_withheld, share_right, atol=1e-12)
    assert (np.diff(curve.wrong_given) >= 0).all() and (np.diff(curve.right_withheld) <= 1e-12).all()
    assert curve.coverage[-1] == 1 and curve.right_withheld[-1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("confidence", "right"), [([], []), ([0.5], [True, False]), ([math.nan, 1], [True, True])]
)
def test_what_makes_no_curve_is_refused(confidence, right):
    with pytest.raises(BadInput):
        risk_coverage(confidence, right)


def labelled(n=400, seed=0):
    """Signals of which the first moves the odds by 2 a unit, the second not at all."""
    draw = np.random.default_rng(seed)
    signals = draw.normal(size=(n, 2))
    right = draw.random(n) < 1 / (1 + np.exp(-(2 * signals[:, 0] - 0.5)))
    return signals, right


def test_confidence_is_scikit_learn_s_logistic_and_finds_what_was_planted():
    from sklearn.linear_model import LogisticRegression

    signals, right = labelled()
    fitted = fit_confidence(signals, right, ["margin", "gain"])
    z = (signals - signals.mean(0)) / signals.std(0)
    theirs = LogisticRegression(max_iter=1000).fit(z, right)
    assert fitted.probabilities(signals) == pytest.approx(theirs.predict_proba(z)[:, 1])
    slope = fitted.weights[0] / fitted.spread[0]
    assert slope == pytest.approx(2, abs=0.5) and abs(fitted.weights[1]) < 0.3 and fitted.n == 400
    fresh, outcomes = labelled(seed=1)
    assert calibration_error(fitted.probabilities(fresh), outcomes) < 0.08


def test_an_isotonic_confidence_rises_and_is_calibrated_where_the_logistic_is_not():
    draw = np.random.default_rng(2)
    margin = draw.uniform(0, 1, (3000, 1))
    right = draw.random(3000) < np.where(margin[:, 0] > 0.8, 0.95, 0.4)  # a step, no logistic curve
    logistic, isotonic = (
        fit_confidence(margin, right, ["margin"], kind) for kind in ("logistic", "isotonic")
    )
    steps = isotonic.probabilities(np.linspace(0, 1, 50)[:, None])
    assert (np.diff(steps) >= -1e-12).all() and steps[5] == pytest.approx(0.4, abs=0.1)
    assert steps[-5] == pytest.approx(0.95, abs=0.06)
    assert steps[0] > 0 and steps[-1] < 1  # nothing is certain
    errors = [calibration_error(c.probabilities(margin), right) for c in (logistic, isotonic)]
    assert errors[1] < errors[0] / 2


def test_no_sample_no_percentage():
    signals, right = labelled(9)
    assert fit_confidence(signals, right, ["a", "b"]) is None  # too few
    signals, _ = labelled(50)
    assert fit_confidence(signals, np.ones(50), ["a", "b"]) is None  # nothing went wrong
    assert Answer("q").confidence is None
    for wrong, message in (
        ((signals, np.ones(49)), "must be"),
        ((signals * np.nan, np.arange(50) % 2), "finite"),
    ):
        with pytest.raises(BadInput, match=message):
            fit_confidence(*wrong, ["a", "b"])
    fitted = fit_confidence(signals, np.arange(50) % 2, ["a", "b"])
    with pytest.raises(BadInput, match="rests on a, b; got 1"):
        fitted.probabilities([[1.0]])
    with pytest.raises(BadConfig, match="logistic or isotonic"):
        fit_confidence(signals, np.arange(50) % 2, ["a", "b"], "platt")


def test_calibration_error_by_hand():
    # Two bins of two: |.15 - .5| and |.85 - 1|.
    assert calibration_error([0.9, 0.1, 0.8, 0.2], [1, 1, 1, 0], bins=2) == pytest.approx((0.35 + 0.15) / 2)
    with pytest.raises(BadInput):
        calibration_error([], [])
