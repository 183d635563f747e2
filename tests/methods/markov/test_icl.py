"""Series, counting and comparison: laws by hand, every kind, and published predictions of Llama-2."""

import numpy as np
import pytest

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov import icl
from gnomon.methods.markov.icl import BASELINES, DISTANCES, Prediction, in_bins, law

ALTERNATING = ("walk", "polygon")


@pytest.mark.parametrize("kind", icl.KINDS)
def test_every_kind_repeats_and_follows_its_law(kind):
    made, again = (icl.generate(kind, 12, 400, 3) for _ in range(2))
    assert np.array_equal(made.x, again.x)
    assert np.array_equal(made.P, again.P)
    assert made.x.shape == (400,)
    assert (made.x.min() >= 0) and (made.x.max() < 12)
    assert np.allclose(made.P.sum(1), 1)
    assert (made.P >= 0).all()
    if kind not in ("lorenz", "logistic"):  # of those a step may have no share in the law's points
        assert (made.P[made.x[:-1], made.x[1:]] > 0).all()
    assert not np.array_equal(made.x, icl.generate(kind, 12, 400, 4).x)


@pytest.mark.parametrize(
    "kind", ["random", "uniform-rows", "slow", "drift", "ornstein-uhlenbeck", "noisy-logistic", "gaussian"]
)
def test_long_series_show_their_law(kind):
    made = icl.generate(kind, 30, 20_000, 0)
    pairs = np.zeros((30, 30))
    np.add.at(pairs, (made.x[:-1], made.x[1:]), 1)
    visits = pairs.sum(1)
    off = np.abs(pairs / np.maximum(visits, 1)[:, None] - made.P).sum(1) / 2
    # Of n visits to a state some sqrt(d / n) is expected; a wrong law (the next bin's, say) is off by more.
    expected = np.sqrt(30 / np.maximum(visits, 1)) / 2
    assert (off @ visits) / visits.sum() < (expected @ visits) / visits.sum()
    shifted = np.abs(pairs / np.maximum(visits, 1)[:, None] - np.roll(made.P, 1, 1)).sum(1) / 2
    assert (shifted @ visits) > (off @ visits)


def test_known_laws():
    walk = icl.generate("walk", 4, 10, 0)
    assert walk.P.tolist() == [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, 0, 1, 0]]
    assert walk.pi == pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6])
    ring = icl.generate("polygon", 5, 10, 0)
    assert ring.pi == pytest.approx(np.full(5, 0.2))
    assert ring.P[0, 1] == pytest.approx(1 - ring.P[0, 4])
    assert icl.generate("slow", 6, 10, 0).P[0, 3:].sum() == pytest.approx(0.05)


@pytest.mark.parametrize("kind", ALTERNATING)
def test_periodic_chains_have_no_t_min(kind):
    with pytest.raises(BadInput, match="periodic"):
        _ = icl.generate(kind, 4, 10, 0).t_min


def test_switching_rarely_makes_t_min_large():
    assert icl.generate("slow", 4, 10, 0).t_min > icl.generate("random", 4, 10, 0).t_min > 4


def test_bins_and_law_by_hand():
    x, edges = in_bins(np.array([0.0, 0.49, 0.5, 1.0]), 2)
    assert (x.tolist(), edges.tolist()) == ([0, 0, 1, 1], [0, 0.5, 1])
    # Far less noise than a bin is wide, and every value goes to 0.25.
    assert law(edges, lambda y: (0.25 + 0 * y, np.array(1e-6))).tolist() == [[1, 0], [1, 0]]
    # From 0.5 +- a lot: half on each side.
    assert law(edges, lambda y: (0.5 + 0 * y, np.array(100.0))) == pytest.approx(np.full((2, 2), 0.5))


def test_counting_by_hand():
    found = icl.count(np.array([0, 1, 0, 1, 0]), 3)
    assert tuple(found) == BASELINES
    assert found["counting"][0] == pytest.approx([1 / 3] * 3)  # nothing has followed 0 yet
    assert found["counting"][4] == pytest.approx([0, 1, 0])
    assert found["add-1"][4] == pytest.approx([1 / 5, 3 / 5, 1 / 5])
    assert found["add-1/d"][4] == pytest.approx([1 / 9, 7 / 9, 1 / 9])
    assert found["back-off"][1] == pytest.approx(
        [1 / 2, 1 / 2, 0]
    )  # 1 was never left: how often each was seen
    assert found["uniform"][4] == pytest.approx([1 / 3] * 3)
    assert all(np.allclose(p.sum(1), 1) for p in found.values())


def test_nothing_beats_add_1_on_dirichlet_chains():
    chains = [icl.generate("random", 3, 60, seed) for seed in range(300)]
    found = icl.compare(chains, [Prediction.from_logits(np.zeros((60, 3)))] * 300, distance="kl")
    risk = {arm: found.last(arm, 30).mean() for arm in ("add-1", "add-1/d", "uniform", "model")}
    assert min(risk, key=risk.get) == "add-1"
    assert risk["model"] == pytest.approx(risk["uniform"])


def test_counting_learns_with_the_square_root_of_n():
    chains = [icl.generate("random", 3, 400, seed) for seed in range(40)]
    found = icl.compare(chains, [Prediction.from_logits(np.zeros((400, 3)))] * 40)
    slope = found.slope("add-1")
    assert slope.slope == pytest.approx(-0.5, abs=0.1)
    assert 0 < slope.error < 0.1
    assert found.slope("model").slope == pytest.approx(0, abs=0.05)


def test_a_slope_by_hand():
    at = np.arange(1, 101)
    risk = np.stack([3 * at**-0.5, at**-0.5])
    line = icl.fit_slope(at, risk)
    assert (line.slope, line.error) == (pytest.approx(-0.5), pytest.approx(0, abs=1e-7))
    assert np.exp(line.intercept) == pytest.approx(2)
    # One series: the residuals' error, here of +-1 about a flat line through four points, by hand.
    log_n = np.log([10, 11, 12, 13])
    rest = np.array([1, -1, -1, 1.0])
    one = icl.fit_slope(np.array([10, 11, 12, 13]), np.exp(rest)[None])
    slope = (rest * (log_n - log_n.mean())).sum() / ((log_n - log_n.mean()) ** 2).sum()
    assert one.slope == pytest.approx(slope)
    assert one.error > 1
    with pytest.raises(BadInput, match="three n of 99 or more"):
        icl.fit_slope(at, risk, 99)
    with pytest.raises(BadInput, match="zero or infinite"):
        icl.fit_slope(at, 0 * risk)


@pytest.mark.parametrize(
    ("name", "value"), [("tv", 0.25), ("kl", np.log(4 / 3) / 2), ("bhattacharyya", -np.log((3**0.5 + 1) / 8**0.5)),
                        ("hellinger", (1 - (3**0.5 + 1) / 8**0.5) ** 0.5)]
)  # fmt: skip
def test_distances_by_hand(name, value):
    p, q = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    assert DISTANCES[name](p, q) == pytest.approx(value)
    assert DISTANCES[name](p, p) == pytest.approx(0, abs=1e-7)


def test_what_does_not_fit_is_told():
    chain = icl.generate("random", 3, 20, 0)
    with pytest.raises(BadConfig, match='Did you mean "brownian"'):
        icl.generate("browniam", 3, 20)
    with pytest.raises(BadConfig, match="needs 3 states"):
        icl.generate("polygon", 2, 20)
    with pytest.raises(BadInput, match=r"Prediction 0 is \[20, 4\]"):
        icl.compare([chain], [Prediction.from_logits(np.zeros((20, 4)))])
    with pytest.raises(BadInput, match="at the same n"):
        icl.compare([chain] * 2, [Prediction.from_logits(np.zeros((n, 3))) for n in (20, 19)])
    with pytest.raises(BadConfig, match="no distance"):
        icl.compare([chain], [Prediction.from_logits(np.zeros((20, 3)))], distance="l2")


@pytest.fixture(scope="module")
def llama2(shared_data):
    """Chain -> comparison from published logits."""
    with np.load(shared_data / "markov" / "llama2_icl_markov.npz", allow_pickle=False) as stored:
        found = {}
        for i in range(18):
            chain = icl.Series("random", stored[f"x{i}"], stored[f"P{i}"])
            found[i] = icl.compare([chain], [Prediction.from_logits(stored[f"logits{i}"][2:])])
    return found


@pytest.mark.parametrize(
    ("i", "expected"),
    [
        (0, (0.101, 0.039, 0.038)),
        (3, (0.146, 0.063, 0.063)),
        (6, (0.244, 0.099, 0.094)),
        (15, (0.066, 0.041, 0.041)),
    ],
)
def test_published_predictions_of_llama_2(llama2, i, expected):
    arms = [llama2[i].last(arm, 200)[0] for arm in ("model", "counting", "add-1")]
    assert arms == pytest.approx(expected, abs=0.001)


def test_llama_2_learns_more_slowly_than_counting_there(llama2):
    slopes = [found.slope("model").slope for found in llama2.values()]
    assert min(slopes) > -0.3 and max(slopes) < 0
    last = {
        arm: np.array([found.last(arm, 200)[0] for found in llama2.values()]) for arm in ("model", "counting")
    }
    assert (last["model"] > last["counting"]).mean() > 0.8
