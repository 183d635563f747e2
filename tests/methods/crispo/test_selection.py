import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from gnomon.methods.crispo import Candidate, History, Metric, mean_ranks, pareto_front
from gnomon.methods.crispo.scoring import Measured, best_of, sort_keys, z_sums

TABLES = st.integers(1, 3).flatmap(
    lambda j: st.lists(st.tuples(*[st.integers(0, 4)] * j), min_size=1, max_size=8)
)


def test_ranks_by_hand():
    """Scores 10, 10, 9 -> 0, 0, 2; a second metric the other way round."""
    assert mean_ranks([[10], [10], [9]]).tolist() == [0, 0, 2]
    assert mean_ranks([[10, 1], [10, 2], [9, 3]]).tolist() == [1, 0.5, 1]


@given(TABLES)
def test_ranks_are_competition_ranks(table):
    scores = np.array(table, float)
    other = np.mean([rankdata(-scores[:, j], "min") - 1 for j in range(scores.shape[1])], axis=0)
    assert mean_ranks(table).tolist() == pytest.approx(other.tolist())


@given(TABLES)
def test_the_front_is_what_nothing_beats(table):
    def beats(a, b):
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    slow = [i for i, one in enumerate(table) if not any(beats(other, one) for other in table)]
    assert pareto_front(table) == slow
    assert slow


@given(TABLES.filter(lambda t: len(t[0]) > 1))
def test_a_dominated_prompt_is_never_best(table):
    """Best by ranks and by z-sums lies on the front, whatever else was tried."""
    for policy in ("rank", "zsum"):
        best = best_of(sort_keys(table, policy))
        beaten = [
            i for i, one in enumerate(table) if all(x > y for x, y in zip(one, table[best], strict=True))
        ]
        assert not beaten


def test_z_sums_by_hand():
    """Means 2 and 5, both spreads 1: z = -1, 1 and 1, -1; a metric in which all agree adds nothing."""
    assert z_sums([[1, 6, 7], [3, 4, 7]]).tolist() == pytest.approx([0, 0])
    assert z_sums([[1, 6, 7], [3, 4, 7]], [2, 1, 5]).tolist() == pytest.approx([-1, 1])


def test_the_constrained_choice_loses_no_more_than_allowed():
    table = [[0.50, 0.2], [0.49, 0.9], [0.45, 1.0], [0.60, 0.3]]
    assert best_of(sort_keys(table, "pareto", eps=0.02)) == 1
    assert best_of(sort_keys(table, "pareto", eps=0.1)) == 2
    assert best_of(sort_keys(table, "pareto")) == 3
    assert best_of(sort_keys([[0.5, 0.2], [0.4, 0.9], [0.45, 0.9]], "pareto")) == 0
    ranked = sorted(range(4), key=lambda i: sort_keys(table, "pareto")[i])
    assert ranked == [2, 1, 0, 3]  # those that lose too much come by the first metric


def test_one_metric_is_sorted_by_itself_under_every_policy():
    for policy in ("rank", "zsum", "pareto"):
        assert sort_keys([[0.3], [0.7], [0.7]], policy) == [(0.3,), (0.7,), (0.7,)]
    assert sort_keys([], "rank") == []


def history(values, **more):
    metrics = [Metric("a", lambda *_: []), Metric("b", lambda *_: [], higher_is_better=False)]
    found = History(metrics, **more)
    for a, b in values:
        one = found.add(Candidate(-1, f"{a} {b}"))
        one.measured["dev"], one.values["dev"] = Measured([], [], {}), {"a": a, "b": b}
    return found


def test_every_new_prompt_re_ranks_all():
    """With two prompts the first leads by ranks; a third one moves it back without having touched it."""
    found = history([(0.9, 0.5), (0.8, 0.5)])
    assert found.best("dev").number == 0
    before = found.keys("dev")[0]
    for b in (0.4, 0.3, 0.2):  # lower is better
        one = found.add(Candidate(-1, f"new {b}"))
        one.measured["dev"], one.values["dev"] = Measured([], [], {}), {"a": 0.7, "b": b}
    assert found.keys("dev")[0] < before
    assert found.best("dev").number == 4
    assert [one.number for one in found.front("dev")] == [0, 4]


def test_ties_go_to_the_earlier_prompt_and_dropped_ones_are_out():
    found = history([(0.5, 0.5), (0.5, 0.5)])
    assert found.best("dev").number == 0
    assert [one.number for one in found.ranked("dev")] == [1, 0]
    found.candidates[0].measured["dev"].complete = False
    assert found.best("dev").number == 1
