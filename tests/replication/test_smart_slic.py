"""smart-slic in miniature at its smallest size: what is answered is right, and only the routed system answers both kinds."""

import json

import pytest

from gnomon import cli

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_the_routed_system_answers_numbers_and_facts_and_is_never_wrong(tmp_path):
    words = ["--scale", "smoke", "--seeds", "1", "--seed", "10", "--out", str(tmp_path / "mini"), "--quiet"]
    assert cli.main(["smart-slic", "mini", *words]) == 0
    summary = json.loads((tmp_path / "mini" / "summary.json").read_text())
    systems = {row["system"]: row for row in summary["systems"]}
    assert systems["passages"]["counting"] == 0 and systems["graph"]["content"] == 0
    assert systems["routed"]["near words"] >= max(
        systems[name]["near words"] for name in ("passages", "graph")
    )
    assert systems["routed"]["unanswerable"] == 1.0
    scores = summary["scores"]["routed"]["wrong and not withheld"]
    assert all(value <= 0.05 for value in (scores if isinstance(scores, list) else [scores]))
    assert {row["rule"] for row in summary["pruning"]} == {"relative", "knn", "centroid"}
    assert {row["method"] for row in summary["topics"]} == {
        "NMFk",
        "k-means, silhouette",
        "k-means, told six",
        "error elbow",
    }
