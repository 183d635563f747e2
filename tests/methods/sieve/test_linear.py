"""hashed-linear: its minimum, its features against scikit-learn, adapting, saving."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from fixtures_sieve_students import corpus
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve.students import StudentConfig, count_ngrams, open_student, solve


def fitted(n=120, **settings):
    texts, labels = corpus(n)
    student = open_student("hashed-linear", StudentConfig(**settings))
    student.adapt(texts, Rng(0))
    return student, student.fit(texts, labels, [1.0] * n, Rng(0))


def test_it_learns_two_topics():
    student, took = fitted()
    texts, labels = corpus(200, seed=1)
    assert ((student.predict(texts) > 0.5) == labels).mean() > 0.95
    assert took.best_step == took.steps > 0 and took.held_out == 0 and took.held_out_loss is None


@pytest.mark.slow
def test_the_minimum_is_that_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 5))
    labels = (features[:, 0] + generator.normal(size=60) > 0).astype(int)
    weights = generator.uniform(0.2, 3, 60)
    weights /= weights.mean()
    found = solve(features, labels, weights, gamma=0.0, l2=2.0)
    wanted = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(features, labels, weights)
    np.testing.assert_allclose(found.weights, wanted.coef_[0], atol=1e-5)
    assert found.bias == pytest.approx(wanted.intercept_[0], abs=1e-5)


def test_the_minimum_for_one_feature_is_where_the_slope_is_zero():
    # Two labels at x = 1 and x = -1 on their own side: bias 0, and w minimises 2 q^2 (-log p) + l2/2 w^2 with p = sigmoid(w).
    found = solve(np.array([[1.0], [-1.0]]), np.array([1, 0]), np.ones(2), gamma=2.0, l2=0.1)
    grid = np.arange(0, 5, 1e-4)
    p = 1 / (1 + np.exp(-grid))
    wanted = grid[np.argmin(-2 * (1 - p) ** 2 * np.log(p) + 0.05 * grid**2)]
    assert found.weights[0] == pytest.approx(wanted, abs=2e-4) and found.bias == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("l2", [1e-6, 1e6])
@pytest.mark.parametrize("gamma", [0.0, 8.0])
def test_extreme_settings_still_end(gamma, l2):
    student, _ = fitted(gamma=gamma, l2=l2)
    assert np.isfinite(student.predict(["vote", "goal", ""])).all()


def test_features_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["The vote, the VOTE!", "Élan vital — the été", "a b a b a", "", "naïve_word x1"]
    student = open_student("hashed-linear", StudentConfig(idf=True))
    student.adapt(texts, Rng(0))
    ours = student._features(texts).toarray()
    vectorizer = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True)
    theirs = vectorizer.fit_transform(texts).toarray()
    for gram, column in vectorizer.vocabulary_.items():
        (piece,) = count_ngrams([gram], 20, gram.count(" ") + 1)
        # The bucket of the gram itself is the one that its single words do not have.
        alone = {int(b) for word in gram.split() for b in next(count_ngrams([word], 20, 1)).buckets}
        bucket = [int(b) for b in piece.buckets if len(alone) == 1 or int(b) not in alone]
        if " " in gram and len(alone) == 1:  # "a a": its own bucket is the one that is not the word's
            bucket = [b for b in bucket if b not in alone]
        np.testing.assert_allclose(ours[:, bucket[0]], theirs[:, column], atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"idf": True}, {"lsa_dim": 4, "ngrams": 1}])
def test_scores_do_not_depend_on_the_other_texts(settings):
    student, _ = fitted(**settings)
    texts = [*corpus(50, seed=2)[0], "", "unheard words only", "Ünïcode ελληνικά 中文"]
    together = student.predict(texts)
    assert together.shape == (53,) and ((together >= 0) & (together <= 1)).all()
    assert [student.predict([text])[0] for text in texts] == together.tolist()
    assert student.predict([]).shape == (0,)


def test_lsa_scores_are_linear_in_the_standardised_dimensions():
    texts, labels = corpus(120)
    student, _ = fitted(lsa_dim=4, ngrams=1)
    dimensions = student._lsa.project(student._features(texts))
    np.testing.assert_allclose(dimensions.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(dimensions.std(0), 1, atol=1e-4)
    found = solve(dimensions, np.array(labels), np.ones(120), gamma=2.0, l2=student.config.l2)
    wanted = 1 / (1 + np.exp(-(dimensions @ found.weights + found.bias)))
    np.testing.assert_allclose(student.predict(texts), wanted, atol=1e-4)


def test_weights_lift_a_verdict():
    texts, labels = corpus(60)
    student = open_student("hashed-linear")
    student.fit(texts, labels, [1.0] * 60, Rng(0))
    even = student.predict(["the of"])[0]
    student.fit(texts, labels, [9.0 if label else 1.0 for label in labels], Rng(0))
    assert student.predict(["the of"])[0] > even


def test_every_fit_begins_anew():
    texts, labels = corpus(80)
    student, _ = fitted()
    first = student.predict(texts)
    student.fit(texts[:40], [1 - y for y in labels[:40]], [1.0] * 40, Rng(1))
    assert not np.array_equal(student.predict(texts), first)
    student.fit(*corpus(120), [1.0] * 120, Rng(2))
    assert np.array_equal(student.predict(texts), first)


def test_spans_are_the_words():
    text = "Don't  stop — été_1."
    spans = open_student("hashed-linear").token_spans(text)
    assert [text[a:b] for a, b in spans] == ["Don", "t", "stop", "été_1"]
    assert open_student("hashed-linear").token_spans("") == []


@pytest.mark.parametrize("settings", [{}, {"idf": True, "hash_bits": 12}, {"lsa_dim": 4, "ngrams": 1}])
def test_a_saved_student_scores_the_same_and_can_be_fitted_again(settings, tmp_path):
    student, _ = fitted(**settings)
    student.save(tmp_path / "made" / "here")
    again = open_student(tmp_path / "made" / "here")
    texts, _ = corpus(30, seed=3)
    assert again.config == student.config and again.name == "hashed-linear"
    assert np.array_equal(again.predict(texts), student.predict(texts))
    again.fit(*corpus(120), [1.0] * 120, Rng(0))
    assert np.array_equal(again.predict(texts), student.predict(texts))


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_scores_without_torch(tmp_path):
    student, _ = fitted()
    student.save(tmp_path)
    texts, _ = corpus(10, seed=4)
    script = (
        "import json, sys\nfrom gnomon.methods.sieve.students import open_student\n"
        f"scores = open_student({str(tmp_path)!r}).predict(json.loads(sys.argv[1]))\n"
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)\nprint(json.dumps(scores.tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(texts)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == student.predict(texts).tolist()


def test_the_largest_scores_keep_their_order():
    student, _ = fitted(l2=1e-6)
    student._bias = 30.0
    low = student.predict(["goal"])[0]
    student._bias = -60.0
    assert 0 < student.predict(["goal"])[0] < 1e-20 < low <= 1


def test_what_cannot_be_learned_is_said():
    student = open_student("hashed-linear")
    with pytest.raises(BadInput, match=r'both verdicts, and there is only the label "fail"'):
        student.fit(["a", "b"], [0, 0], [1.0, 1.0], Rng(0))
    with pytest.raises(BadInput, match="there is no label"):
        student.fit([], [], [], Rng(0))
    with pytest.raises(BadInput, match="Label 1 is 2"):
        student.fit(["a", "b"], [0, 2], [1.0, 1.0], Rng(0))
    with pytest.raises(BadInput, match="2 texts came with 1 weights"):
        student.fit(["a", "b"], [0, 1], [1.0], Rng(0))
    with pytest.raises(BadInput, match="2 texts came with 3 groups"):
        student.fit(["a", "b"], [0, 1], [1.0, 1.0], Rng(0), groups=["d"] * 3)
    with pytest.raises(BadInput, match="Weight 0 is nan"):
        student.fit(["a", "b"], [0, 1], [math.nan, 1.0], Rng(0))
    with pytest.raises(BadInput, match="learned nothing yet"):
        student.predict(["a"])
    with pytest.raises(BadInput, match="Call adapt before fit"):
        open_student("hashed-linear", StudentConfig(lsa_dim=4)).fit(["a", "b"], [0, 1], [1.0, 1.0], Rng(0))
    with pytest.raises(BadInput, match=r"2 unlabelled texts share 1 n-grams, too few for student\.lsa_dim 4"):
        open_student("hashed-linear", StudentConfig(lsa_dim=4)).adapt(["a b", "a c"], Rng(0))
    with pytest.raises(BadConfig, match=r"student\.hash_bits must be in 4\.\.28; got 40"):
        StudentConfig(hash_bits=40)


def test_a_damaged_folder_is_named(tmp_path):
    student, _ = fitted()
    student.save(tmp_path)
    (tmp_path / "student.safetensors").unlink()
    with pytest.raises(BadInput, match=r"student\.safetensors cannot be read"):
        open_student(tmp_path)
    about = json.loads((tmp_path / "student.json").read_text())
    (tmp_path / "student.json").write_text(json.dumps(about | {"format": 2}))
    with pytest.raises(BadInput, match="format 2 and this version reads 1"):
        open_student(tmp_path)
    (tmp_path / "student.json").write_text("{")
    with pytest.raises(BadInput, match="not the description of a student"):
        open_student(tmp_path)


def test_a_student_that_is_adapted_and_not_fitted_can_be_kept(tmp_path):
    texts = [f"the {a} of the {b}" for a in ("sea", "hill", "road") for b in ("town", "moon", "king")]
    student = open_student("hashed-linear", StudentConfig(idf=True, hash_bits=10))
    student.adapt(texts, Rng(0))
    student.save(tmp_path)
    again = open_student(tmp_path)
    with pytest.raises(BadInput, match="learned nothing yet"):
        again.predict(texts)
    for one in (student, again):
        one.fit(texts, [0, 1] * 4 + [0], [1.0] * 9, Rng(0))
    assert (student.predict(texts) == again.predict(texts)).all()
