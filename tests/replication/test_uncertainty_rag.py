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
    for metric, margin in (("MRR", 0.04), ("MRR, shifted", 0.02)):
        rivals = [scores[arm][metric] for arm in ("BM25 itself", "bm25", "random")]
        assert scores["span"][metric] > max(rivals) + margin


def test_the_free_baselines_are_stronger_and_the_study_shows_it(scores):
    assert scores["gain"]["AUC"] > scores["span"]["AUC"] + 0.10
    assert scores["nll_cond"]["MRR"] >= scores["span"]["MRR"]
