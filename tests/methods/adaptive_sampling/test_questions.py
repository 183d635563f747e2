"""The questions of the real run: their answers are right, and what is tested was not taught."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.core.rollout import Sample, Task
from gnomon.methods.adaptive_sampling.measures.questions import REWARD, capitals, questions


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 90), st.integers(3, 123))
def test_no_test_question_shares_a_country_or_its_second_factor_with_a_taught_one(seed, products, countries):
    learning, testing = questions(products, countries, Rng(seed))
    assert len(learning) + len(testing) == products + countries
    assert len(testing) == products // 3 + countries // 3
    sides = []
    for side in (learning, testing):
        products_here = [t for t in side if t.meta["kind"] == "products"]
        factors = [tuple(map(int, t.id.split("-")[1:])) for t in products_here]
        assert [str(a * b) for a, b in factors] == [t.reference for t in products_here]
        sides.append((factors, {t.id for t in side if t.meta["kind"] == "capitals"}))
    (taught, countries_taught), (tested, countries_tested) = sides
    assert not countries_taught & countries_tested
    assert not {x for pair in taught for x in pair} & {b for _, b in tested}


def test_answers_are_right_by_number_or_by_name_and_votes_group_them():
    product = Task("p", "What is 3 x 4?", reference="12", meta={"kind": "products"})
    city = Task("c", "?", reference=capitals()["Peru"], meta={"kind": "capitals"})
    texts = ["12", "3 x 4 = 12.", "3 x 4 = 13", "twelve", ""]
    assert list(REWARD([Sample(product, text) for text in texts])) == [1, 1, 0, 0, 0]
    assert list(REWARD([Sample(city, text) for text in ("LIMA.", "It is Lima", "Cusco")])) == [1, 1, 0]
    assert REWARD.form("3 x 4 = 12.") == REWARD.form("12") and REWARD.form("Lima.") == REWARD.form("lima")
    assert REWARD.form("") is None
