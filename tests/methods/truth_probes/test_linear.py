"""Linear probes against scikit-learn's own, and what they refuse."""

import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gnomon.errors import BadInput
from gnomon.methods.truth_probes import FitOptions
from gnomon.methods.truth_probes.probes import LinearProbe, fit_along, fit_probe


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (200, 6)).astype(np.float32) * [1, 5, 0.1, 1, 1, 1] + 3
    z = (x[:, 0] - x[:, 3] + rng.normal(0, 0.5, 200) > 0).astype(int)
    return x, z


@pytest.mark.parametrize("standardise", [True, False])
def test_it_is_scikit_learn_s_logistic_regression(data, standardise):
    x, z = data
    ready = StandardScaler().fit_transform(x) if standardise else x
    other = LogisticRegression(max_iter=5000).fit(ready, z)
    ours = fit_probe(x, z, FitOptions(scale=standardise, max_iter=5000))
    np.testing.assert_allclose(ours.predict(x), other.predict_proba(ready)[:, 1], atol=2e-3)


def test_a_start_does_not_change_where_the_solver_ends(data):
    x, z = data
    first, second = fit_along([x, x[:, ::-1]], z)
    np.testing.assert_allclose(second.predict(x[:, ::-1]), first.predict(x), atol=1e-2)


def test_a_constant_feature_is_only_centred(data):
    x, z = data
    x = np.concatenate([x, np.full((len(x), 1), 7.0)], 1)
    probe = fit_probe(x, z)
    assert np.isfinite(probe.predict(x)).all()
    assert probe.scale[-1] == 1


def test_tensors_and_back(data):
    x, z = data
    probe = fit_probe(x, z)
    assert (LinearProbe.of(probe.tensors()).logits(x) == probe.logits(x)).all()


def test_far_logits_do_not_overflow():
    probe = LinearProbe(np.array([1e4], np.float32), 0.0, np.zeros(1, np.float32), np.ones(1, np.float32))
    assert probe.predict([[1.0], [-1.0]]).tolist() == [1.0, 0.0]


def test_a_solver_that_does_not_converge_is_told_of(data, caplog):
    x, z = data
    with caplog.at_level(logging.WARNING, "gnomon.methods.truth_probes.probes.probe"):
        fit_probe(x, z, FitOptions(scale=False, max_iter=1))
    assert "did not converge in 4 steps" in caplog.text


@pytest.mark.parametrize(
    ("x", "z", "message"),
    [
        (np.ones((3, 2)), [1, 1, 1], "both classes"),
        (np.ones((3, 2)), [1, 0], "one label, 0 or 1, per state"),
        (np.ones(3), [1, 0, 1], r"\[N, D\]"),
        (np.full((2, 2), np.inf), [1, 0], "not finite"),
    ],
)
def test_errors(x, z, message):
    with pytest.raises(BadInput, match=message):
        fit_probe(x, z)


def test_another_width_is_refused(data):
    with pytest.raises(BadInput, match="width 6; got 2"):
        fit_probe(*data).predict(np.ones((1, 2)))
