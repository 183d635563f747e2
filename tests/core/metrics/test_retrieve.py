import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.metrics.retrieve import (
    average_precision_of,
    evaluate,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank,
    success_at,
)
from gnomon.errors import BadConfig, BadInput

RANKING = ["a", "b", "c", "d"]
RELEVANCE = {"b": 2, "d": 1, "z": 1, "a": 0}


def test_one_ranking_by_hand():
    assert success_at(RANKING, RELEVANCE, 1) == 0 and success_at(RANKING, RELEVANCE, 2) == 1
    assert recall_at(RANKING, RELEVANCE, 2) == pytest.approx(1 / 3)
    assert precision_at(RANKING, RELEVANCE, 2) == 0.5 and precision_at(["b"], RELEVANCE, 4) == 0.25
    assert reciprocal_rank(RANKING, RELEVANCE) == 0.5 and reciprocal_rank(RANKING, RELEVANCE, 1) == 0
    assert average_precision_of(RANKING, RELEVANCE) == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at(RANKING, RELEVANCE) == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / ideal)
    ideal = 3 + 1 / math.log2(3) + 1 / math.log2(4)
    found = ndcg_at(RANKING, RELEVANCE, gain="exponential")
    assert found == pytest.approx((3 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert ndcg_at(RANKING, {"b": -1, "a": 1}, 2) == 1  # what is worse than nothing counts as nothing
    with pytest.raises(BadConfig, match="gain"):
        ndcg_at(RANKING, RELEVANCE, gain="cubic")


def test_queries_without_a_ranking_count_and_rankings_without_judgements_do_not():
    scores = evaluate({"q1": ["a"], "q3": ["a"]}, {"q1": {"a": 1}, "q2": {"a": 1}, "q4": {"a": 0}}, ks=(1,))
    assert scores["recall@1"].per_query == {"q1": 1.0, "q2": 0.0}
    assert scores["MAP"].mean == 0.5
    assert 0 <= scores["MAP"].low < 0.5 < scores["MAP"].high <= 1
    assert scores["success@1"].low == scores["recall@1"].low  # the same draws
    with pytest.raises(BadInput, match="No query"):
        evaluate({}, {"q": {"a": 0}})
    with pytest.raises(BadInput, match="names a document twice"):
        evaluate({"q": ["a", "a"]}, {"q": {"a": 1}})


@given(
    ranking=st.permutations("abcdefgh").map(lambda names: names[:6]),
    relevance=st.dictionaries(st.sampled_from("abcdefghxy"), st.integers(0, 3), min_size=1),
    k=st.integers(1, 8),
)
def test_the_tools_that_people_use_say_the_same(ranking, relevance, k):
    """ir-measures, which calls trec_eval's code."""
    tools = pytest.importorskip("ir_measures")
    if not any(relevance.values()):
        return
    run = {"q": {name: float(10 - i) for i, name in enumerate(ranking)}}
    names = {
        f"recall@{k}": tools.R @ k,
        f"precision@{k}": tools.P @ k,
        f"nDCG@{k}": tools.nDCG @ k,
        f"success@{k}": tools.Success @ k,
        "MAP": tools.AP,
    }
    wanted = tools.calc_aggregate(list(names.values()), {"q": relevance}, run)
    mine = evaluate({"q": ranking}, {"q": relevance}, ks=(k,), resamples=10)
    for name, measure in names.items():
        assert mine[name].mean == pytest.approx(wanted[measure], abs=1e-6), name
