"""CriSPO's direction in miniature: critiques find a hidden style, useless ones do not, postscripts keep what was won."""

import json

import pytest

from gnomon.core.rng import Rng
from gnomon.methods.crispo.mini import SEARCHES, World, run_arm
from gnomon.registry import method
from gnomon.verbs import run_verb

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_critiques_help_blind_and_foreign_ones_do_not():
    worlds = [World.draw(Rng(30).child("world", i), (30, 30, 60)) for i in range(3)]
    after = {}
    critiques = [
        run_arm(SEARCHES[1], world, Rng(30).child(i), steps=5).critiques for i, world in enumerate(worlds)
    ]
    for arm in SEARCHES:
        values = []
        for i, world in enumerate(worlds):
            foreign = [text for j, said in enumerate(critiques) if j != i for text in said]
            values.append(run_arm(arm, world, Rng(30).child(i), steps=5, foreign=foreign).test[5])
        after[arm.name] = sum(values) / len(values)
    assert after["crispo"] >= after["opro"] + 0.15
    assert after["crispo, blind critic"] <= after["opro"] + 0.10
    assert after["crispo, critiques of other tasks"] <= after["opro"] + 0.10
    assert after["crispo"] > after["single-aspect critic"]


def test_the_miniature_runs_and_says_that_it_is_simulated(tmp_path):
    words = ["--scale", "smoke", "--seeds", "1", "--out", str(tmp_path / "run"), "--quiet"]
    assert run_verb(method("crispo"), "mini", words) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["title"].startswith("SIMULATED")
    assert report["simulated"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["scores"]) >= {arm.name for arm in SEARCHES} | {"with postscript", "both"}


def test_a_checkpoint_plays_all_roles_in_the_miniature(checkpoint, tmp_path, monkeypatch):
    """A model that writes nonsense: nothing it says can be used, and the search says so and ends."""
    from gnomon.methods.crispo.mini import study

    monkeypatch.setattr(study, "CHECKPOINT_ROWS", (3, 3, 3))
    monkeypatch.setattr(study, "CHECKPOINT_STEPS", 1)
    folder = checkpoint("llama", max_position_embeddings=4096)
    words = [
        "--scale",
        "smoke",
        "--parts",
        "keyphrases",
        "--checkpoint",
        str(folder),
        "--out",
        str(tmp_path / "run"),
    ]
    assert run_verb(method("crispo"), "mini", [*words, "--quiet"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = [row for row in summary["rows"] if row["part"] == "checkpoint"]
    assert [row["arm"] for row in rows] == ["opro", "crispo"]
    assert all(row["refused"] > 0 for row in rows)
