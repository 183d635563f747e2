from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from gnomon.methods.neutral_residues import Point, forgetting_at, front, hypervolume

numbers = st.floats(0, 10, allow_subnormal=False)
clouds = st.lists(
    st.builds(Point, st.sampled_from("ab"), st.just(1.0), numbers, numbers), min_size=1, max_size=12
)


def beats(a, b):
    return (
        a.learning >= b.learning
        and a.forgetting <= b.forgetting
        and (a.learning, a.forgetting) != (b.learning, b.forgetting)
    )


@given(clouds)
def test_the_front_is_what_nothing_beats(points):
    best = front(points)
    kept = {(p.learning, p.forgetting) for p in best}
    assert kept == {(p.learning, p.forgetting) for p in points if not any(beats(q, p) for q in points)}
    assert [p.learning for p in best] == sorted(p.learning for p in best)


@given(clouds)
def test_the_hypervolume_is_the_area_counted_on_a_grid(points):
    import numpy as np

    grid = (np.arange(200) + 0.5) / 20
    beaten = np.zeros((200, 200), dtype=bool)
    for p in points:
        beaten |= (grid[:, None] < p.learning) & (grid[None] > p.forgetting)
    assert hypervolume(points, (0.0, 10.0)) == approx(beaten.mean() * 100, abs=2.5)


def test_forgetting_at_equal_learning_by_hand():
    points = [Point("a", lr, g, f) for lr, g, f in ((1, 0.2, 0.1), (2, 0.4, 0.3), (3, 0.5, 0.9))]
    assert forgetting_at(points, 0.25) == approx(0.15)
    assert forgetting_at(points, 0.45) == approx(0.6)
    assert forgetting_at(points, 0.5) == 0.9
    assert forgetting_at(points, 0.1) is None and forgetting_at(points, 0.6) is None
