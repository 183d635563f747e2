"""SigExt in miniature on a tuned seed: the extractor learns the policy, and a summariser told its phrases covers more."""

import math

import numpy as np
import pytest

from gnomon.core.run import Run
from gnomon.methods.sigext.mini import (
    KS,
    SCALES,
    SETTINGS,
    SIMULATOR,
    build_world,
    measure_writer,
    write_summaries,
)

pytestmark = [pytest.mark.replication, pytest.mark.slow]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("run") / "run", method="sigext", verb="mini", seed=10, quiet=True)
    part = run.within("seed-10/extractor")
    world = build_world(SCALES["mini"], 10, part)
    with part.asking({"writer": SIMULATOR}, SETTINGS) as models:
        summaries = write_summaries(world, models["writer"], 10, part.folder / "summaries.json")
    evaluation, scores = measure_writer(world, summaries)
    run.close()
    return world, evaluation, scores


def mean(scores, arm, metric):
    return float(np.mean(scores[arm][metric]))


def test_the_extractor_learns_the_policy_and_rake_cannot(found):
    world, _, _ = found
    assert world.ranks["sigext"].r_precision > 0.9
    chance = world.ranks["random"].r_precision
    assert world.ranks["rake"].r_precision < chance + 0.05 < 0.35


def test_its_phrases_raise_recall_and_f_over_none_and_random_also_at_equal_length(found):
    _, evaluation, scores = found
    for metric, other, least in (
        ("ROUGE-1 recall", "none", 5),
        ("ROUGE-1 F", "none", 2),
        ("ROUGE-1 F", "random, K=4", 3),
    ):
        gap = evaluation.difference("sigext, K=4", other, metric)
        assert gap.low > 0 and gap.estimate >= least
    matched = "ROUGE-1 F at matched length"
    assert mean(scores, "sigext", matched) > mean(scores, "none", matched)
    assert mean(scores, "oracle", "ROUGE-1 F") >= mean(scores, "sigext", "ROUGE-1 F") - 1


def test_the_number_of_phrases_is_a_dial(found):
    _, evaluation, scores = found
    assert scores["sigext"]["rank correlation of K and recall"] >= 0.9
    arms = [evaluation.arms[f"sigext without threshold, K={k}"] for k in KS]
    assert arms[-1].mean("ROUGE-1 precision") < arms[1].mean("ROUGE-1 precision")


def test_what_the_simulator_was_told_to_do_is_measured(found):
    world, evaluation, scores = found
    uptake = evaluation.arms["oracle, K=4"].values["hint uptake"]
    shown = evaluation.arms["oracle, K=4"].values["hints"]
    half = 4 * math.sqrt(0.8 * 0.2 / shown.sum())
    assert abs(float(np.average(uptake, weights=shown)) / 100 - 0.8) < half
    assert set(scores["sigext"]["shown phrases in the document"]) == {1.0}
    assert world.tau < 0
