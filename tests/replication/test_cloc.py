"""cloc in miniature at a small size: with regions in the loss boxes are told apart, and the box is looked at."""

import json
from dataclasses import replace

import pytest

from gnomon import cli
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.cloc.mini import study
from gnomon.methods.cloc.mini.world import SCALES, scenes

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_regions_are_learnt_by_their_boxes(tmp_path):
    scale = replace(SCALES["mini"], width=32, layers=1, train=24, test=24, steps=160, batch=24)
    items = scenes(scale, scale.train, tmp_path / "scenes", Rng(10))
    rows = {}
    for name in ("clip", "prompter"):
        run = Run(tmp_path / name, method="cloc", verb="mini", quiet=True)
        model = study.trained(scale, name, items, run.within("arm"))
        rows[name] = study.measured(model, items, name, Rng(10))
        run.close()
    # By heart: what it was shown, it knows by the box and not by the image alone.
    assert rows["prompter"]["mAcc"] > rows["clip"]["mAcc"] + 0.3
    assert rows["prompter"]["mAcc"] > rows["prompter"]["mAcc, shuffled boxes"] + 0.2


def test_every_arm_and_claim_has_its_numbers(tmp_path):
    words = ["--scale", "smoke", "--seeds", "1", "--seed", "10", "--out", str(tmp_path / "mini"), "--quiet"]
    assert cli.main(["cloc", "mini", *words]) == 0
    summary = json.loads((tmp_path / "mini" / "summary.json").read_text())
    assert {row["arm"] for row in summary["arms"]} == set(study.ARMS)
    assert all("box IoU" in row for row in summary["arms"] if row["arm"] != "roi")
    assert (
        {row["arm"] for row in summary["context"]}
        == {"prompter", "roi"}
        == {row["arm"] for row in summary["noise"]}
    )
