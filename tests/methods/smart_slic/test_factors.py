"""Factorisations: values worked by hand, other libraries as second opinions, planted numbers of topics."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import non_negative_factorization
from sklearn.metrics import adjusted_rand_score, pairwise_distances, silhouette_samples

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.smart_slic.factors.joint import SPLIT, HNMFk, RESCALk
from gnomon.methods.smart_slic.factors.matrices import cooccurrence, sppmi, tfidf
from gnomon.methods.smart_slic.factors.multiplicative import (
    Options,
    column_errors,
    factorise,
    nnsvd,
    regress,
    relative_error,
    singular,
)
from gnomon.methods.smart_slic.factors.nmfk import NMFk, choose
from gnomon.methods.smart_slic.factors.stability import aligned, match, silhouettes

QUICK = Options(copies=6, iterations=120)


def gamma_factors(k, seed, m=200, n=150):
    draw = np.random.default_rng(seed)
    return draw.gamma(0.3, size=(m, k)) @ draw.gamma(0.3, size=(k, n))


def lda(k, seed, words=150, documents=120, length=120):
    """Counts of words [words, documents] of topics that share few words, and the topic of each document."""
    draw = np.random.default_rng(seed)
    topics = draw.dirichlet(np.full(words, 0.05), k)
    labels = np.arange(documents) % k
    counts = np.stack([draw.multinomial(length, 0.9 * topics[t] + 0.1 / words) for t in labels], 1)
    return counts.astype(float), labels


def test_nnsvd_by_hand():
    """u = (3, -4)/5, v = (1, -1)/sqrt 2, s = 10: the negative parts carry more: |u-| = .8, |v-| = .707 against .6 and .707."""
    U, s, Vt = np.array([[0.6], [-0.8]]), np.array([10.0]), np.array([[1.0, -1.0]]) / math.sqrt(2)
    W, H = nnsvd(U, s, Vt)
    size = math.sqrt(0.8 * math.sqrt(0.5) * 10)
    np.testing.assert_allclose(W, [[0.0], [1.0]])
    np.testing.assert_allclose(H, [[0.0, size * size]])


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_updates_are_those_of_scikit_learn(loss, is_sparse):
    draw = np.random.default_rng(0)
    X = draw.random((20, 15)) * (draw.random((20, 15)) < 0.7)
    W0, H0 = draw.random((20, 3)), draw.random((3, 15))
    # scikit-learn takes W before H: of X' the factors change their names.
    Ht, Wt, _ = non_negative_factorization(
        X.T, W=H0.T.copy(), H=W0.T.copy(), n_components=3, init="custom", solver="mu",
        beta_loss="kullback-leibler" if loss == "kl" else loss, max_iter=9, tol=0,
    )  # fmt: skip
    W, H = factorise(sp.csr_matrix(X) if is_sparse else X, W0, H0, 9, loss)
    np.testing.assert_allclose(W @ H, (Ht @ Wt).T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(W.sum(0), 1)


def test_zeros_of_the_start_do_not_stay():
    """scikit-learn's updates from the same start keep them, and stop at more than twice the error."""
    draw = np.random.default_rng(3)
    X = draw.random((80, 9)) ** 3 @ draw.random((9, 60)) ** 3
    W0, H0 = nnsvd(*singular(X, 9, draw))
    assert (W0 == 0).any()
    Ht, Wt, _ = non_negative_factorization(
        X.T, W=H0.T.copy(), H=W0.T.copy(), n_components=9, init="custom", solver="mu", max_iter=1000, tol=0
    )
    stuck = np.linalg.norm(X - (Ht @ Wt).T) / np.linalg.norm(X)
    assert relative_error(X, *factorise(X, W0, H0, 1000)) < 0.5 * stuck


def test_regression_is_that_of_scipy():
    from scipy.optimize import nnls

    draw = np.random.default_rng(1)
    X, W = draw.random((12, 5)), draw.random((12, 4))
    wanted = np.stack([nnls(W, X[:, j])[0] for j in range(5)], 1)
    np.testing.assert_allclose(regress(X, W, 3000), wanted, atol=1e-6)
    np.testing.assert_allclose(regress(sp.csr_matrix(X), W, 3000), wanted, atol=1e-6)


def test_errors_of_columns_without_the_product():
    draw = np.random.default_rng(2)
    X, W, H = draw.random((9, 7)), draw.random((9, 2)), draw.random((2, 7))
    wanted = ((X - W @ H) ** 2).sum(0)
    np.testing.assert_allclose(column_errors(X, W, H), wanted)
    np.testing.assert_allclose(column_errors(sp.csr_matrix(X), W, H), wanted)


def test_silhouettes_by_hand():
    """Two clusters in the plane, at angles 0 and 10, and 90 and 90 degrees: s = 1 - a/b for each."""
    angles = np.deg2rad([[0.0, 90.0], [10.0, 90.0]])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 2)
    np.testing.assert_allclose(silhouettes(vectors), [((1 - 10 / 90) + (1 - 10 / 80)) / 2, 1.0])


def test_silhouettes_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    vectors = draw.random((5, 4, 6))
    flat = vectors.reshape(20, 6)
    angles = np.arccos(np.clip(1 - pairwise_distances(flat, metric="cosine"), -1, 1))
    np.fill_diagonal(angles, 0)
    samples = silhouette_samples(angles, np.tile(np.arange(4), 5), metric="precomputed")
    np.testing.assert_allclose(silhouettes(vectors), samples.reshape(5, 4).mean(0), rtol=1e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_shuffle_of_copies_columns_is_undone(seed):
    draw = np.random.default_rng(seed)
    W, H = draw.random((12, 4)) ** 4, draw.random((4, 9))
    orders = [draw.permutation(4) for _ in range(5)]
    stacked = np.stack([W[:, o] * draw.uniform(0.5, 2) for o in orders])
    clusters = match(stacked)
    rows = aligned(np.stack([H[o] for o in orders]), clusters.order)
    assert (rows == rows[0]).all()
    np.testing.assert_allclose(silhouettes(rows), 1, atol=1e-6)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("options", [QUICK, Options(copies=6, iterations=300, init="random", noise=0.015)])
def test_planted_factors_are_counted(k, options):
    """With rows of H that did not move with W's clusters, random starts would choose 2 here."""
    result = NMFk(options).fit(gamma_factors(k, 0), range(2, 8))
    assert result.k == k and not result.warning


@pytest.mark.parametrize("seed", range(3))
def test_topics_of_text_are_counted_and_every_document_placed(seed):
    X, labels = lda(6, seed)
    result = NMFk(QUICK, rng=Rng(seed)).fit(sp.csr_matrix(X), range(2, 10))
    assert result.k == 6
    assert adjusted_rand_score(labels, result.topics) >= 0.95
    assert len(result.topics) == len(labels)


def test_little_noise_from_one_start_makes_too_many_topics_look_stable():
    X, _ = lda(6, 1)
    little = NMFk(Options(copies=6, iterations=120, noise=0.015)).fit(X, range(2, 10))
    assert little.k > 6


def test_sparse_and_dense_and_any_number_of_workers_give_the_same():
    X, _ = lda(4, 0, words=60, documents=40)
    options = Options(copies=4, iterations=30)
    plain = NMFk(options).fit(sp.csr_matrix(X), range(2, 6))
    many = NMFk(options, workers=3).fit(sp.csr_matrix(X), range(2, 6))
    assert plain.table == many.table and (plain.W == many.W).all() and (plain.H == many.H).all()


def test_empty_rows_and_columns_come_back_as_zeros():
    X = gamma_factors(3, 0)
    with_gaps = np.insert(np.insert(X, 7, 0, axis=0), 11, 0, axis=1)
    options = Options(copies=4, iterations=50)
    plain, gaps = (NMFk(options).fit(matrix, [2, 3]) for matrix in (X, with_gaps))
    assert gaps.k == plain.k and not gaps.W[7].any() and not gaps.H[:, 11].any()
    np.testing.assert_array_equal(np.delete(gaps.W, 7, 0), plain.W)


def test_one_topic_is_always_stable():
    result = NMFk(Options(copies=3, iterations=20)).fit(gamma_factors(3, 0), [1])
    assert result.k == 1 and result.table[0]["min sil W"] == 1


def test_thresholds_stay_and_an_unstable_choice_warns():
    options = Options(copies=4, iterations=20, threshold=0.999)
    result = NMFk(options).fit(np.random.default_rng(0).random((30, 30)), range(3, 6))
    assert "stable" in result.warning and options.threshold == 0.999


@pytest.mark.parametrize("choice", ["silhouette", "pvalue"])
def test_both_ways_to_choose_find_the_planted_number(choice):
    assert NMFk(Options(copies=6, iterations=200, choice=choice)).fit(gamma_factors(4, 2), range(2, 7)).k == 4


def test_binary_search_looks_at_fewer():
    result = NMFk(Options(copies=6, iterations=150, search="binary")).fit(gamma_factors(4, 2), range(2, 12))
    assert len(result.table) < 6 and result.k == 4


def test_a_dip_in_stability_is_not_the_end():
    """On real text k = 2 and 4 are stable and 3 is not: the largest stable one counts, not the first unstable."""
    fits = NMFk(Options(copies=3, iterations=10)).fit(gamma_factors(3, 0), [2]).fit
    from dataclasses import replace

    curve = {2: 0.94, 3: 0.77, 4: 0.89, 5: 0.65}
    made_up = [replace(fits, k=k, sil_w=np.array([s]), sil_h=np.array([s])) for k, s in curve.items()]
    assert choose(made_up, Options())[0].k == 4


@pytest.mark.parametrize(
    ("X", "ks", "error", "message"),
    [
        (np.ones((4, 4)), [4], BadConfig, "1..3"),
        (np.ones((4, 4)), [], BadConfig, "k must"),
        (-np.ones((4, 4)), [2], BadInput, "negative"),
        (np.full((4, 4), np.nan), [2], BadInput, "finite"),
        (np.zeros((4, 4)), [2], BadInput, "zeros"),
        (np.ones(4), [2], BadInput, "shape"),
    ],
)
def test_what_cannot_be_factorised(X, ks, error, message):
    with pytest.raises(error, match=message):
        NMFk(QUICK).fit(X, ks)


def test_integers_are_factorised_and_one_copy_is_refused():
    X, _ = lda(3, 0, words=40, documents=30)
    assert NMFk(Options(copies=3, iterations=30)).fit(X.astype(int), [2, 3]).k in (2, 3)
    with pytest.raises(BadConfig, match="copies"):
        Options(copies=1)


def test_cooccurrence_counts_windows():
    counts = cooccurrence(["a b a c", "a b"], ["a", "b", "c"], window=2)
    # Windows: {a b}, {a c}, {a b}.
    np.testing.assert_array_equal(counts.toarray(), [[0, 2, 1], [2, 0, 0], [1, 0, 0]])


def test_sppmi_by_hand():
    counts = np.array([[0, 2, 1], [2, 0, 0], [1, 0, 0]])
    # total 6, sums 3, 2, 1: log(2 * 6 / (3 * 2)) and log(1 * 6 / (3 * 1)), both log 2.
    wanted = np.where(counts > 0, math.log(2), 0)
    np.testing.assert_allclose(sppmi(counts, 0.0).matrix.toarray(), wanted)
    np.testing.assert_allclose(sppmi(counts, 0.5).matrix.toarray(), np.maximum(wanted - 0.5, 0))
    large = sppmi(counts, 4.0)
    assert large.empty == 1.0 and "100%" in large.warning
    assert sppmi(counts).shift == 0.5  # at 1 every word would be empty


def test_tfidf_has_words_in_rows():
    words = tfidf(["a b", "a c", "a b"], min_df=2, max_df=0.7)
    assert words.vocabulary == ("b",) and words.matrix.shape == (1, 3)
    with pytest.raises(BadInput, match="min_df"):
        tfidf(["a", "b"], min_df=2)


def test_split_finds_the_topics_that_two_matrices_share():
    X, labels = lda(4, 0, words=120, documents=100)
    texts = [" ".join(f"w{i}" for i in np.repeat(np.arange(120), X[:, j].astype(int))) for j in range(100)]
    vocabulary = [f"w{i}" for i in range(120)]
    result = SPLIT(QUICK).fit([X, sppmi(cooccurrence(texts, vocabulary, 150), 0.0).matrix], range(2, 7))
    assert result.k == 4
    assert adjusted_rand_score(labels, result.weights[0].argmax(0)) >= 0.9
    with pytest.raises(BadInput, match="same rows"):
        SPLIT(QUICK).fit([X, X[:50]], [2])


def test_topics_within_topics_keep_every_document_once():
    """Two fields of two topics each: fields share words of their own."""
    draw = np.random.default_rng(0)
    blocks = [draw.dirichlet(np.full(40, 0.1)) for _ in range(6)]
    columns, fields, leaves = [], [], []
    for field, part in itertools.product(range(2), range(2)):
        mix = np.zeros(240)
        mix[field * 40 : field * 40 + 40] += 0.4 * blocks[field]
        leaf = 2 + 2 * field + part
        mix[leaf * 40 : leaf * 40 + 40] += 0.6 * blocks[leaf]
        for _ in range(40):
            columns.append(draw.multinomial(300, mix))
            fields.append(field)
            leaves.append(leaf)
    X = sp.csr_matrix(np.stack(columns, 1).astype(float))
    topics = HNMFk(Options(copies=5, iterations=150), depth=2, sample_thresh=20).fit(X, [2])
    by_id = {topic.id: topic for topic in topics}
    assert set(by_id) == {"0", "1", "0_0", "0_1", "1_0", "1_1"}
    label = np.empty(160, int)
    for i, name in enumerate(["0_0", "0_1", "1_0", "1_1"]):
        label[by_id[name].columns] = i
        assert by_id[name].parent == name[0] and set(by_id[name].columns) <= set(by_id[name[0]].columns)
    assert adjusted_rand_score(leaves, label) >= 0.95
    with pytest.raises(BadConfig, match="depth"):
        HNMFk(QUICK, depth=0)


def test_groups_in_relations():
    draw = np.random.default_rng(0)
    A = np.kron(np.eye(3), np.ones((10, 1))) * draw.uniform(0.5, 1, (30, 1))
    slices = [A @ R @ A.T for R in draw.gamma(0.5, size=(4, 3, 3))]
    result = RESCALk(Options(copies=5, iterations=300)).fit([sp.csr_matrix(X) for X in slices], range(2, 6))
    assert result.k == 3
    assert adjusted_rand_score(np.repeat(range(3), 10), result.A.argmax(1)) == 1
    rebuilt = [result.A @ result.R[t] @ result.A.T for t in range(4)]
    assert np.linalg.norm(np.stack(rebuilt) - np.stack(slices)) < 0.05 * np.linalg.norm(np.stack(slices))
    with pytest.raises(BadInput, match="square"):
        RESCALk(QUICK).fit([np.ones((3, 4))], [2])
