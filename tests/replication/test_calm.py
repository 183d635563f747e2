"""Calm's directions in miniature: planted shifts come back, chance is told from bias, and a trained lean is found."""

from dataclasses import replace

import pytest

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.calm.mini import SCALES, study_claims, study_trained, train_judges
from gnomon.methods.calm.planted import through_text

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_planted_biases_come_back_through_prompts_and_replies():
    study = through_text(100, Rng(31))
    assert study.largest_error < 0.17  # 100 items: four standard errors of about 0.043
    assert study.unread == pytest.approx(0.1, abs=0.03)
    assert study.self_bonus[0] == pytest.approx(0.5, abs=0.25)
    assert study.over_http["verdicts that differ"] == 0 and study.over_http["requests"] > 50
    unbiased, biased = study.profiles
    flagged = [name for name, word in unbiased.words().items() if word == "biased"]
    assert set(flagged) <= {"fallacy-oversight"}  # a judge without logic overlooks fallacies
    assert sum(word == "biased" for word in biased.words().values()) >= 4


def test_chance_is_told_from_a_liking_for_the_first_slot():
    study = study_claims(replace(SCALES["mini"], candidates=100), Rng(32))
    for row in study.candidates:
        low, high = row["BIS"][1:]
        truth = row["CR planted"] - row["RR planted"]
        assert low - 0.05 <= truth <= high + 0.05, row
    rr = {(row["candidates"], row["slot bonus"]): row["RR"][0] for row in study.candidates}
    assert rr[2, 0.0] > rr[3, 0.0] > rr[4, 0.0]  # the raw fall is there without any bias
    quiet, noisy = study.order
    assert quiet["RR"][0] > noisy["RR"][0] and quiet["BIS"][0] > noisy["BIS"][0]


def test_a_judge_trained_on_labels_that_follow_a_source_leans_to_sources(tmp_path):
    scale = replace(SCALES["mini"], cues=("authority",), tested=120)
    run = Run(tmp_path / "run", method="calm", verb="mini", quiet=True)
    folders = train_judges(scale, Rng(33), run.within("trained"), tmp_path / "judges")
    run.close()
    study = study_trained(folders, scale, Rng(33))
    assert study.accuracy() >= 0.8
    assert study.shift("authority", 0.0) < 0.08
    assert study.shift("authority", 0.0) < study.shift("authority", 0.25) < study.shift("authority", 0.5)
    assert study.shift("authority", 0.5) - study.shift("authority", 0.0) >= 0.15
